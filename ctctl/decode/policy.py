"""Bytes of policy maps, their statistics and the datapath's counters to records.

A key is ``{prefixlen u32; identity u32; egress u8; proto u8; port be16}``; its prefix counts from the protocol on.
A value has 24 bytes up to 1.16 (with its counters), 8 to 12 from 1.17 on (counters are in ``cilium_policystats``).
"""

from __future__ import annotations

import struct
from dataclasses import replace

from ctctl.errors import DecodeError
from ctctl.model.drops import DatapathCounter
from ctctl.model.policy import PolicyEntry

_KEY = struct.Struct("<IIBB2s")
_STATIC_BITS = 40
_PROTO_BITS = 8
_DENY = 1
_OLD_SIZE = 24
_PRECEDENCE_SIZE = 12
_DIRECTIONS = {1: "ingress", 2: "egress", 3: "service"}


def decode_policy(key: bytes, value: bytes, endpoint_id: int, map_name: str | None = None) -> PolicyEntry:
    """One rule of an endpoint. Raises DecodeError on sizes that no version has."""
    if len(key) != _KEY.size or len(value) not in (8, 12, _OLD_SIZE):
        raise DecodeError(f"a policy rule has 12 and 8, 12 or 24 bytes, this one {len(key)} and {len(value)}")
    prefix, identity, egress, proto, port = _KEY.unpack(key)
    bits = max(prefix - _STATIC_BITS, 0)
    entry = PolicyEntry(
        endpoint_id=endpoint_id,
        egress=bool(egress & 1),
        identity=identity,
        proto=proto,
        port=int.from_bytes(port, "big"),
        port_bits=max(bits - _PROTO_BITS, 0),
        deny=bool(value[2] & _DENY),
        proxy_port=int.from_bytes(value[:2], "big"),
        auth_type=value[3] & 0x7F if len(value) != _OLD_SIZE else value[3],
        prefix_bits=bits,
        map=map_name,
    )
    if len(value) == _OLD_SIZE:
        packets, octets = struct.unpack_from("<QQ", value, 8)
        return replace(entry, packets=packets, bytes=octets)
    if len(value) == _PRECEDENCE_SIZE:
        precedence, cookie = struct.unpack_from("<II", value, 4)
        return replace(entry, precedence=precedence, cookie=cookie)
    return entry


def stats_key(entry: PolicyEntry) -> bytes:
    """The key under which ``cilium_policystats`` counts what a rule let through."""
    return struct.pack(
        "<HBBIBBH",
        entry.endpoint_id or 0,
        0,
        entry.prefix_bits,
        entry.identity or 0,
        entry.egress,
        entry.proto,
        int.from_bytes(entry.port.to_bytes(2, "big"), "little"),
    )


def summed(value: bytes, stride: int, words: int) -> tuple[int, ...]:
    """The first ``words`` u64 of a per-CPU value, each summed over all CPUs."""
    return tuple(
        sum(int.from_bytes(value[at + 8 * word : at + 8 * word + 8], "little") for at in range(0, len(value), stride))
        for word in range(words)
    )


def decode_counter(key: bytes, value: bytes, stride: int) -> DatapathCounter:
    """One record of ``cilium_metrics``: ``{reason u8; direction u8; line u16; file u8; pad}``. Raises DecodeError."""
    if len(key) != 8 or stride < 16:
        raise DecodeError(f"a datapath counter has a key of 8 bytes, this one {len(key)}")
    reason, direction, line, file = struct.unpack_from("<BBHB", key)
    packets, octets = summed(value, stride, 2)
    return DatapathCounter(reason, _DIRECTIONS.get(direction, "unknown"), packets, octets, line, file)
