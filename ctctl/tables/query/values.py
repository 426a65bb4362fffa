"""Fields of the filter language and how the text of a value becomes one.

Each function takes a value's text and raises ValueError with what is wrong; the parser adds where.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network

from ctctl.model.entry import CtFlags, CtState
from ctctl.model.identity import RESERVED_NUMBERS
from ctctl.model.suggest import unknown_name
from ctctl.model.tuples import is_address
from ctctl.model.units import parse_duration
from ctctl.tables.query.ast import MAX, Name, Network, Range, Value

#: Protocol numbers by name, as typed. IGMP and VRRP too: newer CLIs print them.
PROTOCOLS = {"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "icmpv6": 58, "vrrp": 112, "sctp": 132}
DIRECTIONS = ("out", "in", "svc")
STATES = tuple(state.value for state in CtState)
FLAG_NAMES = tuple(str(flag.name) for flag in CtFlags)

NUMBER_BITS = {
    "backend_id": 64,
    "packets": 64,
    "bytes": 64,
    "rx_packets": 64,
    "rx_bytes": 64,
    "tx_packets": 64,
    "tx_bytes": 64,
    "lifetime": 32,
    "flags": 16,
    "rev_nat": 16,
    "ifindex": 16,
    "tx_flags_seen": 8,
    "rx_flags_seen": 8,
    "src_sec_id": 32,
    "last_tx_report": 32,
    "last_rx_report": 32,
    "tuple_flags": 8,
}
#: Durations in seconds, relative to the table's now.
DURATIONS = ("remaining", "idle")
TEXTS = ("map", "node")


def number(text: str, low: int = 0, high: int = MAX) -> Range:
    """``80``, ``0x13``, ``80..90`` or ``80-90``."""
    for separator in ("..", "-"):
        first, found, last = text.partition(separator)
        if found and first and last:
            start, end = number(first, low, high).low, number(last, low, high).low
            if start > end:
                raise ValueError(f"range {text} is empty: its end comes first")
            return Range(start, end)
    try:
        value = int(text, 16) if text.lower().startswith("0x") else int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not low <= value <= high:
        raise ValueError(f"{text} is out of range, {low} to {high}")
    return Range(value, value)


def port(text: str) -> Range:
    """A port or a range of ports."""
    if _is_end(text):
        raise ValueError(f"{text!r} is an address, which --ip or ip == takes")
    return number(text, 0, 65535)


def _is_end(text: str) -> bool:
    """Whether it is an address, with a port or without one."""
    host, _, tail = text.rpartition(":")
    ends = (text, host) if tail.isdigit() else (text,)
    return any(is_address(end.strip("[]")) for end in ends)


def protocol(text: str) -> Range:
    """A protocol by name or number."""
    if text.lower() in PROTOCOLS:
        value = PROTOCOLS[text.lower()]
        return Range(value, value)
    if text[:1].isdigit():
        return number(text, 0, 255)
    raise ValueError(unknown_name("protocol", text, PROTOCOLS))


def network(text: str) -> Network:
    """An address or a CIDR; host bits may be set."""
    try:
        return ip_network(text.strip("[]"), strict=False)
    except ValueError:
        if _is_end(text):
            raise ValueError(f"{text!r} is an address with a port, which --port or port == takes by itself") from None
        raise ValueError(f"{text!r} is not an IP address or CIDR") from None


#: What a pod, a service or a label looks like: ``web-1``, ``default/web``, ``app=web``.
_NAME = re.compile(r"(?=.*[A-Za-z_])[A-Za-z0-9_][\w./:=-]*")


def address(text: str) -> Network | Name:
    """An address, a CIDR, or the name of what has addresses."""
    try:
        return network(text)
    except ValueError:
        if re.fullmatch(r"[0-9a-fA-F:./]*", text) or not _NAME.fullmatch(text):
            raise
        return Name(text)


def identity(text: str) -> Range | Name:
    """A number, the name of a reserved identity, or a label."""
    reserved = RESERVED_NUMBERS.get(text.removeprefix("reserved:").lower())
    if reserved is not None:
        return Range(reserved, reserved)
    if text[:1].isdigit():
        return number(text, 0, 2**32 - 1)
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is neither a number nor a label")
    return Name(text)


def service(text: str) -> Name:
    """A service by name, or its ``ADDRESS:PORT`` or address."""
    if not text:
        raise ValueError("a service's name or ADDRESS:PORT is missing")
    return Name(text)


def duration(text: str) -> Range:
    """Seconds; a leading minus is allowed (expired entries have negative remaining time)."""
    seconds = parse_duration(text.removeprefix("-"))
    if seconds != int(seconds):
        raise ValueError(f"{text}: whole seconds only, the tables know no finer time")
    value = -int(seconds) if text.startswith("-") else int(seconds)
    return Range(value, value)


def word_of(kind: str, names: tuple[str, ...]) -> Callable[[str], str]:
    """A reader of one of ``names``, in any case."""

    def read(text: str) -> str:
        if text.lower() in names:
            return text.lower()
        raise ValueError(unknown_name(kind, text, names))

    return read


def boolean(text: str) -> str:
    """``true`` or ``false`` (``yes``/``no``, ``1``/``0``)."""
    words = {"true": "true", "yes": "true", "1": "true", "false": "false", "no": "false", "0": "false"}
    if text.lower() not in words:
        raise ValueError(f"{text!r}: write true or false")
    return words[text.lower()]


def flag_mask(text: str) -> int:
    """A flag's bit by name (any case) or number."""
    for flag in CtFlags:
        if str(flag.name).lower() == text.lower():
            return int(flag)
    if text[:1].isdigit():
        return number(text, 0, 0xFFFF).low
    raise ValueError(unknown_name("flag", text, FLAG_NAMES))


