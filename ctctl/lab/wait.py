"""Waiting for a condition with a bound, instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.05


def wait_until(condition: Callable[[], T], timeout_s: float) -> T:
    """Ask until ``condition()`` is true or ``timeout_s`` is over; the last answer either way."""
    deadline = time.monotonic() + timeout_s
    pause = _FIRST_PAUSE_S
    while True:
        answer = condition()
        if answer or time.monotonic() >= deadline:
            return answer
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
