"""A packet as a person describes it: what the text form says, before there are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from ctctl.model.tuples import ICMP, ICMPV6, SCTP, TCP, UDP

PROTO_ICMP = ICMP
PROTO_TCP = TCP
PROTO_UDP = UDP
PROTO_ICMPV6 = ICMPV6
PROTO_SCTP = SCTP

ICMP_ECHO_REPLY = 0
ICMP_ECHO_REQUEST = 8
ICMPV6_ECHO_REQUEST = 128
ICMPV6_ECHO_REPLY = 129
#: ICMPv6 types that carry the packet they are about.
ICMPV6_ERRORS = frozenset({1, 2, 3, 4})
#: ICMP types that carry the packet they are about: unreachable, time exceeded, parameter problem.
ICMP_ERRORS = frozenset({3, 11, 12})
#: Those and source quench and redirect: the datapath tracks them like any other message (ports 0).
ICMP_QUOTING = ICMP_ERRORS | {4, 5}


class TcpFlags(IntFlag):
    """The flag byte of a TCP header (RFC 9293)."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


#: Letters in the order they are written; "." is tcpdump's for ACK and is read as well as "A".
_WRITTEN = (("S", 0x02), ("F", 0x01), ("R", 0x04), ("P", 0x08), (".", 0x10), ("U", 0x20), ("E", 0x40), ("W", 0x80))
_READ = dict(_WRITTEN) | {"A": 0x10, "C": 0x80}


@lru_cache(maxsize=1 << 9)
def tcp_flag_letters(flags: int, *, ack: str = ".") -> str:
    """tcpdump's letters for a TCP flag byte ("S", "S.", "P."), "none" for 0; ``ack`` is the letter for ACK."""
    return "".join(ack if letter == "." else letter for letter, bit in _WRITTEN if flags & bit) or "none"


def parse_tcp_flags(text: str) -> int | None:
    """The flag byte that letters such as "S", "SA", "P." or "none" mean; None when they are no flags."""
    if text.lower() == "none":
        return 0
    value = 0
    for letter in text.upper():
        if letter not in _READ:
            return None
        value |= _READ[letter]
    return value


@dataclass(frozen=True, slots=True)
class PacketSpec:
    """One packet in words (docs/reference/cli.md). Everything in host order; None: not given.

    ``length`` counts the bytes behind the L4 header (for a later fragment: behind the IP header).
    ``ident`` is the ICMP echo identifier, ``ip_id`` the IP identification. ``fragment_offset`` is in
    bytes. ``ttl`` is IPv6's hop limit too. ``l4_checksum`` overrides the computed one. ``inner`` is the
    packet an ICMP error is about.
    """

    proto: int
    src: IPv4Address | IPv6Address
    dst: IPv4Address | IPv6Address
    src_port: int = 0
    dst_port: int = 0
    tcp_flags: int | None = None
    length: int | None = None
    seq: int | None = None
    ack: int | None = None
    ident: int | None = None
    icmp_type: int | None = None
    icmp_code: int = 0
    ttl: int = 64
    ip_id: int | None = None
    fragment_offset: int | None = None
    more_fragments: bool = False
    ip_options: bytes = b""
    l4_checksum: int | None = None
    inner: PacketSpec | None = None

    @property
    def fragmented(self) -> bool:
        """Whether this is a first or later fragment."""
        return self.fragment_offset is not None
