"""File descriptors with an owner: closed once, never used afterwards, never leaked in silence."""

from __future__ import annotations

import os
import warnings
from typing import Final

from ctctl.errors import ClosedError


class Fd:
    """One file descriptor. Owned ones are closed by ``close`` or, with a ResourceWarning, when collected.

    A borrowed one (``owner`` given) belongs to another object, is never closed here and stops working
    when that object is closed.
    """

    __slots__ = ("_number", "_owner", "what")

    def __init__(self, number: int, what: str, *, owner: object | None = None) -> None:
        self._number = -1
        if number < 0:
            raise ValueError(f"not a file descriptor: {number}")
        self._number = number
        self._owner: Final = owner
        self.what = what

    @property
    def number(self) -> int:
        """The descriptor. Raises ClosedError after close, of this handle or of the one it is borrowed from."""
        if self._number < 0 or getattr(self._owner, "closed", False):
            raise ClosedError(f"{self.what} is used after it was closed")
        return self._number

    @property
    def closed(self) -> bool:
        return self._number < 0 or bool(getattr(self._owner, "closed", False))

    def dup(self, what: str | None = None) -> Fd:
        """An owned copy (close-on-exec)."""
        return Fd(os.dup(self.number), what or self.what)

    def close(self) -> None:
        """Close an owned descriptor; a second time does nothing. A borrowed one is only forgotten."""
        number, self._number = self._number, -1
        if number >= 0 and self._owner is None:
            os.close(number)

    def __del__(self) -> None:
        if self._number >= 0 and self._owner is None:
            warnings.warn(f"{self.what}: file descriptor {self._number} was not closed", ResourceWarning, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        kind = "owned" if self._owner is None else "borrowed"
        return f"<Fd {'closed' if self.closed else self._number} {self.what} {kind}>"
