"""The whole way of one packet: hook after hook and node after node, as the datapath would take it.

Each hook is a test run on the node's simulator; where the packet goes next follows from the
program's verdict and the packet's addresses, as the node's stack and the network would do it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, ip_address

from ctctl.config.node import Endpoint, NodeFile
from ctctl.errors import NotFoundError
from ctctl.model.event import Hook, Verdict
from ctctl.model.identity import HOST, REMOTE_NODE, is_cluster_pod
from ctctl.model.tuples import Address
from ctctl.node.tables import router_address
from ctctl.packet.dissect import dissect
from ctctl.packet.geneve import GENEVE_PORT, Geneve
from ctctl.packet.spec import PROTO_UDP, PacketSpec
from ctctl.simulate.call import connect
from ctctl.simulate.frame import macs_at
from ctctl.simulate.simulator import SimulatedTables, Simulator, StepResult, identity_mark
from ctctl.simulate.touched import Touched

#: more hooks than any path has: a packet that goes round in circles ends here
_MAX_HOPS = 16


class Outcome(StrEnum):
    """How a packet's journey ended."""

    DELIVERED = "delivered"
    DROPPED = "dropped"
    REFUSED = "refused at connect()"
    LEFT = "left the cluster"
    AWAY = "left for another node"
    ERROR = "came back as an error"
    HOST = "to the node's own stack"
    LOOP = "went round in circles"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a packet starts or ended: a pod of a node, the outside (by way of a node), or a node's stack.

    ``tunnel`` is what a packet from another node's pod comes in, ``elsewhere`` where in the cluster one left for.
    """

    node: str
    endpoint: Endpoint | None = None
    outside: bool = False
    tunnel: Geneve | None = None
    elsewhere: str | None = None

    def __str__(self) -> str:
        if self.elsewhere is not None:
            return self.elsewhere
        if self.tunnel is not None:
            return f"node {self.tunnel.remote}"
        if self.outside:
            return "outside"
        return f"{self.endpoint.name} on {self.node}" if self.endpoint else f"{self.node} itself"


@dataclass(frozen=True, slots=True)
class Hop:
    """One hook on the way, with the tables of its node after it."""

    node: str
    result: StepResult
    tables: SimulatedTables
    now: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """The end of a journey: how, where, and the packet as it got there, ``encapsulated`` or not."""

    outcome: Outcome
    place: Place
    frame: bytes
    reason: str | None = None
    encapsulated: bool = False


@dataclass(frozen=True, slots=True)
class _At:
    """A packet about to enter a hook."""

    node: str
    hook: Hook
    frame: bytes
    endpoint: Endpoint | None = None
    mark: int = 0
    tunnel: Geneve | None = None


class Cluster:
    """Simulated nodes with a network between them, all under one clock. A context manager.

    ``only_touched``: the tables of a Hop are the entries that packets met or made, not all of them.
    """

    def __init__(self, nodes: Mapping[str, Simulator], *, only_touched: bool = False) -> None:
        self.nodes = dict(nodes)
        self._touched = {name: Touched(sim) for name, sim in nodes.items()} if only_touched else {}

    @classmethod
    def of(
        cls, files: tuple[NodeFile, ...], now: int | None = None, *, full_size: bool = False, only_touched: bool = False
    ) -> Cluster:
        """A cluster of these nodes, their tables empty; ``full_size`` as of Simulator."""
        clock = now or max((nf.clock or 0 for nf in files), default=0) or None
        nodes = {nf.node.name: Simulator(nf, now=clock, full_size=full_size) for nf in files}
        return cls(nodes, only_touched=only_touched)

    @property
    def now(self) -> int:
        return next(iter(self.nodes.values())).now

    def advance(self, seconds: int) -> None:
        """Move every node's clock."""
        for simulator in self.nodes.values():
            simulator.advance(seconds)

    def close(self) -> None:
        for simulator in self.nodes.values():
            simulator.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # ---- who is where

    def owner_of(self, address: Address) -> tuple[str, Endpoint] | None:
        """The node and endpoint with this address."""
        for name, simulator in self.nodes.items():
            endpoint = simulator.nf.endpoint(str(address))
            if endpoint is not None:
                return name, endpoint
        return None

    def node_with(self, address: Address) -> str | None:
        """The node whose own address this is."""
        return next((name for name, sim in self.nodes.items() if address in own_addresses(sim.nf)), None)

    def entry_node(self, address: Address) -> str:
        """The node a packet from outside to ``address`` comes to: who has it, else the first that serves it."""
        owner = self.owner_of(address)
        node = self.node_with(address)
        if owner is not None or node is not None:
            return owner[0] if owner is not None else str(node)
        serving = (name for name, sim in self.nodes.items() if any(s.ip == address for s in sim.nf.services))
        return next(serving, next(iter(self.nodes)))

    def origin(self, source: Address, destination: Address, via: str | None = None) -> Place:
        """Where a packet with these addresses starts; ``via`` names the node that outside traffic comes to.

        Raises NotFoundError for a node that is not there.
        """
        if via is not None and via not in self.nodes:
            raise NotFoundError(f"no node {via!r} in the file; it has {', '.join(self.nodes)}")
        owner = self.owner_of(source)
        if owner is not None:
            return Place(owner[0], owner[1])
        own = self.node_with(source)
        if own is not None:
            return Place(own)
        node = via or self.entry_node(destination)
        return Place(node, outside=True, tunnel=tunnel_from(self.nodes[node].nf, source))

    # ---- the way

    def connect(self, client: Place, packet: PacketSpec) -> Hop | None:
        """The call that a packet's connection begins with where sockets are balanced; None: it is left as it is."""
        simulator = self.nodes[client.node]
        result = connect(simulator, packet, of_host=client.endpoint is None)
        return None if result is None else Hop(client.node, result, self._tables(client.node, result), simulator.now)

    def send(self, frame: bytes, origin: Place) -> Iterator[Hop | Arrival]:
        """Take a frame from where it starts to where it ends: a Hop for every hook, then the Arrival."""
        own = self.speaks_to_itself(origin, dissect(frame).dst)
        at: _At | Arrival = self._first(frame, origin) if own is None else Arrival(own, origin, frame)
        for _ in range(_MAX_HOPS):
            if isinstance(at, Arrival):
                yield replace(at, outcome=Outcome.ERROR) if _is_error_about(at, frame) else at
                return
            simulator = self.nodes[at.node]
            framed = _readdressed(simulator.nf, at)
            result = simulator.run(at.hook, framed, endpoint=at.endpoint, mark=at.mark, geneve=at.tunnel)
            yield Hop(at.node, result, self._tables(at.node, result), simulator.now)
            at = self._next(at, result)
        yield Arrival(Outcome.LOOP, Place(at.node if isinstance(at, _At) else at.place.node), b"")

    def speaks_to_itself(self, origin: Place, destination: Address | None) -> Outcome | None:
        """How a packet ends that never leaves its sender's own stack, and meets no hook; None: it does."""
        pod = origin.endpoint
        if pod is not None:
            return Outcome.DELIVERED if destination in (pod.ip, pod.ip6) else None
        own = own_addresses(self.nodes[origin.node].nf)
        return Outcome.HOST if not origin.outside and destination in own else None

    def _first(self, frame: bytes, origin: Place) -> _At:
        """The hook that a packet meets first."""
        if origin.endpoint is not None:
            return _At(origin.node, Hook.FROM_CONTAINER, frame, origin.endpoint)
        if origin.tunnel is not None:
            return _At(origin.node, Hook.FROM_OVERLAY, frame, tunnel=origin.tunnel)
        if origin.outside:
            return _At(origin.node, Hook.FROM_NETDEV, frame)
        nf = self.nodes[origin.node].nf
        destination = dissect(frame).dst or IPv4Address(0)
        target = nf.endpoint(str(destination))
        if target is not None:
            return _At(origin.node, Hook.TO_CONTAINER, frame, target, identity_mark(HOST))
        hook = Hook.TO_OVERLAY if tunnel_from(nf, destination) is not None else Hook.TO_NETDEV
        return _At(origin.node, hook, frame)

    def _tables(self, node: str, result: StepResult) -> SimulatedTables:
        touched = self._touched.get(node)
        if touched is None:
            return self.nodes[node].tables()
        for event in result.events:
            touched.note(event)
        return touched.tables()

    def _next(self, at: _At, result: StepResult) -> _At | Arrival:
        nf = self.nodes[at.node].nf
        if result.verdict is Verdict.DROP:
            return Arrival(Outcome.DROPPED, Place(at.node, at.endpoint), result.frame, result.reason)
        if at.hook is Hook.TO_CONTAINER:
            return Arrival(Outcome.DELIVERED, Place(at.node, at.endpoint), result.frame)
        if result.hook is Hook.XDP_NETDEV:
            # Straight to the wire: no hook is on its way out.
            sent = result.wire or result.frame
            return self._on_the_wire(at.node, sent, dissect(sent).dst or IPv4Address(0))
        if result.wire is not None:
            # Encapsulated: the outer packet leaves by the node's device, and by its hook.
            return _At(at.node, Hook.TO_NETDEV, result.wire, mark=result.mark)
        destination = dissect(result.frame).dst or IPv4Address(0)
        if at.hook is Hook.TO_OVERLAY:
            return Arrival(Outcome.LEFT, Place(at.node, outside=True), result.frame)
        if at.hook is Hook.TO_NETDEV:
            return self._on_the_wire(at.node, result.frame, destination)
        target = self._redirected(nf, result) or nf.endpoint(str(destination))
        if target is not None:
            return _At(at.node, Hook.TO_CONTAINER, result.frame, target, result.mark)
        if destination in own_addresses(nf):
            return Arrival(Outcome.HOST, Place(at.node), result.frame)
        return _At(at.node, Hook.TO_NETDEV, result.frame, mark=result.mark)

    def _redirected(self, nf: NodeFile, result: StepResult) -> Endpoint | None:
        """The pod a program redirected to by its interface, whatever the packet's destination."""
        index = result.event.redirect_ifindex if result.verdict is Verdict.REDIRECT and result.event else None
        return next((e for e in nf.endpoints if index and e.ifindex == index), None)

    def _on_the_wire(self, node: str, frame: bytes, destination: Address) -> _At | Arrival:
        owner = self.owner_of(destination)
        target = owner[0] if owner is not None else self.node_with(destination)
        if target is not None and target != node:
            return _At(target, Hook.FROM_NETDEV, frame)
        place = Place(node, outside=True, elsewhere=_elsewhere(self.nodes[node].nf, destination))
        if place.elsewhere is None:
            return Arrival(Outcome.LEFT, place, frame)
        outer = dissect(frame)
        encapsulated = (outer.proto, outer.dst_port) == (PROTO_UDP, GENEVE_PORT)
        return Arrival(Outcome.AWAY, place, frame, encapsulated=encapsulated)


