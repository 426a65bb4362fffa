"""``ctctl report``: what is in the tables, what is wrong and one connection's story as a single HTML file."""
