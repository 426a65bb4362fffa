"""``ct get``: every entry of a connection, on every node of the source, and one sentence about its state.

The entries of a connection have the client's address and port in common; what else they share is told
by the service (rev-NAT index, backend), by SNAT entries, and for a pod that talks to itself by the
loopback address that stands for it (``LBLoopback``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from ctctl.ct.flow import Asked, read_flow
from ctctl.ct.report import Connection, Member
from ctctl.ct.sentence import explain, main_row, role_of, sentence, state_of
from ctctl.errors import NotFoundError
from ctctl.model.entry import CtEntry, CtFlags
from ctctl.model.nat import NatEntry
from ctctl.model.row import CtRow
from ctctl.model.service import Backend
from ctctl.model.tuples import Address, Direction, FlowTuple
from ctctl.tables.names import names_of
from ctctl.tables.query.ast import And, Node, Or, Range, Term
from ctctl.tables.query.filter import Filter
from ctctl.tables.query.values import network
from ctctl.tables.rows import matching, row_of
from ctctl.tables.sources.base import Listings, Source

_ICMP = (1, 58)
_ROLES = ("service", "out", "in", "related")
Place = tuple[Address, int]


def get(source: Source, text: str) -> list[Connection]:
    """The connections of a flow (either direction), one where it names both ports.

    Raises UsageError, NotFoundError if nothing is known of it.
    """
    search = _Search(source)
    readings = read_flow(text)
    for asked in readings:
        found = list(_connections(search, asked))
        if found:
            return found
    any_port = any(asked.exact is None for asked in readings)
    fate = "" if any_port else ": a packet of it would be NEW"
    raise NotFoundError(f"no entry of {text.strip()}{fate} (not in {source.description})")


@dataclass(slots=True)
class _Search:
    """What has been read of the source while connections are put together."""

    source: Source
    _rows: dict[tuple[Address, int | None, int | None], list[CtRow]] = field(default_factory=dict)
    _listings: dict[str | None, Listings] = field(default_factory=dict)
    _names: dict[str | None, dict[str, str]] = field(default_factory=dict)
    _by_port: dict[tuple[Address, int | None], dict[int | None, list[CtRow]]] = field(default_factory=dict)
    _nats: dict[FlowTuple, list[tuple[str | None, NatEntry]]] | None = None

    @property
    def nodes(self) -> list[str | None]:
        return [*self.source.nodes()] or [None]

    def listings(self, node: str | None) -> Listings:
        """Services, backends and rev-NATs of a node: their numbers mean nothing on another."""
        if node not in self._listings:
            self._listings[node] = self.source.some(node, "backends", "rev_nats", "services")
        return self._listings[node]

    def names(self, node: str | None) -> dict[str, str]:
        if node not in self._names:
            self._names[node] = names_of(self.source, node)
        return self._names[node]

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
                terms.append(Term("proto", (Range(proto, proto), *(Range(icmp, icmp) for icmp in _ICMP))))
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
        if self.source.nat_of is not None:
            return [(self.nodes[0], entry) for entry in self.source.nat_of(wanted)]
        if self._nats is None:
            self._nats = {}
            for node, entry in self.all_nats():
                self._nats.setdefault(entry.tuple, []).append((node, entry))
        return [pair for flow in wanted for pair in self._nats.get(flow, ())]

    def all_nats(self) -> Iterator[tuple[str | None, NatEntry]]:
        for node in self.nodes:
            for entry in self.source.some(node, "nat").nat:
                yield node, entry


def _key(row: CtRow) -> tuple[object, ...]:
    return row.node, row.entry.map, row.entry.tuple, row.entry.tuple_flags


# ---- which connections


def _connections(search: _Search, asked: Asked) -> Iterator[Connection]:
    """The connections of one reading of what was asked."""
    if asked.exact is None:
        search.expect_many(asked)
    seeds, note = _seeds(search, asked), None
    if not seeds:
        seeds = _behind_nat(search, asked)
    if not seeds:
        seeds, note = _behind_socket(search, asked)
    taken: set[tuple[object, ...]] = set()
    groups = [seeds] if asked.exact is not None else [[row] for row in seeds]
    for group in groups:
        if all(_key(row) in taken for row in group):
            continue
        rows, nat = _joined(search, group)
        taken.update(map(_key, rows))
        yield _connection(search, asked, rows, nat, note)
    if not seeds:
        yield from _nat_only(search, asked)


def _seeds(search: _Search, asked: Asked) -> list[CtRow]:
    """Entries of the flow itself; ICMP related ones only where ICMP is asked for, or nothing else is there."""
    port = asked.src.port if asked.src.port is not None else asked.dst.port
    found = search.around(asked.src.address, port, asked.proto)
    rows = [row for row in found if not row.entry.related and _is_asked(row.entry, asked)]
    pair = {asked.src.address, asked.dst.address}
    return rows or [row for row in found if row.entry.related and {row.entry.tuple.src, row.entry.tuple.dst} == pair]


def _is_asked(entry: CtEntry, asked: Asked) -> bool:
    outside = _vip_of(entry)
    return asked.has(entry.tuple) or (outside is not None and asked.has(outside))


def _vip_of(entry: CtEntry) -> FlowTuple | None:
    """The connection as the client of a DSR one has it, where the entry itself says (from 1.19 on)."""
    if entry.nat_addr is None or not entry.nat_port:
        return None
    flow = entry.tuple
    return FlowTuple(flow.proto, flow.src, flow.src_port, _address(entry.nat_addr), entry.nat_port)


@cache
def _address(text: str) -> Address:
    from ipaddress import ip_address

    return ip_address(text)


def _inside(entry: NatEntry) -> FlowTuple:
    """The flow before translation, in the direction of the translated packet's sender."""
    if entry.direction is Direction.OUT:
        return entry.tuple
    return FlowTuple(entry.tuple.proto, entry.to_addr, entry.to_port, entry.tuple.src, entry.tuple.src_port)


