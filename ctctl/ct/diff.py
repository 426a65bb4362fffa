"""``ct diff``: what differs between two tables, wherever they are from."""

from __future__ import annotations

from collections.abc import Iterator

from ctctl.ct.report import Change, Difference
from ctctl.decode.ct import decode_entry
from ctctl.model.entry import CtEntry
from ctctl.model.row import CtRow
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.rows import matching
from ctctl.tables.sources.base import CtTable, Source

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
_Records = dict[bytes, bytes]


def load(table: CtTable, wanted: Filter = EVERYTHING) -> _Records:
    """All matching records of a table: value by key."""
    found: _Records = {}
    for columns in matching(table, wanted):
        keys, values = columns.keys.tobytes(), columns.values.tobytes()
        width, size = columns.keys.shape[1], columns.values.shape[1]
        for index in range(len(columns)):
            found[keys[index * width : (index + 1) * width]] = values[index * size : (index + 1) * size]
    return found


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
    before = load(first, wanted) if first is not None else {}
    after = load(second, wanted) if second is not None else {}
    if first is not None:
        for key, value in before.items():
            if key not in after:
                yield Difference(Change.REMOVED, row_of(first, key, value))
    if second is not None:
        for key, value in after.items():
            if key not in before:
                yield Difference(Change.ADDED, row_of(second, key, value))
    if first is None or second is None:
        return
    same_form = first.layout is second.layout and first.absent == second.absent
    for key, value in before.items():
        new = after.get(key)
        if new is None or (same_form and new == value):
            continue
        row = row_of(second, key, new)
        fields = changed_fields(row_of(first, key, value).entry, row.entry)
        if fields:
            yield Difference(Change.CHANGED, row, fields)


def row_of(table: CtTable, key: bytes, value: bytes) -> CtRow:
    """One record of a table as a row."""
    entry = decode_entry(key, value, table.layout, table.name, absent=table.absent)
    return CtRow(entry, table.layout, table.clock, table.now, table.node, table.raw)
