"""Node files that stand in a test."""

from __future__ import annotations

from ctctl.config.node import NodeFile, parse_node_files


def parse_node_file(text: str, path: str = "<text>") -> NodeFile:
    """The first node of a text; ``path`` is what errors call it."""
    return parse_node_files(text, path)[0]
