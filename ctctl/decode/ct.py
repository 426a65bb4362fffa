"""Bytes of a conntrack table to entries and back, one at a time (docs/reference/abi.md).

The crossed ports and swapped addresses of the tables, and wire byte order, end here. The 56 bytes
of a value changed their meaning between Cilium versions: every function takes the ``Layout``.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from ctctl.abi import constants, pins
from ctctl.errors import DecodeError
from ctctl.model.entry import CtEntry, CtFlags, Layout
from ctctl.model.tuples import TCP, Direction, FlowTuple

KEY_SIZE = {4: constants.IPV4_CT_TUPLE_SIZE, 6: constants.IPV6_CT_TUPLE_SIZE}
VALUE_SIZE = constants.CT_ENTRY_SIZE

# Bits of the tuple's flag byte. OUT is the absence of IN and SERVICE.
TUPLE_IN = constants.TUPLE_IN
TUPLE_RELATED = constants.TUPLE_RELATED
TUPLE_SERVICE = constants.TUPLE_SERVICE

#: Keys of both families, SNAT entries' too: addresses, ports, protocol, flags.
KEY4 = struct.Struct(">IIHHBB")
KEY6 = struct.Struct(">16s16sHHBB")
# Tables are in the byte order of the machine that wrote them; every dump seen is little-endian.
_VALUE = struct.Struct("<QQQQIH2s2sBBIII")

#: Fields of an entry that a layout does not have.
_PER_DIRECTION = frozenset({"rx_packets", "rx_bytes", "tx_packets", "tx_bytes"})
_NAT = frozenset({"nat_addr", "nat_port"})
LAYOUT_LACKS: dict[Layout, frozenset[str]] = {
    Layout.V1_14: frozenset({"packets", "bytes"}) | _NAT,
    Layout.V1_15: frozenset({"packets", "bytes"}) | _NAT,
    Layout.V1_16: _PER_DIRECTION | _NAT,
    Layout.V1_18: _PER_DIRECTION | _NAT | {"ifindex"},
    Layout.V1_19: _PER_DIRECTION | {"ifindex"},
}
#: Fields that may be None, i.e. that a source may lack.
OPTIONAL_FIELDS = frozenset(
    {"backend_id", "packets", "bytes", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "ifindex"}
    | {"nat_addr", "nat_port"}
)


def family_of_key(key_size: int) -> int:
    """4 or 6 from the size of a table's key. Raises DecodeError for any other size."""
    for family, size in KEY_SIZE.items():
        if size == key_size:
            return family
    raise DecodeError(f"a conntrack key has 14 bytes (IPv4) or 38 (IPv6), this one {key_size}")


def table_name(family: int, proto: int) -> str:
    """The table an entry lies in when nothing says: TCP ones in ct*, all others in ct_any*."""
    tcp, other = (pins.CT4_TCP, pins.CT4_ANY) if family == 4 else (pins.CT6_TCP, pins.CT6_ANY)
    return tcp if proto == TCP else other


def table_labels(name: str) -> tuple[str, str]:
    """(family, protocol) of a conntrack table in the words of the agent's metrics: ("ipv4", "non-TCP")."""
    return f"ipv{pins.CT_FAMILY[name]}", "TCP" if name in (pins.CT4_TCP, pins.CT6_TCP) else "non-TCP"


def layout_of_fields(names: Collection[str]) -> Layout | None:
    """The layout by the field names of a map's BTF, None where they are of no known layout.

    Up to 1.15 counters are per direction; from 1.18 ``ifindex`` is gone, in 1.19 the room is ``nat_port``.
    """
    if "tx_packets" in names:
        return Layout.V1_15
    if "packets" in names and "lifetime" in names:
        if "ifindex" in names:
            return Layout.V1_16
        return Layout.V1_19 if "nat_port" in names else Layout.V1_18
    return None


def direction_of(tuple_flags: int) -> Direction:
    """SVC before IN before OUT, whatever other bits are set."""
    if tuple_flags & TUPLE_SERVICE:
        return Direction.SVC
    return Direction.IN if tuple_flags & TUPLE_IN else Direction.OUT


def flags_of_direction(direction: Direction, related: bool = False) -> int:
    """The tuple's flag byte for a direction."""
    base = {Direction.OUT: 0, Direction.IN: TUPLE_IN, Direction.SVC: TUPLE_SERVICE}[direction]
    return base | (TUPLE_RELATED if related else 0)


def decode_key(key: bytes) -> tuple[FlowTuple, int]:
    """A key as the connection in its original direction and its flag byte. Raises DecodeError."""
    addresses: tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address]
    if family_of_key(len(key)) == 4:
        daddr4, saddr4, dport, sport, proto, flags = KEY4.unpack(key)
        addresses = (IPv4Address(daddr4), IPv4Address(saddr4))
    else:
        daddr6, saddr6, dport, sport, proto, flags = KEY6.unpack(key)
        addresses = (IPv6Address(daddr6), IPv6Address(saddr6))
    daddr, saddr = addresses
    if flags & TUPLE_SERVICE:
        return FlowTuple(proto, saddr, dport, daddr, sport), flags
    return FlowTuple(proto, daddr, sport, saddr, dport), flags