def _outside(entry: NatEntry) -> FlowTuple:
    """The same flow after it."""
    if entry.direction is Direction.IN:
        return entry.tuple.reversed()
    return FlowTuple(entry.tuple.proto, entry.to_addr, entry.to_port, entry.tuple.dst, entry.tuple.dst_port)


def _translated(search: _Search, asked: Asked) -> list[NatEntry]:
    """SNAT entries with the flow on either side. All are gone through: the outer side is no entry's key."""
    return [entry for _, entry in search.all_nats() if asked.has(_inside(entry)) or asked.has(_outside(entry))]


def _behind_nat(search: _Search, asked: Asked) -> list[CtRow]:
    """Entries of a connection that only SNAT entries know by the addresses that were asked for.

    So it is on the backend's node of a DSR connection, whose client talks to a VIP.
    """
    flows = {flow for entry in _translated(search, asked) for flow in (_inside(entry), _outside(entry))}
    return [row for flow in flows for row in _rows_of(search, flow)]


def _rows_of(search: _Search, flow: FlowTuple) -> Iterator[CtRow]:
    """Entries with this tuple or its reverse, on any node."""
    for row in search.around(flow.src, flow.src_port or None, flow.proto):
        if not row.entry.related and row.entry.tuple in (flow, flow.reversed()):
            yield row


def _behind_socket(search: _Search, asked: Asked) -> tuple[list[CtRow], str | None]:
    """A connection to a frontend that has no service entry: the tables hold client to backend only."""
    for client, frontend in ((asked.src, asked.dst), (asked.dst, asked.src)):
        targets: set[Place] = set()
        for node in search.nodes:
            listings = search.listings(node)
            for slot in listings.services:
                if slot.addr == frontend.address and slot.slot and frontend.port in (None, slot.port):
                    targets.update(_places_of_slot(listings, slot.backend_id, slot.backend))
        rows = [
            row
            for row in search.around(client.address, client.port, asked.proto)
            if not row.entry.related
            and client.fits(row.entry.tuple.src, row.entry.tuple.src_port)
            and (row.entry.tuple.dst, row.entry.tuple.dst_port) in targets
        ]
        if rows:
            where = f"{frontend.address}" + (f" port {frontend.port}" if frontend.port is not None else "")
            return rows, (
                f"no service entry: the destination is a backend of {where}, chosen at connect() where the "
                "load balancer works in the socket"
            )
    return [], None


