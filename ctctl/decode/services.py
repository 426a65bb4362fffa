"""Bytes of the load balancer, identity and endpoint tables to records, of both families.

The 1.16 and 1.19 forms are told apart by sizes; ids in ``rev_nat`` fields are in network order.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_network

from ctctl.errors import DecodeError
from ctctl.model.service import (
    BACKEND_STATES,
    Backend,
    EndpointRecord,
    IpcacheRecord,
    RevNat,
    ServiceFlags,
    ServiceSlot,
    SocketNat,
    SourceRange,
    TunnelRecord,
    service_type,
)
from ctctl.model.tuples import Address

#: Flag bits of an identity's record: skip the tunnel, has a tunnel end, which is IPv6, is in another cluster.
IPCACHE_FLAGS = ((1, "skiptunnel"), (2, "hastunnel"), (4, "ipv6tunnel"), (8, "remotecluster"))
IPCACHE_IPV6_TUNNEL = 4
_SCOPES = ("external", "internal")


def _size(kind: str, data: bytes, *sizes: int) -> None:
    if len(data) not in sizes:
        raise DecodeError(f"a {kind} has {' or '.join(map(str, sizes))} bytes, this one {len(data)}")


def _address(raw: bytes) -> Address:
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)


def decode_service(key: bytes, value: bytes) -> ServiceSlot:
    """One record of ``cilium_lb{4,6}_services_v2``. Raises DecodeError on wrong sizes."""
    _size("service key", key, 12, 24)
    _size("service value", value, 12)
    addr, rest = _address(key[:-8]), key[-8:]
    port = int.from_bytes(rest[:2], "big")
    slot, proto, scope = struct.unpack_from("<HBB", rest, 2)
    first, count = struct.unpack_from("<IH", value)
    rev_nat, flags = int.from_bytes(value[6:8], "big"), value[8] | value[9] << 8
    word = _SCOPES[scope] if scope < len(_SCOPES) else str(scope)
    quarantined = int.from_bytes(value[10:12], "little")
    return service_slot(
        addr, port, word, slot, rev_nat, proto=proto, count=count, flags=flags, first=first, quarantined=quarantined
    )


def service_slot(
    addr: Address,
    port: int,
    scope: str,
    slot: int,
    rev_nat: int,
    *,
    proto: int | None,
    count: int,
    flags: int,
    first: int,
    quarantined: int | None,
) -> ServiceSlot:
    """A record by its numbers. ``first``, its first word, is a slot's backend; a frontend's is the L7 proxy's port
    (network order) or the affinity timeout; from 1.19 its top byte is the load balancing algorithm."""
    kind = backend_id = timeout = proxy = None
    if slot:
        backend_id = first
    else:
        kind = service_type(flags)
        if flags & ServiceFlags.L7LoadBalancer:
            proxy = (first & 0xFF) << 8 | first >> 8 & 0xFF
        else:
            timeout = first & 0xFFFFFF
    return ServiceSlot(
        addr,
        port,
        scope,
        slot,
        rev_nat,
        proto,
        kind,
        count,
        flags,
        timeout,
        backend_id,
        l7_proxy_port=proxy,
        word=first,
        quarantined=quarantined,
    )


def decode_backend(key: bytes, value: bytes) -> Backend:
    """One record of ``cilium_lb{4,6}_backends_v3``. Raises DecodeError on wrong sizes."""
    _size("backend key", key, 4)
    _size("backend value", value, 12, 24)
    addr, rest = _address(value[:-8]), value[-8:]
    proto, state, cluster_id, zone = struct.unpack_from("<BBHB", rest, 2)
    word = BACKEND_STATES[state] if state < len(BACKEND_STATES) else str(state)
    return Backend(int.from_bytes(key, "little"), addr, proto, int.from_bytes(rest[:2], "big"), word, cluster_id, zone)


def decode_rev_nat(key: bytes, value: bytes) -> RevNat:
    """One record of ``cilium_lb{4,6}_reverse_nat``. Raises DecodeError on wrong sizes."""
    _size("reverse NAT key", key, 2)
    _size("reverse NAT value", value, 6, 18)
    return RevNat(int.from_bytes(key, "big"), _address(value[:-2]), int.from_bytes(value[-2:], "big"))


def decode_source_range(key: bytes, _value: bytes = b"") -> SourceRange:
    """One record of ``cilium_lb{4,6}_source_range``. Raises DecodeError on wrong sizes."""
    _size("source range key", key, 12, 24)
    length = int.from_bytes(key[:4], "little") - 32
    try:
        network = ip_network((key[8:], length), strict=False)
    except ValueError as error:
        raise DecodeError(f"source range: {error}") from error
    return SourceRange(int.from_bytes(key[4:6], "big"), str(network))


def decode_ipcache(key: bytes, value: bytes) -> IpcacheRecord:
    """One record of ``cilium_ipcache`` (12-byte values) or ``cilium_ipcache_v2`` (24). Raises DecodeError."""
    _size("ipcache key", key, 24)
    _size("ipcache value", value, 12, 24)
    length = int.from_bytes(key[:4], "little") - 32
    family = key[7]
    raw = key[8:12] if family == 1 else key[8:24]
    try:
        network = ip_network((raw, length), strict=False)
    except ValueError as error:
        raise DecodeError(f"ipcache: {error}") from error
    if len(value) == 12:
        tunnel: Address = IPv4Address(value[4:8])
        encrypt_key, flags = value[10], value[11]
    else:
        wide = value[23] & IPCACHE_IPV6_TUNNEL or any(value[8:20])
        tunnel = _address(value[4:20] if wide else value[4:8])
        encrypt_key, flags = value[22], value[23]
    return IpcacheRecord(
        str(network),
        int.from_bytes(value[:4], "little"),
        int.from_bytes(key[4:6], "little"),
        None if int(tunnel) == 0 else str(tunnel),
        encrypt_key,
        bool(flags & 1),
        flags,
    )


def decode_tunnel(key: bytes, value: bytes) -> TunnelRecord:
    """One record of ``cilium_tunnel_map`` (up to 1.16). Raises DecodeError on wrong sizes."""
    _size("tunnel key", key, 20)
    _size("tunnel value", value, 20)
    prefix, endpoint = (_address(raw[:4] if raw[16] == 1 else raw[:16]) for raw in (key, value))
    return TunnelRecord(prefix, endpoint, value[17])


def decode_socket_nat(key: bytes, value: bytes) -> SocketNat:
    """One record of ``cilium_lb{4,6}_reverse_sk``: cookie, address and port; all but the cookie in network order."""
    _size("socket key", key, 16, 32)
    _size("socket value", value, 8, 20)
    width = 4 if len(key) == 16 else 16
    cookie = int.from_bytes(key[:8], "little")
    backend, port = _address(key[8 : 8 + width]), int.from_bytes(key[8 + width : 10 + width], "big")
    front, front_port, rev_nat = value[:width], value[width : width + 2], value[width + 2 : width + 4]
    return SocketNat(
        cookie, backend, port, _address(front), int.from_bytes(front_port, "big"), int.from_bytes(rev_nat, "big")
    )


def _mac(raw: bytes) -> str | None:
    return raw[:6].hex(":") if any(raw[:6]) else None


def decode_endpoint(key: bytes, value: bytes) -> EndpointRecord:
    """One record of ``cilium_lxc``. Raises DecodeError on wrong sizes."""
    _size("endpoint key", key, 20)
    _size("endpoint value", value, 48)
    ifindex, _, endpoint_id, flags, _ = struct.unpack_from("<IHHII", value)
    identity, parent = struct.unpack_from("<II", value, 32)
    addr = _address(key[:4] if key[16] == 1 else key[:16])
    return EndpointRecord(addr, ifindex, endpoint_id, flags, _mac(value[16:]), _mac(value[24:]), identity, parent)