def encode_key(flow: FlowTuple, tuple_flags: int, family: int | None = None) -> bytes:
    """The key of an entry: the inverse of ``decode_key``. ``family`` 6 maps IPv4 addresses."""
    if tuple_flags & TUPLE_SERVICE:
        daddr, saddr, dport, sport = flow.dst, flow.src, flow.src_port, flow.dst_port
    else:
        daddr, saddr, dport, sport = flow.src, flow.dst, flow.dst_port, flow.src_port
    if family is None:
        family = 4 if daddr.version == saddr.version == 4 else 6
    if family == 4:
        return KEY4.pack(int(daddr), int(saddr), dport, sport, flow.proto, tuple_flags)
    return KEY6.pack(_packed6(daddr), _packed6(saddr), dport, sport, flow.proto, tuple_flags)


def _packed6(address: IPv4Address | IPv6Address) -> bytes:
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed


def _nat_address(raw: bytes) -> str:
    """The translated address of a DSR entry; an IPv4 one stands in the first or the last word."""
    if not any(raw[:12]):
        return str(IPv4Address(raw[12:]))
    if not any(raw[4:]):
        return str(IPv4Address(raw[:4]))
    return str(IPv6Address(raw))


def decode_entry(
    key: bytes,
    value: bytes,
    layout: Layout = Layout.V1_16,
    map_name: str | None = None,
    *,
    absent: frozenset[str] = frozenset(),
    keep_raw: bool = True,
) -> CtEntry:
    """One entry from its key and value. ``absent`` names fields the source does not know: they become None.

    ``keep_raw=False`` leaves ``key`` and ``value`` out of the result. Raises DecodeError on wrong sizes.
    """
    flow, tuple_flags = decode_key(key)
    if len(value) != VALUE_SIZE:
        raise DecodeError(f"a conntrack value has {VALUE_SIZE} bytes, this one {len(value)}")
    first, second, third, fourth, lifetime, flags, rev_nat, word40, tx, rx, sec_id, last_tx, last_rx = _VALUE.unpack(
        value
    )
    direction = direction_of(tuple_flags)
    entry = CtEntry(
        map=map_name,
        tuple=flow,
        direction=direction,
        related=bool(tuple_flags & TUPLE_RELATED),
        tuple_flags=tuple_flags,
        flags=CtFlags(flags),
        lifetime=lifetime,
        rev_nat=int.from_bytes(rev_nat, "big"),
        src_sec_id=sec_id,
        tx_flags_seen=tx,
        rx_flags_seen=rx,
        last_tx_report=last_tx,
        last_rx_report=last_rx,
        key=key if keep_raw else None,
        value=value if keep_raw else None,
    )
    words = (first, second, third, fourth, word40)
    changes = _by_layout(words, direction, flags, layout, value)
    for name in absent & OPTIONAL_FIELDS:
        changes[name] = None
    return replace(entry, **changes)  # type: ignore[arg-type]


def _by_layout(
    words: tuple[int, int, int, int, bytes], direction: Direction, flags: int, layout: Layout, value: bytes
) -> dict[str, object]:
    """The fields whose bytes mean something else from version to version."""
    first, second, third, fourth, word40 = words
    ifindex = int.from_bytes(word40, "little")
    if layout.split_counters:
        service = direction is Direction.SVC
        return {
            "rx_packets": first,
            "rx_bytes": None if service else second,
            "backend_id": second if service else None,
            "tx_packets": third,
            "tx_bytes": fourth,
            "ifindex": ifindex,
        }
    found: dict[str, object] = {"backend_id": second, "packets": third, "bytes": fourth}
    if layout is Layout.V1_16:
        found["ifindex"] = ifindex
    elif layout.has_nat and flags & CtFlags.DSRInternal and direction is Direction.OUT and any(value[:16]):
        found["nat_addr"] = _nat_address(value[:16])
        found["nat_port"] = int.from_bytes(word40, "big")
        found["backend_id"] = None
    return found


def encode_value(entry: CtEntry, layout: Layout) -> bytes:
    """The 56 bytes of an entry's fields in ``layout``; absent fields are zero."""
    word40 = (entry.ifindex or 0).to_bytes(2, "little")
    if layout.split_counters:
        second = entry.backend_id if entry.direction is Direction.SVC else entry.rx_bytes
        head = (entry.rx_packets, second, entry.tx_packets, entry.tx_bytes)
    else:
        head = (0, entry.backend_id, entry.packets, entry.bytes)
    if layout.has_nat:
        word40 = (entry.nat_port or 0).to_bytes(2, "big")
    value = _VALUE.pack(
        *(number or 0 for number in head),
        entry.lifetime,
        int(entry.flags),
        entry.rev_nat.to_bytes(2, "big"),
        word40,
        entry.tx_flags_seen,
        entry.rx_flags_seen,
        entry.src_sec_id,
        entry.last_tx_report,
        entry.last_rx_report,
    )
    if layout.has_nat and entry.nat_addr is not None:
        value = nat_bytes(entry.nat_addr) + value[16:]
    return value


def nat_bytes(address: str) -> bytes:
    """The 16 bytes in which a DSR entry holds the service's address; an IPv4 one stands at the end."""
    packed = IPv6Address(address).packed if ":" in address else IPv4Address(address).packed
    return packed.rjust(16, b"\0")


def flag_names(flags: int) -> list[str]:
    """Names of the set flag bits; bit 9 and the reserved ones have none (see ``other_bits``)."""
    named = (flag for flag in CtFlags if flag is not CtFlags.Reserved9)
    return [str(flag.name) for flag in named if flags & flag]


def other_bits(flags: int) -> int:
    """The flag bits without a name: bit 9 and 11 to 15."""
    return flags & 0xFA00
