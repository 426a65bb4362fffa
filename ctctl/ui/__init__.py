"""``ctctl ui``: the tables on a full screen, kept up to date. It looks and never writes."""