def _places_of_slot(listings: Listings, backend_id: int | None, text: str | None) -> Iterator[Place]:
    for backend in listings.backends:
        if backend.backend_id == backend_id and backend.port is not None:
            yield backend.addr, backend.port
    if text and (found := re.fullmatch(r"\[?([^\[\]]+?)\]?:(\d+)(?:/\w+)*", text)):
        yield _address(found[1]), int(found[2])


# ---- what belongs to one


def _joined(search: _Search, seeds: list[CtRow]) -> tuple[list[CtRow], list[tuple[str | None, NatEntry]]]:
    """All entries of the connection that the seeds are of, and its SNAT entries."""
    rows: dict[tuple[object, ...], CtRow] = {}
    nat: dict[tuple[str | None, NatEntry], None] = {}
    new = list(seeds)
    while new:
        for row in new:
            rows[_key(row)] = row
        found = [other for row in new for other in _neighbours(search, row)]
        flows = {flow for row in new if not row.entry.related for flow in _both(row.entry.tuple)}
        found += _across_nat(search, flows, nat)
        new = list({_key(row): row for row in found if _key(row) not in rows}.values())
    return sorted(rows.values(), key=_order), list(nat)


def _both(flow: FlowTuple) -> tuple[FlowTuple, FlowTuple]:
    return flow, flow.reversed()


def _order(row: CtRow) -> tuple[int, str, str]:
    return _ROLES.index(role_of(row.entry)), str(row.entry.tuple), row.node or ""


def _across_nat(
    search: _Search, flows: set[FlowTuple], nat: dict[tuple[str | None, NatEntry], None]
) -> Iterator[CtRow]:
    """What stands on the other side of SNAT entries of these flows; the entries are added to ``nat``."""
    asked = flows
    while asked:
        found = [pair for pair in search.nats(asked) if pair not in nat]
        nat.update(dict.fromkeys(found))
        asked = set()
        for _, entry in found:
            for flow in (_inside(entry), _outside(entry)):
                if flow not in flows:
                    asked.update(_both(flow))
                    yield from _rows_of(search, flow)
        flows = flows | asked


def _neighbours(search: _Search, row: CtRow) -> Iterator[CtRow]:
    """Entries that stand directly beside one: of the same tuple, its service, what its service made of it."""
    entry = row.entry
    if entry.related:
        return
    flow, clients = entry.tuple, [(entry.tuple.src, entry.tuple.src_port)]
    if entry.flags & CtFlags.LBLoopback:
        clients.append((flow.dst, flow.src_port))  # the pod that the loopback address stands for
    for address, port in clients:
        for other in search.around(address, port or None, flow.proto):
            if _beside(search, row, other):
                yield other
    vip = _vip_of(entry)
    if vip is not None:
        yield from _rows_of(search, vip)


def _beside(search: _Search, row: CtRow, other: CtRow) -> bool:
    flow, its = row.entry.tuple, other.entry.tuple
    if other.entry.related:
        return {its.src, its.dst} == {flow.src, flow.dst} and other.node == row.node
    if its in _both(flow):
        return True
    for service, leg in ((row, other), (other, row)):
        if role_of(service.entry) == "service" and role_of(leg.entry) != "service":
            return _is_leg(search, service, leg)
    return False


def _is_leg(search: _Search, service: CtRow, leg: CtRow) -> bool:
    """Whether ``leg`` is the connection that a service entry's was translated to."""
    client, flow = service.entry.tuple, leg.entry.tuple
    if flow.src_port != client.src_port or flow.proto != client.proto:
        return False
    loopback = bool(leg.entry.flags & CtFlags.LBLoopback) and flow.dst == client.src
    if not loopback and flow.src != client.src:
        return False
    same_service = bool(leg.entry.rev_nat) and leg.entry.rev_nat == service.entry.rev_nat and leg.node == service.node
    return same_service or (flow.dst, flow.dst_port) in _targets(search, service)


def _targets(search: _Search, service: CtRow) -> list[Place]:
    """Where the backend of a service entry is."""
    listings, number = search.listings(service.node), service.entry.backend_id
    slots = [slot for slot in listings.services if slot.backend_id == number and slot.backend] if number else []
    found = [place for slot in slots for place in _places_of_slot(listings, None, slot.backend)]
    return [*found, *_places_of_slot(listings, number, None)] if number else found


# ---- what is said of it


