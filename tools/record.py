#!/usr/bin/env python3
"""Record what a terminal shows of real runs, as the pictures of the pages: docs/recordings/NAME.svg.

Usage: tools/record.py [NAME…]      tests/docs/test_recordings.py holds each picture to what is shown now

Commands are typed on a pseudo-terminal, with colours, in the root of the repository. A picture needs no network and no
font but a terminal's, has its text as text, and is the same in every run, as its commands are.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "docs/recordings"
COLUMNS = 100
#: Of a character in pixels, and the border.
WIDE, HIGH, EDGE = 8.4, 18, 12
BACK, FRONT = "#0c0c0c", "#d9d9d9"

#: What is typed, by the name of the picture. What needs a kernel with BPF says --scenario.
RECORDINGS = {
    "sysdump": (
        "ctctl ct list --from examples/cilium-bugtool.tar.xz --sort remaining --limit 6",
        "ctctl ct get 'tcp 10.61.1.101:57974 > 10.61.1.102:9' --from examples/cilium-bugtool.tar.xz",
        "ctctl doctor --from examples/cilium-bugtool.tar.xz",
    ),
    "trace": ("ctctl trace --scenario examples/dsr-intermediate.yaml",),
    "story": ("ctctl trace --from examples/monitor-v.txt 'tcp 10.61.1.101:51346 > 10.96.0.10:80'",),
}


def printed(command: str) -> str:
    """What a command writes to a terminal."""
    parent, child = pty.openpty()
    environment = {
        **{name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}},
        "COLUMNS": str(COLUMNS),
        "LINES": "50",
        "TERM": "xterm-256color",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PAGER": "cat",
        "PYTHONPATH": str(ROOT),
    }
    words = ["bash", "-c", f'ctctl() {{ "{sys.executable}" -m ctctl "$@"; }}; {command}']
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=child, stderr=child):
        os.close(child)
        parts = []
        try:
            while part := os.read(parent, 1 << 16):
                parts.append(part)
        except OSError:
            pass  # the terminal's other side is closed
    os.close(parent)
    return b"".join(parts).decode().replace("\r\n", "\n")


def picture(commands: tuple[str, ...]) -> str:
    """The screen after these commands."""
    lines: list[Text] = []
    for command in commands:
        lines += [Text(), *Text(f"$ {command}", style="bold").wrap(Console(width=COLUMNS), COLUMNS)]
        lines += [Text.from_ansi(line) for line in printed(command).rstrip("\n").split("\n")]
    del lines[0]
    columns = max(COLUMNS, *(line.cell_len for line in lines))
    width, height = round(columns * WIDE + 2 * EDGE), len(lines) * HIGH + 2 * EDGE
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' font-family="ui-monospace, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="14" fill="{FRONT}">'
    )
    rows = (
        f'<text x="{EDGE}" y="{EDGE + HIGH * at + 14}" xml:space="preserve">{"".join(_runs(line))}</text>'
        for at, line in enumerate(lines)
    )
    return "\n".join([head, f'<rect width="100%" height="100%" rx="6" fill="{BACK}"/>', *rows, "</svg>\n"])


def _runs(line: Text) -> Iterator[str]:
    """The text of a line in pieces of one look each, at the columns where a terminal has them."""
    at = 0
    for text, style, _ in line.render(Console(width=10_000), end=""):
        look = _look(style or Style())
        place = f'x="{EDGE + at * WIDE:.1f}"'
        yield f"<tspan {place}{look}>{escape(text, quote=False)}</tspan>"
        at += len(text)


def _look(style: Style) -> str:
    colour = style.color.get_truecolor(MONOKAI).hex if style.color is not None and not style.color.is_default else None
    said = {
        "fill": colour,
        "font-weight": "bold" if style.bold else None,
        "font-style": "italic" if style.italic else None,
        "opacity": "0.8" if style.dim else None,
        "text-decoration": "underline" if style.underline else None,
    }
    return "".join(f' {name}="{value}"' for name, value in said.items() if value is not None)


def main(words: list[str]) -> int:
    for name in words or RECORDINGS:
        (PLACE / f"{name}.svg").write_text(picture(RECORDINGS[name]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