def _is_error_about(arrival: Arrival, sent: bytes) -> bool:
    """Whether what arrived is an ICMP error that the packet came to."""
    there = arrival.outcome in (Outcome.DELIVERED, Outcome.LEFT, Outcome.AWAY)
    return there and dissect(arrival.frame).inner is not None and dissect(sent).inner is None


def _elsewhere(nf: NodeFile, address: Address) -> str | None:
    """Which part of the cluster that is not simulated has this address; None: none, by the identity table."""
    if any(entry.node == address for entry in nf.remote):
        return f"node {address}"
    known = [entry for entry in nf.remote if address.version == entry.cidr.version and address in entry.cidr]
    best = max(known, key=lambda entry: entry.cidr.prefixlen, default=None)
    if best is None or not (best.node is not None or best.identity == REMOTE_NODE or is_cluster_pod(best.identity)):
        return None
    return f"node {address}" if best.identity == REMOTE_NODE else f"pod {address} of another node"


def own_addresses(nf: NodeFile) -> tuple[Address, ...]:
    """The addresses of the node itself, of its network and among its pods, given or not."""
    routers = (ip_address(router_address(nf, 4)), ip_address(router_address(nf, 6)) if nf.datapath.ipv6 else None)
    return tuple(address for address in (nf.node.ip, nf.node.ip6, *routers) if address is not None)


