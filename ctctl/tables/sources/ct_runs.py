"""Conntrack listings in passes: rows of lines as the program printed them to the tables that they are of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctctl.model.tuples import TCP
from ctctl.tables.sources.ct_forms import Sort, form_of
from ctctl.tables.sources.ct_text import CtLines
from ctctl.tables.sources.regular import Form

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CtRuns:
    """A ``passes.Listing``. ``ct`` takes what is read."""

    work = 8

    def __init__(self, ct: CtLines) -> None:
        self._ct = ct
        self._sort: Sort | None = None

    def next_form(self, room: int) -> Form | None:
        """The form of lines that change nothing of what was learnt of the listing."""
        self._sort = self._ct.next_sort(room)
        return None if self._sort is None else form_of(self._sort)

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of lines of that form."""
        sort = self._sort
        assert sort is not None
        if sort.family is not None:
            self._ct.add_rows(sort, sort.family, TCP if sort.tcp else 0, rows)
            return
        tcp, six = rows["proto"] == TCP, rows["src_family"] == 6
        for family, proto in ((4, TCP), (4, 0), (6, TCP), (6, 0)):
            mine = rows[(six == (family == 6)) & (tcp == (proto == TCP))]
            if len(mine):
                self._ct.add_rows(sort, family, proto, mine)
