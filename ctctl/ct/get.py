"""``ct get``: every entry of a connection, on every node of the source, and one sentence about its state.

The entries of a connection have the client's address and port in common; what else they share is told
by the service (rev-NAT index, backend), by SNAT entries, and for a pod that talks to itself by the
loopback address that stands for it (``LBLoopback``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ctctl.ct.answer import connection, no_service_note, socket_note
from ctctl.ct.flow import Asked, End, read_flow
from ctctl.ct.lookups import beside
from ctctl.ct.report import Connection
from ctctl.ct.search import (
    Place,
    Search,
    Translations,
    inside,
    key_of,
    outside,
    places_of,
    places_of_slot,
    rows_of,
    vip_of,
)
from ctctl.ct.sentence import role_of
from ctctl.errors import NotFoundError
from ctctl.model.entry import CtEntry, CtFlags
from ctctl.model.nat import NatEntry
from ctctl.model.row import CtRow
from ctctl.model.tuples import EITHER_ICMP, TCP, FlowTuple
from ctctl.tables.sources.base import Source
from ctctl.tables.sources.listings import Listings

_ROLES = ("service", "out", "in", "related")


def get(source: Source, text: str) -> list[Connection]:
    """The connections of a flow (either direction), one where it names both ports.

    Raises UsageError, NotFoundError if nothing is known of it.
    """
    search = Search(source)
    readings = read_flow(text)
    for asked in readings:
        found = list(_connections(search, asked))
        if found:
            return found
    any_port = any(asked.exact is None for asked in readings)
    fate = "" if any_port else ": a packet of it would be NEW"
    if not any(_has_table(source, asked) for asked in readings):
        fate = ": the table that it would be in is not here, so nothing is known of it"
    raise NotFoundError(f"no entry of {text.strip()}{fate} (not in {source.description})")


def _has_table(source: Source, asked: Asked) -> bool:
    """Whether the table of such a connection was looked into; a listing is of all, and shows those with entries."""
    if any(table.live is None for table in source.tables):
        return True
    label = "TCP" if asked.proto == TCP else "non-TCP"
    return any(
        table.family == asked.src.address.version and (asked.proto is None or table.protocol == label)
        for table in source.tables
    )


# ---- which connections


def _connections(search: Search, asked: Asked) -> Iterator[Connection]:
    """The connections of one reading of what was asked."""
    if asked.exact is None:
        search.expect_many(asked)
    seeds = _seeds(search, asked) or _behind_nat(search, asked)
    turned = _behind_socket(search, asked)
    if not seeds or asked.exact is None:
        seeds = [*seeds, *turned]
    taken: set[tuple[object, ...]] = set()
    groups = [seeds] if asked.exact is not None else [[row] for row in seeds]
    for group in groups:
        if all(key_of(row) in taken for row in group):
            continue
        rows, nat = _joined(search, group)
        taken.update(map(key_of, rows))
        note = no_service_note(rows, asked, turned) or socket_note(search, rows)
        yield connection(search, asked, rows, nat, note)
    if not seeds:
        yield from list(_nat_only(search, asked)) or _related_only(search, asked)


def _seeds(search: Search, asked: Asked) -> list[CtRow]:
    """Entries of the flow itself. ICMP related ones are of every flow of their addresses, so of none."""
    if asked.exact is not None and search.has_keys(asked.exact):
        known = list(rows_of(search, asked.exact))
        if known:
            return known
    return [row for row in _with_port(search, asked) if not row.entry.related and _is_asked(row.entry, asked)]


def _with_port(search: Search, asked: Asked) -> list[CtRow]:
    """Entries that have the asked source, with a port that is asked for or as ICMP related ones."""
    port = asked.src.port if asked.src.port is not None else asked.dst.port
    return search.around(asked.src.address, port, asked.proto)


def _is_asked(entry: CtEntry, asked: Asked) -> bool:
    vip = vip_of(entry)
    return asked.has(entry.tuple) or (vip is not None and asked.has(vip))


def _translated(search: Search, asked: Asked) -> list[NatEntry]:
    """SNAT entries with the flow on either side, by its address: the outer side is no entry's key."""
    near = search.nats_with(asked.src.address)
    return [entry for entry in near if asked.has(inside(entry)) or asked.has(outside(entry))]


