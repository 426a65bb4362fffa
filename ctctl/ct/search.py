"""What ``ct get`` reads of a source: entries around an address, listings and SNAT entries, each once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ctctl.abi.constants import TUPLE_IN, TUPLE_OUT, TUPLE_RELATED, TUPLE_SERVICE
from ctctl.ct.flow import Asked
from ctctl.decode.ct import decode_entry, encode_key
from ctctl.model.entry import CtEntry
from ctctl.model.nat import NatEntry
from ctctl.model.row import CtRow
from ctctl.model.tuples import EITHER_ICMP, Address, Direction, FlowTuple
from ctctl.tables.names import NodeNames
from ctctl.tables.nat_find import NatFinder
from ctctl.tables.query.ast import And, Node, Or, Range, Term
from ctctl.tables.query.filter import Filter
from ctctl.tables.query.values import network
from ctctl.tables.rows import matching, row_of
from ctctl.tables.sources.base import Source
from ctctl.tables.sources.listings import Listings

if TYPE_CHECKING:
    from ctctl.model.service import ServiceSlot

#: The tuple's flag bytes that there are.
_FLAGS = (TUPLE_OUT, TUPLE_IN, TUPLE_SERVICE, TUPLE_IN | TUPLE_SERVICE)
_RELATED_FLAGS = tuple(flags | TUPLE_RELATED for flags in _FLAGS)
Place = tuple[Address, int]
#: SNAT entries with their node.
Translations = list[tuple[str | None, NatEntry]]


@dataclass(slots=True)
class Search:
    """What has been read of the source while connections are put together."""

    source: Source
    _rows: dict[tuple[Address, int | None, int | None], list[CtRow]] = field(default_factory=dict)
    _listings: dict[str | None, Listings] = field(default_factory=dict)
    _homes: dict[Address, str] | None = None
    _by_port: dict[tuple[Address, int | None], dict[int | None, list[CtRow]]] = field(default_factory=dict)
    _found: dict[tuple[FlowTuple, bool], list[CtRow]] = field(default_factory=dict)
    _finders: dict[str | None, NatFinder] = field(default_factory=dict)

    #: of the source; [None] where it has no names
    nodes: list[str | None] = field(init=False)
    names: NodeNames = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = [*self.source.nodes()] or [None]
        self.names = NodeNames(self.source)

    def listings(self, node: str | None) -> Listings:
        """Services, backends and rev-NATs of a node: their numbers mean nothing on another."""
        if node not in self._listings:
            self._listings[node] = self.source.some(node, "backends", "rev_nats", "services", "sockets")
        return self._listings[node]

    def home(self, address: Address) -> str | None:
        """The node of several whose pod has this address; None where no node, or more than one, shows it."""
        if self._homes is None:
            found: dict[Address, set[str]] = {}
            for node in self.source.nodes():
                for record in self.source.some(node, "endpoints").endpoints:
                    if not record.is_host:
                        found.setdefault(record.addr, set()).add(node)
            self._homes = {addr: nodes.pop() for addr, nodes in found.items() if len(nodes) == 1}
        return self._homes.get(address)

    def has_keys(self, flow: FlowTuple | None) -> bool:
        """Whether the entries of a flow can be looked up: both ports are known, and each table is a live one."""
        if flow is None or flow.proto in EITHER_ICMP or not (flow.src_port and flow.dst_port):
            return False
        tables = [table for table in self.source.tables if table.family == flow.src.version]
        return bool(tables) and all(table.live is not None for table in tables)

    def look_up(self, flow: FlowTuple, *, related: bool) -> list[CtRow]:
        """The entries with exactly this tuple, looked up in the live tables of its family."""
        if (flow, related) not in self._found:
            self._found[flow, related] = list(self._look_up(flow, _RELATED_FLAGS if related else _FLAGS))
        return self._found[flow, related]

    def _look_up(self, flow: FlowTuple, flags: tuple[int, ...]) -> Iterator[CtRow]:
        for table in self.source.tables:
            if table.family != flow.src.version or table.live is None:
                continue
            for key in [encode_key(flow, word) for word in flags]:
                value = table.live.lookup(key)
                if value is not None:
                    entry = decode_entry(key, value, table.layout, table.name, absent=table.absent)
                    names = self.names(table.node)
                    yield CtRow(entry, table.layout, table.clock, table.now, table.node, table.raw, names)

    def around(self, address: Address, port: int | None, proto: int | None) -> list[CtRow]:
        """Entries that have the address at an end, with the port (None: any) or as ICMP related ones."""
        whole = self._by_port.get((address, proto)) or self._by_port.get((address, None))
        if whole is not None and port is not None:
            return [*whole.get(port, ()), *whole.get(None, ())]
        key = (address, port, proto)
        if key not in self._rows:
            terms: list[Node] = [Term("ip", (network(str(address)),))]
            if port is not None:
                terms.append(Or((Term("port", (Range(port, port),)), Term("related", ("true",)))))
            if proto is not None:
                terms.append(Term("proto", (Range(proto, proto), *(Range(icmp, icmp) for icmp in EITHER_ICMP))))
            self._rows[key] = list(self._read(address.version, Filter(And(tuple(terms)))))
        return self._rows[key]

    def expect_many(self, asked: Asked) -> None:
        """Read all entries of both ends once, where each of many connections would ask for its own."""
        for end in (asked.src, asked.dst):
            found: dict[int | None, list[CtRow]] = {}
            for row in self.around(end.address, None, asked.proto):
                flow = row.entry.tuple
                for port in {None} if row.entry.related else {flow.src_port, flow.dst_port}:
                    found.setdefault(port, []).append(row)
            self._by_port[end.address, asked.proto] = found

    def _read(self, family: int, wanted: Filter) -> Iterator[CtRow]:
        for table in self.source.tables:
            if table.family == family:
                for columns in matching(table, wanted):
                    for index in range(len(columns)):
                        yield row_of(table, columns, index, self.names(table.node))

    def nats(self, flows: Iterable[FlowTuple]) -> list[tuple[str | None, NatEntry]]:
        """SNAT entries of packets of these flows, with their node."""
        wanted = list(flows)
        return [(node, entry) for node in self.nodes for entry in self._finder(node).of(wanted)]

    def nats_with(self, address: Address) -> Iterator[NatEntry]:
        """SNAT entries that have the address at an end, before or after translation."""
        for node in self.nodes:
            yield from self._finder(node).with_address(address)

    def _finder(self, node: str | None) -> NatFinder:
        if node not in self._finders:
            self._finders[node] = NatFinder(self.source, node)
        return self._finders[node]


def key_of(row: CtRow) -> tuple[object, ...]:
    return row.node, row.entry.map, row.entry.tuple, row.entry.tuple_flags


def vip_of(entry: CtEntry) -> FlowTuple | None:
    """The connection as the client of a DSR one has it, where the entry itself says (from 1.19 on)."""
    if entry.nat_addr is None or not entry.nat_port:
        return None
    flow = entry.tuple
    return FlowTuple(flow.proto, flow.src, flow.src_port, ip_address(entry.nat_addr), entry.nat_port)


def inside(entry: NatEntry) -> FlowTuple:
    """The flow before translation, in the direction of the translated packet's sender."""
    if entry.direction is Direction.OUT:
        return entry.tuple
    return FlowTuple(entry.tuple.proto, entry.to_addr, entry.to_port, entry.tuple.src, entry.tuple.src_port)


def outside(entry: NatEntry) -> FlowTuple:
    """The same flow after it."""
    if entry.direction is Direction.IN:
        return entry.tuple.reversed()
    return FlowTuple(entry.tuple.proto, entry.to_addr, entry.to_port, entry.tuple.dst, entry.tuple.dst_port)


def rows_of(search: Search, flow: FlowTuple) -> Iterator[CtRow]:
    """Entries with this tuple or its reverse, on any node."""
    if search.has_keys(flow):
        yield from (row for way in (flow, flow.reversed()) for row in search.look_up(way, related=False))
        return
    for row in search.around(flow.src, flow.src_port or None, flow.proto):
        if not row.entry.related and row.entry.tuple in (flow, flow.reversed()):
            yield row


def places_of(listings: Listings, backend_id: int | None) -> Iterator[Place]:
    """Where a backend is, by its number."""
    for backend in listings.backends:
        if backend.backend_id == backend_id and backend.port is not None:
            yield backend.addr, backend.port


def places_of_slot(listings: Listings, slot: ServiceSlot) -> Iterator[Place]:
    """Where the backend of a service's slot is, by its number and as the slot is listed."""
    yield from places_of(listings, slot.backend_id)
    if slot.backend_end is not None:
        yield slot.backend_end
