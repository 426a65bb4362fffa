"""A sequence diagram as a self-contained SVG picture."""

from __future__ import annotations

from html import escape

from ctctl.out.text import safe
from ctctl.trace.sequence import Diagram, Message, Note

_CHAR, _LINE = 6.7, 15
_MARGIN, _HEAD, _GAP = 24, 64, 14
_PADDING = 10
_STYLE = (
    "text{font:11px ui-monospace,Menlo,Consolas,monospace;fill:#1b1f24}"
    ".name{font-weight:bold}.title{font-size:14px;font-weight:bold}"
    ".life{stroke:#8c959f;stroke-dasharray:4 3}.arrow{stroke:#0550ae;stroke-width:1.4}"
    ".box{fill:#fff8c5;stroke:#d4a72c}.head{fill:#ddf4ff;stroke:#54aeff}"
    ".drop{fill:#ffebe9;stroke:#cf222e}.lost{stroke:#cf222e;stroke-width:1.6}.red{fill:#cf222e;font-weight:bold}"
)


def _width(text: str) -> float:
    return len(text) * _CHAR


def _note_size(note: Note) -> tuple[float, float]:
    lines = (note.title, *note.lines)
    return max(map(_width, lines)) + 2 * _PADDING, len(lines) * _LINE + _PADDING


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(safe(text))}</text>'


def _columns(diagram: Diagram) -> dict[str, float]:
    """Where each lifeline stands: notes and arrow labels must fit between neighbours."""
    need = dict.fromkeys(diagram.lifelines, 60.0)
    for name in need:
        need[name] = max(need[name], _width(name) / 2 + _PADDING)
    for item in diagram.items:
        if isinstance(item, Note):
            need[item.over] = max(need[item.over], _note_size(item)[0] / 2)
        else:
            for name in (item.source, item.target):
                need[name] = max(need[name], _width(item.text) / 2 + _PADDING)
    positions, x = {}, float(_MARGIN)
    for name in diagram.lifelines:
        x += need[name]
        positions[name] = x
        x += need[name] + _GAP
    return positions


def svg(diagram: Diagram) -> str:
    """The picture's XML, newline at the end."""
    at = _columns(diagram)
    parts: list[str] = []
    y = float(_MARGIN + _HEAD)
    for item in diagram.items:
        drawn, y = _message(item, at, y) if isinstance(item, Message) else _note(item, at, y)
        parts += drawn
    height = y + _MARGIN
    widest = max((x for x in at.values()), default=0.0)
    notes = [at[item.over] + _note_size(item)[0] / 2 for item in diagram.items if isinstance(item, Note)]
    labels = [max(at[i.source], at[i.target]) + _width(i.text) / 2 for i in diagram.items if isinstance(i, Message)]
    width = max([widest, *notes, *labels, _width(diagram.title) * 1.3]) + 2 * _MARGIN
    lifelines = [
        f'<line class="life" x1="{x:.1f}" y1="{_MARGIN + _HEAD - 8}" x2="{x:.1f}" y2="{height - 8:.1f}"/>'
        for x in at.values()
    ]
    heads = [piece for name, x in at.items() for piece in _head(name, x)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}"><style>{_STYLE}</style>'
        '<defs><marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
        '<path d="M0,0 L9,4 L0,8 z" fill="#0550ae"/></marker></defs>'
        '<rect width="100%" height="100%" fill="#ffffff"/>\n'
        + "\n".join([_text(_MARGIN, _MARGIN, diagram.title, kind="title"), *lifelines, *heads, *parts])
        + "\n</svg>\n"
    )


def _head(name: str, x: float) -> list[str]:
    width = _width(name) + 2 * _PADDING
    box = f'<rect class="head" x="{x - width / 2:.1f}" y="{_MARGIN + 14}" width="{width:.1f}" height="26" rx="4"/>'
    return [box, _text(x, _MARGIN + 31, name, anchor="middle", kind="name")]


def _message(message: Message, at: dict[str, float], y: float) -> tuple[list[str], float]:
    start, end = at[message.source], at[message.target]
    if message.dropped:
        cross = [
            f'<line class="lost" x1="{start - 7:.1f}" y1="{y + a:.1f}" x2="{start + 7:.1f}" y2="{y + b:.1f}"/>'
            for a, b in ((0, 14), (14, 0))
        ]
        return [*cross, _text(start + 14, y + 11, message.text, kind="red")], y + 30
    middle = (start + end) / 2
    arrow = (
        f'<line class="arrow" x1="{start:.1f}" y1="{y + 16:.1f}" x2="{end:.1f}" y2="{y + 16:.1f}"'
        ' marker-end="url(#tip)"/>'
    )
    return [_text(middle, y + 11, message.text, anchor="middle"), arrow], y + 30


def _note(note: Note, at: dict[str, float], y: float) -> tuple[list[str], float]:
    width, height = _note_size(note)
    left = at[note.over] - width / 2
    kind = "drop" if note.dropped else "box"
    parts = [
        f'<rect class="{kind}" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3"/>',
        _text(left + _PADDING, y + _LINE, note.title, kind="name"),
    ]
    for number, line in enumerate(note.lines, 2):
        parts.append(_text(left + _PADDING, y + number * _LINE, line))
    return parts, y + height + 8
