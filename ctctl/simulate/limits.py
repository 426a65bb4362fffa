"""What our datapath cannot do as a carried node is configured: said by name instead of simulated wrongly.

Only what the packet would meet is asked for: a node whose mode nobody tells is simulated as long as the
packet's way does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ctctl.abi import pins
from ctctl.decode.ct import TUPLE_SERVICE, decode_entry, decode_key
from ctctl.errors import UnsupportedError
from ctctl.model.identity import REMOTE_NODE
from ctctl.model.service import ServiceFlags, ServiceSlot
from ctctl.model.tuples import Address, Direction, end_text
from ctctl.packet.spec import PROTO_ICMP, PROTO_ICMPV6, PacketSpec
from ctctl.simulate.carry import Carried, backends_of, frontends, own_ports
from ctctl.simulate.evidence import flag
from ctctl.tables.snat_ports import FIRST_PORT
from ctctl.tables.sources.modes import snat_first_port

if TYPE_CHECKING:
    from ctctl.model.entry import CtEntry
    from ctctl.model.policy import PolicyEntry

#: The minor version whose rules our datapath has.
RULES: Final = 16
#: The flag byte of an OUT entry's key.
_OUT: Final = 0


@dataclass(frozen=True, slots=True)
class _Ends:
    """Whose the packet's two addresses are."""

    source: str
    destination: str


def check(carried: Carried, packet: PacketSpec) -> tuple[str, ...]:
    """What to tell the user of a simulation of this packet. Raises UnsupportedError where there can be none."""
    reason = next(_reasons(carried, packet), None)
    if reason is not None:
        raise UnsupportedError(f"cannot simulate {_words(packet)}: {reason}")
    return (*_notes(carried), *_socket_notes(carried, packet))


def _words(packet: PacketSpec) -> str:
    name = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}.get(packet.proto, str(packet.proto))
    return f"{name} {end_text(packet.src, packet.src_port)} > {end_text(packet.dst, packet.dst_port)}"


def _reasons(carried: Carried, packet: PacketSpec) -> Iterator[str]:
    """Every reason against, the plainest first."""
    ends = _Ends(whose(carried, packet.src), whose(carried, packet.dst))
    yield from _family(carried, packet)
    yield from _features(carried, ends)
    yield from _host(carried, packet, ends)
    service = service_of(carried, packet)
    if service is not None:
        yield from _service(carried, packet, ends, *service)
    elif any(slot.addr == packet.dst and not slot.port for slot in carried.listings.services):
        yield f"{packet.dst} is a service's address and has nothing at this port, which Cilium has an entry for"
    yield from _way(carried, packet, ends, service)
    yield from _translation(carried, packet, ends)
    yield from _policies(carried, packet, service)


def whose(carried: Carried, address: Address) -> str:
    """``pod`` and ``host`` of this node, ``remote pod``, ``remote node`` or ``world``."""
    for record in carried.listings.endpoints:
        if record.addr == address:
            return "host" if record.is_host else "pod"
    for hosts in carried.hosts.values():
        if address in (hosts.node, hosts.router):
            return "host"
    host = next((one for one in carried.listings.ipcache if one.prefix.split("/")[0] == str(address)), None)
    if host is None or host.prefix.endswith("/0"):
        return "world"
    if host.tunnel_endpoint is not None and host.identity != REMOTE_NODE:
        return "remote pod"
    return "remote node" if host.identity == REMOTE_NODE else "world"


def service_of(carried: Carried, packet: PacketSpec) -> tuple[ServiceSlot, list[ServiceSlot]] | None:
    """The frontend that a packet is for, and its slots."""
    from_pod = whose(carried, packet.src) == "pod"
    found = [
        (front, slots)
        for front, slots in frontends(carried.listings, packet.proto)
        if (front.addr, front.port) == (packet.dst, packet.dst_port)
    ]
    return next((one for one in found if (one[0].scope == "internal") == from_pod), found[0] if found else None)


