"""What a node file becomes in the kernel: exact records of every configuration table, and rodata.

Pure: no file descriptor, no clock. ``table_records`` is the whole wanted state; the loader and the
simulator bring the maps there.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from ctctl.abi import pins
from ctctl.config.datapath import LB_MODES, NATIVE_NETWORKS
from ctctl.config.fields import Network
from ctctl.config.node import Endpoint, NodeFile, NodeSpec, PolicyRule
from ctctl.config.service import PROTOCOLS, Backend, Service
from ctctl.model.identity import FIRST_LOCAL, HOST, WORLD, WORLD_IPV4, WORLD_IPV6
from ctctl.model.service import BACKEND_STATES, ServiceFlags
from ctctl.node import records as rec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: table name -> key -> value
Tables = dict[str, dict[bytes, bytes]]

SERVICES = pins.LB4_SERVICES
BACKENDS = pins.LB4_BACKENDS
REVERSE_NAT = pins.LB4_REVERSE_NAT
AFFINITY_MATCH = pins.LB_AFFINITY_MATCH
SOURCE_RANGES = pins.LB4_SOURCE_RANGE
ENDPOINTS = pins.ENDPOINTS
IPCACHE = pins.IPCACHE
POLICY = pins.POLICY
MAGLEV = pins.LB4_MAGLEV
#: those of IPv6 that a node file fills besides, where the node has both families
CONFIG6_TABLES = tuple(pins.of_family(name, 6) for name in (SERVICES, BACKENDS, REVERSE_NAT, SOURCE_RANGES))
CONFIG_TABLES = (SERVICES, BACKENDS, REVERSE_NAT, AFFINITY_MATCH, SOURCE_RANGES, ENDPOINTS, IPCACHE, POLICY)

#: the world of a node that has both families, by IP version
WORLDS = {4: WORLD_IPV4, 6: WORLD_IPV6}
_WORLD: dict[int, Network] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}

_TYPE_FLAGS = {
    "ClusterIP": ServiceFlags(0),
    "ExternalIPs": ServiceFlags.ExternalIP,
    "NodePort": ServiceFlags.NodePort,
    "HostPort": ServiceFlags.HostPort,
    "LoadBalancer": ServiceFlags.LoadBalancer,
}
_SCOPES = {"external": rec.SCOPE_EXTERNAL, "internal": rec.SCOPE_INTERNAL}


def table_records(nf: NodeFile) -> Tables:
    """Every record of every configuration table, by table name. The Maglev tables are apart: maglev_tables."""
    tables: Tables = {name: {} for name in config_tables(nf)}
    for service in nf.services:
        for name, entries in service_records(nf, service).items():
            tables[name].update(entries)
    tables[ENDPOINTS] = _endpoint_records(nf)
    tables[IPCACHE] = _ipcache_records(nf)
    tables[POLICY] = dict(_policy_records(nf))
    return tables


def config_tables(nf: NodeFile) -> tuple[str, ...]:
    """The tables that a node file fills: those of IPv6 too where the node has both families."""
    return (*CONFIG_TABLES, *CONFIG6_TABLES) if nf.datapath.ipv6 else CONFIG_TABLES


def world_identity(nf: NodeFile, version: int) -> int:
    """The identity of the world in one family."""
    return WORLDS[version] if nf.datapath.ipv6 else WORLD


def service_records(nf: NodeFile, service: Service) -> Tables:
    """The records of one service in the five tables that services of its family live in."""
    version = service.ip.version
    services, backends = pins.of_family(SERVICES, version), pins.of_family(BACKENDS, version)
    reverse_nat, source_ranges = pins.of_family(REVERSE_NAT, version), pins.of_family(SOURCE_RANGES, version)
    tables: Tables = {name: {} for name in (services, backends, reverse_nat, AFFINITY_MATCH, source_ranges)}
    flags, flags2 = service_flags(service)
    for scope, number in zip(service.scopes, service.ids, strict=True):
        chosen, waiting = selectable_backends(nf, service, scope)
        for slot, backend in enumerate((*chosen, *waiting), 1):
            key = rec.service_key(service.ip, service.port, slot, _SCOPES[scope])
            tables[services][key] = rec.slot_value(backend.id, number, flags, flags2)
        frontend = rec.service_key(service.ip, service.port, 0, _SCOPES[scope])
        tables[services][frontend] = rec.frontend_value(
            service.affinity, len(chosen), number, flags, flags2, qcount=len(waiting)
        )
        tables[reverse_nat][rec.rev_nat_key(number)] = rec.rev_nat_value(service.ip, service.port)
        for backend in service.backends if flags & ServiceFlags.Affinity else ():
            tables[AFFINITY_MATCH][rec.affinity_match_key(backend.id, number)] = b"\0"
        for cidr in service.source_ranges:
            tables[source_ranges][rec.source_range_key(number, cidr)] = b"\0"
    for backend in service.backends:
        tables[backends][rec.backend_key(backend.id)] = backend_record(backend, service.protocol)
    return tables


def backend_record(backend: Backend, protocol: str) -> bytes:
    """A backend's value in the backend table."""
    return rec.backend_value(backend.ip, backend.port, PROTOCOLS[protocol], BACKEND_STATES.index(backend.state))


