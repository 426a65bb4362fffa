"""Commands in a terminal of their own: what they cost there, and how long the first row takes."""

from __future__ import annotations

import errno
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.terminal import open_terminal


@dataclass(frozen=True)
class Shown:
    """A command that ended: CPU seconds of the process, in all and until a row stood there.

    With nothing else running the second is the time that a person waits.
    """

    cpu_seconds: float
    first_row_s: float
    max_rss_kib: int


def show(words: list[str]) -> Shown:
    """Run a command that prints a table, and read what it prints as a terminal does."""
    outer, inner = open_terminal()
    child = subprocess.Popen(words, stdin=inner, stdout=inner, stderr=subprocess.DEVNULL, start_new_session=True)
    os.close(inner)
    head, first = b"", 0.0
    try:
        while piece := _read(outer):
            if not first:
                head += piece
                if head.count(b"\n") > 1:  # the header, and a row
                    first = _cpu_seconds(child.pid)
        _, status, used = os.wait4(child.pid, 0)
    finally:
        os.close(outer)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, words)
    return Shown(used.ru_utime + used.ru_stime, first, used.ru_maxrss)


def _cpu_seconds(pid: int) -> float:
    """What a process has used until now, to the nanosecond (Documentation/scheduler/sched-stats.rst)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _read(terminal: int) -> bytes:
    """What comes next; nothing once the program's end is closed."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""
