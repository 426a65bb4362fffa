"""Work that readers may do beyond what the bytes of their files pay for: given once for one answer.

Two files that are compared, ten that are read as one source, a file of names beside them: each by itself may be made so
that it takes the most that a file may take for nothing, and ten of them must not take ten times that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Allowance:
    """What of the work that no byte pays for is ``used``.

    ``a_node``: work that is done with each node of what is read, once it is read.
    """

    __slots__ = ("a_node", "used")

    def __init__(self, a_node: int = 0) -> None:
        self.used = 0
        self.a_node = a_node


_SHARED: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


@contextmanager
def shared(a_node: int = 0) -> Iterator[None]:
    """What is read inside has one allowance, that of what it is inside itself where there is such.

    ``a_node``: what is done with each node is paid for where the node is read: of a file that has more of them than
    its bytes pay for, the first are read and all of these are shown.
    """
    if _SHARED.get() is not None:
        yield
        return
    _SHARED.set(Allowance(a_node))
    try:
        yield
    finally:
        _SHARED.set(None)


def allowance() -> Allowance:
    """The one to use: shared, or a reader's own."""
    return _SHARED.get() or Allowance()
