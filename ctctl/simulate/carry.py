"""A node's tables, whatever they were read from, as a node file and records to start a simulation with.

Nothing is guessed: what the source does not show is left out, and ``limits`` says so where a packet needs it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from ctctl.abi import pins
from ctctl.config.datapath import CtSpec, DatapathSpec, LbSpec, Masquerade
from ctctl.config.fields import Network
from ctctl.config.node import Device, Endpoint, NodeFile, NodeSpec, PolicyRule, Remote
from ctctl.config.service import Backend, Service
from ctctl.errors import UnsupportedError
from ctctl.model.service import BACKEND_STATES, EndpointRecord, ServiceFlags, ServiceSlot, service_type
from ctctl.model.timeouts import TIMEOUTS, Timeouts
from ctctl.model.tuples import endpoint
from ctctl.simulate.carry_tables import now_of, start_tables
from ctctl.simulate.evidence import HostAddresses, flag, host_addresses
from ctctl.simulate.whatif import StartTable

if TYPE_CHECKING:
    from ctctl.model.policy import PolicyEntry
    from ctctl.model.version import CiliumVersion
    from ctctl.packet.spec import PacketSpec
    from ctctl.tables.sources.base import CtTable, Source
    from ctctl.tables.sources.facts import NodeFacts
    from ctctl.tables.sources.listings import Listings
    from ctctl.tables.sources.modes import Modes

#: what a simulation is made of
KINDS: Final = (
    *("services", "backends", "rev_nats", "source_ranges", "maglev", "ipcache", "endpoints", "nat"),
    *("policy", "sockets"),
)
_PROTOCOLS: Final = {0: "ANY", 6: "TCP", 17: "UDP", 132: "SCTP"}


@dataclass(frozen=True, slots=True)
class Carried:
    """A node as it is simulated, and what it was made from.

    ``services`` are those of the packet's protocol by (address, port, scope); ``others`` what stands at a
    frontend that our datapath's key cannot hold beside them. ``known_choice`` are the rev-NAT ids whose
    Maglev tables the source shows: of any other service a new connection's backend is one of several.
    """

    file: NodeFile
    tables: tuple[StartTable, ...]
    modes: Modes
    listings: Listings
    now: int | None
    #: None: nothing tells
    version: CiliumVersion | None
    hosts: Mapping[int, HostAddresses]
    known_choice: frozenset[int] = frozenset()
    notes: tuple[str, ...] = field(default=())


def carry(
    source: Source,
    node: str | None,
    listings: Listings,
    modes: Modes,
    proto: int,
    *,
    facts: NodeFacts,
    pods: Mapping[str, str],
    packets: Iterable[PacketSpec],
) -> Carried:
    """One node of a source, for these packets of one IP protocol; ``pods`` are names by address.

    Raises UnsupportedError where it cannot be one.
    """
    hosts = {family: host_addresses(listings, modes, family) for family in (4, 6)}
    notes: list[str] = []
    tables = [table for table in source.tables if node in (None, table.node)]
    now = now_of(tables, notes)
    nf = NodeFile(
        node=_node(node or "node", hosts, modes),
        datapath=_datapath(modes, tables, listings, facts),
        endpoints=tuple(_endpoints(listings, pods)),
        remote=tuple(_remotes(listings, notes)),
        services=tuple(_services(listings, proto)),
        path=source.description,
    )
    nf = nf if nf.datapath.ipv6 else _of_ipv4(nf)
    ports = {port for packet in packets for port in own_ports(listings, packet)}
    nf = replace(nf, policy=tuple(_policy(listings, nf, ports)))
    maglev = {table.rev_nat for table in listings.maglev if table.table}
    return Carried(
        nf,
        start_tables(tables, listings, now),
        modes,
        listings,
        now,
        source.versions_of(node),
        hosts,
        frozenset(maglev),
        tuple(notes),
    )


# ---- the node file


def _node(name: str, hosts: Mapping[int, HostAddresses], modes: Modes) -> NodeSpec:
    four, six = hosts[4], hosts[6]
    if not isinstance(four.node, IPv4Address):
        raise UnsupportedError("cannot simulate: nothing tells the node's IPv4 address (endpoints, ipcache, config)")
    return NodeSpec(
        name=name,
        ip=four.node,
        device=Device("eth0"),
        pod_cidr=_network4(modes, "pod-cidr"),
        ip6=six.node if isinstance(six.node, IPv6Address) else None,
        pod_cidr6=_network6(modes, "pod-cidr6"),
        router=four.router if isinstance(four.router, IPv4Address) else None,
        router6=six.router if isinstance(six.router, IPv6Address) else None,
    )


def _of_ipv4(nf: NodeFile) -> NodeFile:
    """The node file without what IPv6 tables are made of: it has none of them."""
    services = tuple(service for service in nf.services if service.ip.version == 4)
    return replace(nf, services=services, remote=tuple(one for one in nf.remote if one.cidr.version == 4))


def _network(modes: Modes, key: str) -> Network | None:
    try:
        return ip_network(modes[key].value, strict=False) if key in modes else None
    except ValueError:
        return None


def _network4(modes: Modes, key: str) -> IPv4Network | None:
    found = _network(modes, key)
    return found if isinstance(found, IPv4Network) else None


def _network6(modes: Modes, key: str) -> IPv6Network | None:
    found = _network(modes, key)
    return found if isinstance(found, IPv6Network) else None


def _datapath(modes: Modes, tables: list[CtTable], listings: Listings, facts: NodeFacts) -> DatapathSpec:
    default, lb = DatapathSpec(), LbSpec()
    told = {key: fact.value for key, fact in modes.items()}
    times = {name: fact.value for name, fact in facts.timeouts_s.items()}
    known = {name: value for name, value in times.items() if name in TIMEOUTS}
    bpf = flag(modes, "masquerade.bpf") is True
    native = [_network(modes, key) or _network(modes, pods) for key, pods in _NATIVE]
    ipv6 = flag(modes, "ipv6")
    sizes = {table.name: table.max_entries for table in tables if table.max_entries}
    shown = max((len(table.table) for table in listings.maglev), default=0)
    ct = CtSpec(
        tcp_max=sizes.get(pins.CT4_TCP, CtSpec().tcp_max),
        any_max=sizes.get(pins.CT4_ANY, CtSpec().any_max),
    )
    return replace(
        default,
        accounting=flag(modes, "accounting") is True,
        sctp=flag(modes, "sctp") is True,
        fragments=flag(modes, "fragments") is not False,
        routing=told.get("routing", default.routing),
        masquerade=Masquerade(
            bpf and flag(modes, "masquerade.ipv4") is True, bpf and flag(modes, "masquerade.ipv6") is True
        ),
        native_routing=tuple(network for network in native if network is not None),
        ipv6=any(table.family == 6 for table in tables) if ipv6 is None else ipv6,
        timeouts=Timeouts(**known),
        ct=ct,
        lb=replace(
            lb,
            # Tables that the source does not show are not made up: any backend is as good as another then.
            maglev_table_size=shown or lb.maglev_table_size,
            algorithm="maglev" if told.get("lb.algorithm", "maglev") == "maglev" else "random",
            mode=told["lb.mode"] if told.get("lb.mode") in ("snat", "dsr", "hybrid") else lb.mode,
            dispatch=told["lb.dispatch"] if told.get("lb.dispatch") in ("opt", "geneve") else lb.dispatch,
            loopback=IPv4Address(told["lb.loopback"]) if "lb.loopback" in told else lb.loopback,
            no_backend=told["lb.no-backend"] if told.get("lb.no-backend") in ("reject", "drop") else lb.no_backend,
        ),
    )


_NATIVE: Final = (("native-routing-cidr", "pod-cidr"), ("native-routing-cidr6", "pod-cidr6"))


def _endpoints(listings: Listings, pods: Mapping[str, str]) -> Iterator[Endpoint]:
    groups: defaultdict[int, list[EndpointRecord]] = defaultdict(list)
    for record in listings.endpoints:
        if not record.is_host and not record.addr.is_link_local:
            groups[record.endpoint_id].append(record)
    for number, records in sorted(groups.items()):
        four = [record for record in records if record.addr.version == 4]
        six = next((record.addr for record in records if record.addr.version == 6), None)
        for record in four:
            yield Endpoint(
                name=pods.get(str(record.addr), str(record.addr)),
                ip=IPv4Address(record.addr),
                identity=record.identity or _identity(listings, str(record.addr)),
                id=number,
                ifindex=record.ifindex or None,
                mac=record.mac,
                node_mac=record.node_mac,
                ip6=six if isinstance(six, IPv6Address) and record is four[0] else None,
            )


def _identity(listings: Listings, address: str) -> int:
    """The identity of an endpoint that its own record does not have (up to 1.13): of the ipcache."""
    return next((one.identity for one in listings.ipcache if one.prefix in (address, f"{address}/32")), 0)


def _remotes(listings: Listings, notes: list[str]) -> Iterator[Remote]:
    seen: set[Network] = set()
    beyond = 0
    for record in listings.ipcache:
        cidr = ip_network(record.prefix, strict=False)
        if cidr in seen or record.cluster_id:
            continue
        seen.add(cidr)
        tunnel = None
        if record.tunnel_endpoint is not None:
            end = ip_address(record.tunnel_endpoint)
            tunnel = end if isinstance(end, IPv4Address) and int(end) else None
            beyond += end.version == 6 and bool(int(end))
        yield Remote(cidr, record.identity, tunnel)
    if beyond:
        notes.append(f"{beyond} prefixes are behind tunnel ends of IPv6, which are not simulated")


def _services(listings: Listings, proto: int) -> Iterator[Service]:
    """The frontends of the packet's protocol, each scope by itself, with its backends in the order of their slots."""
    ranges: defaultdict[int, list[Network]] = defaultdict(list)
    for source_range in listings.source_ranges:
        ranges[source_range.rev_nat].append(ip_network(source_range.cidr, strict=False))
    known = backends_of(listings)
    for front, slots in frontends(listings, proto):
        count = len(slots) if front.count is None else front.count
        found = [
            replace(known[slot.backend_id], weight=int(number < count))
            for number, slot in enumerate(slots)
            if slot.backend_id in known
        ]
        flags = front.flags or 0
        yield Service(
            name=_service_name(front),
            type=front.type if front.type in _TYPES else service_type(flags).replace("LocalRedirect", "ClusterIP"),
            ip=front.addr,
            port=front.port,
            protocol=_PROTOCOLS.get(front.proto or 0, "ANY"),
            id=front.rev_nat or 0,
            scope=front.scope if front.scope in ("external", "internal") else "external",
            affinity=front.affinity_timeout or 0 if flags & ServiceFlags.Affinity else 0,
            source_ranges=tuple(ranges[front.rev_nat or 0]) if flags & ServiceFlags.SourceRange else (),
            flags=flags & 0xFF,
            # The upper bits of later versions mean nothing to 1.16's rules.
            flags2=flags >> 8 & 0x3F,
            backends=tuple(found),
        )