def service_flags(service: Service) -> tuple[int, int]:
    """``flags`` and ``flags2`` of a service: as given, else from its type, policies, affinity and ranges."""
    external_local = service.type != "ClusterIP" and service.external_traffic_policy == "Local"
    internal_local = service.internal_traffic_policy == "Local"
    flags = _TYPE_FLAGS[service.type]
    for flag, given in (
        (ServiceFlags.Routable, service.type != "ClusterIP"),
        (ServiceFlags.ExtLocalScope, external_local),
        (ServiceFlags.Affinity, service.affinity),
        (ServiceFlags.SourceRange, service.source_ranges),
        (ServiceFlags.IntLocalScope, internal_local),
        (ServiceFlags.TwoScopes, service.two_scopes),
    ):
        flags |= flag if given else 0
    return (
        int(flags) & 0xFF if service.flags is None else service.flags,
        int(flags) >> 8 if service.flags2 is None else service.flags2,
    )


def selectable_backends(nf: NodeFile, service: Service, scope: str) -> tuple[tuple[Backend, ...], tuple[Backend, ...]]:
    """(backends a new connection may get, the others), each in the file's order.

    Active ones are chosen; when there is none, the terminating ones still serve (Kubernetes'
    proxy-terminating-endpoints). A Local traffic policy leaves the backends of other nodes out. A
    service with a ``scope`` is one record as it stands: all that it lists have slots that count.
    """
    if service.scope is not None:
        chosen = tuple(backend for backend in service.backends if backend.weight)
        return chosen, tuple(backend for backend in service.backends if not backend.weight)
    policy = service.internal_traffic_policy
    if scope == "external" and service.type != "ClusterIP":
        policy = service.external_traffic_policy
    usable = service.backends
    if policy == "Local":
        usable = tuple(backend for backend in usable if _is_local(nf, backend))
    for state in ("active", "terminating"):
        chosen = tuple(backend for backend in usable if backend.state == state and backend.weight)
        if chosen:
            break
    return chosen, tuple(backend for backend in usable if backend not in chosen)


def _is_local(nf: NodeFile, backend: Backend) -> bool:
    if backend.node is not None:
        return backend.node == nf.node.name
    if any(backend.ip in (e.ip, e.ip6) for e in nf.endpoints):
        return True
    return any(cidr is not None and backend.ip in cidr for cidr in (nf.node.pod_cidr, nf.node.pod_cidr6))


def _endpoint_records(nf: NodeFile) -> dict[bytes, bytes]:
    host = rec.endpoint_info(0, 0, HOST, None, None, host=True)
    entries = {rec.endpoint_key(address): host for address in _addresses(nf, nf.node)}
    for e in nf.endpoints:
        info = rec.endpoint_info(e.ifindex or 0, e.id, e.identity, e.mac, e.node_mac)
        entries |= {rec.endpoint_key(address): info for address in _addresses(nf, e)}
    return entries


def _addresses(nf: NodeFile, owner: NodeSpec | Endpoint) -> Iterator[IPv4Address | IPv6Address]:
    """The addresses of the node or of a pod that the datapath knows."""
    yield owner.ip
    if nf.datapath.ipv6 and owner.ip6 is not None:
        yield owner.ip6


def _ipcache_records(nf: NodeFile) -> dict[bytes, bytes]:
    """Identities by prefix: what the file says wins over what ctctl knows by itself."""
    known = {cidr: rec.remote_info(identity, None) for cidr, identity in _worlds(nf).items()}
    known |= {cidr: rec.remote_info(identity, None) for cidr, identity in cidr_identities(nf).items()}
    known |= {_host(address): rec.remote_info(HOST, None) for address in _addresses(nf, nf.node)}
    for e in nf.endpoints:
        known |= {_host(address): rec.remote_info(e.identity, None) for address in _addresses(nf, e)}
    known |= {entry.cidr: rec.remote_info(entry.identity, entry.node) for entry in nf.remote}
    return {rec.ipcache_key(cidr): value for cidr, value in known.items()}


def _host(address: IPv4Address | IPv6Address) -> Network:
    """The network that is this address alone."""
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)


