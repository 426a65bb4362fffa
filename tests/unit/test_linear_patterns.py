"""No pattern takes more of a line than its length pays for: none goes back over a run for each character of it.

A line of 300 spaces took a second of CPU in one that let three repetitions share them.
"""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from ctctl.tables.sources.gaps import MAX_MARK
from tests.support.pumped import Used, patterns, texts

#: As long as the longest line that is looked at closely; what is asked of shorter ones only.
LENGTH = 400
SHORTER = {"ctctl.tables.sources.gaps._LEFT_OUT": MAX_MARK, "ctctl.tables.sources.gaps._PAGER": MAX_MARK}
#: Times what a text of that length takes of a pattern that goes over it once, character by character. What tries a
#: name of 60 characters at each of them takes 80 of these; what tries each run with each other takes 1,000 and more.
TIMES = 250
_ONCE = re.compile(r"(?:[a-z]|\d)*!")


def nanoseconds(pattern: re.Pattern[Any], method: str, text: str | bytes) -> int:
    """Of CPU."""
    asked, started = getattr(pattern, method), time.thread_time_ns()
    asked(text)
    return time.thread_time_ns() - started


def is_within(pattern: re.Pattern[Any], method: str, text: str | bytes) -> bool:
    """Whether it takes no more than so many times what the once takes at the same moment; the least of several."""
    took = once = 1 << 62
    for _ in range(8):
        took = min(took, nanoseconds(pattern, method, text))
        once = min(once, nanoseconds(_ONCE, "match", "a" * len(text)))
        if took <= TIMES * once:
            return True
    return False


@pytest.mark.parametrize("used", list(patterns()), ids=lambda used: used.where.removeprefix("ctctl."))
def test_no_run_is_shared_out_in_every_way(used: Used) -> None:
    binary = isinstance(used.pattern.pattern, bytes)
    for text in texts(used.pattern, SHORTER.get(used.where, LENGTH)):
        for method in used.methods:
            assert is_within(used.pattern, method, text.encode() if binary else text), (method, text[:80])


def test_it_would_be_noticed() -> None:
    bad = re.compile(r"\s*(?:x )?\s*y?\s*$")
    assert not all(is_within(bad, "match", text) for text in texts(bad, LENGTH))
