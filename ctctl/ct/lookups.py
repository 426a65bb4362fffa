"""Entries of a connection by keys that can be built of what is known: looked up, so that a big table costs nothing.

What only going through a table can find is left to ``Search.around``: ends of which a part was not said, ICMP
(whose ports are identifiers), services and backends that no listing knows any more.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctctl.ct.search import Place, Search, places_of_slot, rows_of
from ctctl.ct.sentence import role_of
from ctctl.model.entry import CtFlags
from ctctl.model.row import CtRow
from ctctl.model.tuples import ICMP, ICMPV6, Address, FlowTuple
from ctctl.tables.sources.listings import Listings


def errors_of(search: Search, flow: FlowTuple) -> list[CtRow]:
    """ICMP related entries of a flow: they have its addresses, and no ports."""
    icmp = ICMP if flow.src.version == 4 else ICMPV6
    bare = FlowTuple(icmp, flow.src, 0, flow.dst, 0)
    return [row for both in (bare, bare.reversed()) for row in search.look_up(both, related=True)]


def beside(search: Search, row: CtRow, targets: list[Place]) -> list[CtRow] | None:
    """What may stand directly beside an entry; None: only its table can tell. ``targets``: where its backend is."""
    entry, flow = row.entry, row.entry.tuple
    if not search.has_keys(flow):
        return None
    found = [*rows_of(search, flow), *errors_of(search, flow)]
    clients = [flow.src, *([flow.dst] if entry.flags & CtFlags.LBLoopback else [])]
    listings = search.listings(row.node)
    if role_of(entry) == "service":
        places = {*targets, *_backends_of(listings, entry.rev_nat)}
        if not targets or any(address in clients for address, _port in places):
            return None  # a backend that is gone, or a pod that reaches itself by the loopback address
    else:
        places = set(_frontends_of(listings, entry.rev_nat))
        if entry.rev_nat and not places:
            return None
        for node in search.nodes:
            places.update(_frontends_before(search.listings(node), flow.dst, flow.dst_port))
    ways = [
        FlowTuple(flow.proto, client, flow.src_port, address, port)
        for client in clients
        for address, port in places
        if address.version == client.version
    ]
    return [*found, *(other for way in ways for other in rows_of(search, way))]


def _backends_of(listings: Listings, rev_nat: int) -> Iterator[Place]:
    """Where the backends of a service are."""
    for slot in listings.services if rev_nat else ():
        if slot.rev_nat == rev_nat and slot.slot:
            yield from places_of_slot(listings, slot)


def _frontends_of(listings: Listings, rev_nat: int) -> Iterator[Place]:
    """The addresses of a service."""
    if rev_nat:
        yield from ((one.addr, one.port) for one in listings.rev_nats if one.rev_nat == rev_nat)
        yield from ((slot.addr, slot.port) for slot in listings.services if slot.rev_nat == rev_nat)


def _frontends_before(listings: Listings, address: Address, port: int) -> Iterator[Place]:
    """The addresses of services that have a backend there."""
    for slot in listings.services:
        if slot.slot and (address, port) in places_of_slot(listings, slot):
            yield slot.addr, slot.port
