"""Services of a node file: what a frontend is and where its backends are."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ctctl.config.fields import Address, Fields, Network, parse_ip, parse_seconds
from ctctl.config.yamltree import Item
from ctctl.errors import ConfigError
from ctctl.model.service import BACKEND_STATES

SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalIPs", "HostPort")
#: Kubernetes' word for the list of them, and people's for one
_TYPE_SYNONYMS = {"ExternalIP": "ExternalIPs"}
PROTOCOLS = {"ANY": 0, "TCP": 6, "UDP": 17, "SCTP": 132}
#: what Kubernetes takes for sessionAffinity ClientIP without a timeout
DEFAULT_AFFINITY_S = 10800

_POLICY_KEYS = ("external-traffic-policy", "internal-traffic-policy", "source-ranges", "flags", "flags2")
_SERVICE_KEYS = ("name", "type", "ip", "port", "protocol", "id", "scope", "affinity", "backends", *_POLICY_KEYS)
_BACKEND_KEYS = ("id", "ip", "port", "state", "weight", "node")


@dataclass(frozen=True, slots=True)
class Backend:
    """One endpoint of a service. ``node`` is the name of its node where the file says it."""

    id: int
    ip: Address
    port: int
    state: str = "active"
    weight: int = 1
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """One frontend. ``affinity`` is the timeout in seconds, 0 for none; ``id`` its rev-NAT index.

    ``flags`` and ``flags2`` are raw bits (docs/reference/abi.md) that win over what type and policies say.
    ``scope`` None: external, and internal too where the traffic policies make two scopes. Those have
    different backends, so that the internal one has an id of its own, ``internal_id``.
    """

    name: str
    type: str
    ip: Address
    port: int
    protocol: str
    id: int
    scope: str | None = None
    affinity: int = 0
    external_traffic_policy: str = "Cluster"
    internal_traffic_policy: str = "Cluster"
    source_ranges: tuple[Network, ...] = ()
    flags: int | None = None
    flags2: int | None = None
    backends: tuple[Backend, ...] = ()
    line: int | None = None
    internal_id: int = 0

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of its scopes, in the order of ``scopes``."""
        return (self.id, self.internal_id) if len(self.scopes) > 1 else (self.id,)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes the frontend is written under: external 0, internal 1 of the service key."""
        if self.scope:
            return (self.scope,)
        return ("external", "internal") if self.two_scopes else ("external",)

    @property
    def two_scopes(self) -> bool:
        """Whether outside and inside clients see different backends."""
        return self.type != "ClusterIP" and self.external_traffic_policy != self.internal_traffic_policy


def parse_backend(item: Item) -> Backend:
    """A backend from its mapping; id 0 where the file leaves it to ctctl. Raises ConfigError."""
    fields = Fields(item, "backend", _BACKEND_KEYS)
    return Backend(
        id=fields.integer("id", 0, low=1),
        ip=fields.parsed("ip", parse_ip),
        port=fields.integer("port", low=0, high=65535),
        state=fields.choice("state", BACKEND_STATES, "active"),
        weight=fields.integer("weight", 1, low=0, high=65535),
        node=fields.parsed("node", str, None),
    )


def parse_service(item: Item) -> Service:
    """A service from its mapping; id 0 where the file leaves it to ctctl. Raises ConfigError."""
    fields = Fields(item, "service", _SERVICE_KEYS)
    address, port = fields.parsed("ip", parse_ip), fields.integer("port", low=0, high=65535)
    name = fields.text("name", f"{address}:{port}")
    fields.what = f"service {name}"
    policies = ("Cluster", "Local")
    kind = fields.choice("type", (*SERVICE_TYPES, *_TYPE_SYNONYMS), "ClusterIP")
    return Service(
        name=name,
        type=_TYPE_SYNONYMS.get(kind, kind),
        ip=address,
        port=port,
        protocol=fields.choice("protocol", PROTOCOLS, "TCP"),
        id=fields.integer("id", 0, low=1, high=65535),
        scope=fields.choice("scope", ("external", "internal"), "") or None,
        affinity=fields.parsed("affinity", _affinity, 0),
        external_traffic_policy=fields.choice("external-traffic-policy", policies, "Cluster"),
        internal_traffic_policy=fields.choice("internal-traffic-policy", policies, "Cluster"),
        source_ranges=fields.networks("source-ranges"),
        flags=fields.optional_integer("flags", high=255),
        flags2=fields.optional_integer("flags2", high=255),
        backends=tuple(parse_backend(backend) for backend in fields.sequence("backends")),
        line=item.line,
    )


def _affinity(text: str) -> int:
    if text.lower() == "none":
        return 0
    return DEFAULT_AFFINITY_S if text.lower() == "clientip" else parse_seconds(text)


def check_services(services: Iterable[Service], path: str) -> None:
    """Refuse duplicate names, frontends and ids, and one backend id for two backends. Raises ConfigError."""
    names: dict[str, Service] = {}
    frontends: dict[tuple[Address, int, str], Service] = {}
    ids: dict[int, Service] = {}
    backends: dict[int, tuple[Backend, Service]] = {}
    for service in services:
        _refuse(names.setdefault(service.name, service), service, f"service name {service.name!r}", path)
        for scope in service.scopes:
            what = f"service {service.name}: frontend {service.ip}:{service.port} ({scope})"
            why = " (a 1.16 service key has no protocol: use protocol ANY)"
            _refuse(frontends.setdefault((service.ip, service.port, scope), service), service, what, path, why)
        for number in service.ids:
            owner = ids.setdefault(number, service)
            if (owner.ip, owner.port) != (service.ip, service.port):
                _refuse(owner, service, f"service {service.name}: id {number}", path)
        for backend in service.backends:
            first, first_service = backends.setdefault(backend.id, (backend, service))
            if (first.ip, first.port, first.state) != (backend.ip, backend.port, backend.state):
                what = f"service {service.name}: backend id {backend.id} ({backend.ip}:{backend.port} {backend.state})"
                was = f", there {first.ip}:{first.port} {first.state}"
                _refuse(first_service, service, what, path, was, same=True)


def _refuse(first: Service, second: Service, what: str, path: str, why: str = "", *, same: bool = False) -> None:
    if first is not second or same:
        where = f" on line {first.line}" if first.line else ""
        raise ConfigError(f"{what} is already used{where} by service {first.name}{why}", path=path, line=second.line)


def assign_ids(services: Iterable[Service]) -> tuple[Service, ...]:
    """Give every service and backend without an id one derived from what it is.

    The same frontend or backend gets the same number in every run and on every node as long as no
    other hashes to it; given ids are never touched.
    """
    services = tuple(services)
    service_ids = _allocate(
        {service.id for service in services if service.id},
        {f"{s.ip}:{s.port}" for s in services if not s.id}
        | {f"{s.ip}:{s.port}/internal" for s in services if len(s.scopes) > 1},
        0xFFFF,
    )
    backend_ids = _allocate(
        {backend.id for service in services for backend in service.backends if backend.id},
        {f"{b.ip}:{b.port}" for service in services for b in service.backends if not b.id},
        0xFFFFFF,
    )
    return tuple(
        replace(
            service,
            id=service.id or service_ids[f"{service.ip}:{service.port}"],
            internal_id=service_ids.get(f"{service.ip}:{service.port}/internal", 0),
            backends=tuple(replace(b, id=b.id or backend_ids[f"{b.ip}:{b.port}"]) for b in service.backends),
        )
        for service in services
    )


def _allocate(taken: set[int], wanted: Iterable[str], top: int) -> dict[str, int]:
    used = set(taken)
    given = {}
    for text in sorted(wanted):
        number = zlib.crc32(text.encode()) % top + 1
        while number in used:
            number = number % top + 1
        used.add(number)
        given[text] = number
    return given
