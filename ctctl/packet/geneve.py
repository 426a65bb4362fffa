"""Geneve over UDP (RFC 8926) around a frame, and Cilium's DSR option in it (docs/reference/abi.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ctctl.packet.dissect import dissect
from ctctl.packet.spec import PROTO_UDP

GENEVE_PORT = 6081
_TRANSPARENT_ETHERNET = 0x6558
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
