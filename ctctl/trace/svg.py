"""A sequence diagram as a self-contained SVG picture, for light and for dark pages."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from ctctl.out.text import safe
from ctctl.trace.sequence import Diagram, Exchange, Message, Note, Remark

_CHAR, _LINE = 7.25, 16
_MARGIN, _PADDING, _GAP = 20, 8, 12
#: of the column with the times
_TIMES = 92
_TITLE, _HEAD = 44, 44
#: Characters of a line in a note and above an arrow: wider ones push the lifelines apart until nothing is legible.
_NOTE_WIDTH, _LABEL_WIDTH = 38, 44
_LEAST_GAP = 120.0
#: A number and its unit stay in one line.
_NO_BREAK, _UNIT = "\u00a0", re.compile(r"(?<=\d) s\b")
#: Three colours and their tints: ink, what is on its way, what goes wrong.
_STYLE = (
    ":root{--ink:#1b1f24;--faint:#59636e;--page:#fff;--way:#0550ae;--tint:#f6f8fa;--edge:#afb8c1;--red:#b3161f}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--faint:#9da7b3;--page:#0d1117;--way:#79c0ff;"
    "--tint:#1c2430;--edge:#57606a;--red:#ff8f87}}"
    "text{font:12px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:var(--ink)}"
    ".page{fill:var(--page)}.name{font-weight:bold}.title{font-size:14px;font-weight:bold}.faint{fill:var(--faint)}"
    ".label{paint-order:stroke;stroke:var(--page);stroke-width:4px}"
    ".life{stroke:var(--edge);stroke-dasharray:4 3}.arrow{stroke:var(--way);stroke-width:1.5}.tip{fill:var(--way)}"
    ".box,.head{fill:var(--tint);stroke:var(--edge)}.drop{fill:var(--page);stroke:var(--red);stroke-width:1.5}"
    ".lost{stroke:var(--red);stroke-width:2}.red{fill:var(--red);font-weight:bold}.rule{stroke:var(--edge)}"
)


def _width(lines: Sequence[str]) -> float:
    return max((len(line) * _CHAR for line in lines), default=0.0)


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(safe(text))}</text>'


def _line(kind: str, start: tuple[float, float], end: tuple[float, float], more: str = "") -> str:
    (x, y), (to_x, to_y) = start, end
    return f'<line class="{kind}" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"{more}/>'


def _label(text: str) -> list[str]:
    """What stands above an arrow: broken between its ends where it is long."""
    if len(text) <= _LABEL_WIDTH or " > " not in text:
        return [text]
    first, _, rest = text.partition(" > ")
    return [f"{first} >", *textwrap.wrap(rest, _LABEL_WIDTH, break_on_hyphens=False)]


def _note_lines(note: Note) -> list[str]:
    found = [note.title]
    for line in note.lines:
        first, *more = textwrap.wrap(_UNIT.sub(f"{_NO_BREAK}s", line), _NOTE_WIDTH - 2) or [""]
        # Ordinary spaces at the start of a text are not drawn.
        found += [first.replace(_NO_BREAK, " "), *(2 * _NO_BREAK + one.replace(_NO_BREAK, " ") for one in more)]
    return found


def _note_width(note: Note) -> float:
    return _width(_note_lines(note)) + 2 * _PADDING


@dataclass(slots=True)
class _Packet:
    """An exchange laid out: rows of arrows beside each other with their labels, and notes by lifeline."""

    rows: list[list[tuple[Message, list[str]]]] = field(default_factory=list)
    notes: dict[str, list[Note]] = field(default_factory=dict)

    @classmethod
    def of(cls, exchange: Exchange, order: Sequence[str]) -> _Packet:
        """Arrows of which none lies over another share a row; a label says only what is new."""
        made, said = cls(), ""
        taken: list[tuple[int, int]] = []
        for item in exchange.items:
            if isinstance(item, Note):
                made.notes.setdefault(item.over, []).append(item)
                continue
            ends = sorted((order.index(item.source), order.index(item.target)))
            span = (0, len(order)) if item.dropped else (ends[0], ends[1])
            if not made.rows or any(span[0] < high and low < span[1] for low, high in taken):
                made.rows.append([])
                taken = []
            taken.append(span)
            made.rows[-1].append((item, [] if item.text == said else _label(item.text)))
            said = item.text
        return made


def svg(diagram: Diagram) -> str:
    """The picture's XML, newline at the end."""
    packets = {
        number: _Packet.of(item, diagram.lifelines)
        for number, item in enumerate(diagram.items)
        if isinstance(item, Exchange)
    }
    at = _columns(diagram, list(packets.values()))
    parts: list[str] = []
    y = float(_MARGIN + _TITLE + _HEAD + _GAP)
    right = max(at.values(), default=float(_MARGIN + _TIMES))
    for number, item in enumerate(diagram.items):
        if isinstance(item, Remark):
            drawn, y = _remark(item, y, right)
        else:
            drawn, y = _exchange(item, packets[number], at, y)
        parts += drawn
    height = y + _MARGIN
    width = max(right + _edge(diagram, list(packets.values()), at), _MARGIN + _width([diagram.title]) * 1.2) + _MARGIN
    top = _MARGIN + _TITLE + _HEAD
    lives = [_line("life", (x, top), (x, height - 8)) for x in at.values()]
    heads = [piece for name, x in at.items() for piece in _head(name, diagram.names.get(name), x)]
    titles = [_text(_MARGIN, _MARGIN + 8, diagram.title, kind="title")]
    if diagram.since:
        titles.append(_text(_MARGIN, _MARGIN + 26, f"times count from {diagram.since}", kind="faint"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}"><style>{_STYLE}</style>'
        '<defs><marker id="tip" markerWidth="10" markerHeight="8" refX="9" refY="4" orient="auto" '
        'markerUnits="userSpaceOnUse"><path class="tip" d="M0,0 L10,4 L0,8 z"/></marker></defs>'
        '<rect class="page" width="100%" height="100%"/>\n'
        + "\n".join([*titles, *lives, *heads, *parts])
        + "\n</svg>\n"
    )


