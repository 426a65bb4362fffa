"""Line charts without a plotting library: braille for the terminal, SVG, and PNG."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from ctctl.model.units import format_duration

#: Distinct on white and on black.
COLORS = ("#3366cc", "#dc3912", "#109618", "#ff9900", "#990099", "#0099c6", "#aa7755", "#888888")

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 26, 24


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: (x in seconds, y) in rising x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over the same time. ``unit`` writes a y value."""

    title: str
    lines: Sequence[Line]
    unit: Callable[[float], str]

    @property
    def x_max(self) -> float:
        return max((x for line in self.lines for x, _ in line.points), default=1.0) or 1.0

    @property
    def y_max(self) -> float:
        return max((y for line in self.lines for _, y in line.points), default=1.0) or 1.0


def count(value: float) -> str:
    """A number of entries, short: 950, 12k, 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


# ---- terminal

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def terminal(chart: Chart, width: int = 72, height: int = 8) -> list[str]:
    """A chart as lines of braille, two by four dots a character, with the axes' ends in words."""
    cells = [[0] * width for _ in range(height)]
    for line in chart.lines:
        for x, y in _pixels(line, chart, width * 2, height * 4):
            cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
    rows = ["".join(chr(0x2800 + cell) for cell in row) for row in cells]
    labels = [chart.unit(chart.y_max), *[""] * (height - 2), chart.unit(0)]
    margin = max(map(len, labels))
    names = ", ".join(line.name for line in chart.lines)
    foot = f"{'0':<{width - 8}}{format_duration(round(chart.x_max)):>8}"
    return [
        f"{chart.title}: {names}" if names else chart.title,
        *(f"{label:>{margin}} {row}" for label, row in zip(labels, rows, strict=True)),
        " " * (margin + 1) + foot,
    ]


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


# ---- SVG


def svg(charts: Sequence[Chart]) -> str:
    """Charts one below the other as an SVG document."""
    height = HEIGHT * len(charts)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, chart in enumerate(charts):
        parts += [f'<g transform="translate(0 {number * HEIGHT})">', *_svg_chart(chart), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _svg_chart(chart: Chart) -> list[str]:
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    x_max, y_max = chart.x_max, chart.y_max
    parts = [f'<text x="{LEFT}" y="16" font-weight="bold">{escape(chart.title)}</text>']
    for step in range(5):
        y = TOP + inner_height * (4 - step) / 4
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        label = escape(chart.unit(y_max * step / 4))
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#444444">{label}</text>')
        x = LEFT + inner_width * step / 4
        time = escape(format_duration(round(x_max * step / 4)))
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle" fill="#444444">{time}</text>')
    for number, line in enumerate(chart.lines):
        color = COLORS[number % len(COLORS)]
        points = " ".join(
            f"{LEFT + x / x_max * inner_width:.1f},{TOP + inner_height * (1 - max(0.0, y) / y_max):.1f}"
            for x, y in line.points
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        name = escape(line.name)
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{16 + 12 * number}" text-anchor="end" fill="{color}">{name}</text>')
    return parts


# ---- PNG

# A 3x5 font: five rows of three bits a glyph, from the top, written in octal.
_GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757", "7": "71122",
    "8": "75757", "9": "75717", "a": "07357", "b": "44656", "c": "00743", "d": "11353", "e": "07546", "f": "32722",
    "g": "07571", "h": "44655", "i": "20222", "j": "10152", "k": "45655", "l": "62227", "m": "07755", "n": "06555",
    "o": "02552", "p": "06564", "q": "03531", "r": "03444", "s": "03216", "t": "27223", "u": "05557", "v": "05552",
    "w": "05577", "x": "05225", "y": "05571", "z": "07247", ".": "00002", ",": "00024", ":": "02020", "%": "51245",
    "-": "00700", "_": "00007", "/": "11244", "(": "24442", ")": "21112", "+": "02720", "=": "07070",
}  # fmt: skip
_ZOOM = 2


class _Canvas:
    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.rows = [bytearray(b"\xff" * (3 * width)) for _ in range(height)]

    def dot(self, x: int, y: int, color: bytes) -> None:
        if 0 <= x < self.width and 0 <= y < len(self.rows):
            self.rows[y][3 * x : 3 * x + 3] = color

    def text(self, x: int, y: int, words: str, color: bytes) -> None:
        """Write from the left, the top at ``y``; what the font lacks is a gap."""
        for letter in words.lower():
            for row, bits in enumerate(_GLYPHS.get(letter, "00000")):
                for column in range(3):
                    if int(bits, 8) >> (2 - column) & 1:
                        for dx in range(_ZOOM):
                            for dy in range(_ZOOM):
                                self.dot(x + column * _ZOOM + dx, y + row * _ZOOM + dy, color)
            x += 4 * _ZOOM

    def png(self) -> bytes:
        raw = b"".join(b"\0" + bytes(row) for row in self.rows)
        head = struct.pack(">IIBBBBB", self.width, len(self.rows), 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
        body = b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
        return b"\x89PNG\r\n\x1a\n" + body


def _rgb(color: str) -> bytes:
    return bytes.fromhex(color.removeprefix("#"))


def png(charts: Sequence[Chart]) -> bytes:
    """Charts one below the other as a PNG image."""
    canvas = _Canvas(WIDTH, HEIGHT * len(charts))
    for number, chart in enumerate(charts):
        _png_chart(canvas, chart, number * HEIGHT)
    return canvas.png()


def _png_chart(canvas: _Canvas, chart: Chart, top: int) -> None:
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    canvas.text(LEFT, top + 6, chart.title, b"\0\0\0")
    for step in range(5):
        y = top + TOP + inner_height * (4 - step) // 4
        for x in range(LEFT, WIDTH - RIGHT):
            canvas.dot(x, y, b"\xdd\xdd\xdd")
        label = chart.unit(chart.y_max * step / 4)
        canvas.text(LEFT - 6 - 8 * len(label), y - 5, label, b"\x44\x44\x44")
        time = format_duration(round(chart.x_max * step / 4))
        middle = LEFT + inner_width * step // 4 - 4 * len(time)
        canvas.text(min(middle, WIDTH - 8 * len(time)), top + HEIGHT - 16, time, b"\x44\x44\x44")
    for number, line in enumerate(chart.lines):
        color = _rgb(COLORS[number % len(COLORS)])
        for x, y in _pixels(line, chart, inner_width, inner_height):
            canvas.dot(LEFT + x, top + TOP + y, color)
            canvas.dot(LEFT + x, top + TOP + y - 1, color)
        canvas.text(WIDTH - RIGHT - 8 * len(line.name), top + 6 + 13 * number, line.name, color)
