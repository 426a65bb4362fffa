"""A node: loaded, changed, found, described and unloaded."""