def _columns(diagram: Diagram, packets: Sequence[_Packet]) -> dict[str, float]:
    """Where each lifeline stands: heads, notes beside each other and labels of arrows fit between neighbours."""
    order = diagram.lifelines
    half = {name: _head_width(name, diagram.names.get(name)) / 2 for name in order}
    gaps = [max(_LEAST_GAP, half[left] + half[after] + _GAP) for left, after in pairwise(order)]
    first = max([half[order[0]], *(_half(packet, order[0]) for packet in packets)]) if order else 0.0
    for packet in packets:
        for at, (left, after) in enumerate(pairwise(order)):
            gaps[at] = max(gaps[at], _half(packet, left) + _half(packet, after) + _GAP)
    for packet in packets:
        for message, label in (one for row in packet.rows for one in row):
            low, high = sorted((order.index(message.source), order.index(message.target)))
            missing = _width(label) + 3 * _GAP - sum(gaps[low:high])
            if missing > 0 and low < high:
                gaps[high - 1] += missing
    x, found = _MARGIN + _TIMES + first, {}
    for name, gap in zip(order, [*gaps, 0.0], strict=False):
        found[name] = x
        x += gap
    return found


def _half(packet: _Packet, name: str) -> float:
    """Half the width of the widest note there."""
    return max((_note_width(note) / 2 for note in packet.notes.get(name, ())), default=0.0)


def _edge(diagram: Diagram, packets: Sequence[_Packet], at: dict[str, float]) -> float:
    """What stands out to the right of the last lifeline."""
    last = max(at.values(), default=0.0)
    reach = [0.0]
    for name, x in at.items():
        reach.append(x + _head_width(name, diagram.names.get(name)) / 2 - last)
    for packet in packets:
        reach += [at[name] + _half(packet, name) - last for name in packet.notes]
        for message, label in (one for row in packet.rows for one in row):
            if message.dropped:
                reach.append(at[message.source] + 14 + _width(label) - last)
    return max(reach)