_TYPES: Final = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalIPs", "HostPort")


def frontends(listings: Listings, proto: int) -> Iterator[tuple[ServiceSlot, list[ServiceSlot]]]:
    """Frontends of one protocol (or of none, as up to 1.16), each with its slots in order; wildcards are none."""
    groups: defaultdict[tuple[object, ...], list[ServiceSlot]] = defaultdict(list)
    for slot in listings.services:
        if slot.port and (slot.proto or 0) in (0, proto):
            groups[slot.addr, slot.port, slot.scope, slot.proto or 0].append(slot)
    taken: set[tuple[object, ...]] = set()
    # One of the protocol itself before one of any: a packet finds it first.
    for key, slots in sorted(groups.items(), key=lambda item: -int(str(item[0][3]))):
        front = next((slot for slot in slots if slot.slot == 0), None)
        if front is not None and key[:3] not in taken:
            taken.add(key[:3])
            yield front, sorted((slot for slot in slots if slot.slot), key=lambda slot: slot.slot)


def backends_of(listings: Listings) -> dict[int | None, Backend]:
    """Backends by id. Where a listing shows no ports, they are the ones beside the services' slots."""
    found: dict[int | None, Backend] = {}
    for record in listings.backends:
        if record.port is not None:
            state = record.state if record.state in BACKEND_STATES else "active"
            found[record.backend_id] = Backend(record.backend_id, record.addr, record.port, str(state))
    for slot in listings.services:
        if slot.backend_id and slot.backend_id not in found and slot.backend_end is not None:
            found[slot.backend_id] = Backend(slot.backend_id, *slot.backend_end)
    return found


