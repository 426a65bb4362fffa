"""Passes over the lines of a conntrack listing that are as the program printed them (``regular``, ``ct_forms``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctctl.model.tuples import TCP
from ctctl.tables.sources import regular
from ctctl.tables.sources.ct_forms import Sort, form_of
from ctctl.tables.sources.ct_text import CtLines
from ctctl.tables.sources.regular import Patience, RegularReader
from ctctl.tables.sources.shape import Shape
from ctctl.tables.sources.stream import Lines

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CtRuns:
    """Passes over the lines that follow a record of a conntrack listing. ``ct`` takes what they read."""

    def __init__(self, ct: CtLines, lines: Lines, shape: Shape) -> None:
        self._ct = ct
        self._lines = lines
        self._shape = shape
        self._readers: dict[Sort, RegularReader] = {}
        self._patience = Patience()

    def read_on(self) -> bool:
        """Read the lines that follow one of the listing, as far as they are like it. Whether there were any."""
        other, count = self._shape.other_length(), 0
        if other is None or not self._patience.ready():
            return False
        while self._lines.has(regular.WORTH) and (sort := self._ct.next_sort(regular.ROOM)) is not None:
            reader = self._readers.get(sort) or self._readers.setdefault(sort, RegularReader(form_of(sort)))
            rows = reader.read(self._lines, other_length=other)
            if len(rows):
                self._shape.records(len(rows), reader.padded, reader.blanks)
                self._add(sort, rows)
                self._lines.spend(reader.work)
            count += len(rows)
            if len(rows) < regular.ROOM:
                self._patience.after(count)
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
