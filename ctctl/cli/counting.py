"""How much was done so far: on stderr, only on a terminal, only when it takes over a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self, TextIO

from ctctl.cli.progress import AFTER_S, EVERY_S


class Counting:
    """A context manager that is called with how much more was done, by any thread. ``clock``: monotonic seconds."""

    def __init__(self, stream: TextIO, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._next = clock() + AFTER_S if stream.isatty() else float("inf")
        self._shown = False

    def __call__(self, more: int) -> None:
        with self._lock:
            self._count += more
            now = self._clock()
            if now < self._next:
                return
            self._next = now + EVERY_S
            self._shown = True
            self._stream.write(f"\r{self._count:,} {self._what}\x1b[K")
            self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