def _connection(
    search: _Search,
    asked: Asked,
    rows: list[CtRow],
    nat: list[tuple[str | None, NatEntry]],
    note: str | None,
) -> Connection:
    state, why = explain(rows)
    main = main_row(rows)
    several = len(search.source.nodes()) > 1
    if several:
        why += f" (on {main.node})"
    number, backend, gone = _backend(search, rows, nat)
    notes = [note] if note else []
    notes += [gone] if gone else []
    notes += [
        f"{role_of(row.entry)} entry{f' on {row.node}' if several else ''}: {state_of(row)}: {sentence(row)}"
        for row in rows
        if row is not main and not row.entry.related and state_of(row) != state_of(main)
    ]
    return Connection(
        flow=asked.exact or main.entry.tuple,
        state=state,
        why=why,
        members=tuple(Member(role_of(row.entry), row) for row in rows),
        nat=tuple(dict.fromkeys(entry for _, entry in nat)),
        backend=backend,
        service=_service(search, rows, nat),
        backend_id=number,
        notes=tuple(notes),
    )


def _backend(
    search: _Search, rows: list[CtRow], nat: list[tuple[str | None, NatEntry]]
) -> tuple[int | None, Backend | None, str | None]:
    """The backend's number, the backend itself, and a sentence where it is not in the node's table."""
    for row in rows:
        number = row.entry.backend_id
        if role_of(row.entry) == "service" and number:
            known = search.listings(row.node).backends
            found = next((backend for backend in known if backend.backend_id == number), None)
            if found is not None:
                return number, found, None
            if not known:
                return number, None, f"backend {number}: the source shows no backends"
            return (
                number,
                None,
                (
                    f"backend {number} is not in the backend table: the next packet of the client goes to another one, "
                    "or is dropped where there is none"
                ),
            )
    for node, rev_nat in _rev_nats(search, rows, nat):
        for row in rows:
            if not row.entry.related and (found := _backend_at(search, node, rev_nat, row.entry.tuple)):
                return found.backend_id, found, None
    return None, None, None


def _backend_at(search: _Search, node: str | None, rev_nat: int, flow: FlowTuple) -> Backend | None:
    """The service's backend at either end of a flow; services of the same pod have backends of their own."""
    listings = search.listings(node)
    own = {slot.backend_id for slot in listings.services if slot.rev_nat == rev_nat}
    ends = ((flow.dst, flow.dst_port), (flow.src, flow.src_port))
    there = [
        backend
        for address, port in ends
        for backend in listings.backends
        if backend.addr == address and backend.port in (port, None)
    ]
    return min(there, key=lambda backend: backend.backend_id not in own, default=None)


def _rev_nats(
    search: _Search, rows: list[CtRow], nat: list[tuple[str | None, NatEntry]]
) -> Iterator[tuple[str | None, int]]:
    """Rev-NAT indexes with their node: of the entries, and of the VIP that a DSR connection's SNAT entry has."""
    for row in rows:
        if row.entry.rev_nat:
            yield row.node, row.entry.rev_nat
    vips = {(node, entry.to_addr, entry.to_port) for node, entry in nat if entry.direction is Direction.OUT}
    for row in rows:
        if row.entry.nat_addr is not None and row.entry.nat_port:
            vips.add((row.node, _address(row.entry.nat_addr), row.entry.nat_port))
    for node, address, port in vips:
        for known in search.listings(node).rev_nats:
            if (known.addr, known.port) == (address, port):
                yield node, known.rev_nat


def _service(search: _Search, rows: list[CtRow], nat: list[tuple[str | None, NatEntry]]) -> str | None:
    for node, rev_nat in _rev_nats(search, rows, nat):
        return search.names(node).get(f"rev-nat {rev_nat}", f"rev-NAT {rev_nat}")
    return None


def _nat_only(search: _Search, asked: Asked) -> Iterator[Connection]:
    """SNAT entries that no conntrack entry of the source belongs to."""
    found = _translated(search, asked)
    groups: dict[FlowTuple, list[NatEntry]] = {}
    for entry in found:
        groups.setdefault(_inside(entry), []).append(entry)
    for flow, entries in groups.items():
        why = "no conntrack entry of it here, only SNAT entries"
        yield Connection(asked.exact or flow, "none", f"none: {why}", nat=tuple(entries))
