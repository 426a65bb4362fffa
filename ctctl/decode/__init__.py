"""Bytes of tables to values: one at a time, and in batches as numpy columns. Pure."""
