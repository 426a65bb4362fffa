"""The filter language on SNAT entries: the same fields as on conntrack ones, as far as such an entry has them.

``ip`` and ``port`` look at all three ends, ``nat_addr`` and ``nat_port`` (printed as ``to``) are what the packet is
translated to, ``service`` is a frontend at any end, ``age`` is in seconds. A field that SNAT entries do not have is an
error, not false; a condition on one that a listing does not show is false.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from ctctl.errors import UsageError
from ctctl.model.clock import Clock
from ctctl.model.nat import NatEntry
from ctctl.model.tuples import Address
from ctctl.tables.query.ast import And, Name, Node, Not, Or, Range, Term, Value, fields_of
from ctctl.tables.query.context import Resolver

#: Fields of the language that SNAT entries have.
NAT_FIELDS = (
    "proto",
    "direction",
    "related",
    "family",
    "src",
    "dst",
    "ip",
    "src_port",
    "dst_port",
    "port",
    "nat_addr",
    "nat_port",
    "service",
    "xlate",
    "age",
    "created",
    "needs_ct",
    "map",
    "node",
)


SECONDS = Clock()


@dataclass(frozen=True, slots=True)
class NatFilter:
    """A filter bound to the SNAT entries of one node, whose ``clock`` and ``now`` make ages of times.

    Raises UsageError for fields they do not have.
    """

    node: Node | None
    names: Resolver | None = None
    of_node: str | None = None
    clock: Clock = SECONDS
    now: int | None = None

    def __post_init__(self) -> None:
        for name in sorted(fields_of(self.node)) if self.node is not None else ():
            if name not in NAT_FIELDS:
                raise UsageError(f"filter: SNAT entries have no {name!r}; they have {', '.join(NAT_FIELDS)}")

    def __call__(self, entry: NatEntry) -> bool:
        """Whether the entry is wanted."""
        return self.node is None or self._holds(self.node, entry)

    def _holds(self, node: Node, entry: NatEntry) -> bool:
        if isinstance(node, And):
            return all(self._holds(item, entry) for item in node.items)
        if isinstance(node, Or):
            return any(self._holds(item, entry) for item in node.items)
        if isinstance(node, Not):
            return not self._holds(node.item, entry)
        return isinstance(node, Term) and any(self._is(node.field, value, entry) for value in node.values)

    def _is(self, name: str, value: Value, entry: NatEntry) -> bool:
        if isinstance(value, Name):
            return self._named(name, value.text, entry)
        if isinstance(value, IPv4Network | IPv6Network):
            return any(_within(address, value) for address in _addresses(name, entry))
        if isinstance(value, Range):
            return any(value.low <= number <= value.high for number in self._numbers(name, entry))
        return value == self._word(name, entry)

    def _named(self, name: str, text: str, entry: NatEntry) -> bool:
        if self.names is None:
            raise UsageError(f"filter: {text!r} is no address, and this source knows no names")
        if name != "service":
            networks = self.names.networks(text)
            return any(_within(address, one) for address in _addresses(name, entry) for one in networks)
        flow = entry.tuple
        ends = ((flow.src, flow.src_port), (flow.dst, flow.dst_port), (entry.to_addr, entry.to_port))
        return any(
            number == port and proto in (0, flow.proto) and _within(address, network)
            for network, port, proto in self.names.service(text).frontends
            for address, number in ends
        )

    def _word(self, name: str, entry: NatEntry) -> str | None:
        if name == "direction":
            return entry.direction.value.lower()
        if name == "related":
            return "true" if entry.related else "false"
        if name == "xlate":
            return entry.xlate.lower()
        return entry.map if name == "map" else self.of_node

    def _numbers(self, name: str, entry: NatEntry) -> tuple[int, ...]:
        """What a field is; nothing where it is not shown."""
        if name in ("age", "created", "needs_ct"):
            found = self._age(entry) if name == "age" else entry.created if name == "created" else entry.needs_ct
            return () if found is None else (found,)
        return _numbers(name, entry)

    def _age(self, entry: NatEntry) -> int | None:
        if entry.age_s is not None or entry.created is None:
            return entry.age_s
        return self.clock.remaining_s(self.known_now(), entry.created)

    def known_now(self) -> int:
        """The time of the tables. Raises UsageError where nothing tells it."""
        if self.now is None:
            raise UsageError("filter: age needs the time at which the tables were read; give --now")
        return self.now


def _within(address: Address, network: IPv4Network | IPv6Network) -> bool:
    return address.version == network.version and address in network


def _addresses(name: str, entry: NatEntry) -> tuple[Address, ...]:
    flow = entry.tuple
    if name == "ip":
        return flow.src, flow.dst, entry.to_addr
    return (entry.to_addr if name == "nat_addr" else flow.src if name == "src" else flow.dst,)


def _numbers(name: str, entry: NatEntry) -> tuple[int, ...]:
    flow = entry.tuple
    if name == "port":
        return flow.src_port, flow.dst_port, entry.to_port
    one = {
        "proto": flow.proto,
        "family": flow.src.version,
        "src_port": flow.src_port,
        "dst_port": flow.dst_port,
        "nat_port": entry.to_port,
    }
    return (one[name],)