def tunnel_from(nf: NodeFile, source: Address) -> Geneve | None:
    """The outer headers of a packet from ``source``, where that is behind a tunnel by the identity table."""
    if nf.datapath.routing != "tunnel":
        return None
    known = [entry for entry in nf.remote if source.version == entry.cidr.version and source in entry.cidr]
    best = max(known, key=lambda entry: entry.cidr.prefixlen, default=None)
    if best is None or best.node is None:
        return None
    return Geneve(best.node, nf.node.ip, best.identity)


def _readdressed(nf: NodeFile, at: _At) -> bytes:
    """The frame with the MAC addresses it has at this hook."""
    source, destination = macs_at(nf, at.hook, at.endpoint)
    return destination + source + at.frame[12:]


def with_ifindexes(nf: NodeFile) -> NodeFile:
    """A node file whose short forms are completed: numbers and MACs that a live system would find out.

    Redirects name devices by number, so every endpoint and device needs one of its own.
    """
    used = {e.ifindex for e in nf.endpoints if e.ifindex}
    free = (number for number in range(1001, 100_000) if number not in used)
    endpoints = tuple(
        replace(
            e,
            ifindex=e.ifindex or next(free),
            mac=e.mac or _mac(0x10, e.id),
            node_mac=e.node_mac or _mac(0x11, e.id),
        )
        for e in nf.endpoints
    )
    device = nf.node.device
    if device is not None:
        device = replace(device, ifindex=device.ifindex or next(free), mac=device.mac or _mac(0x12, int(nf.node.ip)))
    return replace(nf, endpoints=endpoints, node=replace(nf.node, device=device))


def _mac(kind: int, number: int) -> str:
    return ":".join(f"{byte:02x}" for byte in (0x02, kind, *(number & 0xFFFFFFFF).to_bytes(4, "big")))
