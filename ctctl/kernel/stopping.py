"""When to stop: signals as an event, and time limits. A stopped run still says what it did.

A command that runs until it is told to stop listens to SIGINT also where its parent ignored it (a
background job of a script, whose next line is ``kill -INT``), as tcpdump and ping do. Commands that end by
themselves leave it ignored, as the shell asked. A hang-up that was ignored (nohup) stays ignored everywhere.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

#: By which a run is told to end.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: One Ctrl-C can arrive twice, by the process and by its group: within this time it counts once.
SAME_SIGNAL_S = 0.5


class Stop(Protocol):
    """What engines ask between entries and wait on; ``threading.Event`` is one."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds, for ever without; whether to stop."""
        ...


class TimeLimit:
    """Stops when ``outer`` does, and ``seconds`` after it was made."""

    def __init__(self, outer: Stop, seconds: float) -> None:
        self._outer = outer
        self._end = time.monotonic() + seconds

    def is_set(self) -> bool:
        return self._outer.is_set() or time.monotonic() >= self._end

    def wait(self, timeout: float | None = None) -> bool:
        left = self._end - time.monotonic()
        self._outer.wait(max(0.0, left if timeout is None else min(timeout, left)))
        return self.is_set()


class SignalStop:
    """A stop that a signal handler may set at any moment, for any number of threads to wait on.

    ``threading.Event`` will not do: its lock may be held by the very thread the handler interrupts.
    An eventfd that is never drained has no lock.
    """

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._set = False

    def set(self) -> None:
        self._set = True
        with contextlib.suppress(OSError):
            os.eventfd_write(self._fd, 1)

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            select.select([self._fd], [], [], timeout)
        return self._set

    def close(self) -> None:
        """Free the descriptor; nobody may wait any more. ``is_set`` goes on answering."""
        os.close(self._fd)


def hear_interrupts() -> None:
    """Ctrl-C ends this process with KeyboardInterrupt, also where the parent had it ignored (main thread only)."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[SignalStop]:
    """A stop that SIGINT, SIGTERM and a lost terminal set; a later one acts as if nobody listened.

    Main thread only. A SIGHUP or SIGTERM that the parent ignored stays ignored.
    """
    hear_interrupts()
    stop = SignalStop()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    first: float | None = None

    def heard(number: int, _frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if first is None:
            first = now
            stop.set()
        elif now - first >= SAME_SIGNAL_S:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, heard)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.close()
