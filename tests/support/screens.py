"""What commands show on terminals of several widths, and piped: every screen in a child of one process.

Starting ctctl anew for each of hundreds of screens would take minutes; a child of a process that has imported the
command line runs the same ``main`` on a terminal of its own.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tests.support.terminal import seen_of

ROOT = Path(__file__).resolve().parents[2]
#: Not a terminal's width: stdout is a pipe, and stderr goes nowhere.
PIPED = 0
#: Commands whose screens need more than a node, or none: tests/cli/test_other_screens.py has them.
ELSEWHERE = ("ct diff", "ct decode", "ct sql", "trace", "fleet collect", "fleet list", "fleet sql", "cluster")


@dataclass(frozen=True, slots=True)
class Screen:
    """What ``ctctl words`` showed on a terminal of so many columns (``PIPED``: on none), and how it ended."""

    words: tuple[str, ...]
    columns: int
    code: int
    lines: list[str]


def screens(
    commands: Sequence[Sequence[str]], widths: Sequence[int], inside: Sequence[str] = (), *, of: str | None = None
) -> list[Screen]:
    """Every command at every width; ``inside`` is a command that starts another elsewhere, as nsenter does.

    ``of``: a file that commands have their records from (``--from``), which is read once for all of them.
    """
    request = json.dumps([list(map(list, commands)), list(widths), of])
    done = subprocess.run(
        [*inside, sys.executable, "-m", "tests.support.screens"],
        input=request,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return [Screen(tuple(words), columns, code, lines) for words, columns, code, lines in json.loads(done.stdout)]


# ---- in the process that the screens are children of


def _main(commands: list[list[str]], widths: list[int], of: str | None) -> list[Any]:
    import numpy  # noqa: F401  # what most of them need

    from ctctl.cli.main import COMMANDS

    os.environ.update(TERM="xterm", NO_COLOR="1", CTCTL_PAGER="")
    os.environ.pop("COLUMNS", None)
    for module in {command.module for command in COMMANDS.values()}:
        importlib.import_module(module)
    if of is not None:
        _read_once(of)
    return [(words, columns, *_shown(words, columns)) for words in commands for columns in widths]


def _read_once(file: str) -> None:
    """Every child has the source as it was opened here; of anything else it opens its own."""
    from ctctl.tables import open as opening
    from ctctl.tables.sources.base import Source, SourceOptions

    open_source = opening.open_source
    source = open_source([file])

    def opened(spec: str | Sequence[str] = "auto", options: SourceOptions = SourceOptions()) -> Source:  # noqa: B008
        return source if (list(spec), options) == ([file], SourceOptions()) else open_source(spec, options)

    opening.open_source = opened


def _shown(words: list[str], columns: int) -> tuple[int, list[str]]:
    reading, writing = os.pipe() if columns == PIPED else pty.openpty()
    child = os.fork()
    if not child:
        _run(words, columns, reading, writing)
    os.close(writing)
    return seen_of(child, reading)


def _run(words: list[str], columns: int, reading: int, writing: int) -> NoReturn:
    """The child: its standard streams are the terminal, or a pipe."""
    from ctctl.cli.main import main

    code = 70
    try:
        os.close(reading)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null if columns == PIPED and fd != 1 else writing, fd)
        os.close(writing)
        if columns != PIPED:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        code = main(words)
        sys.stdout.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    print(json.dumps(_main(*json.load(sys.stdin))))
