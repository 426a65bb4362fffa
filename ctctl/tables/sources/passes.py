"""Passes over the lines that follow a record and are as its program printed them (``regular``), of whatever listing."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ctctl.tables.sources.regular import ROOM, Form, Patience, RegularReader, is_worth
from ctctl.tables.sources.shape import Shape
from ctctl.tables.sources.stream import Lines
from ctctl.tables.sources.unworded import Unworded

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Into = TypeVar("_Into")


class Listing(Protocol):
    """A listing whose lines can be read in passes. ``work`` is what a record costs beside its line."""

    work: int

    def next_form(self, room: int) -> Form | None:
        """The form of lines that may follow; None: they go one by one. ``room``: so many of them at most."""

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Take the rows of lines of that form; they are valid until the next pass."""


class FormRuns(ABC, Generic[_Into]):
    """A ``Listing`` whose lines all have one form. ``into`` is what takes what is read."""

    #: a row is an object, and a cell or more of a report or a lake
    work = 24
    #: makes it, or has it already
    form: Callable[[], Form]

    def __init__(self, into: _Into) -> None:
        self._into = into

    def next_form(self, _room: int) -> Form | None:
        """The form of its lines."""
        return self.form()

    @abstractmethod
    def add_rows(self, rows: NDArray[Any]) -> None:
        """Take rows of such lines."""


class _Readers(threading.local):
    """A thread's readers by form. Their memory is for all its files: an archive may have thousands."""

    def __init__(self) -> None:
        self._by_form: dict[Form, RegularReader] = {}

    def of(self, form: Form) -> RegularReader:
        return self._by_form.get(form) or self._by_form.setdefault(form, RegularReader(form))


_readers = _Readers()


class Passes:
    """Passes over the lines of a stream, each as far as it goes."""

    def __init__(self, lines: Lines, shape: Shape) -> None:
        self._lines = lines
        self._shape = shape
        self._patience = Patience()
        #: the last form that is of this file alone, and who reads it
        self._alone: tuple[Form, RegularReader] | None = None

    def read_on(self, listing: Listing, *, worded: bool = False) -> bool:
        """Read the lines that follow one of the listing, as far as they are like it. Whether there were any.

        ``worded``: words may stand in front of them, for none can be taken for the head of a table.
        """
        other, count = self._shape.other_length(), 0
        front = self._shape.worded() if worded and other is None else None
        if (other is None and front is None) or not self._patience.ready():
            return False
        while is_worth(self._lines) and (form := listing.next_form(ROOM)) is not None:
            reader = self._reader_of(form)
            bare = Unworded(self._lines, *front) if front is not None else None
            rows = reader.read(bare or self._lines, other_length=other or 0)
            if len(rows):
                self._shape.records(len(rows), reader.padded, reader.blanks)
                listing.add_rows(rows)
                self._lines.spend((reader if bare is None else bare).work + listing.work * len(rows))
            count += len(rows)
            if len(rows) < ROOM:
                self._patience.after(count)
                break
        return count > 0

    def _reader_of(self, form: Form) -> RegularReader:
        if form.shared:
            return _readers.of(form)
        if self._alone is None or self._alone[0] is not form:
            self._alone = form, RegularReader(form)
        return self._alone[1]
