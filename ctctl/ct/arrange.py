"""Rows of several tables in one order, on columns: ``--sort`` and ``--limit``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ctctl.ct.sortkeys import sort_keys
from ctctl.decode.columns import CtColumns
from ctctl.model.row import CtRow
from ctctl.tables.query.filter import Filter
from ctctl.tables.rows import matching, row_of
from ctctl.tables.show.rowform import EntryForm
from ctctl.tables.sources.base import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
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
        self._whole: dict[EntryForm, tuple[bytearray, bytearray]] = {}
        self._count = 0

    def add(self, form: EntryForm, columns: CtColumns) -> None:
        """Take the rows of a batch, whose memory may be used again."""
        if not len(columns):
            return
        if self._limit is None:
            for held, (memory, _size) in zip(self._held(form), columns.matrices, strict=True):
                held.extend(memoryview(memory).cast("B"))
            return
        if len(columns) > self._limit:
            order = self._order([(form, columns)])[: self._limit]
            self._parts.append((form, columns.select(np.sort(order))))
        else:
            self._parts.append((form, columns.copy()))
        self._count += len(self._parts[-1][1])
        if self._count > max(4 * self._limit, _KEPT):
            self._prune(self._limit)

    def _held(self, form: EntryForm) -> tuple[bytearray, bytearray]:
        """All keys and values of a table: they grow where they lie, without a second copy."""
        return self._whole.setdefault(form, (bytearray(), bytearray()))

    def chunks(self, size: int) -> Iterator[list[Piece]]:
        """The rows in order, ``size`` at a time: rows of each part, and their places in the chunk."""
        self._join()
        order = self._order(self._parts)[: self._limit]
        if len(self._parts) == 1:
            form, columns = self._parts[0]
            for start in range(0, len(order), size):
                yield [(form, columns, order[start : start + size], None)]
            return
        part, row = self._places()
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            parts, rows = part[chosen], row[chosen]
            chunk: list[Piece] = []
            for index in np.unique(parts).tolist():
                places = np.flatnonzero(parts == index)
                form, columns = self._parts[index]
                alone = len(places) == len(chosen)
                chunk.append((form, columns, np.ascontiguousarray(rows[places]), None if alone else places))
            yield chunk

    def _join(self) -> None:
        """One part a table, so that a chunk has few."""
        self._parts += [
            (form, CtColumns.of_bytes(form.table.family, memoryview(keys), memoryview(values), form.table.layout))
            for form, (keys, values) in self._whole.items()
        ]
        tables: dict[int, list[tuple[EntryForm, CtColumns]]] = {}
        for form, columns in self._parts:
            tables.setdefault(id(form), []).append((form, columns))
        self._parts = [(parts[0][0], _joined([part for _form, part in parts])) for parts in tables.values()]

    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        sizes = [len(columns) for _form, columns in self._parts]
        part = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
        row = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes] or [np.zeros(0, np.int64)])
        return part, row

    def _prune(self, limit: int) -> None:
        best = np.sort(self._order(self._parts)[:limit])
        part, row = self._places()
        kept: list[tuple[EntryForm, CtColumns]] = []
        for index in np.unique(part[best]).tolist():
            form, columns = self._parts[index]
            kept.append((form, columns.select(row[best][part[best] == index])))
        self._parts, self._count = kept, len(best)

    def _order(self, parts: list[tuple[EntryForm, CtColumns]]) -> NDArray[np.int64]:
        if not parts:
            return np.zeros(0, np.int64)
        found = [sort_keys(form, columns, self._field) for form, columns in parts]
        absent = np.concatenate([missing for _keys, missing in found])
        keys = [np.concatenate([keys[at] for keys, _missing in found]) for at in range(len(found[0][0]))]
        ranked = [_ascending(key, descending=self._descending) for key in keys]
        ranked = [np.where(absent, ranked_key.dtype.type(0), ranked_key) for ranked_key in ranked]
        return np.lexsort([*reversed(ranked), absent])


def _joined(parts: list[CtColumns]) -> CtColumns:
    return parts[0] if len(parts) == 1 else CtColumns.joined(parts)


def _ascending(key: Array, *, descending: bool) -> Array:
    """Numbers in the order wanted: texts by their rank, all turned round for a descending one."""
    if key.dtype.kind in "SO":
        key = np.unique(key, return_inverse=True)[1].reshape(-1).astype(np.uint64)
    if not descending:
        return key
    return -key if key.dtype.kind == "i" else ~key.astype(np.uint64)


def rows(
    source: Source,
    wanted: Filter,
    *,
    sort: str | None = None,
    limit: int | None = None,
    names: Mapping[str, str] | None = None,
) -> Iterator[CtRow]:
    """The rows that match, sorted and limited, one by one: for a screenful.

    Raises UsageError if the filter needs a now that is unknown.
    """
    known = names or {}
    if sort is None:
        found = (
            row_of(table, columns, index, known)
            for table in source.tables
            for columns in matching(table, wanted)
            for index in range(len(columns))
        )
        yield from islice(found, limit)
        return
    arranger = Arranger(sort, limit)
    for table in source.tables:
        form = EntryForm(table, known)
        for columns in matching(table, wanted):
            arranger.add(form, columns)
    for chunk in arranger.chunks(_KEPT):
        placed: list[tuple[int, CtRow]] = []
        for form, columns, order, places in chunk:
            at = range(len(order)) if places is None else places.tolist()
            placed += [
                (place, row_of(form.table, columns, index, known))
                for place, index in zip(at, order.tolist(), strict=True)
            ]
        yield from (row for _place, row in sorted(placed, key=lambda pair: pair[0]))
