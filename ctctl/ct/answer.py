"""What ``ct get`` says of a connection that was put together: state, service, backend, notes."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ctctl.ct.flow import Asked
from ctctl.ct.report import Connection, Member
from ctctl.ct.search import Search, Translations, key_of
from ctctl.ct.sentence import explain, main_row, role_of, sentence, state_of
from ctctl.model.entry import CtFlags
from ctctl.model.row import CtRow
from ctctl.model.tuples import TCP, Direction, FlowTuple, endpoint

if TYPE_CHECKING:
    from ctctl.model.service import Backend


def connection(
    search: Search,
    asked: Asked,
    rows: list[CtRow],
    nat: Translations,
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
    notes += _other_end(search, rows) if several else []
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


#: What a pod of the other end sees under another tuple, or not at all.
_SEEN_OTHERWISE = CtFlags.LBLoopback | CtFlags.Nat64 | CtFlags.ProxyRedirect


def _other_end(search: Search, rows: list[CtRow]) -> Iterator[str]:
    """What another node should have: IN where the pod is that it went to, OUT where the one is that opened it."""
    for row in rows:
        entry, role = row.entry, role_of(row.entry)
        if role not in ("out", "in") or row.expired or entry.flags & _SEEN_OTHERWISE:
            continue
        pod, wanted = (entry.tuple.dst, "in") if role == "out" else (entry.tuple.src, "out")
        home = search.home(pod)
        if home in (None, row.node) or any(one.node == home and role_of(one.entry) == wanted for one in rows):
            continue
        label = "TCP" if entry.tuple.proto == TCP else "non-TCP"
        tables = search.source.tables_of(home)
        read = any(table.family == pod.version and table.protocol == label for table in tables)
        what = "missing" if read else f"unknown, its {label} table was not read"
        yield f"{wanted.upper()} entry on {home}, whose pod {pod} is: {what}"


def _backend(search: Search, rows: list[CtRow], nat: Translations) -> tuple[int | None, Backend | None, str | None]:
    """The backend's number, the backend itself, and a sentence where it is not in the node's table."""
    for row in rows:
        number = row.entry.backend_id
        if role_of(row.entry) == "service" and number:
            known = search.listings(row.node).backends
            found = next((backend for backend in known if backend.backend_id == number), None)
            if found is not None:
                return number, found, None
            if not known:
                listed = _listed(search, row.node, number)
                return number, listed, None if listed else _unknown(search, row.node, number)
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


def _unknown(search: Search, node: str | None, number: int) -> str:
    shown = any(slot.backend is not None for slot in search.listings(node).services)
    return f"backend {number}: the source shows no {'numbers of backends' if shown else 'backends'}"


def _listed(search: Search, node: str | None, number: int) -> Backend | None:
    """A backend as the slots of services show it, where no listing of the backends themselves does."""
    from ctctl.model.service import Backend

    for slot in search.listings(node).services:
        if slot.backend_id == number and (end := slot.backend_end) is not None:
            return Backend(number, end[0], slot.proto, end[1])
    return None


def _backend_at(search: Search, node: str | None, rev_nat: int, flow: FlowTuple) -> Backend | None:
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


def _rev_nats(search: Search, rows: list[CtRow], nat: Translations) -> Iterator[tuple[str | None, int]]:
    """Rev-NAT indexes with their node: of the entries, and of the VIP that a DSR connection's SNAT entry has."""
    # An ICMP related entry is of every connection between its addresses: its index is that of the latest.
    for row in [row for row in rows if not row.entry.related] or rows:
        if row.entry.rev_nat:
            yield row.node, row.entry.rev_nat
    vips = {(node, entry.to_addr, entry.to_port) for node, entry in nat if entry.direction is Direction.OUT}
    for row in rows:
        if row.entry.nat_addr is not None and row.entry.nat_port:
            vips.add((row.node, ip_address(row.entry.nat_addr), row.entry.nat_port))
    for node, address, port in vips:
        for known in search.listings(node).rev_nats:
            if (known.addr, known.port) == (address, port):
                yield node, known.rev_nat


def _service(search: Search, rows: list[CtRow], nat: Translations) -> str | None:
    for node, rev_nat in _rev_nats(search, rows, nat):
        return search.names(node).get(f"rev-nat {rev_nat}", f"rev-NAT {rev_nat}")
    return None


def no_service_note(rows: list[CtRow], asked: Asked, turned: list[CtRow]) -> str | None:
    """Why a connection answers a question about a frontend that none of its entries names."""
    if any(asked.has(row.entry.tuple) for row in rows) or not {key_of(row) for row in rows} & {
        key_of(row) for row in turned
    }:
        return None
    return (
        "no service entry: its destination is a backend of the service that was asked for; where the load balancer "
        "works in the socket nothing more is left to see"
    )


def socket_note(search: Search, rows: list[CtRow]) -> str | None:
    """What the load balancer in the socket may have made of a connection that has no service entry."""
    if any(row.entry.rev_nat or role_of(row.entry) == "service" for row in rows):
        return None
    flow, node = main_row(rows).entry.tuple, main_row(rows).node
    listings = search.listings(node)
    found = {
        endpoint(socket.frontend, socket.frontend_port)
        for socket in listings.sockets
        if (socket.backend, socket.backend_port) == (flow.dst, flow.dst_port)
    }
    if found:
        where = ", ".join(sorted(found))
        return (
            f"no service entry: sockets that connected to {where} were turned to this backend; this may be one of them"
        )
    return None
