"""``ct diff``: what differs between two tables, wherever they are from."""

from __future__ import annotations

from collections.abc import Iterator

from ctctl.ct.compare import Compared, load
from ctctl.ct.report import Change, Difference
from ctctl.model.entry import CtEntry
from ctctl.tables.query.filter import EVERYTHING, Filter
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
    "nat_addr",
    "nat_port",
)


def changed_fields(before: CtEntry, after: CtEntry) -> dict[str, tuple[object, object]]:
    """(before, after) of each field that both have and that differs."""
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in COMPARED)
    return {name: (old, new) for name, old, new in pairs if old != new and old is not None and new is not None}


def diff(first: Source, second: Source, wanted: Filter = EVERYTHING) -> Iterator[Difference]:
    """Entries that were added, removed or changed from ``first`` to ``second``, table by table.

    Tables are paired by name; by node too where both sources know nodes. This says what a difference is;
    ``differing`` finds the same by columns.
    """
    for table, other in paired(first, second):
        yield from _diff_tables(table, other, wanted)


def paired(first: Source, second: Source) -> Iterator[tuple[CtTable | None, CtTable | None]]:
    """The tables that are compared with each other; None: the other source has none for it."""
    by_node = bool(first.nodes() and second.nodes() and set(first.nodes()) & set(second.nodes()))

    def place(table: CtTable) -> tuple[str | None, str]:
        return (table.node if by_node else None, table.name)

    after = {place(table): table for table in second.tables}
    for table in first.tables:
        yield table, after.pop(place(table), None)
    for other in after.values():
        yield None, other


def _diff_tables(first: CtTable | None, second: CtTable | None, wanted: Filter) -> Iterator[Difference]:
    before = load(first, wanted) if first is not None else None
    after = load(second, wanted) if second is not None else None
    if before is None or after is None or before.table.family != after.table.family:
        for change, records in ((Change.REMOVED, before), (Change.ADDED, after)):
            if records is not None:
                yield from (Difference(change, records.row(index)) for index in range(len(records)))
        return
    compared = Compared(before, after)
    yield from (Difference(Change.REMOVED, row) for row in compared.gone())
    yield from (Difference(Change.ADDED, row) for row in compared.added())
    for old, row in compared.unlike(COMPARED):
        fields = changed_fields(old.entry, row.entry)
        if fields:
            yield Difference(Change.CHANGED, row, fields)
