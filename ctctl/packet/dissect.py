"""Bytes of an Ethernet frame to its headers' fields. Never raises: what cannot be read is said in ``problem``."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ctctl.packet.frame import ETH_P_IP, ETH_P_IPV6
from ctctl.packet.spec import (
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
    ICMP_QUOTING,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    ICMPV6_ERRORS,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
)

_L4_HEADER = {PROTO_TCP: 20, PROTO_UDP: 8, PROTO_ICMP: 8, PROTO_ICMPV6: 8, PROTO_SCTP: 12}
#: IPv6 extension headers that say how long they are: hop-by-hop, routing, destination options; authentication.
_EXTENSIONS, _AUTHENTICATION = frozenset({0, 43, 60}), 51
_HAS_PORTS = frozenset({PROTO_TCP, PROTO_UDP, PROTO_SCTP})


@dataclass(frozen=True, slots=True)
class Dissection:
    """What a frame's headers say, host order. ``length`` is the payload behind the last header that was read.

    ``problem`` is None, or why the packet ends early: "ip truncated (16 bytes)", "truncated L4 (4 bytes)".
    ``ethertype`` is 0x0800 or 0x86dd for everything that has the IP fields. ``inner`` is what an ICMP error quotes.
    """

    ethertype: int
    length: int
    problem: str | None = None
    proto: int = 0
    src: IPv4Address | IPv6Address | None = None
    dst: IPv4Address | IPv6Address | None = None
    ttl: int = 0
    ip_id: int = 0
    ip_options: bytes = b""
    fragment_offset: int = 0
    more_fragments: bool = False
    src_port: int | None = None
    dst_port: int | None = None
    tcp_flags: int = 0
    seq: int = 0
    ack: int = 0
    icmp_type: int | None = None
    icmp_code: int = 0
    ident: int | None = None
    inner: Dissection | None = None

    @property
    def fragmented(self) -> bool:
        """Whether this is a first or later fragment."""
        return self.more_fragments or self.fragment_offset > 0


def dissect(frame: bytes) -> Dissection:
    """Read an Ethernet frame."""
    if len(frame) < 14:
        return Dissection(0, len(frame), problem=f"frame truncated ({len(frame)} bytes)")
    (ethertype,) = struct.unpack_from(">H", frame, 12)
    if ethertype == ETH_P_IPV6:
        return dissect_ipv6(frame[14:])
    if ethertype != ETH_P_IP:
        return Dissection(ethertype, len(frame))
    return dissect_ip(frame[14:])


def dissect_ipv6(packet: bytes, *, quoted: bool = False) -> Dissection:
    """Read an IPv6 packet from its header on, past extension headers. ``quoted``: inside an ICMPv6 error."""
    if len(packet) < 40:
        return Dissection(ETH_P_IPV6, len(packet), problem=f"ipv6 truncated ({len(packet)} bytes)" if packet else "")
    length, proto, hops = struct.unpack_from(">HBB", packet, 4)
    end = len(packet) if quoted else min(len(packet), 40 + length)
    at = 40
    while (proto in _EXTENSIONS or proto == _AUTHENTICATION) and at + 2 <= end:
        words = packet[at + 1]
        following = packet[at]
        at += (words + 2) * 4 if proto == _AUTHENTICATION else (words + 1) * 8
        proto = following
    fields: dict[str, object] = {
        "proto": proto,
        "src": IPv6Address(packet[8:24]),
        "dst": IPv6Address(packet[24:40]),
        "ttl": hops,
    }
    return _l4(fields, proto, packet[at:end], ETH_P_IPV6)


def dissect_ip(packet: bytes, *, quoted: bool = False) -> Dissection:
    """Read a packet from its IP header on. ``quoted``: inside an ICMP error, where it is cut by design."""
    if len(packet) < 20:
        return Dissection(ETH_P_IP, len(packet), problem=f"ip truncated ({len(packet)} bytes)" if packet else "")
    first, total, ip_id, fragment, ttl, proto = struct.unpack_from(">BxHHHBB", packet)
    header = (first & 15) * 4
    fields = {
        "proto": proto,
        "src": IPv4Address(packet[12:16]),
        "dst": IPv4Address(packet[16:20]),
        "ttl": ttl,
        "ip_id": ip_id,
        "fragment_offset": (fragment & 0x1FFF) * 8,
        "more_fragments": bool(fragment & 0x2000),
    }
    if first >> 4 != 4 or header < 20 or header > len(packet):
        return Dissection(ETH_P_IP, len(packet), problem=f"bad IP header (first byte 0x{first:02x})", **fields)
    fields["ip_options"] = packet[20:header]
    # Ethernet pads short frames: what is behind the IP length is no part of the packet.
    end = len(packet) if quoted or total < header else min(total, len(packet))
    payload = packet[header:end]
    if fields["fragment_offset"]:
        return Dissection(ETH_P_IP, len(payload), **fields)
    return _l4(fields, proto, payload)


def _l4(fields: dict[str, object], proto: int, payload: bytes, ethertype: int = ETH_P_IP) -> Dissection:
    if proto in _HAS_PORTS and len(payload) >= 4:
        fields["src_port"], fields["dst_port"] = struct.unpack_from(">HH", payload)
    need = _L4_HEADER.get(proto, 0)
    problem = f"truncated L4 ({len(payload)} bytes)" if len(payload) < need else None
    length = len(payload) - need
    if problem is None and proto == PROTO_TCP:
        seq, ack, offset, flags = struct.unpack_from(">IIBB", payload, 4)
        fields |= {"seq": seq, "ack": ack, "tcp_flags": flags}
        length = max(0, len(payload) - max(20, (offset >> 4) * 4))
    elif problem is None and proto == (PROTO_ICMP if ethertype == ETH_P_IP else PROTO_ICMPV6):
        _icmp(fields, payload, ethertype)
    return Dissection(ethertype, len(payload) if problem else length, problem=problem, **fields)  # type: ignore[arg-type]


def _icmp(fields: dict[str, object], payload: bytes, ethertype: int) -> None:
    kind, code, ident, seq = struct.unpack_from(">BB2xHH", payload)
    fields |= {"icmp_type": kind, "icmp_code": code}
    four = ethertype == ETH_P_IP
    if kind in ({ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY} if four else {ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY}):
        fields |= {"ident": ident, "seq": seq}
    elif kind in (ICMP_QUOTING if four else ICMPV6_ERRORS):
        fields["inner"] = (dissect_ip if four else dissect_ipv6)(payload[8:], quoted=True)
