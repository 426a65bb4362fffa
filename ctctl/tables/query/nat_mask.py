"""The filter language on a batch of SNAT entries: ``NatFilter``, as a mask over columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ctctl.decode.ct import TUPLE_IN, TUPLE_RELATED
from ctctl.errors import UsageError
from ctctl.tables.pairs import KEY_LAYOUTS
from ctctl.tables.query.ast import And, Name, Node, Not, Or, Range, Term, Value
from ctctl.tables.query.nat import NatFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
    Mask: TypeAlias = NDArray[np.bool_]

_ENDS = {"src": ("src",), "dst": ("dst",), "nat_addr": ("to",), "ip": ("src", "dst", "to")}
_PORTS = {"src_port": ("src",), "dst_port": ("dst",), "nat_port": ("to",), "port": ("src", "dst", "to")}

#: Fields that are a bit of the tuple's flags, and the word for it when it is set.
_BITS = {"direction": (TUPLE_IN, "in"), "related": (TUPLE_RELATED, "true"), "xlate": (TUPLE_IN, "dst")}


@dataclass(frozen=True, slots=True)
class NatColumns:
    """Keys and values, uint8 (n, …), of SNAT entries of the table called ``name``.

    ``ages``: in seconds (n), of a listing, which shows them in place of the time of creation. ``absent``: fields that
    it does not show.
    """

    family: int
    name: str
    keys: Array
    values: Array
    ages: Array | None = None
    absent: frozenset[str] = frozenset()

    def octets(self, end: str) -> Array:
        """The address of an end in network order, uint8 (n, 4|16)."""
        layout, half = KEY_LAYOUTS[self.family], 4 if self.family == 4 else 16
        if end == "to":
            return self.values[:, layout.nat_address : layout.nat_address + half]
        return self.keys[:, half : 2 * half] if end == "src" else self.keys[:, :half]

    def port(self, end: str) -> Array:
        """The port of an end, (n)."""
        layout, half = KEY_LAYOUTS[self.family], 4 if self.family == 4 else 16
        at = {"dst": layout.ports, "src": layout.ports + 2, "to": layout.nat_address + half}[end]
        pair = (self.values if end == "to" else self.keys)[:, at : at + 2].astype(np.uint16)
        return pair[:, 0] << 8 | pair[:, 1]


def mask_of(wanted: NatFilter, columns: NatColumns) -> Mask:
    """Which entries the filter wants."""
    if wanted.node is None:
        return np.ones(len(columns.keys), np.bool_)
    return _mask(wanted, wanted.node, columns)


def _mask(wanted: NatFilter, node: Node, columns: NatColumns) -> Mask:
    none = np.zeros(len(columns.keys), np.bool_)
    if isinstance(node, Not):
        return ~_mask(wanted, node.item, columns)
    if isinstance(node, And | Or):
        joined: Callable[..., Mask] = np.logical_and if isinstance(node, And) else np.logical_or
        found = ~none if isinstance(node, And) else none
        for item in node.items:
            found = joined(found, _mask(wanted, item, columns))
        return found
    found = none
    if isinstance(node, Term):
        for value in node.values:
            found = found | _is(wanted, node.field, value, columns)
    return found


def _is(wanted: NatFilter, name: str, value: Value, columns: NatColumns) -> Mask:
    none = np.zeros(len(columns.keys), np.bool_)
    if isinstance(value, Name):
        return _named(wanted, name, value.text, columns)
    if isinstance(value, IPv4Network | IPv6Network):
        return _any([_within(columns, end, value) for end in _ENDS[name]])
    if isinstance(value, Range):
        return _any([none, *((value.low <= n) & (n <= value.high) for n in _numbers(wanted, name, columns))])
    flags = columns.keys[:, -1]
    if name in _BITS:
        bit, yes = _BITS[name]
        found: Mask = ((flags & bit) != 0) == (value == yes)
        return found if value != "svc" else none
    return none | (value == (columns.name if name == "map" else wanted.of_node))


def _ages(wanted: NatFilter, created: Array) -> Array:
    """Seconds since then, each time rounded down first (``Clock.remaining_s``)."""
    clock, now = wanted.clock, wanted.clock.seconds(wanted.known_now())
    if clock.hz is None and int(created.max(initial=0)) < 1 << 62:
        return now - created.astype(np.int64)
    return np.array([now - clock.seconds(one) for one in created.tolist()], object)


def _any(masks: list[Mask]) -> Mask:
    found: Mask = np.logical_or.reduce(masks)
    return found


def _named(wanted: NatFilter, name: str, text: str, columns: NatColumns) -> Mask:
    if wanted.names is None:
        raise UsageError(f"filter: {text!r} is no address, and this source knows no names")
    found = np.zeros(len(columns.keys), np.bool_)
    if name != "service":
        for network in wanted.names.networks(text):
            for end in _ENDS[name]:
                found |= _within(columns, end, network)
        return found
    proto = columns.keys[:, -2]
    for network, port, number in wanted.names.service(text).frontends:
        for end in ("src", "dst", "to"):
            alike = _within(columns, end, network) & (columns.port(end) == port)
            found |= alike if number == 0 else alike & (proto == number)
    return found


def _within(columns: NatColumns, end: str, network: IPv4Network | IPv6Network) -> Mask:
    if network.version != columns.family:
        return np.zeros(len(columns.keys), np.bool_)
    mask = np.frombuffer(network.netmask.packed, np.uint8)
    wanted = np.frombuffer(network.network_address.packed, np.uint8)
    found: Mask = ((columns.octets(end) & mask) == wanted).all(axis=1)
    return found


def _numbers(wanted: NatFilter, name: str, columns: NatColumns) -> list[Array]:
    if name in columns.absent or (name == "created" and columns.ages is not None):
        return []
    if name in ("created", "needs_ct", "age"):
        at = 8 if name == "needs_ct" else 0
        times = np.ascontiguousarray(columns.values[:, at : at + 8]).view("<u8").reshape(-1)
        if name != "age":
            return [times]
        return [columns.ages if columns.ages is not None else _ages(wanted, times)]
    if name in _PORTS:
        return [columns.port(end) for end in _PORTS[name]]
    if name == "family":
        return [np.full(len(columns.keys), columns.family, np.uint8)]
    return [columns.keys[:, -2]]
