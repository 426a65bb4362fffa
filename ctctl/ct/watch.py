"""``ct list --watch``: the rows again and again, marked by what became of them since the last look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ctctl.ct.arrange import rows
from ctctl.ct.events import refresh_now
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
    """Looks at a source again and again. The first look marks nothing."""

    def __init__(self, source: Source, wanted: Filter, *, sort: str | None, limit: int | None) -> None:
        self._source = source
        self._wanted = wanted
        self._sort = sort
        self._limit = limit
        self._names = NodeNames(source)
        self._before: dict[_Identity, CtRow] | None = None

    def look(self) -> list[Marked]:
        """The rows now; those that went since the last look stand at the end, once."""
        for table in self._source.tables:
            refresh_now(table)
        found = rows(self._source, self._wanted, sort=self._sort, limit=self._limit, names=self._names)
        now = {_identity(row): row for row in found}
        before, self._before = self._before, now
        return [*self._marked(now, before)]

    def _marked(self, now: dict[_Identity, CtRow], before: dict[_Identity, CtRow] | None) -> Iterator[Marked]:
        for identity, row in now.items():
            old = before.get(identity) if before is not None else row
            closing = row.entry.state in (CtState.CLOSING, CtState.CLOSED)
            if old is None:
                yield Marked("new", row)
            else:
                yield Marked("closing" if closing and old.entry.state is not row.entry.state else "", row)
        for identity, row in (before or {}).items():
            if identity not in now:
                yield Marked("gone", row)


def _identity(row: CtRow) -> _Identity:
    return row.node, row.entry.map, row.entry.tuple, row.entry.tuple_flags
