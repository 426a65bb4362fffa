"""What the full-screen view costs: its share of a core while it refreshes in a terminal of its own."""

from __future__ import annotations

import os
import select
import subprocess
import time
from pathlib import Path

from tests.support.terminal import open_terminal

_TICKS = os.sysconf("SC_CLK_TCK")
#: Seconds that are measured, after the first ones.
SECONDS = 12.0
FIRST_SECONDS = 8.0


def share_of_a_core(words: list[str], seconds: float = SECONDS) -> float:
    """CPU seconds a second of a command in a terminal of 120x40, once its first screens are through."""
    outer, inner = open_terminal()
    child = subprocess.Popen(words, stdin=inner, stdout=inner, stderr=inner, start_new_session=True)
    os.close(inner)
    try:
        _read_for(outer, FIRST_SECONDS)
        started, before = time.monotonic(), _cpu_seconds(child.pid)
        _read_for(outer, seconds)
        return (_cpu_seconds(child.pid) - before) / (time.monotonic() - started)
    finally:
        child.terminate()
        child.wait()
        os.close(outer)


def _read_for(terminal: int, seconds: float) -> None:
    """Read what it writes, as a terminal does."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            os.read(terminal, 1 << 16)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
