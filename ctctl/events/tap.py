"""Collect the events of nodes in the background while something else happens.

``EventStream`` renews the hooks' lease whenever it is read; a thread reads it here, so that a
caller that waits for a program or a packet loses nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from ctctl.events.stream import EventStream
from ctctl.model.event import HookEvent

_READ_S = 0.05
#: More than the time an event may take to its ring buffer.
_SETTLE_NS = 10_000_000


class EventTap:
    """All events of ``nodes`` from entry to exit. A context manager.

    Raises what ``EventStream`` raises: NotFoundError, PermissionDenied, KernelError.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self._stream = EventStream(nodes)
        self._events: list[HookEvent] = []
        self._read_from_ns = 0
        self._changed = threading.Condition()
        self._stop = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="event tap", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._stream.__enter__()
            self._thread.start()
        except BaseException:
            self._stream.close()
            raise
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stop = True
        try:
            self._thread.join()
        finally:
            self._stream.close()

    def events(self) -> list[HookEvent]:
        """Everything up to now, in order of time. Raises what reading raised."""
        until = time.monotonic_ns() + _SETTLE_NS
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._read_from_ns > until)
            if self._failure is not None:
                raise self._failure
            return list(self._events)

    def lost(self) -> int:
        """Events that the kernel did not take, or that were overwritten unread, all nodes together."""
        return sum(self._stream.lost().values())

    def _run(self) -> None:
        try:
            while not self._stop:
                started = time.monotonic_ns()
                events = self._stream.read(_READ_S)
                with self._changed:
                    self._events += events
                    self._read_from_ns = started
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()