def _worlds(nf: NodeFile) -> dict[Network, int]:
    return {_WORLD[version]: world_identity(nf, version) for version in ((4, 6) if nf.datapath.ipv6 else (4,))}


def cidr_identities(nf: NodeFile) -> dict[Network, int]:
    """Identity of every CIDR a policy names: the table's own where it has one, else a local one from 2^24 up."""
    known: dict[Network, int] = _worlds(nf)
    known.update((entry.cidr, entry.identity) for entry in nf.remote)
    cidrs: set[Network] = {rule.cidr for rule in nf.policy if rule.cidr is not None}
    named = sorted(cidrs, key=_by_family)
    fresh = [cidr for cidr in named if cidr not in known]
    local = {cidr: FIRST_LOCAL + number for number, cidr in enumerate(fresh)}
    return {cidr: local[cidr] if cidr in local else known[cidr] for cidr in named}


def _by_family(cidr: Network) -> tuple[int, bytes, int]:
    return cidr.version, cidr.network_address.packed, cidr.prefixlen


def _policy_records(nf: NodeFile) -> Iterator[tuple[bytes, bytes]]:
    """One allow-all key for each endpoint and direction without rules; else a key for each rule and peer."""
    identities = cidr_identities(nf)
    for endpoint in nf.endpoints:
        for direction in ("ingress", "egress"):
            rules = [r for r in nf.policy if (r.endpoint, r.direction) == (endpoint.name, direction)]
            egress = direction == "egress"
            if not rules:
                yield rec.policy_key(endpoint.id, egress), rec.policy_value()
            # A deny of the very same key wins over an allow, wherever it stands in the file.
            for rule in sorted(rules, key=lambda rule: rule.deny):
                for identity in _peers(rule, identities):
                    key = rec.policy_key(endpoint.id, egress, identity, rule.port, rule.protocol)
                    yield key, rec.policy_value(rule.deny, others=len(rules) > 1)


def _peers(rule: PolicyRule, identities: Mapping[Network, int]) -> list[int]:
    """The identities a rule means: a CIDR means also every narrower CIDR that has an identity of its own."""
    if rule.cidr is None:
        return [rule.identity or 0]
    return [identity for cidr, identity in identities.items() if _covers(rule.cidr, cidr)]


def _covers(wide: Network, narrow: Network) -> bool:
    if isinstance(wide, IPv4Network) and isinstance(narrow, IPv4Network):
        return narrow.subnet_of(wide)
    return isinstance(wide, IPv6Network) and isinstance(narrow, IPv6Network) and narrow.subnet_of(wide)


def maglev_tables(nf: NodeFile, version: int = 4) -> dict[bytes, NDArray[np.uint32]]:
    """Look-up table (``<u4`` backend ids) of every service with backends, by key of the Maglev map.

    Empty when backends are chosen at random.
    """
    tables: dict[bytes, NDArray[np.uint32]] = {}
    if nf.datapath.lb.algorithm == "maglev":
        for service in (service for service in nf.services if service.ip.version == version):
            for key, table in service_maglev_tables(nf, service).items():
                # Scopes that a file gives one id share the external one's table.
                if service.scope != "internal" or key not in tables:
                    tables[key] = table
    return tables


def service_maglev_tables(nf: NodeFile, service: Service) -> dict[bytes, NDArray[np.uint32]]:
    """The tables of one service: one for each scope that has a backend."""
    from ctctl.node.maglev import build_table

    tables: dict[bytes, NDArray[np.uint32]] = {}
    for scope, number in zip(service.scopes, service.ids, strict=True):
        chosen, _ = selectable_backends(nf, service, scope)
        if chosen:
            weights = {b.id: (f"{b.ip}:{b.port}", b.weight) for b in chosen}
            tables[rec.rev_nat_key(number)] = build_table(weights, nf.datapath.lb.maglev_table_size)
    return tables


def map_sizes(nf: NodeFile) -> dict[str, int]:
    """``max_entries`` of the maps whose size the node file sets."""
    ct = nf.datapath.ct
    return {
        pins.CT4_TCP: ct.tcp_max,
        pins.CT4_ANY: ct.any_max,
        pins.SNAT4: ct.snat_max,
        pins.CT6_TCP: ct.tcp_max,
        pins.CT6_ANY: ct.any_max,
        pins.SNAT6: ct.snat_max,
    }


