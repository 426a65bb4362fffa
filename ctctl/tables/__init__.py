"""Tables of entries: where they come from (``sources``), the filter language (``query``), names, looks (``show``)."""
