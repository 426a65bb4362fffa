"""A limit on deletions per second that Ctrl-C can interrupt."""

from __future__ import annotations

import time
from collections.abc import Callable

from ctctl.kernel.stopping import Stop

#: How much of a second's allowance is handed out at a time.
_SLICE_S = 0.1


class RateLimit:
    """At most ``per_second`` deletions a second over any time since the start; None: no limit.

    ``clock`` and ``wait`` are seams for tests: the clock in seconds, and a wait that answers whether
    to stop.
    """

    def __init__(
        self,
        per_second: float | None,
        stop: Stop,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        if per_second is not None and per_second <= 0:
            raise ValueError(f"a rate of {per_second} deletions a second would never end")
        self._per_second = per_second
        self._stop = stop
        self._clock = clock
        self._wait = wait or stop.wait
        self._start = clock()
        self._granted = 0

    @property
    def limited(self) -> bool:
        return self._per_second is not None

    def take(self, want: int, *, slice_s: float = _SLICE_S) -> int:
        """Leave to delete up to ``want`` entries now: at least 1, or 0 when it is time to stop.

        Waits until a slice of the allowance (or all of ``want``) is there.
        """
        if self._stop.is_set():
            return 0
        if self._per_second is None or want <= 0:
            return want
        least = min(want, max(1, int(self._per_second * slice_s)))
        due = self._start + (self._granted + least) / self._per_second
        while (left := due - self._clock()) > 0:
            if self._wait(left):
                return 0
        # No saving up: an allowance that was not used in time is gone, or a pause would end in a burst.
        self._start = max(self._start, self._clock() - (self._granted + least) / self._per_second)
        self._granted += least
        return least
