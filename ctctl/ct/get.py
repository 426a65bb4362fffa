"""``ct get``: every entry of one connection, and one sentence about its state."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

from ctctl.ct.report import Connection, Member
from ctctl.errors import NotFoundError, UsageError
from ctctl.model.entry import CtEntry, CtFlags, CtState
from ctctl.model.nat import NatEntry
from ctctl.model.row import CtRow
from ctctl.model.service import Backend
from ctctl.model.tuples import Address, Direction, FlowTuple
from ctctl.model.units import format_duration
from ctctl.tables.names import names_of
from ctctl.tables.query.ast import And, Range, Term
from ctctl.tables.query.filter import Filter
from ctctl.tables.query.values import network, protocol
from ctctl.tables.rows import matching, row_of
from ctctl.tables.sources.base import Listings, Source

_FLOW = re.compile(r"(?P<proto>\w+)\s+(?P<src>\S+)\s*(?:->|>)\s*(?P<dst>\S+)")
_END = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<v4>[0-9.]+)|(?P<bare>[0-9a-fA-F:]+))(?::(?P<port>\d+))?")
_ICMP = (1, 58)
_RST = 0x04
_NO_HANDSHAKE = "no handshake in this protocol: the entry lives while packets refresh it"


def parse_flow(text: str) -> FlowTuple:
    """``tcp 10.0.0.1:1234 > 10.0.0.2:80`` (IPv6 in brackets; ``->`` too). Raises UsageError."""
    match = _FLOW.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r}: write PROTO SRC:PORT > DST:PORT, e.g. 'tcp 10.64.0.36:54260 > 10.64.0.64:8000'")
    try:
        proto = protocol(match["proto"]).low
        (src, src_port), (dst, dst_port) = _end(match["src"]), _end(match["dst"])
    except ValueError as error:
        raise UsageError(f"{text!r}: {error}") from None
    if src.version != dst.version:
        raise UsageError(f"{text!r}: one end is IPv4, the other IPv6")
    return FlowTuple(proto, src, src_port, dst, dst_port)


def _end(text: str) -> tuple[Address, int]:
    match = _END.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no ADDRESS:PORT (IPv6 in brackets)")
    port = int(match["port"] or 0)
    if port > 65535:
        raise ValueError(f"port {port} is out of range")
    return ip_address(match["v6"] or match["v4"] or match["bare"]), port


@dataclass(slots=True)
class _Search:
    """What is known of a connection while its entries are collected."""

    source: Source
    listings: Listings
    names: dict[str, str]
    rows: dict[tuple[object, ...], CtRow] = field(default_factory=dict)
    backend: Backend | None = None
    #: of the service whose address a DSR connection's SNAT entry holds
    rev_nat: int = 0

    def find(self, flow: FlowTuple) -> list[CtRow]:
        """Entries whose tuple is ``flow`` or its reverse, and ICMP related ones of the address pair."""
        ends = And(
            (
                Term("ip", (network(str(flow.src)),)),
                Term("ip", (network(str(flow.dst)),)),
                Term("proto", (Range(flow.proto, flow.proto), *(Range(icmp, icmp) for icmp in _ICMP))),
            )
        )
        found = []
        for table in self.source.tables:
            if table.family != flow.src.version:
                continue
            for columns in matching(table, Filter(ends)):
                for index in range(len(columns)):
                    row = row_of(table, columns, index, self.names)
                    if _belongs(row.entry, flow):
                        self.rows[(row.node, row.entry.map, row.entry.tuple, row.entry.tuple_flags)] = row
                        found.append(row)
        return found


def _belongs(entry: CtEntry, flow: FlowTuple) -> bool:
    tuple_ = entry.tuple
    if entry.related and tuple_.proto in _ICMP:
        return {tuple_.src, tuple_.dst} == {flow.src, flow.dst}
    return tuple_ in (flow, flow.reversed())


def get(source: Source, text: str) -> Connection:
    """The connection of a flow (either direction). Raises UsageError, NotFoundError if nothing is known of it."""
    flow = parse_flow(text)
    listings = source.some(_node(source), "backends", "rev_nats", "services")
    search = _Search(source, listings, names_of(source))
    if not search.find(flow):
        _follow_back(search, flow)
    _follow_service(search)
    _follow_translation(search)
    rows = sorted(search.rows.values(), key=_order)
    if not rows:
        raise NotFoundError(f"no entry of {text.strip()}: a packet of it would be NEW (not in {source.description})")
    nat = tuple(_nat(source, rows))
    _follow_dsr(search, nat)
    members = tuple(Member(_role(row.entry), row) for row in rows)
    state, why = explain(rows)
    return Connection(flow, state, why, members, nat, search.backend, _service(search, rows))


def _role(entry: CtEntry) -> str:
    if entry.related:
        return "related"
    return {Direction.SVC: "service", Direction.OUT: "out", Direction.IN: "in"}[entry.direction]


def _order(row: CtRow) -> tuple[int, str]:
    return ("service", "out", "in", "related").index(_role(row.entry)), str(row.entry.tuple)


def _follow_service(search: _Search) -> None:
    """From a SERVICE entry to the translated connection, and back from a translated one to its service."""
    for row in list(search.rows.values()):
        entry, flow = row.entry, row.entry.tuple
        if entry.related:
            continue
        if entry.direction is Direction.SVC:
            backend = next((b for b in search.listings.backends if b.backend_id == entry.backend_id), None)
            if backend is None:
                continue
            search.backend = backend
            ports = [backend.port] if backend.port is not None else _ports_of(search, backend)
            for port in ports:
                search.find(FlowTuple(flow.proto, flow.src, flow.src_port, backend.addr, port))
        elif entry.rev_nat:
            for known in search.listings.rev_nats:
                if known.rev_nat == entry.rev_nat and known.addr.version == flow.src.version:
                    search.find(FlowTuple(flow.proto, flow.src, flow.src_port, known.addr, known.port))
            search.backend = search.backend or _backend_at(search, flow.dst, flow.dst_port, entry.rev_nat)


def _ports_of(search: _Search, backend: Backend) -> list[int]:
    texts = [
        slot.backend for slot in search.listings.services if slot.backend and slot.backend_id == backend.backend_id
    ]
    return [int(found[1]) for text in texts if (found := re.search(r":(\d+)(?:/|$)", text))]


def _backend_at(search: _Search, address: Address, port: int, rev_nat: int) -> Backend | None:
    """The service's backend there; services of the same pod have backends of their own."""
    own = {slot.backend_id for slot in search.listings.services if slot.rev_nat == rev_nat}
    there = [b for b in search.listings.backends if b.addr == address and b.port in (port, None)]
    return min(there, key=lambda backend: backend.backend_id not in own, default=None)


