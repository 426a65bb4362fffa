"""``ct diff``: what is compared with what; ``differing`` finds what differs."""

from __future__ import annotations

from collections.abc import Iterator

from ctctl.model.entry import CtEntry
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


def paired(first: Source, second: Source) -> Iterator[tuple[CtTable | None, CtTable | None]]:
    """The tables that are compared with each other: by name, and by node where both sources know nodes.

    None: the other source has none for it.
    """
    by_node = bool(first.nodes() and second.nodes() and set(first.nodes()) & set(second.nodes()))

    def place(table: CtTable) -> tuple[str | None, str]:
        return (table.node if by_node else None, table.name)

    after = {place(table): table for table in second.tables}
    for table in first.tables:
        yield table, after.pop(place(table), None)
    for other in after.values():
        yield None, other
