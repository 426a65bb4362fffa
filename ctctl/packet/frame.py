"""PacketSpec to the bytes on the wire: Ethernet, IPv4 or IPv6, and L4 with right checksums."""

from __future__ import annotations

import struct

from ctctl.errors import UsageError
from ctctl.packet.checksum import crc32c, internet_checksum, transport_checksum
from ctctl.packet.spec import (
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
    ICMP_ERRORS,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    ICMPV6_ERRORS,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
    PacketSpec,
    TcpFlags,
)

ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
DEFAULT_IP_ID = 0x1234
#: What fills the payload: "x" as many times as asked.
FILL = b"x"
_DF, _MF = 0x4000, 0x2000
#: An ICMP error quotes the IP header and 8 bytes behind it (RFC 792).
_QUOTED_L4 = 8
#: An ICMPv6 error quotes as much as fits into the least MTU (RFC 4443).
_QUOTED_IPV6 = 1232
_SCTP_INIT = 1


def parse_mac(text: str) -> bytes:
    """The six bytes of "02:00:00:00:00:01".

    Raises:
        UsageError: not a MAC address.
    """
    parts = text.split(":")
    try:
        mac = bytes(int(part, 16) for part in parts)
    except ValueError:
        mac = b""
    if len(mac) != 6:
        raise UsageError(f"bad MAC address {text!r}")
    return mac


def build_frame(spec: PacketSpec, src_mac: str | bytes = bytes(6), dst_mac: str | bytes = bytes(6)) -> bytes:
    """The whole Ethernet frame of ``spec``. MACs as text or six bytes.

    Defaults: IP id 0x1234, DF unless fragmented, TTL 64, TCP window 64240, no TCP options, payload of "x".
    """
    macs = [parse_mac(mac) if isinstance(mac, str) else mac for mac in (dst_mac, src_mac)]
    ethertype = ETH_P_IP if spec.src.version == 4 else ETH_P_IPV6
    return macs[0] + macs[1] + struct.pack(">H", ethertype) + build_ip(spec)


def build_ip(spec: PacketSpec) -> bytes:
    """The packet from its IP header on."""
    payload = _l4(spec)
    header = _ip_header if spec.src.version == 4 else _ipv6_header
    return header(spec, payload) + payload


def _ipv6_header(spec: PacketSpec, payload: bytes) -> bytes:
    return struct.pack(">IHBB", 6 << 28, len(payload), spec.proto, spec.ttl) + spec.src.packed + spec.dst.packed


def _ip_header(spec: PacketSpec, payload: bytes) -> bytes:
    fragment = _DF
    if spec.fragment_offset is not None:
        fragment = spec.fragment_offset // 8 | (_MF if spec.more_fragments else 0)
    ip_id = DEFAULT_IP_ID if spec.ip_id is None else spec.ip_id
    words = 5 + len(spec.ip_options) // 4
    total = words * 4 + len(payload)
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, total, ip_id, fragment, spec.ttl, spec.proto, 0)
    head += spec.src.packed + spec.dst.packed + spec.ip_options
    return head[:10] + struct.pack(">H", internet_checksum(head)) + head[12:]


def _l4(spec: PacketSpec) -> bytes:
    if spec.fragment_offset:
        return FILL * (spec.length or 0)
    known = {PROTO_TCP: _tcp, PROTO_UDP: _udp, PROTO_ICMP: _icmp, PROTO_ICMPV6: _icmpv6, PROTO_SCTP: _sctp}
    build = known.get(spec.proto)
    return build(spec) if build else FILL * (spec.length or 0)


def _tcp(spec: PacketSpec) -> bytes:
    flags = TcpFlags.SYN if spec.tcp_flags is None else spec.tcp_flags
    words = struct.pack(
        ">HHIIBBHHH", spec.src_port, spec.dst_port, spec.seq or 0, spec.ack or 0, 0x50, flags, 64240, 0, 0
    )
    segment = words + FILL * (spec.length or 0)
    return _with_checksum(spec, segment, 16)


def _udp(spec: PacketSpec) -> bytes:
    payload = FILL * (spec.length or 0)
    segment = struct.pack(">HHHH", spec.src_port, spec.dst_port, 8 + len(payload), 0) + payload
    return _with_checksum(spec, segment, 6)


def _with_checksum(spec: PacketSpec, segment: bytes, at: int) -> bytes:
    value = spec.l4_checksum
    if value is None:
        value = transport_checksum(spec.src.packed, spec.dst.packed, spec.proto, segment)
    return segment[:at] + struct.pack(">H", value) + segment[at + 2 :]


def _icmp(spec: PacketSpec) -> bytes:
    kind = ICMP_ECHO_REQUEST if spec.icmp_type is None else spec.icmp_type
    if kind in {ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY}:
        rest = struct.pack(">HH", spec.ident or 0, (spec.seq or 0) & 0xFFFF) + FILL * (spec.length or 0)
    elif kind in ICMP_ERRORS and spec.inner is not None:
        inner = build_ip(spec.inner)
        rest = bytes(4) + inner[: (inner[0] & 15) * 4 + _QUOTED_L4]
    else:
        rest = bytes(4) + FILL * (spec.length or 0)
    message = struct.pack(">BBH", kind, spec.icmp_code, 0) + rest
    value = internet_checksum(message) if spec.l4_checksum is None else spec.l4_checksum
    return message[:2] + struct.pack(">H", value) + message[4:]


def _icmpv6(spec: PacketSpec) -> bytes:
    kind = ICMPV6_ECHO_REQUEST if spec.icmp_type is None else spec.icmp_type
    if kind in {ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY}:
        rest = struct.pack(">HH", spec.ident or 0, (spec.seq or 0) & 0xFFFF) + FILL * (spec.length or 0)
    elif kind in ICMPV6_ERRORS and spec.inner is not None:
        rest = bytes(4) + build_ip(spec.inner)[:_QUOTED_IPV6]
    else:
        rest = bytes(4) + FILL * (spec.length or 0)
    return _with_checksum(spec, struct.pack(">BBH", kind, spec.icmp_code, 0) + rest, 2)


def _sctp(spec: PacketSpec) -> bytes:
    length = max(4, 4 if spec.length is None else spec.length)
    chunk = struct.pack(">BBH", _SCTP_INIT, 0, length) + FILL * (length - 4)
    head = struct.pack(">HHI", spec.src_port, spec.dst_port, 0)
    crc = crc32c(head + bytes(4) + chunk) if spec.l4_checksum is None else spec.l4_checksum
    return head + struct.pack("<I", crc) + chunk
