"""Work that readers may do beyond what the bytes of their files pay for: given once for one answer.

Two files that are compared, ten that are read as one source, a file of names beside them: each by itself may be made so
that it takes the most that a file may take for nothing, and ten of them must not take ten times that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Allowance:
    """What of the work that no byte pays for is ``used``."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


_SHARED: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


@contextmanager
def shared() -> Iterator[None]:
    """What is read inside has one allowance, that of what it is inside itself where there is such."""
    if _SHARED.get() is not None:
        yield
        return
    _SHARED.set(Allowance())
    try:
        yield
    finally:
        _SHARED.set(None)


def allowance() -> Allowance:
    """The one to use: shared, or a reader's own."""
    return _SHARED.get() or Allowance()
