"""Frames in words, as tcpdump would put them: "tcp 10.64.0.36:54260 > 10.64.0.64:8000 S seq 1 ack 0 len 0"."""

from __future__ import annotations

from ctctl.packet.dissect import Dissection, dissect
from ctctl.packet.frame import DEFAULT_IP_ID, ETH_P_IP, ETH_P_IPV6
from ctctl.packet.spec import (
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
    tcp_flag_letters,
)

_NAMES = {PROTO_TCP: "tcp", PROTO_UDP: "udp", PROTO_ICMP: "icmp", PROTO_ICMPV6: "icmpv6", PROTO_SCTP: "sctp"}
_ECHO = {
    PROTO_ICMP: {ICMP_ECHO_REQUEST: "echo request", ICMP_ECHO_REPLY: "echo reply"},
    PROTO_ICMPV6: {ICMPV6_ECHO_REQUEST: "echo request", ICMPV6_ECHO_REPLY: "echo reply"},
}


def describe_frame(frame: bytes) -> str:
    """One line that says what an Ethernet frame holds; any bytes at all, never an exception.

    parse_packet_text() reads the line back for every packet that is whole.
    """
    return describe(dissect(frame))


def describe(packet: Dissection) -> str:
    """The words of describe_frame() for a frame that was dissected already."""
    if packet.ethertype not in (ETH_P_IP, ETH_P_IPV6):
        return packet.problem or f"ethertype 0x{packet.ethertype:04x} len {packet.length}"
    if packet.src is None:
        return packet.problem or ""
    words = [_NAMES.get(packet.proto, f"proto {packet.proto}"), _ends(packet), _body(packet)]
    if packet.ttl != 64:
        words.append(f"{'ttl' if packet.ethertype == ETH_P_IP else 'hlim'} {packet.ttl}")
    if packet.ip_options:
        words.append(f"ipopts {packet.ip_options.hex()}")
    if packet.fragmented:
        more = " MF" if packet.more_fragments else ""
        words.append(f"frag id 0x{packet.ip_id:04x} off {packet.fragment_offset}{more}")
    elif packet.ip_id not in {0, DEFAULT_IP_ID}:
        words.append(f"ipid={packet.ip_id}")
    return " ".join(words)


def _ends(packet: Dissection) -> str:
    if packet.src_port is None:
        return f"{packet.src} > {packet.dst}"
    if packet.ethertype == ETH_P_IPV6:
        return f"[{packet.src}]:{packet.src_port} > [{packet.dst}]:{packet.dst_port}"
    return f"{packet.src}:{packet.src_port} > {packet.dst}:{packet.dst_port}"


def _body(packet: Dissection) -> str:
    if packet.problem is not None:
        return packet.problem
    if packet.fragment_offset:
        return f"non-first fragment len {packet.length}"
    if packet.proto == PROTO_TCP:
        return f"{tcp_flag_letters(packet.tcp_flags)} seq {packet.seq} ack {packet.ack} len {packet.length}"
    if packet.icmp_type is not None:
        return _icmp(packet)
    return f"len {packet.length}"


def _icmp(packet: Dissection) -> str:
    kind = packet.icmp_type
    echo = _ECHO.get(packet.proto, {}).get(-1 if kind is None else kind)
    if echo is not None:
        return f"{echo} id {packet.ident} seq {packet.seq}"
    quoted = f" [{describe(packet.inner)}]" if packet.inner is not None else ""
    return f"type {kind} code {packet.icmp_code}{quoted}"