def _family(carried: Carried, packet: PacketSpec) -> Iterator[str]:
    if packet.dst.version == 6 and not carried.file.datapath.ipv6:
        yield "IPv6 is off on this node"
    elif packet.dst.version == 6 and carried.file.node.ip6 is None:
        yield "nothing tells the node's IPv6 address"
    if packet.dst.version == 4 and flag(carried.modes, "ipv4") is False:
        yield "IPv4 is off on this node"


def _features(carried: Carried, ends: _Ends) -> Iterator[str]:
    modes = carried.modes
    leaves = ends.destination in ("world", "remote pod", "remote node")
    for key, concerned, what in (
        ("ipsec", leaves, "IPsec encrypts what leaves the node"),
        ("wireguard", leaves, "WireGuard encrypts what leaves the node"),
        ("egress-gateway", ends.destination == "world" and ends.source == "pod", "the egress gateway"),
        ("srv6", leaves, "SRv6"),
        ("nat46x64", ends.destination == "world", "the NAT46/64 gateway"),
        ("host-firewall", "host" in (ends.source, ends.destination), "the host firewall"),
    ):
        if concerned and flag(modes, key):
            yield f"{what}, which this datapath does not have ({modes[key].evidence})"
    if flag(modes, "masquerade.agent") and (ends.source, ends.destination) == ("pod", "world"):
        yield f"ip-masq-agent decides what is masqueraded ({modes['masquerade.agent'].evidence})"


def turns(carried: Carried, packet: PacketSpec) -> bool:
    """Whether the packet's connection begins with a call that the node's socket LB sees."""
    whose_it_is = whose(carried, packet.src)
    if not flag(carried.modes, "lb.socket") or whose_it_is not in ("pod", "host"):
        return False
    return whose_it_is == "host" or not flag(carried.modes, "lb.socket-host-only")


def _host(carried: Carried, packet: PacketSpec, ends: _Ends) -> Iterator[str]:
    if ends.source != "host" or service_of(carried, packet) is None:
        return
    fact = carried.modes.get("lb.socket")
    if fact is None:
        yield (
            "nothing tells whether the node's own connection to a service is turned at connect();"
            " say --with lb.socket=true, or simulate the packet to a backend"
        )
    elif not turns(carried, packet):
        yield (
            f"socket LB is off ({fact.evidence}): who turns the node's own connection to a service is not Cilium;"
            " simulate the packet to a backend"
        )


def _service(
    carried: Carried, packet: PacketSpec, ends: _Ends, front: ServiceSlot, slots: list[ServiceSlot]
) -> Iterator[str]:
    flags = ServiceFlags(front.flags or 0)
    for bit, what in (
        (ServiceFlags.L7LoadBalancer, "hands its packets to a proxy"),
        (ServiceFlags.LocalRedirect, "is a local redirect"),
        (ServiceFlags.Nat46x64, "translates between IPv4 and IPv6"),
    ):
        if flags & bit:
            yield f"the service {what}, which this datapath does not"
    if flags & ServiceFlags.SourceRange and flags & ServiceFlags.Quarantined:
        yield "the service's source ranges are those that may not, which this datapath does not know"
    known = backends_of(carried.listings)
    for slot in slots:
        if slot.backend_id not in known:
            yield f"the source does not show backend {slot.backend_id} of the service"
    modes = carried.modes
    if ends.source == "pod":
        socket, host_only = flag(modes, "lb.socket"), flag(modes, "lb.socket-host-only")
        per_packet = any(
            entry.direction is Direction.SVC and entry.tuple.src == packet.src for entry in _services_seen(carried)
        )
        if socket is None and not host_only and not per_packet:
            yield "nothing tells whether socket LB turns pods' connections at connect(); say --with lb.socket=false"
    elif ends.source != "host":
        yield from _to_other_node(carried, slots)


def _services_seen(carried: Carried) -> Iterator[CtEntry]:
    for key, value in _conntrack(carried):
        if key[-1] & TUPLE_SERVICE:
            yield decode_entry(key, value)


def _conntrack(carried: Carried) -> Iterator[tuple[bytes, bytes]]:
    for table in carried.tables:
        if table.name in pins.CT_TABLES:
            yield from table.records


