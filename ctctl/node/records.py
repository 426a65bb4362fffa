"""Keys and values of the configuration tables, packed byte for byte (docs/reference/abi.md, bpf/include/ctctl/abi.h).

Host order in, wire bytes out. A test holds every function to the layouts generated from the BPF
objects; packing by ``struct`` here keeps a node with ten thousand services quick to write.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

ANY_PROTOCOL = 0
SCOPE_EXTERNAL, SCOPE_INTERNAL = 0, 1
#: of endpoint and ipcache keys, by IP version
_FAMILY = {4: 1, 6: 2}
#: prefix length of what stands before the address in an LPM key: cluster id, pad and family
_LPM_HEADER_BITS = 32

_LB_KEY = {4: struct.Struct("<4s2sHBB2x"), 6: struct.Struct("<16s2sHBB2x")}
_LB_SERVICE = struct.Struct("<IH2sBBH")
_LB_BACKEND = {4: struct.Struct("<4s2sBBHBx"), 6: struct.Struct("<16s2sBBHBx")}
_ENDPOINT_KEY = struct.Struct("<16sBBH")
_ENDPOINT_INFO = struct.Struct("<IHHI4x8s8sI12x")
_IPCACHE_KEY = struct.Struct("<IHBB16s")
_REMOTE_INFO = struct.Struct("<I4sHBB")
_SOURCE_RANGE_KEY = {4: struct.Struct("<I2s2x4s"), 6: struct.Struct("<I2s2x16s")}
_AFFINITY_MATCH = struct.Struct("<I2s2x")
_POLICY_KEY = struct.Struct("<II2sBB")


def be16(value: int) -> bytes:
    """Two bytes in network order."""
    return value.to_bytes(2, "big")


def mac_bytes(mac: str | None) -> bytes:
    """Six bytes of a MAC address, zeros for none."""
    return bytes.fromhex(mac.replace(":", "")) if mac else bytes(6)


def service_key(address: IPv4Address | IPv6Address, port: int, slot: int, scope: int) -> bytes:
    """``lb4_key`` or ``lb6_key``. The protocol is always 0: 1.16 leaves it out of the key."""
    return _LB_KEY[address.version].pack(address.packed, be16(port), slot, ANY_PROTOCOL, scope)


def frontend_value(affinity_s: int, count: int, rev_nat: int, flags: int, flags2: int, *, qcount: int) -> bytes:
    """``lb4_service`` of slot 0: how many backends can be chosen, and ``qcount`` that follow them but cannot."""
    return _LB_SERVICE.pack(affinity_s, count, be16(rev_nat), flags, flags2, qcount)


def slot_value(backend_id: int, rev_nat: int, flags: int = 0, flags2: int = 0) -> bytes:
    """``lb4_service`` of a backend slot."""
    return _LB_SERVICE.pack(backend_id, 0, be16(rev_nat), flags, flags2, 0)


def backend_value(address: IPv4Address | IPv6Address, port: int, protocol: int, state: int) -> bytes:
    """``lb4_backend`` or ``lb6_backend``."""
    return _LB_BACKEND[address.version].pack(address.packed, be16(port), protocol, state, 0, 0)


def backend_key(backend_id: int) -> bytes:
    """Key of the backend table."""
    return backend_id.to_bytes(4, "little")


def rev_nat_key(rev_nat: int) -> bytes:
    """Key of the reverse NAT and Maglev tables."""
    return be16(rev_nat)


def rev_nat_value(address: IPv4Address | IPv6Address, port: int) -> bytes:
    """``lb4_reverse_nat`` or ``lb6_reverse_nat``."""
    return address.packed + be16(port)


def affinity_match_key(backend_id: int, rev_nat: int) -> bytes:
    """``lb_affinity_match``."""
    return _AFFINITY_MATCH.pack(backend_id, be16(rev_nat))


def source_range_key(rev_nat: int, cidr: IPv4Network | IPv6Network) -> bytes:
    """``lb4_src_range_key`` or ``lb6_src_range_key``."""
    length = _LPM_HEADER_BITS + cidr.prefixlen
    return _SOURCE_RANGE_KEY[cidr.version].pack(length, be16(rev_nat), cidr.network_address.packed)


def endpoint_key(address: IPv4Address | IPv6Address) -> bytes:
    """``endpoint_key``."""
    return _ENDPOINT_KEY.pack(address.packed, _FAMILY[address.version], 0, 0)


def endpoint_info(
    ifindex: int, endpoint_id: int, identity: int, mac: str | None, node_mac: str | None, *, host: bool = False
) -> bytes:
    """``endpoint_info``. ``host`` marks the node itself."""
    return _ENDPOINT_INFO.pack(ifindex, 0, endpoint_id, int(host), mac_bytes(mac), mac_bytes(node_mac), identity)


def ipcache_key(cidr: IPv4Network | IPv6Network) -> bytes:
    """``ipcache_key``."""
    family = _FAMILY[cidr.version]
    return _IPCACHE_KEY.pack(_LPM_HEADER_BITS + cidr.prefixlen, 0, 0, family, cidr.network_address.packed)


def remote_info(identity: int, tunnel_endpoint: IPv4Address | None) -> bytes:
    """``remote_endpoint_info``."""
    return _REMOTE_INFO.pack(identity, tunnel_endpoint.packed if tunnel_endpoint else bytes(4), 0, 0, 0)


def policy_key(endpoint_id: int, egress: bool, identity: int = 0, port: int = 0, protocol: int = 0) -> bytes:
    """``ctctl_policy_key``; zero means any."""
    return _POLICY_KEY.pack(endpoint_id, identity, be16(port), protocol, int(egress))


def policy_value(deny: bool = False, others: bool = False) -> bytes:
    """``ctctl_policy_entry``; ``others`` on a key for anything: look at more precise keys too."""
    return bytes((int(deny), int(others), 0, 0))