def _behind_nat(search: Search, asked: Asked) -> list[CtRow]:
    """Entries of a connection that only SNAT entries know by the addresses that were asked for.

    So it is on the backend's node of a DSR connection, whose client talks to a VIP.
    """
    flows = {flow for entry in _translated(search, asked) for flow in (inside(entry), outside(entry))}
    return [row for flow in flows for row in rows_of(search, flow)]


def _behind_socket(search: Search, asked: Asked) -> list[CtRow]:
    """Connections to a frontend that have no service entry: the tables hold client to backend only."""
    for client, frontend in ((asked.src, asked.dst), (asked.dst, asked.src)):
        targets = {place for node in search.nodes for place in _behind(search.listings(node), frontend)}
        rows = [
            row
            for row in (_of_client(search, asked, client, targets) if targets else ())
            if not row.entry.related
            and not row.entry.rev_nat
            and client.fits(row.entry.tuple.src, row.entry.tuple.src_port)
            and (row.entry.tuple.dst, row.entry.tuple.dst_port) in targets
        ]
        if rows:
            return rows
    return []


def _of_client(search: Search, asked: Asked, client: End, targets: set[Place]) -> list[CtRow]:
    """Entries of a client to any of the targets, and others."""
    ways = [
        FlowTuple(asked.proto or 0, client.address, client.port or 0, address, port)
        for address, port in targets
        if address.version == client.address.version
    ]
    if ways and all(map(search.has_keys, ways)):
        return [row for way in ways for row in rows_of(search, way)]
    return search.around(client.address, client.port, asked.proto)


def _behind(listings: Listings, frontend: End) -> Iterator[Place]:
    """Where sockets that connected to a frontend were turned to; where none is known, where its backends are."""
    turned = [
        (socket.backend, socket.backend_port)
        for socket in listings.sockets
        if socket.frontend == frontend.address and frontend.port in (None, socket.frontend_port)
    ]
    yield from turned
    for slot in listings.services if not turned else ():
        if slot.addr == frontend.address and slot.slot and frontend.port in (None, slot.port):
            yield from places_of_slot(listings, slot)


# ---- what belongs to one


def _joined(search: Search, seeds: list[CtRow]) -> tuple[list[CtRow], Translations]:
    """All entries of the connection that the seeds are of, and its SNAT entries."""
    rows: dict[tuple[object, ...], CtRow] = {}
    nat: dict[tuple[str | None, NatEntry], None] = {}
    new = list(seeds)
    while new:
        for row in new:
            rows[key_of(row)] = row
        found = [other for row in new for other in _neighbours(search, row)]
        flows = {flow for row in new if not row.entry.related for flow in both(row.entry.tuple)}
        found += _across_nat(search, flows, nat)
        new = list({key_of(row): row for row in found if key_of(row) not in rows}.values())
    return sorted(rows.values(), key=_order), list(nat)


def both(flow: FlowTuple) -> tuple[FlowTuple, FlowTuple]:
    return flow, flow.reversed()


def _order(row: CtRow) -> tuple[int, str, str]:
    return _ROLES.index(role_of(row.entry)), str(row.entry.tuple), row.node or ""


def _across_nat(search: Search, flows: set[FlowTuple], nat: dict[tuple[str | None, NatEntry], None]) -> Iterator[CtRow]:
    """What stands on the other side of SNAT entries of these flows; the entries are added to ``nat``."""
    asked = flows
    while asked:
        found = [pair for pair in search.nats(asked) if pair not in nat]
        nat.update(dict.fromkeys(found))
        asked = set()
        for _, entry in found:
            for flow in (inside(entry), outside(entry)):
                if flow not in flows:
                    asked.update(both(flow))
                    yield from rows_of(search, flow)
        flows = flows | asked


