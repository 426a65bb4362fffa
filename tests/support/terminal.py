"""Run a command on a terminal of a given size (a pty) and read what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

_ERASED = re.compile(rb"[^\n]*\r\x1b\[K")
_SEQUENCES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z=>]|\x1b[=>]")


def open_terminal(rows: int = 40, columns: int = 120) -> tuple[int, int]:
    """A terminal of that size: the end that a screen has, and the end that a program has."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    return outer, inner


def on_terminal(
    words: Sequence[str], columns: int, rows: int = 50, environment: Mapping[str, str] | None = None
) -> tuple[int, list[str]]:
    """Exit code and lines of a command whose standard streams are a terminal; colours and cursor moves left out."""
    parent, child = open_terminal(rows, columns)
    settings = {**os.environ, "TERM": "xterm", **(environment or {})}
    settings.pop("COLUMNS", None)
    process = os.posix_spawn(
        words[0],
        list(words),
        settings,
        file_actions=[*[(os.POSIX_SPAWN_DUP2, child, fd) for fd in (0, 1, 2)], (os.POSIX_SPAWN_CLOSE, parent)],
        setsid=True,
    )
    os.close(child)
    return seen_of(process, parent)


@contextmanager
def typed(keys: bytes) -> Iterator[int]:
    """A terminal at which these keys were typed, for the stdin of a command."""
    keyboard, terminal = pty.openpty()
    try:
        os.write(keyboard, keys)
        yield terminal
    finally:
        os.close(keyboard)
        os.close(terminal)


def seen_of(child: int, reading: int) -> tuple[int, list[str]]:
    """Exit code of a process, and the lines of everything that comes from it at ``reading``, which is closed."""
    shown = b""
    try:
        while part := os.read(reading, 1 << 16):
            shown += part
    except OSError:
        pass  # EIO: nobody holds the other side any more
    finally:
        os.close(reading)
    _pid, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), _plain_lines(shown)


def _plain_lines(shown: bytes) -> list[str]:
    """The lines of what was written to a terminal, without colours and cursor moves, and without what was erased."""
    shown = _ERASED.sub(b"", shown)
    return _SEQUENCES.sub(b"", shown).decode(errors="replace").replace("\r", "").splitlines()
