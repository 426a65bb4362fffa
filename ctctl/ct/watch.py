"""``ct list --watch``: the rows again and again, marked by what became of them since the last look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ctctl.ct.arrange import rows
from ctctl.ct.events import refresh_now
from ctctl.decode.ct import decode_entry, encode_key
from ctctl.model.entry import CtState
from ctctl.model.row import CtRow
from ctctl.model.tuples import FlowTuple
from ctctl.tables.names import NodeNames
from ctctl.tables.query.filter import Filter
from ctctl.tables.sources.base import Source

_Identity: TypeAlias = tuple[str | None, str | None, FlowTuple, int]


@dataclass(frozen=True, slots=True)
class Marked:
    """A row and what became of it: "new", "closing", "gone" or ""."""

    mark: str
    row: CtRow


class Watch:
    """Looks at a source again and again. The first look marks nothing.

    With a ``limit`` a row may come and go because others stand before it: what is beyond the limit is looked up before
    it is called gone, and nothing is called new where the look before did not see all.
    """

    def __init__(self, source: Source, wanted: Filter, *, sort: str | None, limit: int | None) -> None:
        self._source = source
        self._wanted = wanted
        self._sort = sort
        self._limit = limit
        self._names = NodeNames(source)
        self._before: dict[_Identity, CtRow] | None = None
        self._saw_all = True

    def look(self) -> list[Marked]:
        """The rows now; those that went since the last look stand at the end, once."""
        for table in self._source.tables:
            refresh_now(table)
        found = rows(self._source, self._wanted, sort=self._sort, limit=self._limit, names=self._names)
        now = {_identity(row): row for row in found}
        before, self._before = self._before, now
        saw_all_before, self._saw_all = self._saw_all, self._limit is None or len(now) < self._limit
        return [*self._marked(now, before, saw_all_before)]

    def _marked(
        self, now: dict[_Identity, CtRow], before: dict[_Identity, CtRow] | None, saw_all_before: bool
    ) -> Iterator[Marked]:
        for identity, row in now.items():
            old = before.get(identity) if before is not None else row
            closing = row.entry.state in (CtState.CLOSING, CtState.CLOSED)
            if old is None:
                yield Marked("new" if saw_all_before else "", row)
            else:
                yield Marked("closing" if closing and old.entry.state is not row.entry.state else "", row)
        for identity, row in (before or {}).items():
            if identity not in now and (self._saw_all or not self._is_there(row)):
                yield Marked("gone", row)

    def _is_there(self, row: CtRow) -> bool:
        """Whether an entry is still one that is wanted, beyond the limit."""
        entry = row.entry
        return any(
            self._wanted.matches(decode_entry(key, value, table.layout, table.name), table.context())
            for table in self._source.tables
            if (table.node, table.name) == (row.node, entry.map)
            for key in [encode_key(entry.tuple, entry.tuple_flags)]
            for value in [table.live.lookup(key) if table.live is not None else None]
            if value is not None
        )


def _identity(row: CtRow) -> _Identity:
    return row.node, row.entry.map, row.entry.tuple, row.entry.tuple_flags