def _neighbours(search: Search, row: CtRow) -> Iterator[CtRow]:
    """Entries that stand directly beside one: of the same tuple, its service, what its service made of it."""
    entry = row.entry
    if entry.related:
        return
    found = beside(search, row, _targets(search, row))
    for other in _around(search, row) if found is None else found:
        if _beside(search, row, other):
            yield other
    vip = vip_of(entry)
    if vip is not None:
        yield from rows_of(search, vip)


def _around(search: Search, row: CtRow) -> Iterator[CtRow]:
    """Entries of the client of one, by going through the tables."""
    flow, clients = row.entry.tuple, [(row.entry.tuple.src, row.entry.tuple.src_port)]
    if row.entry.flags & CtFlags.LBLoopback:
        clients.append((flow.dst, flow.src_port))  # the pod that the loopback address stands for
    for address, port in clients:
        yield from search.around(address, port or None, flow.proto)


def _beside(search: Search, row: CtRow, other: CtRow) -> bool:
    flow, its = row.entry.tuple, other.entry.tuple
    if other.entry.related:
        return {its.src, its.dst} == {flow.src, flow.dst} and other.node == row.node
    if its in both(flow):
        return True
    for service, leg in ((row, other), (other, row)):
        if role_of(service.entry) == "service" and role_of(leg.entry) != "service":
            return _is_leg(search, service, leg)
    return False


def _is_leg(search: Search, service: CtRow, leg: CtRow) -> bool:
    """Whether ``leg`` is the connection that a service entry's was translated to."""
    client, flow = service.entry.tuple, leg.entry.tuple
    if flow.src_port != client.src_port or flow.proto != client.proto:
        return False
    loopback = bool(leg.entry.flags & CtFlags.LBLoopback) and flow.dst == client.src
    if not loopback and flow.src != client.src:
        return False
    same_service = bool(leg.entry.rev_nat) and leg.entry.rev_nat == service.entry.rev_nat and leg.node == service.node
    return same_service or (flow.dst, flow.dst_port) in _targets(search, service)


def _targets(search: Search, service: CtRow) -> list[Place]:
    """Where the backend of a service entry is."""
    listings, number = search.listings(service.node), service.entry.backend_id
    if not number:
        return []
    listed = (slot.backend_end for slot in listings.services if slot.backend_id == number)
    return [*(end for end in listed if end is not None), *places_of(listings, number)]


def _nat_only(search: Search, asked: Asked) -> Iterator[Connection]:
    """SNAT entries that no conntrack entry of the source belongs to."""
    found = _translated(search, asked)
    groups: dict[FlowTuple, list[NatEntry]] = {}
    for entry in found:
        groups.setdefault(inside(entry), []).append(entry)
    for flow, entries in groups.items():
        why = "no conntrack entry of it here, only SNAT entries"
        yield Connection(asked.exact or flow, "none", f"none: {why}", nat=tuple(entries))


def _related_only(search: Search, asked: Asked) -> Iterator[Connection]:
    """ICMP related entries of the two addresses, where there is nothing else: what was asked for, if that is ICMP."""
    pair = {asked.src.address, asked.dst.address}
    rows = [
        row
        for row in _with_port(search, asked)
        if row.entry.related and {row.entry.tuple.src, row.entry.tuple.dst} == pair
    ]
    if not rows:
        return
    found = connection(search, asked, rows, [], None)
    if asked.proto not in (None, *EITHER_ICMP):
        fate = "" if asked.exact is None else ": a packet of it would be NEW"
        why = f"none: no entry of it here{fate}; what related lets pass are ICMP errors between its two addresses"
        found = replace(found, state="none", why=why, notes=())
    yield found
