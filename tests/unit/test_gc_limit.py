"""The rate limit, on a clock of its own."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.gc.limit import RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        assert seconds > 0
        self.now += seconds
        return False


def limit(rate: float | None, clock: Clock, stop: threading.Event | None = None) -> RateLimit:
    return RateLimit(rate, stop or threading.Event(), clock=clock, wait=clock.wait)


@given(st.floats(0.5, 1e6), st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 3)), min_size=1, max_size=30))
def test_never_more_than_the_rate(rate: float, steps: list[tuple[int, float]]) -> None:
    clock = Clock()
    limiter = limit(rate, clock)
    start, granted = clock.now, 0
    for want, pause in steps:
        clock.now += pause
        got = limiter.take(want)
        assert 1 <= got <= want
        granted += got
        assert granted <= rate * (clock.now - start) * (1 + 1e-6) + 1e-3


def test_pause_is_not_saved_up() -> None:
    clock = Clock()
    limiter = limit(100, clock)
    limiter.take(10)
    clock.now += 60
    before = clock.now
    assert sum(limiter.take(10) for _ in range(10)) == 100
    assert clock.now - before >= 0.9 - 1e-9


def test_no_limit_hands_out_all_and_stop_nothing() -> None:
    clock, stop = Clock(), threading.Event()
    assert limit(None, clock, stop).take(12345) == 12345
    stop.set()
    assert limit(None, clock, stop).take(5) == 0
    assert limit(10, clock, stop).take(5) == 0


def test_stop_ends_a_wait() -> None:
    stop = threading.Event()
    limiter = RateLimit(0.001, stop)
    threading.Timer(0.05, stop.set).start()
    assert limiter.take(1) == 0


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="never end"):
        RateLimit(0, threading.Event())
