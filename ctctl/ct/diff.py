"""``ct diff``: what differs between two tables, wherever they are from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctctl._ffi.lines import first_alike, kept_keys
from ctctl.ct.report import Change, Difference
from ctctl.decode.ct import KEY_SIZE, LAYOUT_LACKS, VALUE_SIZE, decode_entry
from ctctl.model.entry import CtEntry
from ctctl.model.row import CtRow
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.rows import matching
from ctctl.tables.sources.base import CtTable, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctctl.decode.columns import Matrix

    Numbers = NDArray[Any]

_BATCH = 1 << 16
#: Fields that are compared where both tables have them.
COMPARED = (
    "flags",
    "lifetime",
    "rev_nat",
    "backend_id",
    "src_sec_id",
    "packets",
    "bytes",
    "rx_packets",
    "rx_bytes",
    "tx_packets",
    "tx_bytes",
    "ifindex",
    "tx_flags_seen",
    "rx_flags_seen",
    "last_tx_report",
    "last_rx_report",
)
#: Where a value has them, up to 1.15 and from 1.16 on (``decode.ct``).
_PLACES = {
    "rx_packets": (0, 8),
    "rx_bytes": (8, 16),
    "tx_packets": (16, 24),
    "tx_bytes": (24, 32),
    "backend_id": (8, 16),
    "packets": (16, 24),
    "bytes": (24, 32),
    "lifetime": (32, 36),
    "flags": (36, 38),
    "rev_nat": (38, 40),
    "ifindex": (40, 42),
    "tx_flags_seen": (42, 43),
    "rx_flags_seen": (43, 44),
    "src_sec_id": (44, 48),
    "last_tx_report": (48, 52),
    "last_rx_report": (52, 56),
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Records:
    """The records of a table, each key once."""

    table: CtTable
    keys: bytes
    values: Matrix

    def __len__(self) -> int:
        return len(self.values)

    def row(self, index: int) -> CtRow:
        size = KEY_SIZE[self.table.family]
        return row_of(self.table, self.keys[index * size : (index + 1) * size], self.values[index].tobytes())


def load(table: CtTable, wanted: Filter = EVERYTHING) -> _Records:
    """All matching records of a table, of each key the last one."""
    import numpy as np

    keys, values = bytearray(), bytearray()
    for columns in matching(table, wanted):
        keys += columns.keys.tobytes()
        values += columns.values.tobytes()
    size = KEY_SIZE[table.family]
    matrix = np.frombuffer(values, np.uint8).reshape(-1, VALUE_SIZE)
    keep, kept = kept_keys(keys, size, last=True)
    if kept < len(matrix):
        mask = np.frombuffer(keep, np.bool_)
        return _Records(table, np.frombuffer(keys, np.uint8).reshape(-1, size)[mask].tobytes(), matrix[mask])
    return _Records(table, bytes(keys), matrix)


def changed_fields(before: CtEntry, after: CtEntry) -> dict[str, tuple[object, object]]:
    """(before, after) of each field that both have and that differs."""
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in COMPARED)
    return {name: (old, new) for name, old, new in pairs if old != new and old is not None and new is not None}


def diff(first: Source, second: Source, wanted: Filter = EVERYTHING) -> Iterator[Difference]:
    """Entries that were added, removed or changed from ``first`` to ``second``, table by table.

    Tables are paired by name; by node too where both sources know nodes.
    """
    by_node = bool(first.nodes() and second.nodes() and set(first.nodes()) & set(second.nodes()))

    def place(table: CtTable) -> tuple[str | None, str]:
        return (table.node if by_node else None, table.name)

    after = {place(table): table for table in second.tables}
    for table in first.tables:
        other = after.pop(place(table), None)
        yield from _diff_tables(table, other, wanted)
    for other in after.values():
        yield from _diff_tables(None, other, wanted)


def _diff_tables(first: CtTable | None, second: CtTable | None, wanted: Filter) -> Iterator[Difference]:
    before = load(first, wanted) if first is not None else None
    after = load(second, wanted) if second is not None else None
    if before is None or after is None or before.table.family != after.table.family:
        for change, records in ((Change.REMOVED, before), (Change.ADDED, after)):
            if records is not None:
                yield from (Difference(change, records.row(index)) for index in range(len(records)))
        return
    old, new = _pairs(before, after)
    yield from (Difference(Change.REMOVED, before.row(index)) for index in _others(old, len(before)))
    yield from (Difference(Change.ADDED, after.row(index)) for index in _others(new, len(after)))
    for old_index, new_index in _unlike(before, after, old, new):
        row = after.row(new_index)
        fields = changed_fields(before.row(old_index).entry, row.entry)
        if fields:
            yield Difference(Change.CHANGED, row, fields)


def _pairs(before: _Records, after: _Records) -> tuple[Numbers, Numbers]:
    """Which records of both have the same key, in the order of the first."""
    import numpy as np

    count = len(before)
    like = np.frombuffer(first_alike(before.keys + after.keys, KEY_SIZE[before.table.family]), np.uint32)
    new = np.flatnonzero(like[count:] < count)
    old = like[count:][new]
    order = np.argsort(old, kind="stable")
    return old[order], new[order]


def _others(paired: Numbers, count: int) -> list[int]:
    import numpy as np

    alone = np.ones(count, np.bool_)
    alone[paired] = False
    return list(np.flatnonzero(alone).tolist())


def _unlike(before: _Records, after: _Records, old: Numbers, new: Numbers) -> Iterator[tuple[int, int]]:
    """The pairs of which some field can differ: of one layout, those with other bytes where both have a field."""
    import numpy as np

    first, second = before.table, after.table
    if first.layout is second.layout:
        lacking = LAYOUT_LACKS[first.layout] | first.absent | second.absent
        places = [at for name in COMPARED if name not in lacking for at in range(*_PLACES[name])]
        for start in range(0, len(old), _BATCH):
            some = slice(start, start + _BATCH)
            pair = before.values[old[some]] != after.values[new[some]]
            found = start + np.flatnonzero(pair[:, places].any(axis=1))
            yield from zip(old[found].tolist(), new[found].tolist(), strict=True)
        return
    yield from zip(old.tolist(), new.tolist(), strict=True)


def row_of(table: CtTable, key: bytes, value: bytes) -> CtRow:
    """One record of a table as a row."""
    entry = decode_entry(key, value, table.layout, table.name, absent=table.absent)
    return CtRow(entry, table.layout, table.clock, table.now, table.node, table.raw)
