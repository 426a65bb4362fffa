"""Bytes of the SNAT tables to entries: keys in real packet order, 40 or 56 bytes of value."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from ctctl.abi import constants
from ctctl.decode.ct import KEY4, KEY6, TUPLE_IN, TUPLE_RELATED, family_of_key, flags_of_direction
from ctctl.errors import DecodeError
from ctctl.model.nat import NatEntry
from ctctl.model.tuples import Address, Direction, FlowTuple

VALUE_SIZE = {4: constants.IPV4_NAT_ENTRY_SIZE, 6: constants.IPV6_NAT_ENTRY_SIZE}
#: Where the translated address lies in a value, in both families.
VALUE_ADDRESS = constants.IPV4_NAT_ENTRY_TO_SADDR
#: Seconds that an entry of a listing is old.
AGE_FORM = struct.Struct("<q")
_PORT = {4: constants.IPV4_NAT_ENTRY_TO_SPORT, 6: constants.IPV6_NAT_ENTRY_TO_SPORT}


def nat_family(key_size: int, value_size: int) -> int:
    """The family of an SNAT table with records of these sizes. Raises DecodeError for sizes of none."""
    family = family_of_key(key_size)
    if value_size != VALUE_SIZE[family]:
        raise DecodeError(f"an IPv{family} SNAT value has {VALUE_SIZE[family]} bytes, this one {value_size}")
    return family


def decode_nat(key: bytes, value: bytes, map_name: str | None = None) -> NatEntry:
    """One SNAT entry. Raises DecodeError on wrong sizes."""
    family = nat_family(len(key), len(value))
    address = IPv4Address if family == 4 else IPv6Address
    daddr, saddr, dport, sport, proto, flags = (KEY4 if family == 4 else KEY6).unpack(key)
    created, needs_ct = struct.unpack_from("<QQ", value)
    end = _PORT[family]
    return NatEntry(
        map=map_name,
        tuple=FlowTuple(proto, address(saddr), sport, address(daddr), dport),
        direction=Direction.IN if flags & TUPLE_IN else Direction.OUT,
        related=bool(flags & TUPLE_RELATED),
        xlate="DST" if flags & TUPLE_IN else "SRC",
        to_addr=address(value[VALUE_ADDRESS:end]),
        to_port=int.from_bytes(value[end : end + 2], "big"),
        created=created,
        needs_ct=needs_ct,
        key=key,
        value=value,
    )


def encode_nat_key(flow: FlowTuple, flags: int) -> bytes:
    """The key of the SNAT entry for a packet ``flow``."""
    if flow.src.version == 4:
        return KEY4.pack(int(flow.dst), int(flow.src), flow.dst_port, flow.src_port, flow.proto, flags)
    return KEY6.pack(flow.dst.packed, flow.src.packed, flow.dst_port, flow.src_port, flow.proto, flags)


def encode_nat_value(to_addr: Address, to_port: int, created: int = 0, needs_ct: int = 0) -> bytes:
    """The value of an SNAT entry that puts this address and port in the place of a packet's."""
    head = struct.pack("<QQ", created, needs_ct).ljust(VALUE_ADDRESS, b"\0")
    value = head + to_addr.packed + to_port.to_bytes(2, "big")
    return value.ljust(VALUE_SIZE[to_addr.version], b"\0")


def encode_nat(entry: NatEntry) -> tuple[bytes, bytes]:
    """Key and value of an SNAT entry, as they lay where it has them; a field that is unknown is 0."""
    flags = flags_of_direction(entry.direction, entry.related)
    return (
        entry.key or encode_nat_key(entry.tuple, flags),
        entry.value or encode_nat_value(entry.to_addr, entry.to_port, entry.created or 0, entry.needs_ct or 0),
    )
