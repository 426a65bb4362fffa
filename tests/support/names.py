"""Names that no other test, run or person uses."""

from __future__ import annotations

import itertools
import os

#: What everything a test run makes on the machine starts with: network interfaces allow 15 characters.
PREFIX = f"t{os.getpid() % 46656:04x}"

_counter = itertools.count()


def unique_name(hint: str = "") -> str:
    """A fresh name of at most 15 characters that starts with PREFIX."""
    return f"{PREFIX}{next(_counter):x}{hint}"[:15]
