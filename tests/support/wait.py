"""Wait for a condition with a bound: what tests use instead of a sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], timeout: float = 5.0, *, what: str = "") -> T:
    """The first truthy result of ``condition``, asked again at growing intervals.

    Raises TimeoutError after ``timeout`` seconds, with the last result.
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            name = what or getattr(condition, "__name__", "condition")
            raise TimeoutError(f"{name} did not hold within {timeout} s; last result: {result!r}")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
