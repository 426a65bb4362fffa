"""Wait for a condition with a bound: what tests use instead of a sleep."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: How long a test waits for what must come before it says that it does not. No measure of speed: on a
#: machine with a dozen other programs on each core everything still comes within it, ten CPU seconds of a command
#: too. In an emulator, where a machine is dozens of times slower, the variable says more.
PATIENCE_S = float(os.environ.get("CTCTL_TEST_PATIENCE_S", "300"))
#: The same as a word for programs that have a bound of their own.
PATIENCE_WORD = f"{PATIENCE_S:.0f}"


def wait_for(condition: Callable[[], T], timeout: float = PATIENCE_S, *, what: str = "") -> T:
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
