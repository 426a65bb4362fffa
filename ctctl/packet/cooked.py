"""Captures on all interfaces at once (``tcpdump -i any``): each packet is in them once for every interface it crossed.

The cooked header says which interface that was (SLL2 only) and in which direction; a packet is known
again by its addresses, ports, identification and sequence numbers, which no hop of a node changes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from ctctl.packet.capture import LinkType
from ctctl.packet.geneve import GENEVE_PORT

#: ``sll_pkttype``: sent by this machine (linux/if_packet.h).
_OUTGOING = 4
VXLAN_PORTS = (8472, 4789)
#: A packet crosses a node in less than this.
_WINDOW_NS = 1_000_000_000
_MAX_KNOWN = 1 << 16
#: where an Ethernet frame has its IP packet
ETHERNET = 14
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
#: IP headers by EtherType
_SHORTEST = {_IPV4: 20, _IPV6: 40}


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where a packet was seen: the interface's number (0: the header does not say) and whether it was leaving by it."""

    ifindex: int
    outgoing: bool


def sighting(packet: bytes, link_type: int) -> Sighting | None:
    """Interface and direction of a cooked packet, None for any other link type or a header that is cut off."""
    if link_type == LinkType.LINUX_SLL2 and len(packet) >= 20:
        return Sighting(struct.unpack_from(">I", packet, 4)[0], packet[10] == _OUTGOING)
    if link_type == LinkType.LINUX_SLL and len(packet) >= 16:
        return Sighting(0, struct.unpack_from(">H", packet)[0] == _OUTGOING)
    return None


def identity(ip: bytes) -> bytes | None:
    """What stays the same of an IP packet while it crosses a node, None for one that is too short."""
    if ip[:1] and ip[0] >> 4 == 6:
        # All but the hop limit; an extension header counts as what it stands before.
        return ip[:7] + ip[8:40] + _layer4(ip[6], ip[40:60]) if len(ip) >= 40 else None
    size = (ip[0] & 0x0F) * 4 if ip else 0
    if size < 20 or len(ip) < size:
        return None
    return ip[2:8] + ip[9:10] + ip[12:20] + _layer4(ip[9], ip[size : size + 20])


def _layer4(proto: int, head: bytes) -> bytes:
    """Without its checksum, which may be filled in on the way."""
    at = {6: 16, 17: 6, 1: 2, 58: 2}.get(proto, len(head))
    return head[:at] + head[at + 2 :]


@dataclass(slots=True)
class Sightings:
    """Which packets were seen already, on another interface or in the other direction, within a second."""

    _known: dict[bytes, tuple[int, set[Sighting]]] = field(default_factory=dict)

    def again(self, ip: bytes, where: Sighting, time_ns: int) -> bool:
        """Whether it is a packet that was seen before. The same one at the same place is another one."""
        key = identity(ip)
        if key is None:
            return False
        if len(self._known) >= _MAX_KNOWN:
            self._known = {k: v for k, v in self._known.items() if abs(time_ns - v[0]) < _WINDOW_NS}
            if len(self._known) >= _MAX_KNOWN:
                self._known = {}
        first = self._known.get(key)
        if first is None or abs(time_ns - first[0]) > _WINDOW_NS or where in first[1]:
            self._known[key] = time_ns, {where}
            return False
        first[1].add(where)
        return True


def without_tunnel(frame: bytes) -> bytes | None:
    """The Ethernet frame with IP inside VXLAN (RFC 7348) or Geneve (RFC 8926), None for any other packet."""
    at = _udp_at(frame)
    if at is None or len(frame) < at + 16:
        return None
    (port,) = struct.unpack_from(">H", frame, at + 2)
    at += 8
    if port in VXLAN_PORTS and frame[at] & 0x08:
        inner = frame[at + 8 :]
    elif port == GENEVE_PORT and frame[at] >> 6 == 0 and frame[at + 2 : at + 4] == b"\x65\x58":
        inner = frame[at + 8 + (frame[at] & 0x3F) * 4 :]
    else:
        return None
    return inner if len(inner) >= ETHERNET + _SHORTEST.get(inner[12:14], len(frame)) else None


def _udp_at(frame: bytes) -> int | None:
    """Where the UDP header of a whole datagram is, without IPv6 extension headers; None for any other packet."""
    kind = frame[12:14]
    if len(frame) < ETHERNET + _SHORTEST.get(kind, len(frame)):
        return None
    if kind == _IPV6:
        return ETHERNET + 40 if frame[ETHERNET + 6] == 17 else None
    if frame[ETHERNET + 9] != 17 or struct.unpack_from(">H", frame, ETHERNET + 6)[0] & 0x3FFF:
        return None
    return ETHERNET + (frame[ETHERNET] & 0x0F) * 4