def _number_reader(bits: int) -> Callable[[str], Value]:
    return lambda text: number(text, 0, 2**bits - 1)


READERS: dict[str, Callable[[str], Value]] = {
    "proto": protocol,
    "src": address,
    "dst": address,
    "ip": address,
    "nat_addr": address,
    "nat_port": port,
    "service": service,
    "src_port": port,
    "dst_port": port,
    "port": port,
    "direction": word_of("direction", DIRECTIONS),
    "state": word_of("state", STATES),
    "related": boolean,
    "expired": boolean,
    "live": boolean,
    "family": lambda text: number(text, 4, 6),
    **{name: _number_reader(bits) for name, bits in NUMBER_BITS.items()},
    "src_sec_id": identity,
    **dict.fromkeys(DURATIONS, duration),
    **dict.fromkeys(TEXTS, str),
}
BOOLEANS = frozenset({"related", "expired", "live"})
#: The values of fields that have few, in words: what TAB offers behind an operator. Of ``flag`` they stand in brackets.
KNOWN_WORDS: dict[str, tuple[str, ...]] = {
    "proto": tuple(PROTOCOLS),
    "direction": DIRECTIONS,
    "state": STATES,
    "family": ("4", "6"),
    "src_sec_id": tuple(RESERVED_NUMBERS),
    "xlate": ("src", "dst"),
    "flag": FLAG_NAMES,
    **dict.fromkeys(sorted(BOOLEANS), ("true", "false")),
}
#: Fields that < and > make sense for.
ORDERED = frozenset({*NUMBER_BITS, *DURATIONS, "proto", "src_port", "dst_port", "port", "nat_port", "family"})

#: Fields that only SNAT entries have; ``needs_ct`` is a number as the table has it.
NAT_READERS: dict[str, Callable[[str], Value]] = {
    "xlate": word_of("xlate", ("src", "dst")),
    "age": duration,
    "created": _number_reader(64),
    "needs_ct": _number_reader(64),
}
