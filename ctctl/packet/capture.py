"""Capture files: pcap (both byte orders, micro- and nanoseconds) and pcapng, record by record.

Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. A reader hands out positions in the
file's bytes, not copies: replay takes the frames from where they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from ctctl.errors import DecodeError, PartialDataError
from ctctl.packet.frame import ETH_P_IP, ETH_P_IPV6


class LinkType(IntEnum):
    """What a captured frame starts with (the pcap registry's LINKTYPE numbers that can hold IPv4)."""

    NULL = 0
    ETHERNET = 1
    RAW = 101
    LOOP = 108
    LINUX_SLL = 113
    IPV4 = 228
    LINUX_SLL2 = 276


#: One packet: (time in nanoseconds since 1970, offset of its captured bytes, how many those are, its
#: length on the wire, link type). A plain tuple: captures hold millions.
Record: TypeAlias = tuple[int, int, int, int, int]


@dataclass(slots=True)
class _Interface:
    link_type: int
    #: nanoseconds a unit of its time stamps, and units a second
    ticks_per_second: int = 1_000_000
    offset_s: int = 0

    def time_ns(self, ticks: int) -> int:
        return ticks * 1_000_000_000 // self.ticks_per_second + self.offset_s * 1_000_000_000


#: No packet was captured before 1970 or is after 2262: a time stamp of elsewhere is no time.
_MAX_TIME_NS = (1 << 63) - 1
_LONGEST_BLOCK = 1 << 26
_SECTION_SIZE, _INTERFACE_SIZE = 28, 20
_PACKET_SIZES = {2: 32, 3: 16, 6: 32}


_PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_OPTION_TSRESOL, _OPTION_TSOFFSET = 9, 14
#: EtherTypes of VLAN tags, which are four bytes each; so many of them at most
_TAGS, _TAG_SIZE, _MOST_TAGS = (b"\x81\x00", b"\x88\xa8", b"\x91\x00"), 4, 4
#: by IP version
_ETHERTYPES = {4: struct.pack(">H", ETH_P_IP), 6: struct.pack(">H", ETH_P_IPV6)}
#: bytes of header before the IP packet, and where in it the EtherType is, by link type
_LINK_HEADERS: dict[int, tuple[int, int | None]] = {
    LinkType.NULL: (4, None),
    LinkType.LOOP: (4, None),
    LinkType.RAW: (0, None),
    LinkType.IPV4: (0, None),
    LinkType.LINUX_SLL: (16, 14),
    LinkType.LINUX_SLL2: (20, 0),
}


def read_capture(data: bytes | memoryview, name: str = "capture") -> Iterator[Record]:
    """Every packet of a pcap or pcapng file in its order.

    Raises DecodeError for anything else, PartialDataError after the last packet of a file that ends in
    the middle of one, or that has packets which cannot be: those are left out.
    """
    magic = bytes(data[:4])
    if magic in _PCAP_MAGIC:
        order, unit_ns = _PCAP_MAGIC[magic]
        yield from _read_pcap(data, order, unit_ns, name)
    elif magic == b"\x0a\x0d\x0d\x0a":
        yield from _read_pcapng(data, name)
    else:
        raise DecodeError(f"{name}: is neither pcap nor pcapng (starts with {magic.hex() or 'nothing'})")


def ethernet_frame(packet: bytes, link_type: int) -> bytes | None:
    """A captured packet as an Ethernet frame without VLAN tags, whatever stands before its IP header; None if that is
    not IP. An Ethernet frame is one whatever it carries."""
    if link_type == LinkType.ETHERNET:
        return _untagged(packet, 12)
    if link_type not in _LINK_HEADERS:
        return None
    size, ethertype_at = _LINK_HEADERS[link_type]
    inner = packet[size:]
    said = None
    if ethertype_at is not None:  # what a tag stands before is behind the header
        bare = _untagged(packet[ethertype_at : ethertype_at + 2] + inner, 0)
        said, inner = bare[:2], bare[2:]
    ethertype = _ETHERTYPES.get(inner[0] >> 4) if inner else None
    if ethertype is None or said not in (None, ethertype):
        return None
    return bytes(12) + ethertype + inner


def _untagged(packet: bytes, at: int) -> bytes:
    """A packet without the VLAN tags (802.1Q, 802.1ad) before its EtherType, which is ``at`` there."""
    end = at
    while packet[end : end + 2] in _TAGS and end - at < _MOST_TAGS * _TAG_SIZE:
        end += _TAG_SIZE
    return packet if end == at else packet[:at] + packet[end:]


def _read_pcap(data: bytes | memoryview, order: str, unit_ns: int, name: str) -> Iterator[Record]:
    if len(data) < 24:
        raise DecodeError(f"{name}: a pcap file has a header of 24 bytes, this one {len(data)}")
    # The upper bits of the link type say whether frames end in a checksum.
    link_type = struct.unpack_from(order + "I", data, 20)[0] & 0x0FFFFFFF
    unpack, end, at = struct.Struct(order + "IIII").unpack_from, len(data), 24
    while at + 16 <= end:
        seconds, fraction, captured, length = unpack(data, at)
        at += 16
        if at + captured > end:
            raise PartialDataError(f"{name}: ends in the middle of a packet")
        yield seconds * 1_000_000_000 + fraction * unit_ns, at, captured, length, link_type
        at += captured
    if at != end:
        raise PartialDataError(f"{name}: ends in the middle of a packet header")


def _read_pcapng(data: bytes | memoryview, name: str) -> Iterator[Record]:
    at, order, odd, end = 0, "<", 0, len(data)
    interfaces: list[_Interface] = []
    while at + 12 <= end:
        (kind,) = struct.unpack_from(order + "I", data, at)
        if kind == _SECTION:
            order = _order_of(data, at, name)
            interfaces = []
        size = struct.unpack_from(order + "I", data, at + 4)[0]
        if size < 12 or size % 4 or size > _LONGEST_BLOCK:
            raise PartialDataError(f"{name}: a block of {size} bytes at {at}: not read on")
        if at + size > end:
            break
        if kind == _INTERFACE:
            interfaces.append(_interface(data, at + 8, at + size - 4, order))
        elif kind in _PACKET_SIZES:
            record = _packet(data, at, size, (kind, order), interfaces)
            if record is None:
                odd += 1
            else:
                yield record
        at += size
    if at != end:
        raise PartialDataError(f"{name}: ends in the middle of a block")
    if odd:
        raise PartialDataError(f"{name}: {odd} packet(s) that cannot be, by their size, interface or time: left out")


def _order_of(data: bytes | memoryview, at: int, name: str) -> str:
    """The byte order of a section by its magic number. Raises DecodeError, PartialDataError for none."""
    magic = bytes(data[at + 8 : at + 12])
    for order in "<>":
        if magic == struct.pack(order + "I", _BYTE_ORDER_MAGIC):
            if struct.unpack_from(order + "I", data, at + 4)[0] < _SECTION_SIZE:
                break
            return order
    if at == 0:
        raise DecodeError(f"{name}: its section header is none: no pcapng file")
    raise PartialDataError(f"{name}: a section header at {at} that is none: not read on")


def _packet(
    data: bytes | memoryview, at: int, size: int, form: tuple[int, str], interfaces: list[_Interface]
) -> Record | None:
    """The packet of a block; None if it points outside the block, to no interface or no time."""
    (kind, order), end = form, at + size - 4
    if size < _PACKET_SIZES[kind]:
        return None
    if kind == _SIMPLE:
        number, high, low, start = 0, 0, 0, at + 12
        (length,) = struct.unpack_from(order + "I", data, at + 8)
        captured = min(length, end - start)
    else:
        fields = "IIIII" if kind == _ENHANCED else "HxxIIII"
        number, high, low, captured, length = struct.unpack_from(order + fields, data, at + 8)
        start = at + 28
    if number >= len(interfaces) or start + captured > end:
        return None
    interface = interfaces[number]
    time_ns = interface.time_ns(high << 32 | low)
    return (time_ns, start, captured, length, interface.link_type) if 0 <= time_ns <= _MAX_TIME_NS else None


def _interface(data: bytes | memoryview, at: int, end: int, order: str) -> _Interface:
    interface = _Interface(struct.unpack_from(order + "H", data, at)[0] if at + 2 <= end else 0xFFFF)
    at += 8
    while at + 4 <= end:
        code, size = struct.unpack_from(order + "HH", data, at)
        value = bytes(data[at + 4 : at + 4 + size])
        if code == _OPTION_TSRESOL and size == 1:
            exponent = value[0] & 0x7F
            interface.ticks_per_second = (2 if value[0] & 0x80 else 10) ** exponent
        elif code == _OPTION_TSOFFSET and size == 8:
            interface.offset_s = struct.unpack(order + "q", value)[0]
        elif code == 0:
            break
        at += 4 + (size + 3) // 4 * 4
    return interface
