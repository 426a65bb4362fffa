"""Rows of several tables in one order, on columns: ``--sort`` and ``--limit``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ctctl.ct.kept import KeptRows, compact
from ctctl.ct.sortkeys import sort_keys
from ctctl.decode.columns import CtColumns
from ctctl.model.row import CtRow
from ctctl.tables.names import Names, no_names
from ctctl.tables.ordering import ascending, rows_of_parts
from ctctl.tables.query.filter import Filter
from ctctl.tables.rows import matching, row_of
from ctctl.tables.show.rowform import EntryForm
from ctctl.tables.sources.base import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Mask = NDArray[np.bool_]
    Piece = tuple[EntryForm, CtColumns, NDArray[np.int64], NDArray[np.int64] | None]

#: With a limit, rows that cannot be shown any more are let go once there are so many.
_KEPT = 1 << 16


class Arranger:
    """Collects rows and gives them back sorted; rows without the field come last either way, in their order.

    With a limit the memory does not grow with the table.
    """

    def __init__(self, sort: str, limit: int | None) -> None:
        self._field = sort.removeprefix("-")
        self._descending = sort.startswith("-")
        self._limit = limit
        self._parts: list[tuple[EntryForm, CtColumns]] = []
        self._whole: dict[EntryForm, KeptRows] = {}
        self._keys: list[tuple[list[Array], Mask]] = []
        self._count = 0

    def add(self, form: EntryForm, columns: CtColumns) -> None:
        """Take the rows of a batch, whose memory may be used again. Batches come table by table."""
        if not len(columns):
            return
        if self._limit is None:
            if form not in self._whole:
                self._whole[form] = KeptRows(columns.family, columns.layout)
            self._whole[form].add(columns)
            keys, missing = sort_keys(form, columns, self._field)
            self._keys.append(([compact(key) for key in keys], missing.copy()))
            return
        if len(columns) > self._limit:
            order = self._order(self._keys_of([(form, columns)]))[: self._limit]
            self._parts.append((form, columns.select(np.sort(order))))
        else:
            self._parts.append((form, columns.copy()))
        self._count += len(self._parts[-1][1])
        if self._count > max(4 * self._limit, _KEPT):
            self._prune(self._limit)

    def chunks(self, size: int) -> Iterator[list[Piece]]:
        """The rows in order, ``size`` at a time: rows of each part, and their places in the chunk."""
        if self._limit is None:
            yield from self._all(size)
            return
        self._join()
        order = self._order(self._keys_of(self._parts))[: self._limit]
        part, row = rows_of_parts([len(columns) for _form, columns in self._parts])
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            chunk: list[Piece] = []
            for index, places in _by_part(part[chosen]):
                form, columns = self._parts[index]
                chunk.append((form, columns, np.ascontiguousarray(row[chosen][places]), places))
            yield chunk

    def _all(self, size: int) -> Iterator[list[Piece]]:
        """Without a limit: of every row only what differs is kept, and rows are put together when they are shown."""
        order = self._order(self._keys)
        self._keys = []
        forms = list(self._whole.items())
        starts = np.cumsum([0, *(len(kept) for _form, kept in forms)])
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            parts = np.searchsorted(starts, chosen, side="right") - 1
            chunk: list[Piece] = []
            for index, places in _by_part(parts):
                form, kept = forms[index]
                columns = kept.take(chosen[places] - starts[index])
                alone = len(places) == len(chosen)
                chunk.append((form, columns, np.arange(len(columns)), None if alone else places))
            yield chunk

    def _join(self) -> None:
        """One part a table, so that a chunk has few."""
        tables: dict[int, list[tuple[EntryForm, CtColumns]]] = {}
        for form, columns in self._parts:
            tables.setdefault(id(form), []).append((form, columns))
        self._parts = [(parts[0][0], _joined([part for _form, part in parts])) for parts in tables.values()]

    def _prune(self, limit: int) -> None:
        best = np.sort(self._order(self._keys_of(self._parts))[:limit])
        part, row = rows_of_parts([len(columns) for _form, columns in self._parts])
        kept: list[tuple[EntryForm, CtColumns]] = []
        for index, places in _by_part(part[best]):
            form, columns = self._parts[index]
            kept.append((form, columns.select(row[best][places])))
        self._parts, self._count = kept, len(best)

    def _keys_of(self, parts: list[tuple[EntryForm, CtColumns]]) -> list[tuple[list[Array], Mask]]:
        return [sort_keys(form, columns, self._field) for form, columns in parts]

    def _order(self, found: list[tuple[list[Array], Mask]]) -> NDArray[np.int64]:
        if not found:
            return np.zeros(0, np.int64)
        absent = np.concatenate([missing for _keys, missing in found])
        ranked = []
        for at in range(len(found[0][0])):
            key = ascending(np.concatenate([keys[at] for keys, _missing in found]), descending=self._descending)
            if absent.any():
                key = np.where(absent, np.zeros(1, key.dtype), key)
            if len(key) and (key != key[0]).any():
                ranked.append(key)
        if absent.any():
            ranked.insert(0, absent)
        if not ranked:
            return np.arange(len(absent))
        return np.argsort(ranked[0], kind="stable") if len(ranked) == 1 else np.lexsort(ranked[::-1])


def _by_part(parts: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The parts that rows are of, and the places of their rows."""
    for index in np.unique(parts).tolist():
        yield index, np.flatnonzero(parts == index)


def _joined(parts: list[CtColumns]) -> CtColumns:
    return parts[0] if len(parts) == 1 else CtColumns.joined(parts)


def rows(
    source: Source,
    wanted: Filter,
    *,
    sort: str | None = None,
    limit: int | None = None,
    names: Names = no_names,
) -> Iterator[CtRow]:
    """The rows that match, sorted and limited, one by one: for a screenful.

    Raises UsageError if the filter needs a now that is unknown.
    """
    if sort is None:
        found = (
            row_of(table, columns, index, names(table.node))
            for table in source.tables
            for columns in matching(table, wanted)
            for index in range(len(columns))
        )
        yield from islice(found, limit)
        return
    arranger = Arranger(sort, limit)
    for table in source.tables:
        form = EntryForm(table, names(table.node))
        for columns in matching(table, wanted):
            arranger.add(form, columns)
    for chunk in arranger.chunks(_KEPT):
        placed: list[tuple[int, CtRow]] = []
        for form, columns, order, places in chunk:
            at = range(len(order)) if places is None else places.tolist()
            placed += [
                (place, row_of(form.table, columns, index, names(form.table.node)))
                for place, index in zip(at, order.tolist(), strict=True)
            ]
        yield from (row for _place, row in sorted(placed, key=lambda pair: pair[0]))
