"""Line charts, and how they look in a terminal: braille. ``figure.py`` draws the same as SVG and PNG."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctctl.model.units import format_duration


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: (x in seconds, y) in rising x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over the same time. ``unit`` writes a y value, which may be seconds too (``y_is_time``)."""

    title: str
    lines: Sequence[Line]
    unit: Callable[[float], str]
    y_is_time: bool = False
    #: where the axes end; None: with the lines
    x_end: float | None = None
    y_end: float | None = None

    @property
    def x_max(self) -> float:
        return self.x_end or max((x for line in self.lines for x, _ in line.points), default=1.0) or 1.0

    @property
    def y_max(self) -> float:
        return self.y_end or max((y for line in self.lines for _, y in line.points), default=1.0) or 1.0


def count(value: float) -> str:
    """A number of entries, short: 950, 12k, 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


# ---- terminal

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def terminal(chart: Chart, width: int = 80, height: int = 8) -> list[str]:
    """A chart of at most ``width`` cells a line in braille, two by four dots a cell; the axes' ends in words.

    Above it are the names of its lines in the order in which they end, the highest first.
    """
    ends = [chart.unit(chart.y_max), *[""] * (height - 2), chart.unit(0)]
    margin = max(map(len, ends)) + 1
    inner = max(width - margin, 20)
    cells = [[0] * inner for _ in range(height)]
    for line in chart.lines:
        for x, y in _pixels(line, chart, inner * 2, height * 4):
            cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
    rows = ["".join(chr(0x2800 + cell) for cell in row) for row in cells]
    return [
        *_heading(chart, width),
        *(f"{end:>{margin - 1}} {row}" for end, row in zip(ends, rows, strict=True)),
        " " * margin + f"{'0':<{inner - 8}}{format_duration(round(chart.x_max)):>8}",
    ]


def _heading(chart: Chart, width: int) -> list[str]:
    named = [(line.points[-1][1] if line.points else 0.0, line.name) for line in chart.lines]
    names = [name for _end, name in sorted(named, key=lambda one: -one[0])]
    if len(names) < 2:
        return [f"{chart.title}: {names[0]}" if names else chart.title]
    return [chart.title, *textwrap.wrap(f"right end, from the top: {', '.join(names)}", width)]


def _pixels(line: Line, chart: Chart, width: int, height: int) -> list[tuple[int, int]]:
    """The pixels of a line on a canvas, origin at the top left, without gaps."""
    x_max, y_max = chart.x_max, chart.y_max
    placed = [
        (round(x / x_max * (width - 1)), height - 1 - round(max(0.0, y) / y_max * (height - 1))) for x, y in line.points
    ]
    found: list[tuple[int, int]] = placed[:1]
    for (x0, y0), (x1, y1) in itertools.pairwise(placed):
        steps = max(abs(x1 - x0), abs(y1 - y0))
        found += [(x0 + (x1 - x0) * i // steps, y0 + (y1 - y0) * i // steps) for i in range(1, steps + 1)]
    return found
