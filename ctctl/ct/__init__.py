"""The ``ct`` commands: what they find out, and how it looks."""
