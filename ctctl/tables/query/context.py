"""What a filter must know about a table, and who knows names for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple, Protocol, TypeAlias

from ctctl.decode.ct import LAYOUT_LACKS
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.model.light import light_value

Network: TypeAlias = IPv4Network | IPv6Network


class ServiceRef(NamedTuple):
    """A service as filters need it: its rev-NAT ids, and its frontends as (address, port, protocol or 0)."""

    rev_nats: frozenset[int]
    frontends: tuple[tuple[Network, int, int], ...]


class Resolver(Protocol):
    """Who knows names. Each method raises UsageError for a name that it does not know."""

    def networks(self, name: str) -> Sequence[Network]:
        """The addresses of a pod, a service, a node or an identity's name."""
        ...

    def identities(self, name: str) -> Sequence[int]:
        """The identities with a reserved name or a label."""
        ...

    def backends(self, name: str) -> Sequence[int]:
        """The numbers of the backends at an ``ADDRESS:PORT``."""
        ...

    def service(self, name: str) -> ServiceRef:
        """A service by its name, its ``ADDRESS:PORT`` or its address."""
        ...


@light_value
class TableContext:
    """What a filter must know about a table. ``now`` in the clock's units; None: unknown."""

    family: int = 4
    layout: Layout = Layout.V1_16
    clock: Clock = field(default_factory=Clock)
    now: int | None = None
    map: str | None = None
    node: str | None = None
    absent: frozenset[str] = frozenset()
    names: Resolver | None = field(default=None, compare=False)

    def lacks(self, name: str) -> bool:
        """Whether the table does not know this field."""
        return name in self.absent or name in LAYOUT_LACKS[self.layout] or (name == "node" and self.node is None)
