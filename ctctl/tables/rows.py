"""Entries of a source as rows to show: filtered on columns, sorted where a number sorts, joined to names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from ctctl.decode.ct import LAYOUT_LACKS, decode_entry
from ctctl.model.row import CtRow
from ctctl.tables.query.filter import Filter
from ctctl.tables.sources.base import CtTable, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.decode.columns import CtColumns


def row_of(table: CtTable, columns: CtColumns, index: int, names: Mapping[str, str]) -> CtRow:
    """One entry of a batch as a row."""
    entry = columns.entry(index, table.name, table.absent)
    return CtRow(entry, table.layout, table.clock, table.now, table.node, table.raw, names)


def matching(table: CtTable, wanted: Filter, *, scanned: bool = False) -> Iterator[CtColumns]:
    """The table's entries that the filter wants, batch by batch, none empty; live tables are filtered in the kernel.

    ``scanned``: the kernel was asked already, in vain.
    Raises UsageError if the filter needs a now that is unknown.
    """
    from ctctl.tables.query.predicate import mask_of

    predicate = wanted.bind(table.context())
    if predicate is False:
        return
    if predicate is not True and table.live is not None and not scanned:
        from ctctl.tables.scan import scan

        found = scan(table, predicate)
        if found is not None:
            if len(found):
                yield found
            return
    for columns in table.columns():
        if predicate is True:
            yield columns
            continue
        mask = mask_of(predicate, columns)
        if mask.any():
            yield columns.select(mask)


#: Sort fields that are one number of the record: rows can be chosen before they are decoded.
_SORT_SLOTS = {
    "remaining": "LIFETIME",
    "lifetime": "LIFETIME",
    "src_port": "SRC_PORT",
    "dst_port": "DST_PORT",
    "proto": "PROTO",
    "flags": "FLAGS",
    "rev_nat": "REV_NAT",
    "src_sec_id": "SRC_SEC_ID",
    "last_tx_report": "LAST_TX_REPORT",
    "last_rx_report": "LAST_RX_REPORT",
    "tx_flags_seen": "TX_FLAGS_SEEN",
    "rx_flags_seen": "RX_FLAGS_SEEN",
}
_SORT_WORDS = {"packets": "WORD16", "bytes": "WORD24", "backend_id": "WORD8"}


def rows(
    source: Source,
    wanted: Filter,
    *,
    sort: str | None = None,
    limit: int | None = None,
    names: Mapping[str, str] | None = None,
) -> Iterator[CtRow]:
    """The rows that match. With ``sort`` and ``limit`` only those that can be among the first ``limit``,
    in no order: whoever prints them sorts.

    Raises UsageError if the filter needs a now that is unknown.
    """
    known = names or {}
    slot = _sort_slot(source, sort)
    best = (slot, limit, sort.startswith("-")) if limit and slot is not None and sort is not None else None
    found = (row for table in source.tables for row in _table_rows(table, wanted, known, best))
    yield from found if sort is not None else islice(found, limit)


def _table_rows(
    table: CtTable, wanted: Filter, names: Mapping[str, str], best: tuple[str, int, bool] | None
) -> Iterator[CtRow]:
    """The rows of one table, or those that can be among the ``best`` (slot, how many, descending).

    What the kernel has filtered is decoded one by one, without numpy.
    """
    records = _found_by_kernel(table, wanted)
    if records is not None:
        for key, value in records:
            entry = decode_entry(key, value, table.layout, table.name, absent=table.absent)
            yield CtRow(entry, table.layout, table.clock, table.now, table.node, table.raw, names)
        return
    batches = matching(table, wanted, scanned=True)
    for columns in batches if best is None else _best(batches, *best):
        yield from (row_of(table, columns, index, names) for index in range(len(columns)))


def _found_by_kernel(table: CtTable, wanted: Filter) -> list[tuple[bytes, bytes]] | None:
    predicate = wanted.bind(table.context())
    if isinstance(predicate, bool) or table.live is None:
        return None
    from ctctl.tables.scan import scan_records

    return scan_records(table, predicate)


def _sort_slot(source: Source, sort: str | None) -> str | None:
    name = (sort or "").removeprefix("-")
    tables = source.tables
    shared = "backend_id"  # its bytes are something else in some entries of these versions
    plain = all(not table.layout.split_counters and name not in table.absent for table in tables)
    if name in _SORT_WORDS and plain and not (name == shared and any(table.layout.has_nat for table in tables)):
        return _SORT_WORDS[name]
    if name not in _SORT_SLOTS or any(name in table.absent | LAYOUT_LACKS[table.layout] for table in tables):
        return None
    if name == "remaining" and (any(t.now is None for t in tables) or len({(t.clock, t.now) for t in tables}) > 1):
        return None
    return _SORT_SLOTS[name]


def _best(batches: Iterator[CtColumns], slot_name: str, limit: int, descending: bool) -> Iterator[CtColumns]:
    """Of all batches the entries that can be among the first ``limit`` by one slot."""
    import numpy as np

    from ctctl.decode.columns import Slot

    slot = Slot[slot_name]

    def rank(columns: CtColumns) -> NDArray[np.uint64]:
        numbers = columns.slot(slot).astype(np.uint64)
        return ~numbers if descending else numbers

    def best(columns: CtColumns) -> CtColumns:
        if len(columns) <= limit:
            return columns
        return columns.select(np.argpartition(rank(columns), limit - 1)[:limit])

    kept: CtColumns | None = None
    for columns in batches:
        candidates = columns
        if kept is not None and len(kept) == limit:
            candidates = columns.select(rank(columns) < rank(kept).max())
        candidates = best(candidates)
        kept = candidates.copy() if kept is None else best(_joined(kept, candidates))
    if kept is not None:
        yield kept


def _joined(first: CtColumns, second: CtColumns) -> CtColumns:
    import numpy as np

    from ctctl.decode.columns import CtColumns

    keys = np.concatenate([first.keys, second.keys])
    return CtColumns(keys, np.concatenate([first.values, second.values]), first.layout)
