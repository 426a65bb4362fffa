"""What a process of the command line sets for itself before there is a command: Ctrl-C, and standard error."""

from __future__ import annotations

import io
import signal
import sys
from typing import Any


def hear_ctrl_c() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt, so that what was begun is put away (``ctctl.cli.start``)."""
    if getattr(signal.getsignal(signal.SIGINT), "__name__", "") == "leave_at_once":
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Notes(io.FileIO):
    """Standard error as a file that takes what nobody reads any more: notes do not end the work they are about."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def let_notes_go() -> None:
    """From here on what is written to standard error, and cannot be, is no error."""
    stream = sys.stderr
    if stream is sys.__stderr__ and isinstance(stream, io.TextIOWrapper):
        raw = io.BufferedWriter(_Notes(stream.fileno(), "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=True, write_through=True)