def _follow_translation(search: _Search) -> None:
    """A DSR entry's SNAT record holds the VIP that the client talks to; an SNAT one the address outside."""
    for entry in _nat(search.source, list(search.rows.values())):
        flow = entry.tuple
        if entry.direction is Direction.OUT:
            search.find(FlowTuple(flow.proto, flow.dst, flow.dst_port, entry.to_addr, entry.to_port))


def _follow_back(search: _Search, flow: FlowTuple) -> None:
    """On the backend's node of a DSR connection only the SNAT entry has the address that the client talks to.

    It is no entry's key: all are gone through, which is why everything else is tried before.
    """
    for entry in search.source.some(_node(search.source), "nat").nat:
        as_the_client_has_it = FlowTuple(
            entry.tuple.proto, entry.tuple.dst, entry.tuple.dst_port, entry.to_addr, entry.to_port
        )
        if entry.direction is Direction.OUT and as_the_client_has_it in (flow, flow.reversed()):
            search.find(entry.tuple.reversed())


def _follow_dsr(search: _Search, nat: Iterable[NatEntry]) -> None:
    """Backend and service of a DSR connection: its entries have no rev-NAT index, its SNAT record has the VIP."""
    for entry in nat:
        for known in search.listings.rev_nats:
            if entry.direction is Direction.OUT and (known.addr, known.port) == (entry.to_addr, entry.to_port):
                search.rev_nat = search.rev_nat or known.rev_nat
                search.backend = search.backend or _backend_at(
                    search, entry.tuple.src, entry.tuple.src_port, known.rev_nat
                )


def _node(source: Source) -> str | None:
    return source.nodes()[0] if len(source.nodes()) == 1 else None


def _nat(source: Source, rows: list[CtRow]) -> list[NatEntry]:
    """The SNAT entries of the connection's packets, and of those that they become."""
    flows = {flow for row in rows if not row.entry.related for flow in (row.entry.tuple, row.entry.tuple.reversed())}
    found = source.find_nat(flows, _node(source))
    outside = {FlowTuple(e.tuple.proto, e.tuple.dst, e.tuple.dst_port, e.to_addr, e.to_port) for e in found}
    return list(dict.fromkeys([*found, *source.find_nat(outside - flows, _node(source))]))


def _service(search: _Search, rows: list[CtRow]) -> str | None:
    rev_nat = next((row.entry.rev_nat for row in rows if row.entry.rev_nat), search.rev_nat)
    return search.names.get(f"rev-nat {rev_nat}", f"rev-NAT {rev_nat}") if rev_nat else None


# ---- the sentence


def explain(rows: list[CtRow]) -> tuple[str, str]:
    """The connection's state and why, by its OUT entry, else IN, else SERVICE, else a related one."""
    main = min(rows, key=lambda row: ("out", "in", "service", "related").index(_role(row.entry)))
    entry = main.entry
    word = entry.state.value
    if main.expired:
        word += ", expired"
    reason = _reason(entry) if entry.tuple.proto == 6 else _NO_HANDSHAKE
    return word, f"{word}: {reason}{_when(main)}"


def _sides(entry: CtEntry) -> tuple[str, str]:
    """Who the rx and the tx side of an entry are: they follow the hook, so for an IN entry tx is the server."""
    if entry.direction is Direction.IN:
        return f"{entry.tuple.src}", f"{entry.tuple.dst}"
    return f"{entry.tuple.dst}", f"{entry.tuple.src}"


def _reason(entry: CtEntry) -> str:
    rx, tx = _sides(entry)
    reset = (entry.tx_flags_seen | entry.rx_flags_seen) & _RST
    if entry.state is CtState.CLOSED:
        if entry.direction is Direction.SVC:
            return "the client sent a FIN or RST, which closes both directions of a service entry"
        return "a RST ended it" if reset else f"both {tx} and {rx} have sent their FIN"
    if entry.state is CtState.CLOSING:
        closer, other = (tx, rx) if entry.flags & CtFlags.TxClosing else (rx, tx)
        return f"{closer} has sent its FIN, {other} has not"
    if entry.state is CtState.NEW:
        answered = entry.rx_flags_seen and entry.tx_flags_seen
        return "SYN and SYN-ACK seen, the handshake's last packet not yet" if answered else "only a SYN has been seen"
    return "packets without SYN have been seen and neither side has closed"


def _when(row: CtRow) -> str:
    left = row.remaining_s
    if left is None:
        return "; the dump does not say when it was made, so its time left is unknown"
    if row.expired:
        return f"; expired {format_duration(-left)} ago, it still matches packets until it is collected"
    return f"; expires in {format_duration(left)} unless a packet refreshes it"
