"""Geneve over UDP (RFC 8926) around a frame, and Cilium's DSR option in it (docs/reference/abi.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ctctl.packet.checksum import internet_checksum
from ctctl.packet.dissect import dissect
from ctctl.packet.spec import PROTO_UDP

GENEVE_PORT = 6081
_ETH_P_IP, _TRANSPARENT_ETHERNET = 0x0800, 0x6558
_CRITICAL = 0x40
_DSR_CLASS, _DSR_TYPE, _DSR_WORDS = 0x014B, 0x81, 2


@dataclass(frozen=True, slots=True)
class Geneve:
    """The outer part of an encapsulated frame: who sent it to whom, with which VNI and options (raw bytes)."""

    remote: IPv4Address
    local: IPv4Address
    vni: int
    options: bytes = b""


def dsr_option(vip: IPv4Address | IPv6Address, port: int) -> bytes:
    """The Geneve option that carries the VIP of a DSR connection: class 0x014B, type 0x81, 2 words or, of IPv6, 5."""
    words = (len(vip.packed) + 4) // 4
    return struct.pack(">HBB", _DSR_CLASS, _DSR_TYPE, words) + vip.packed + struct.pack(">Hxx", port)


def wrap_geneve(inner: bytes, outer: Geneve, *, src_mac: bytes, dst_mac: bytes, src_port: int = 50000) -> bytes:
    """``inner`` (a whole Ethernet frame) encapsulated: the outer packet goes from ``remote`` to ``local``.

    As the datapath sends it: TTL 64, DF, no UDP checksum.
    """
    flags = _CRITICAL if outer.options else 0
    words = len(outer.options) // 4
    header = struct.pack(">BBHI", words, flags, _TRANSPARENT_ETHERNET, outer.vni << 8) + outer.options
    udp = struct.pack(">HHHH", src_port, GENEVE_PORT, 8 + len(header) + len(inner), 0)
    total = 20 + 8 + len(header) + len(inner)
    ip = (
        struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0x4000, 64, PROTO_UDP, 0) + outer.remote.packed + outer.local.packed
    )
    ip = ip[:10] + struct.pack(">H", internet_checksum(ip)) + ip[12:]
    return dst_mac + src_mac + struct.pack(">H", _ETH_P_IP) + ip + udp + header + inner


def strip_geneve(frame: bytes) -> tuple[Geneve, bytes] | None:
    """The outer part and the inner frame; None when ``frame`` is no whole Geneve packet."""
    outer = dissect(frame)
    if (
        outer.proto != PROTO_UDP
        or outer.dst_port != GENEVE_PORT
        or outer.problem
        or not isinstance(outer.src, IPv4Address)
        or not isinstance(outer.dst, IPv4Address)
    ):
        return None
    at = 14 + 20 + len(outer.ip_options) + 8
    if len(frame) < at + 8:
        return None
    first, _, protocol, vni = struct.unpack_from(">BBHI", frame, at)
    body = at + 8 + (first & 0x3F) * 4
    if first >> 6 or protocol != _TRANSPARENT_ETHERNET or len(frame) < body:
        return None
    return Geneve(outer.src, outer.dst, vni >> 8, frame[at + 8 : body]), frame[body:]