def _socket_notes(carried: Carried, packet: PacketSpec) -> Iterator[str]:
    """That the sender's entries speak against socket LB for all of its processes."""
    if not turns(carried, packet) or service_of(carried, packet) is None:
        return
    fronts = {(front.addr, front.port) for front, _ in frontends(carried.listings, packet.proto)}
    sender = packet.src.packed
    found = (decode_key(key)[0] for key, _ in _conntrack(carried) if sender in key and key[-1] == _OUT)
    past = [flow for flow in found if flow.src == packet.src and (flow.dst, flow.dst_port) in fronts]
    if past:
        yield (
            f"OUT entries of {packet.src} to services themselves, e.g. {past[0]}: not all of its processes are turned"
            " at connect(); simulated as of one that is"
        )


def _to_other_node(carried: Carried, slots: list[ServiceSlot]) -> Iterator[str]:
    """A request from outside that may go to a backend elsewhere: the mode decides how."""
    modes, local = carried.modes, {record.addr for record in carried.listings.endpoints}
    backends = backends_of(carried.listings)
    if all(backends[slot.backend_id].ip in local for slot in slots):
        return
    mode = modes.get("lb.mode")
    if mode is None:
        yield "nothing tells how a request gets to a backend on another node; say --with lb.mode=snat or dsr"
    elif mode.value not in ("snat", "dsr", "hybrid"):
        yield f"lb.mode {mode.value} ({mode.evidence}): each service has a mode of its own; say --with lb.mode=…"
    elif mode.value != "snat":
        dispatch = modes.get("lb.dispatch")
        if dispatch is None:
            yield "nothing tells how DSR hands the service's address on; say --with lb.dispatch=opt or geneve"
        elif dispatch.value not in ("opt", "geneve"):
            yield f"DSR by {dispatch.value} ({dispatch.evidence})"
        elif dispatch.value == "opt" and carried.file.datapath.routing == "tunnel":
            yield f"DSR by an option in the IP header ({dispatch.evidence}) needs native routing"


def _way(
    carried: Carried, packet: PacketSpec, ends: _Ends, service: tuple[ServiceSlot, list[ServiceSlot]] | None
) -> Iterator[str]:
    modes = carried.modes
    if "routing" not in modes and (service is not None or "remote pod" in (ends.source, ends.destination)):
        yield (
            "nothing tells whether pods of other nodes are reached through a tunnel;"
            " say --with routing=tunnel or native"
        )
    if (ends.source, ends.destination) == ("pod", "world"):
        bpf, on = flag(modes, "masquerade.bpf"), flag(modes, f"masquerade.ipv{packet.dst.version}")
        if on is None or (on and bpf is None):
            yield (
                "nothing tells whether pods speak to the world by the node's address;"
                f" say --with masquerade.bpf=… and masquerade.ipv{packet.dst.version}=…"
            )
        elif on and not bpf:
            yield f"iptables masquerades, not BPF ({modes['masquerade.bpf'].evidence})"


def _translation(carried: Carried, packet: PacketSpec, ends: _Ends) -> Iterator[str]:
    """Ports and ICMP identifiers that another version or configuration hands out, and 1.16's rules pass over."""
    masquerade = carried.file.datapath.masquerade
    on = masquerade.ipv4 if packet.dst.version == 4 else masquerade.ipv6
    first = snat_first_port(carried.modes)
    if on and first is not None and first.value != FIRST_PORT and "host" in (ends.source, ends.destination):
        yield f"the node's SNAT has ports from {first.value} on ({first.evidence}), here it is {FIRST_PORT}"
    echo = packet.proto in (PROTO_ICMP, PROTO_ICMPV6)
    port = (packet.ident or 0) if echo else packet.dst_port
    for entry in carried.listings.nat:
        flow = entry.tuple
        if entry.direction is not Direction.IN or (flow.proto, flow.src, flow.dst) != (
            packet.proto,
            packet.src,
            packet.dst,
        ):
            continue
        if flow.dst_port == port < FIRST_PORT and (echo or flow.src_port == packet.src_port):
            yield f"its SNAT entry is of {port}, and the rules of 1.{RULES} pass over what is below {FIRST_PORT}"
    kept = ((e.tuple.src, e.tuple.dst, e.tuple.src_port) for e in carried.listings.nat)
    new = echo and on and (packet.src, packet.dst, port) not in kept
    leaves = (ends.source, ends.destination) == ("pod", "world")
    if new and leaves and port < FIRST_PORT and carried.version is not None and carried.version.high > RULES:
        yield (
            f"some version after 1.{RULES} began to keep an echo's identifier below {FIRST_PORT} in SNAT;"
            " here it takes another"
        )


