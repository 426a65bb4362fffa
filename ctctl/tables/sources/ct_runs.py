"""Passes over the lines of a conntrack listing that are as the program printed them (``regular``, ``ct_forms``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctctl.model.tuples import TCP
from ctctl.tables.sources.ct_forms import Sort, form_of
from ctctl.tables.sources.ct_text import CtLines
from ctctl.tables.sources.regular import ROOM, RegularReader
from ctctl.tables.sources.shape import Shape
from ctctl.tables.sources.stream import Lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How many bytes ahead are worth a pass, and how many lines at most are read one by one after passes in vain.
WORTH = 1 << 16
MAX_WAIT = 256


class CtRuns:
    """Passes over the lines that follow a record of a conntrack listing. ``ct`` takes what they read."""

    def __init__(self, ct: CtLines, lines: Lines, shape: Shape) -> None:
        self._ct = ct
        self._lines = lines
        self._shape = shape
        self._readers: dict[Sort, RegularReader] = {}
        #: lines to come that are not worth a pass, and how many there are after the next pass in vain
        self._wait = 0
        self._next_wait = 1

    def read_on(self) -> bool:
        """Read the lines that follow one of the listing, as far as they are like it. Whether there were any."""
        if self._wait:
            self._wait -= 1
            return False
        other, count = self._shape.other_length(), 0
        while other is not None and self._lines.has(WORTH) and (sort := self._ct.next_sort(ROOM)) is not None:
            reader = self._readers.get(sort) or self._readers.setdefault(sort, RegularReader(form_of(sort)))
            rows = reader.read(self._lines, other)
            if len(rows):
                self._shape.records(len(rows), reader.padded, reader.blanks)
                self._add(sort, rows)
                self._lines.spend(reader.work)
            count += len(rows)
            if len(rows) < ROOM:
                self._wait = 0 if count >= self._next_wait else self._next_wait
                self._next_wait = min(2 * self._next_wait, MAX_WAIT) if self._wait else 1
                break
        return count > 0

    def _add(self, sort: Sort, rows: NDArray[Any]) -> None:
        """Rows to the tables that they are of."""
        if sort.family is not None:
            self._ct.add_rows(sort, sort.family, TCP if sort.tcp else 0, rows)
            return
        tcp, six = rows["proto"] == TCP, rows["src_family"] == 6
        for family, proto in ((4, TCP), (4, 0), (6, TCP), (6, 0)):
            mine = rows[(six == (family == 6)) & (tcp == (proto == TCP))]
            if len(mine):
                self._ct.add_rows(sort, family, proto, mine)
