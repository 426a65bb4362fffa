"""Columns as Go's text/tabwriter aligns them, which is how the Cilium CLI prints its tables.

A cell ends in a tab; what follows the last tab of a line is no cell and never aligned. A column is the
cells of lines that follow each other without a gap; its width is the widest cell's plus the padding.
"""

from __future__ import annotations

from collections.abc import Sequence

MIN_WIDTH = 5
PADDING = 3


def align(lines: Sequence[Sequence[str]]) -> list[str]:
    """Each line's cells, the last of which is the text after the last tab, as aligned text."""
    widths: list[list[int]] = [[] for _ in lines]
    _block(lines, widths, 0, len(lines), 0)
    return [
        "".join(cell.ljust(width) for cell, width in zip(cells, row, strict=False)) + cells[-1]
        for cells, row in zip(lines, widths, strict=True)
    ]


def _block(lines: Sequence[Sequence[str]], widths: list[list[int]], first: int, end: int, column: int) -> None:
    """Set the widths from ``column`` on, for the lines from ``first`` to ``end``."""
    at = first
    while at < end:
        if column >= len(lines[at]) - 1:
            at += 1
            continue
        stop = at
        while stop < end and column < len(lines[stop]) - 1:
            stop += 1
        width = max(MIN_WIDTH, max(len(lines[row][column]) for row in range(at, stop)) + PADDING)
        for row in range(at, stop):
            widths[row].append(width)
        _block(lines, widths, at, stop, column + 1)
        at = stop