def _policies(
    carried: Carried, packet: PacketSpec, service: tuple[ServiceSlot, list[ServiceSlot]] | None
) -> Iterator[str]:
    ports = own_ports(carried.listings, packet)
    met = {packet.src, packet.dst}
    if service is not None:
        backends = backends_of(carried.listings)
        chosen = [backends[slot.backend_id] for slot in service[1] if slot.backend_id in backends]
        ports |= {backend.port for backend in chosen}
        met |= {backend.ip for backend in chosen}
    rules = carried.listings.policy
    pods = {record.addr: record.endpoint_id for record in carried.listings.endpoints if not record.is_host}
    ruled = {entry.endpoint_id for entry in rules}
    yield from (
        f"the source shows the policies of other pods, and none of {pod}"
        for pod, number in pods.items()
        if rules and pod in met and number not in ruled
    )
    names = {number: str(pod) for pod, number in pods.items() if pod.version == packet.dst.version}
    for entry in rules:
        if entry.endpoint_id in names and any(entry.covers(packet.proto, port) for port in ports):
            yield from _rule(entry, rules, names[entry.endpoint_id])


def _rule(entry: PolicyEntry, rules: list[PolicyEntry], pod: str) -> Iterator[str]:
    where = f"the {'egress' if entry.egress else 'ingress'} policy of {pod}"
    if entry.identity is None:
        yield f"{where} names a peer by labels only: bpf policy get --numeric tells which it is"
    if entry.proxy_port:
        yield f"{where} hands this to a proxy at port {entry.proxy_port}"
    if entry.auth_type:
        yield f"{where} asks for authentication"
    same = [one for one in rules if (one.endpoint_id, one.egress) == (entry.endpoint_id, entry.egress)]
    if entry.deny and any(not one.deny and (one.precedence or 0) > (entry.precedence or 0) for one in same):
        yield f"{where} has rules whose precedence is above a denial's"


def one_of(carried: Carried, rev_nat: int, family: int) -> tuple[str, ...]:
    """The backends of which a new connection to the service gets one; empty where the node's own choice is known."""
    service = next((s for s in carried.file.services if s.id == rev_nat and s.ip.version == family), None)
    if service is None:
        return ()
    # Whom a client had before is in no listing.
    known = carried.file.datapath.lb.algorithm == "maglev" and rev_nat in carried.known_choice
    if known and not service.affinity:
        return ()
    active = [b for b in service.backends if b.weight and b.state == "active"] or list(service.backends)
    return tuple(end_text(backend.ip, backend.port) for backend in active) if len(active) > 1 else ()


def _notes(carried: Carried) -> Iterator[str]:
    yield from carried.notes
    if carried.version is not None and (carried.version.low, carried.version.high) != (RULES, RULES):
        yield f"the node's Cilium is {carried.version}, the rules are those of 1.{RULES}"
    if not carried.listings.policy:
        yield "the source shows no policy: simulated as if all were allowed"
    if "services" in carried.listings.missing:
        yield "the source shows no services: simulated as if there were none"
    tunnel = carried.modes.get("tunnel")
    if carried.file.datapath.routing == "tunnel" and (tunnel is None or tunnel.value != "geneve"):
        name = "of a kind that nothing tells" if tunnel is None else tunnel.value
        yield f"the node's tunnel is {name}: what leaves encapsulated is shown in Geneve"