def _head_width(name: str, known: str | None) -> float:
    return _width([name, known or ""]) + 2 * _PADDING


def _head(name: str, known: str | None, x: float) -> Iterator[str]:
    width = _head_width(name, known)
    y = _MARGIN + _TITLE - 2
    yield f'<rect class="head" x="{x - width / 2:.1f}" y="{y}" width="{width:.1f}" height="{_HEAD - 2}" rx="4"/>'
    if known:
        yield _text(x, y + 18, known, anchor="middle", kind="name")
        yield _text(x, y + 34, name, anchor="middle", kind="faint")
    else:
        yield _text(x, y + 26, name, anchor="middle", kind="name")


def _remark(remark: Remark, y: float, right: float) -> tuple[list[str], float]:
    lines = textwrap.wrap(remark.text, max(40, int((right - _MARGIN - _TIMES) / _CHAR)))
    height = _LINE * max(len(lines), 1) + 4
    parts = [
        _line("rule", (_MARGIN, y + 4), (right, y + 4)),
        # Lifelines do not run through the words.
        f'<rect class="page" x="{_MARGIN + _TIMES - 4:.1f}" y="{y + 6:.1f}" '
        f'width="{_width(lines) + 8:.1f}" height="{height:.1f}"/>',
    ]
    parts += [_text(_MARGIN + _TIMES, y + 20 + _LINE * at, line, kind="name") for at, line in enumerate(lines)]
    return parts, y + 12 + _LINE * max(len(lines), 1) + 6


def _exchange(exchange: Exchange, packet: _Packet, at: dict[str, float], y: float) -> tuple[list[str], float]:
    parts: list[str] = []
    if exchange.when:
        parts.append(_text(_MARGIN + _TIMES - _GAP, y + 12, exchange.when, anchor="end", kind="faint"))
    crosses = [row for row in packet.rows if any(message.dropped for message, _ in row)]
    for row in packet.rows:
        if row not in crosses:
            drawn, y = _row(row, at, y)
            parts += drawn
    lowest = y
    for name, notes in packet.notes.items():
        below = y
        for note in notes:
            drawn, below = _note(note, at[name], below)
            parts += drawn
        lowest = max(lowest, below)
    y = lowest
    for message, label in (one for row in crosses for one in row):
        x = at[message.source]
        parts += [_line("lost", (x - 7, y + a), (x + 7, y + b)) for a, b in ((0, 14), (14, 0))]
        parts += [_text(x + 14, y + 11 + _LINE * n, line, kind="red") for n, line in enumerate(label)]
        y += _LINE * max(len(label), 1) + 6
    return parts, y + 6


def _row(row: Sequence[tuple[Message, list[str]]], at: dict[str, float], y: float) -> tuple[list[str], float]:
    parts = []
    tallest = max(len(label) for _, label in row)
    line = y + tallest * _LINE + 4
    for message, label in row:
        start, end = at[message.source], at[message.target]
        for number, text in enumerate(label):
            parts.append(
                _text(
                    (start + end) / 2, line - 7 - _LINE * (len(label) - 1 - number), text, anchor="middle", kind="label"
                )
            )
        parts.append(_line("arrow", (start, line), (end, line), ' marker-end="url(#tip)"'))
    return parts, line + 8


def _note(note: Note, x: float, y: float) -> tuple[list[str], float]:
    lines = _note_lines(note)
    width, height = _note_width(note), len(lines) * _LINE + _PADDING
    kind = "drop" if note.dropped else "box"
    left = x - width / 2
    parts = [
        f'<rect class="{kind}" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3"/>',
        _text(left + _PADDING, y + _LINE, lines[0], kind="name"),
    ]
    parts += [_text(left + _PADDING, y + number * _LINE, line) for number, line in enumerate(lines[1:], 2)]
    return parts, y + height + 5
