"""A filter as commands use it: from an expression, then on entries, columns or in the kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ctctl.decode.ct import nat_bytes
from ctctl.model.entry import CtEntry, Layout
from ctctl.model.tuples import Direction

# The language is imported by who has something to say in it: a list of everything is shown sooner.
if TYPE_CHECKING:
    from ctctl.tables.query.ast import Node
    from ctctl.tables.query.context import Resolver, TableContext
    from ctctl.tables.query.predicate import Predicate

_TIMED = frozenset({"remaining", "idle", "expired", "live"})


class Filter(NamedTuple):
    """Which entries are wanted. An empty one wants all."""

    node: Node | None = None

    @classmethod
    def parse(cls, text: str) -> Filter:
        """From an expression. Raises UsageError."""
        from ctctl.tables.query.parse import parse_filter

        return cls(parse_filter(text))

    @property
    def needs_now(self) -> bool:
        """Whether it asks about time left or passed, so that the table's now must be known."""
        if self.node is None:
            return False
        from ctctl.tables.query.ast import fields_of

        return bool(fields_of(self.node) & _TIMED)

    def bind(self, table: TableContext) -> Predicate:
        """The predicate on one table. Raises UsageError if it needs a now that is unknown."""
        if self.node is None:
            return True
        from ctctl.tables.query.bind import bind

        return bind(self.node, table)

    def check(self, names: Resolver | None) -> None:
        """Raise UsageError for a name that stands for nothing, before there is a table to ask."""
        if self.node is not None and names is not None:
            from ctctl.tables.query.context import TableContext

            self.bind(TableContext(family=4, now=0, names=names))

    def matches(self, entry: CtEntry, table: TableContext) -> bool:
        """Whether the entry is wanted. Raises UsageError if the filter needs a now that is unknown."""
        from ctctl.tables.query.predicate import holds

        return holds(self.bind(table), slots_of(entry, table.layout))


#: The filter that wants everything.
EVERYTHING = Filter()


def slots_of(entry: CtEntry, layout: Layout = Layout.V1_16) -> Callable[[int], int]:
    """The numbers of an entry by slot, as ``ctctl.decode.columns.Slot`` numbers them; absent ones are 0."""
    flow = entry.tuple
    service = entry.direction is Direction.SVC
    second = entry.rx_bytes if layout.split_counters and not service else entry.backend_id
    older = layout.split_counters
    ifindex, word0 = entry.ifindex or 0, entry.rx_packets or 0
    if layout.has_nat and entry.nat_addr is not None:
        raw = nat_bytes(entry.nat_addr)
        word0, second = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
        ifindex = int.from_bytes((entry.nat_port or 0).to_bytes(2, "big"), "little")
    numbers = (
        flow.proto,
        entry.tuple_flags,
        int(flow.src) >> 64,
        int(flow.src) & 2**64 - 1,
        int(flow.dst) >> 64,
        int(flow.dst) & 2**64 - 1,
        flow.src_port,
        flow.dst_port,
        entry.lifetime,
        int(entry.flags),
        entry.rev_nat,
        ifindex,
        entry.tx_flags_seen,
        entry.rx_flags_seen,
        entry.src_sec_id,
        entry.last_tx_report,
        entry.last_rx_report,
        word0,
        second or 0,
        (entry.tx_packets if older else entry.packets) or 0,
        (entry.tx_bytes if older else entry.bytes) or 0,
    )
    return numbers.__getitem__
