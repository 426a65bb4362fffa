"""The page of ``ctctl --help``, laid out as typer lays it out, without the time that importing typer takes.

A test holds the two together at every width.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable

from ctctl.cli.commands import COMMANDS, EPILOG, HELP, OPTIONS, WIDEST

#: What is typed for this page alone.
_ASKED: tuple[list[str], ...] = ([], ["--help"], ["-h"])
_USAGE = "Usage: ctctl [OPTIONS] COMMAND [ARGS]..."
_HELP_ITSELF = ("-h, --help", "Show this message and exit.")
#: Typer's own: the narrowest page, columns that stay free at its right, spaces between a word and what it means.
_NARROWEST, _FREE, _GAP = 50, 2, 2
_INDENT = "  "


def asked_page() -> str | None:
    """The page, where it is all that this process is asked for, and its streams are open; None: something else is."""
    if sys.argv[1:] not in _ASKED or "_CTCTL_COMPLETE" in os.environ or None in (sys.stdin, sys.stdout, sys.stderr):
        return None
    return page(columns_there())


def page(columns: int) -> str:
    """The page on a terminal of so many columns."""
    width = max(min(columns, WIDEST) - _FREE, _NARROWEST)
    parts = [
        f"{_USAGE}\n",
        _paragraphs(HELP, width),
        _listed("Options", [*OPTIONS.items(), _HELP_ITSELF], width),
        _listed("Commands", [(name, command.help) for name, command in COMMANDS.items()], width),
        _paragraphs(EPILOG, width),
    ]
    return "\n".join(parts)


def _paragraphs(text: str, width: int) -> str:
    """Paragraphs, an empty line between them; one that starts with ``\\b`` keeps its lines."""
    shown = []
    for paragraph in text.strip("\n").split("\n\n"):
        if paragraph.startswith("\b"):
            shown.append("\n".join(_INDENT + line for line in paragraph.splitlines()[1:]))
        else:
            line = " ".join(paragraph.splitlines())
            shown.append(textwrap.fill(line, width, initial_indent=_INDENT, subsequent_indent=_INDENT))
    return "\n\n".join(shown) + "\n"


def _listed(title: str, rows: Iterable[tuple[str, str]], width: int) -> str:
    """Words and what they mean, in two columns."""
    rows = list(rows)
    first = max(len(word) for word, _ in rows) + _GAP
    behind = " " * (first + len(_INDENT))
    lines = [f"{title}:"]
    for word, meaning in rows:
        above, *below = textwrap.wrap(meaning, width - first - _FREE)
        lines += [f"{_INDENT}{word:<{first}}{above}", *(behind + line for line in below)]
    return "\n".join(lines) + "\n"


def columns_there() -> int:
    """Columns of the terminal, as ``shutil.get_terminal_size`` finds them: that module takes long to import."""
    try:
        found = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        found = 0
    if found <= 0:
        try:
            found = os.get_terminal_size(sys.__stdout__.fileno()).columns if sys.__stdout__ is not None else 0
        except (AttributeError, OSError, ValueError):
            found = 0
    return found or 80
