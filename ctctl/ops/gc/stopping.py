"""When to stop: Ctrl-C and SIGTERM as an event, and time limits. A stopped run still says what it did."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop(Protocol):
    """What engines ask between entries and wait on; ``threading.Event`` is one."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds; whether to stop."""
        ...


class TimeLimit:
    """Stops when ``outer`` does, and ``seconds`` after it was made."""

    def __init__(self, outer: Stop, seconds: float) -> None:
        self._outer = outer
        self._end = time.monotonic() + seconds

    def is_set(self) -> bool:
        return self._outer.is_set() or time.monotonic() >= self._end

    def wait(self, timeout: float) -> bool:
        self._outer.wait(max(0.0, min(timeout, self._end - time.monotonic())))
        return self.is_set()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second one acts as if nobody listened (main thread only)."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def heard(number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in _SIGNALS:
        signal.signal(number, heard)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