def rodata(
    nf: NodeFile, endpoint: Endpoint | None = None, *, overlay_device: bool = False, version: int = 4
) -> dict[str, int | bytes]:
    """Values of the datapath's read-only configuration; with an endpoint those of its program too.

    Addresses and MACs are bytes in network order. ``overlay_device``: a real geneve device is used.
    ``version``: the IP version of the programs.
    """
    node, datapath = nf.node, nf.datapath
    values: dict[str, int | bytes] = {
        "cfg_accounting": int(datapath.accounting),
        "cfg_sctp": int(datapath.sctp),
        "cfg_fragments": int(datapath.fragments),
        "cfg_syn_ack_opens": int(datapath.like == "1.16.4"),
        "cfg_report_interval_s": datapath.ct.report_interval,
        "cfg_report_flags": datapath.ct.report_flags,
        "cfg_lb_maglev": int(datapath.lb.algorithm == "maglev"),
        "cfg_maglev_size": datapath.lb.maglev_table_size,
        "cfg_hash_seed": hash_seed(datapath.lb.maglev_seed),
        "cfg_no_backend_reject": int(datapath.lb.no_backend == "reject"),
        "cfg_loopback": datapath.lb.loopback.packed,
        "cfg_lb_mode": LB_MODES.index(datapath.lb.mode),
        "cfg_dsr_option": int(datapath.lb.dispatch == "opt"),
        "cfg_host_netns_cookie": (datapath.lb.socket.netns_cookie or 0) if datapath.lb.socket else 0,
        "cfg_ipv6": int(datapath.ipv6),
        "cfg_tunnel": int(datapath.routing == "tunnel"),
        "cfg_node_ip": node.ip.packed,
        "cfg_dev_mac": rec.mac_bytes(node.device.mac if node.device else None),
        "cfg_dev_ifindex": (node.device.ifindex or 0) if node.device else 0,
        "cfg_overlay_ifindex": (node.overlay.ifindex or 0) if node.overlay else 0,
        "cfg_overlay_device": int(overlay_device),
    }
    values |= _timeouts(nf) | _source_nat(nf, version)
    if endpoint is not None:
        values |= {
            "cfg_ep_ip": _packed(endpoint, version),
            "cfg_ep_id": endpoint.id,
            "cfg_ep_identity": endpoint.identity,
            "cfg_ep_ifindex": endpoint.ifindex or 0,
            "cfg_ep_mac": rec.mac_bytes(endpoint.mac),
            "cfg_ep_node_mac": rec.mac_bytes(endpoint.node_mac),
        }
    return values


def _packed(owner: NodeSpec | Endpoint, version: int) -> bytes:
    """The owner's address of one family; the unspecified one where it has none."""
    if version == 4:
        return owner.ip.packed
    return owner.ip6.packed if owner.ip6 is not None else bytes(16)


def _source_nat(nf: NodeFile, version: int) -> dict[str, int | bytes]:
    """Whose packets take the node's address, and which address that is, in one family."""
    native = [network for network in nf.datapath.native_routing if network.version == version]
    room = bytes((NATIVE_NETWORKS - len(native)) * (4 if version == 4 else 16))
    masquerade = nf.datapath.masquerade
    return {
        "cfg_masquerade": int(masquerade.ipv4 if version == 4 else masquerade.ipv6),
        "cfg_native_net": b"".join(network.network_address.packed for network in native) + room,
        "cfg_native_mask": b"".join(network.netmask.packed for network in native) + room,
        "cfg_native_count": len(native),
        "cfg_node_addr": _packed(nf.node, version),
        "cfg_router_addr": router_address(nf, version),
        "cfg_world": world_identity(nf, version),
    }


def router_address(nf: NodeFile, version: int = 4) -> bytes:
    """The node's own address among its pods, in network order: as given, the first of their CIDR, else the node's."""
    given = nf.node.router if version == 4 else nf.node.router6
    if given is not None:
        return given.packed
    cidr = nf.node.pod_cidr if version == 4 else nf.node.pod_cidr6
    if cidr is None or cidr.num_addresses == 1:
        return _packed(nf.node, version)
    return (cidr.network_address + 1).packed


def _timeouts(nf: NodeFile) -> dict[str, int | bytes]:
    times = nf.datapath.timeouts
    return {
        "cfg_ct_tcp_s": int(times.regular_tcp),
        "cfg_ct_tcp_syn_s": int(times.regular_tcp_syn),
        "cfg_ct_tcp_fin_s": int(times.regular_tcp_fin),
        "cfg_ct_any_s": int(times.regular_any),
        "cfg_svc_tcp_s": int(times.service_tcp),
        "cfg_svc_tcp_grace_s": int(times.service_tcp_grace),
        "cfg_svc_any_s": int(times.service_any),
    }


def hash_seed(maglev_seed: str) -> int:
    """The datapath's hash seed, of the 12 bytes the agent splits in three: the second word, big-endian."""
    return int.from_bytes(base64.b64decode(maglev_seed)[4:8], "big")
