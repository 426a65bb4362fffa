"""Connection tuples as people mean them: who opened the connection, to whom.

Pure values. The crossed ports and reversed addresses of the tables (docs/reference/abi.md) never leave
``ctctl.decode``.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

from ctctl.model.light import light_value
from ctctl.model.units import decimal

Address: TypeAlias = IPv4Address | IPv6Address

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
SCTP: Final = 132
#: ICMP of either IP version: what has no ports, an identifier at most.
EITHER_ICMP: Final = (ICMP, ICMPV6)
#: IP protocol numbers ctctl names; any other prints as its number.
PROTOCOL_NAMES: dict[int, str] = {ICMP: "ICMP", TCP: "TCP", UDP: "UDP", ICMPV6: "ICMPv6", SCTP: "SCTP"}
PROTOCOL_NUMBERS: dict[str, int] = {name.lower(): number for number, name in PROTOCOL_NAMES.items()}


def protocol_name(number: int) -> str:
    """The name of an IP protocol, or its number in decimal."""
    return PROTOCOL_NAMES.get(number, str(number))


def endpoint(address: Address, port: int) -> str:
    """``10.0.0.1:80`` or ``[fd00::1]:80``."""
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def end_text(address: Address, port: int) -> str:
    """``endpoint``, or the address alone where there is no port."""
    return endpoint(address, port) if port else str(address)


def is_address(text: str) -> bool:
    """Whether it is an address of either family, by itself."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def end_of(text: str) -> tuple[Address, int] | None:
    """Address and port of what ``endpoint`` wrote; None for any other text."""
    host, colon, port = text.rpartition(":")
    number = decimal(port, 0xFFFF) if colon else None
    if number is None:
        return None
    try:
        return ip_address(host.strip("[]")), number
    except ValueError:
        return None


class Direction(StrEnum):
    """What a conntrack entry was written for."""

    OUT = "OUT"
    IN = "IN"
    SVC = "SVC"


@light_value
class FlowTuple:
    """One connection in its original direction: ``src`` opened it, to ``dst``.

    Ports are in host order, 0 where the protocol has none (ICMP "related"). For ICMP echo the
    identifier stands in ``src_port``.
    """

    proto: int
    src: Address
    src_port: int
    dst: Address
    dst_port: int

    def reversed(self) -> FlowTuple:
        """The tuple of the replies."""
        return FlowTuple(self.proto, self.dst, self.dst_port, self.src, self.src_port)

    def __str__(self) -> str:
        src, dst = endpoint(self.src, self.src_port), endpoint(self.dst, self.dst_port)
        return f"{protocol_name(self.proto)} {src} -> {dst}"
