"""How a connection begins on a node that balances sockets: its first packet goes where connect() has gone already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from ctctl.config.datapath import SocketLb
from ctctl.config.node import NodeFile
from ctctl.config.service import Backend, Service
from ctctl.decode.ct import encode_key, flags_of_direction, table_name
from ctctl.model.event import HookEvent, Why
from ctctl.model.tuples import Address, Direction, FlowTuple, end_text
from ctctl.node.tables import selectable_backends
from ctctl.packet.dissect import dissect
from ctctl.packet.spec import PROTO_TCP, PacketSpec, TcpFlags
from ctctl.simulate.call import beyond, is_balanced
from ctctl.simulate.journey import Cluster, Hop, Place
from ctctl.simulate.simulator import Simulator

End: TypeAlias = tuple[Address, int]
#: The choice was one that comes out otherwise the next time.
_CHOSEN: Final = Why.BACKEND_RANDOM | Why.BACKEND_COOKIE


@dataclass(frozen=True, slots=True)
class Call:
    """What became of a connection before its first packet.

    ``packet`` is the one that is sent then, None where the call was refused. ``hop`` is the call where it is made
    now; ``words`` are what is taken for granted. ``one_of`` as of ``conversation.Journey``.
    """

    packet: PacketSpec | None
    hop: Hop | None = None
    words: str | None = None
    one_of: tuple[str, ...] = ()


def with_sockets(nf: NodeFile) -> NodeFile:
    """The node file of a node that balances the sockets of all its processes."""
    lb = replace(nf.datapath.lb, socket=SocketLb())
    return replace(nf, datapath=replace(nf.datapath, lb=lb))


def begin(cluster: Cluster, client: Place, packet: PacketSpec, flags: int) -> Call:
    """Where a packet of ``client`` goes that is meant for ``packet``'s destination; ``flags`` are TCP's.

    Of a connection that is there already the entries tell. Raises UnsupportedError where nothing does, KernelError.
    """
    simulator = cluster.nodes[client.node]
    if client.outside or not is_balanced(simulator, packet):
        return Call(packet)
    hop = cluster.connect(client, packet)
    if hop is None:
        return Call(packet)
    opens = flags & (TcpFlags.SYN | TcpFlags.ACK) == TcpFlags.SYN
    if packet.proto != PROTO_TCP or not opens:
        earlier = _earlier(simulator, client.node, packet, hop)
        if earlier is not None:
            return earlier
    if hop.result.reason is not None:
        return Call(None, hop)
    (event,) = hop.result.events
    sent = dissect(hop.result.frame)
    assert sent.dst is not None
    ends = _ends(b for service in _services(simulator, event) for b in _chosen_from(simulator, service))
    chosen = any(lookup.why & _CHOSEN for lookup in event.lookups) and len(ends) > 1
    one_of = tuple(end_text(*end) for end in ends) if chosen else ()
    place = simulator.nf.datapath.lb.socket
    whose = f"{client.node}: taken for a call of a process of {place.cgroup}" if place and place.cgroup else None
    return Call(replace(packet, dst=sent.dst, dst_port=sent.dst_port or 0), hop, whose, one_of)


def _earlier(simulator: Simulator, node: str, packet: PacketSpec, hop: Hop) -> Call | None:
    """The same of a connection that is there already; None: it is not, and may begin with this packet."""
    if any(_kept(simulator, packet, [(packet.dst, packet.dst_port)])):
        raise beyond(packet, "its OUT entry is to the service itself, so that this one was not turned")
    (event,) = hop.result.events
    ends = _ends(backend for service in _services(simulator, event) for backend in service.backends)
    kept = list(_kept(simulator, packet, ends))
    if len(kept) == 1:
        ((address, port),) = kept
        words = f"{node}: the connection is to {end_text(address, port)} since connect(), as its OUT entry says"
        return Call(replace(packet, dst=address, dst_port=port), words=words)
    if packet.proto == PROTO_TCP:
        listed = ", ".join(end_text(*end) for end in ends) or "none"
        raise beyond(packet, f"no entry says to which backend ({listed})")
    return None


def _services(simulator: Simulator, event: HookEvent) -> tuple[Service, ...]:
    """The records of the event's service; of its two scopes a socket is the inner one's."""
    wanted = (event.rev_nat, event.tuple_in.dst.version)
    found = [one for one in simulator.nf.services if (one.id, one.ip.version) == wanted]
    return tuple(one for one in found if one.scope == "internal") or tuple(found)


def _chosen_from(simulator: Simulator, service: Service) -> tuple[Backend, ...]:
    """The backends of which a new call gets one."""
    return selectable_backends(simulator.nf, service, "internal" if service.two_scopes else "external")[0]


def _ends(backends: Iterable[Backend]) -> tuple[End, ...]:
    return tuple(dict.fromkeys((backend.ip, backend.port) for backend in backends))


def _kept(simulator: Simulator, packet: PacketSpec, ends: Iterable[End]) -> Iterator[End]:
    """Those of the ends that the packet's socket has a connection to, by its node's OUT entries."""
    table = simulator.maps[table_name(packet.src.version, packet.proto)]
    for address, port in ends:
        flow = FlowTuple(packet.proto, packet.src, packet.src_port, address, port)
        if table.lookup(encode_key(flow, flags_of_direction(Direction.OUT, related=False))) is not None:
            yield address, port