def _service_name(front: ServiceSlot) -> str:
    text = endpoint(front.addr, front.port)
    return text if front.scope == "external" else f"{text}/{front.scope}"


def own_ports(listings: Listings, packet: PacketSpec) -> set[int]:
    """The ports that a pod's policy may be asked about for a packet to no service, or for its answer."""
    ends = (packet.proto, packet.src, packet.src_port, packet.dst, packet.dst_port)
    turned = {
        entry.to_port
        for entry in listings.nat
        if (flow := entry.tuple) and (flow.proto, flow.src, flow.src_port, flow.dst, flow.dst_port) == ends
    }
    return {packet.src_port, packet.dst_port} | turned


def _policy(listings: Listings, nf: NodeFile, ports: Collection[int]) -> Iterator[PolicyRule]:
    """Rules of the endpoints' policy maps; a direction in which everything is allowed has none."""
    backends = {backend.port for backend in backends_of(listings).values()}
    wanted = {*ports, *backends, *(service.port for service in nf.services)}
    for pod in nf.endpoints:
        entries = [entry for entry in listings.policy if entry.endpoint_id == pod.id]
        if "policy" in listings.missing or (not entries and not listings.policy):
            continue
        for direction in ("ingress", "egress"):
            rules = [entry for entry in entries if entry.egress == (direction == "egress")]
            if _allows_all(rules):
                continue
            if not rules:
                yield PolicyRule(pod.name, direction, deny=True)
            for entry in rules:
                yield from _rules(pod.name, direction, entry, wanted)


def _allows_all(rules: list[PolicyEntry]) -> bool:
    return len(rules) == 1 and not any(
        (rules[0].deny, rules[0].identity, rules[0].proto, rules[0].port, rules[0].proxy_port, rules[0].auth_type)
    )


def _rules(name: str, direction: str, entry: PolicyEntry, wanted: Iterable[int]) -> Iterator[PolicyRule]:
    first, last = entry.ports if entry.port_bits else (0, 0)
    # Our table has single ports: of a range those that packets can have here. With the ends it is a rule even so.
    ports = {first, last} | {port for port in wanted if first <= port <= last} if first != last else {first}
    for port in sorted(ports):
        yield PolicyRule(name, direction, entry.identity or None, port=port, protocol=entry.proto, deny=entry.deny)
