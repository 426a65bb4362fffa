"""A filter as commands use it: from flags and an expression, then on entries, columns or in the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ctctl.decode.ct import nat_bytes
from ctctl.errors import UsageError
from ctctl.model.entry import CtEntry, Layout
from ctctl.model.tuples import Direction

# The language is imported by who has something to say in it: a list of everything is shown sooner.
if TYPE_CHECKING:
    from ctctl.tables.query.ast import Node
    from ctctl.tables.query.context import TableContext
    from ctctl.tables.query.predicate import Predicate

T = TypeVar("T")

_TIMED = frozenset({"remaining", "idle", "expired", "live"})


@dataclass(frozen=True, slots=True)
class Filter:
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


@dataclass(frozen=True, slots=True)
class FilterFlags:
    """The filter options of the command line; values of one option are alternatives, options add up."""

    ip: tuple[str, ...] = ()
    from_ip: tuple[str, ...] = ()
    to_ip: tuple[str, ...] = ()
    port: tuple[str, ...] = ()
    from_port: tuple[str, ...] = ()
    to_port: tuple[str, ...] = ()
    protocol: tuple[str, ...] = ()
    direction: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    flag: tuple[str, ...] = ()
    backend_id: tuple[str, ...] = ()
    rev_nat: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()
    service: tuple[str, ...] = ()
    related: bool | None = None
    expired: bool | None = None
    inverted: bool = False

    def filter(self, expression: str = "") -> Filter:
        """Flags and expression as one filter: everything must hold; ``inverted`` negates the whole.

        Raises UsageError that names the option.
        """
        nodes = [] if self == FilterFlags(inverted=self.inverted) else [*self._terms()]
        if expression.strip():
            from ctctl.tables.query.parse import parse_filter

            parsed = parse_filter(expression)
            nodes += [] if parsed is None else [parsed]
        if not nodes:
            if self.inverted:
                raise UsageError("--not: there is nothing to negate; give a filter too")
            return Filter()
        from ctctl.tables.query.ast import And, Not

        node: Node = nodes[0] if len(nodes) == 1 else And(tuple(nodes))
        return Filter(Not(node) if self.inverted else node)

    def _terms(self) -> Iterable[Node]:
        from ctctl.tables.query import values
        from ctctl.tables.query.ast import HasFlags, Or, Term

        options = {
            "ip": ("ip", self.ip),
            "from-ip": ("src", self.from_ip),
            "to-ip": ("dst", self.to_ip),
            "port": ("port", self.port),
            "from-port": ("src_port", self.from_port),
            "to-port": ("dst_port", self.to_port),
            "protocol": ("proto", self.protocol),
            "direction": ("direction", self.direction),
            "state": ("state", self.state),
            "backend-id": ("backend_id", self.backend_id),
            "rev-nat": ("rev_nat", self.rev_nat),
            "identity": ("src_sec_id", self.identity),
            "service": ("service", self.service),
        }
        for option, (name, texts) in options.items():
            if texts:
                yield Term(name, tuple(_read(option, values.READERS[name], text) for text in _split(texts)))
        if self.flag:
            masks = tuple(HasFlags(_read("flag", values.flag_mask, text)) for text in _split(self.flag))
            yield masks[0] if len(masks) == 1 else Or(masks)
        if self.related is not None:
            yield Term("related", ("true" if self.related else "false",))
        if self.expired is not None:
            yield Term("expired", ("true" if self.expired else "false",))


def _split(texts: tuple[str, ...]) -> Iterable[str]:
    return (part.strip() for text in texts for part in text.split(","))


def _read(option: str, reader: Callable[[str], T], text: str) -> T:
    try:
        return reader(text)
    except ValueError as error:
        raise UsageError(f"--{option}: {error}") from None
