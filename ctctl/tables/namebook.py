"""The names of one node: of addresses, services and identities as shown, and what a typed name stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from ctctl.errors import UsageError
from ctctl.model.identity import HOST, REMOTE_NODE, RESERVED_IDENTITIES, RESERVED_NUMBERS
from ctctl.model.light import light
from ctctl.model.suggest import unknown_name
from ctctl.model.tuples import Address, end_of, endpoint, is_address
from ctctl.model.units import decimal
from ctctl.tables.query.context import ServiceRef
from ctctl.tables.sources.base import no_listings

if TYPE_CHECKING:
    from ctctl.tables.sources.listings import Listings

Frontend = tuple[Address, int, int]

#: Labels that say nothing an operator would name a peer by.
_DULL_LABELS = ("io.cilium.k8s.", "io.kubernetes.pod.", "io.cilium.k8s.namespace.labels.")
_NAMESPACE_LABEL = "io.kubernetes.pod.namespace"


@light
class NameBook:
    """What is known of one node's names. Names of pods and services are ``namespace/name`` where there is one."""

    pods: dict[str, dict[Address, None]] = field(default_factory=dict)
    nodes: dict[str, dict[Address, None]] = field(default_factory=dict)
    services: dict[str, dict[Frontend, None]] = field(default_factory=dict)
    #: names by rev-NAT id, and endpoints by number
    service_ids: dict[int, str] = field(default_factory=dict)
    endpoint_ids: dict[int, str] = field(default_factory=dict)
    #: labels by identity, with their source: ``k8s:app=web``
    labels: dict[int, tuple[str, ...]] = field(default_factory=dict)
    listings: Listings = field(default_factory=no_listings)

    # ---- what is known

    def add_pod(self, name: str, addresses: Iterable[str], endpoint_id: int | None = None) -> None:
        """A pod's addresses; texts that are none are passed over."""
        self.pods.setdefault(name, {}).update(dict.fromkeys(_addresses(addresses)))
        if endpoint_id is not None:
            self.endpoint_ids[endpoint_id] = name

    def add_node(self, name: str, addresses: Iterable[str]) -> None:
        """A node's addresses."""
        self.nodes.setdefault(name, {}).update(dict.fromkeys(_addresses(addresses)))

    def add_service(
        self, name: str, addresses: Iterable[str], port: int, proto: int, rev_nat: int | None = None
    ) -> None:
        """Frontends of a service. ``proto`` 0: any."""
        known = self.services.setdefault(name, {})
        known.update({(address, port, proto): None for address in _addresses(addresses)})
        if rev_nat:
            self.service_ids.setdefault(rev_nat, name)

    def add_labels(self, identity: int, labels: Iterable[str]) -> None:
        """The labels of an identity."""
        self.labels.setdefault(identity, tuple(sorted(labels)))

    def merge(self, other: NameBook) -> None:
        """Add what another book knows."""
        for name, addresses in other.pods.items():
            self.pods.setdefault(name, {}).update(addresses)
        for name, addresses in other.nodes.items():
            self.nodes.setdefault(name, {}).update(addresses)
        for name, frontends in other.services.items():
            self.services.setdefault(name, {}).update(frontends)
        self.service_ids = {**other.service_ids, **self.service_ids}
        self.endpoint_ids = {**other.endpoint_ids, **self.endpoint_ids}
        self.labels = {**other.labels, **self.labels}
        if not self.listings.ipcache:
            self.listings = other.listings

    # ---- shown

    def shown(self) -> dict[str, str]:
        """Names to show, by address; also ``backend N`` and ``rev-nat N`` (addresses), ``service N``,
        ``identity N`` and ``endpoint N`` (names)."""
        names = dict(self.listings.names)
        alone = self._of_one_service()
        names.update({str(address): name for address, name in alone.items()})
        for group in (self.nodes, self.pods):
            for name, ends in group.items():
                names.update({str(end): name for end in ends if not end.is_unspecified})
        for number, labels in self.labels.items():
            names[f"identity {number}"] = label_text(labels)
        for number, name in RESERVED_IDENTITIES.items():
            names[f"identity {number}"] = name
        names.update({f"endpoint {number}": name for number, name in self.endpoint_ids.items()})
        self._show_services(names)
        return names

    def _of_one_service(self) -> dict[Address, str]:
        """Addresses that are one service's and nothing else: a node's own, where NodePorts are, is called by none."""
        several = _hosts(self.listings)
        names: dict[Address, str] = {}
        known = [(address, name) for name, ends in self.services.items() for address, _, _ in ends]
        known += [
            (one.addr, self.service_ids[one.rev_nat])
            for one in self.listings.rev_nats
            if one.rev_nat in self.service_ids
        ]
        for address, name in known:
            if names.setdefault(address, name) != name or address.is_unspecified:
                several.add(address)
        return {address: name for address, name in names.items() if address not in several}

    def _show_services(self, names: dict[str, str]) -> None:
        fronts: dict[int, set[str]] = {}
        for slot in self.listings.services:
            if slot.rev_nat and not slot.slot:
                fronts.setdefault(slot.rev_nat, set()).add(endpoint(slot.addr, slot.port))
        heads = {number: ends.pop() for number, ends in fronts.items() if len(ends) == 1}
        heads.update((one.rev_nat, endpoint(one.addr, one.port)) for one in self.listings.rev_nats)
        for number, text in heads.items():
            name = self.service_ids.get(number)
            names[f"rev-nat {number}"] = f"{name} {text}" if name else text
        names.update({f"service {number}": name for number, name in self.service_ids.items()})
        ports = {slot.backend_id: slot.backend for slot in self.listings.services if slot.backend_id and slot.backend}
        for backend in self.listings.backends:
            known = backend.where if backend.port is not None else ports.get(backend.backend_id, backend.where)
            names[f"backend {backend.backend_id}"] = known

    # ---- typed

    def networks(self, name: str) -> Sequence[IPv4Network | IPv6Network]:
        """The addresses of a pod, a service or a node, or of every peer with an identity's name or label.

        Raises UsageError for an unknown name, and for one that several things have.
        """
        kind, _, rest = name.partition("/")
        groups = {"pod": self.pods, "node": self.nodes, "service": self._by_service()}
        if kind in groups and rest and not _find(groups["pod"], name):
            groups, name = {kind: groups[kind]}, rest
        found = {f"{word}/{full}": ends for word, group in groups.items() for full, ends in _find(group, name).items()}
        if len(found) > 1:
            raise UsageError(f"{name!r} could be {' or '.join(sorted(found))}: say which")
        if found:
            return _single(next(iter(found.values())))
        identities = self._identities(name)
        if identities:
            return [
                ip_network(record.prefix, strict=False)
                for record in self.listings.ipcache
                if record.identity in identities and not record.prefix.endswith("/0")
            ]
        raise UsageError(self._unknown(name))

    def has_pod(self, name: str) -> bool:
        """Whether one or several pods are called so."""
        return bool(_find(self.pods, name.removeprefix("pod/")))

    def _by_service(self) -> dict[str, dict[Address, None]]:
        known = self.services.items()
        return {name: {address: None for address, _, _ in ends if not address.is_unspecified} for name, ends in known}

    def _unknown(self, name: str) -> str:
        known = [*self.pods, *self.services, *self.nodes]
        if not known and not self.labels:
            return f"{name!r}: no names are known here; --names FILE gives some (Kubernetes objects, a sysdump)"
        short = [full.rpartition("/")[2] for full in known]
        return unknown_name("name", name, dict.fromkeys([*known, *short, *RESERVED_NUMBERS]))

    def identities(self, name: str) -> Sequence[int]:
        """The identities with a reserved name or a label, or of a pod. Raises UsageError for an unknown one."""
        found = self._identities(name)
        if found:
            return sorted(found)
        ends = {address for addresses in _find(self.pods, name).values() for address in addresses}
        found = {one.identity for one in self.listings.endpoints if one.addr in ends}
        if found:
            return sorted(found)
        labels = [label.partition(":")[2] for labels in self.labels.values() for label in labels]
        raise UsageError(unknown_name("identity", name, dict.fromkeys([*RESERVED_NUMBERS, *labels])))

    def _identities(self, name: str) -> set[int]:
        reserved = RESERVED_NUMBERS.get(name.removeprefix("reserved:").lower())
        if reserved is not None:
            return {reserved}
        return {
            number
            for number, labels in self.labels.items()
            if name == label_text(labels) or any(name in (label, label.partition(":")[2]) for label in labels)
        }

    def backends(self, name: str) -> Sequence[int]:
        """The numbers of the backends that are shown as ``name``. Raises UsageError for an unknown one."""
        shown = {key: text for key, text in self.shown().items() if key.startswith("backend ")}
        found = sorted(int(key.removeprefix("backend ")) for key, text in shown.items() if text == name)
        if not found:
            raise UsageError(unknown_name("backend", name, dict.fromkeys(shown.values())))
        return found

    def service(self, name: str) -> ServiceRef:
        """A service by name, also one port of it (``NAME:PORT``), by ``ADDRESS:PORT``, by the address of all of its
        frontends, or by its rev-NAT id.

        Raises UsageError for an unknown or ambiguous one.
        """
        end, frontends, only = end_of(name), self._frontends_at(name), None
        if frontends:
            pass
        elif end is not None:
            frontends = {(*end, 0): None}
        elif is_address(name.strip("[]")):
            raise UsageError(f"no service at {name} is known here: write ADDRESS:PORT")
        else:
            short, _, port = name.rpartition(":")
            if short and (only := decimal(port, 0xFFFF)) is not None:
                name = short
            found = _find(self.services, name.removeprefix("service/"))
            named = {full for full in self.service_ids.values() if _is_named(full, name.removeprefix("service/"))}
            full_names = {*found, *named}
            if len(full_names) != 1:
                known = dict.fromkeys([*self.services, *self.service_ids.values()])
                text = " or ".join(sorted(full_names))
                raise UsageError(
                    f"{name!r} could be {text}: say which" if text else unknown_name("service", name, known)
                )
            name = full_names.pop()
            frontends = {front: None for front in found.get(name, {}) if only in (None, front[1])}
            if only is not None and not frontends:
                raise UsageError(f"service {name!r} has no port {only} here")
        ids = {number for number, full in self.service_ids.items() if full == name and only is None}
        ids |= {one.rev_nat for one in self.listings.rev_nats if any(f[:2] == (one.addr, one.port) for f in frontends)}
        shown = [(_network(address), port, proto) for address, port, proto in frontends if not address.is_unspecified]
        return ServiceRef(frozenset(ids - {0}), tuple(shown))

    def _frontends_at(self, name: str) -> dict[Frontend, None]:
        """The frontends at an address that is written without a port, or of a rev-NAT id; none for anything else."""
        if name.isdecimal():
            return {(one.addr, one.port, 0): None for one in self.listings.rev_nats if str(one.rev_nat) == name}
        if not is_address(name.strip("[]")):
            return {}
        address = ip_address(name.strip("[]"))
        slots = {(one.addr, one.port, one.proto or 0): None for one in self.listings.services if not one.slot}
        slots |= {(one.addr, one.port, 0): None for one in self.listings.rev_nats}
        slots |= dict.fromkeys(frontend for of_name in self.services.values() for frontend in of_name)
        # Port 0 is of what no frontend takes.
        return {frontend: None for frontend in slots if frontend[0] == address and frontend[1]}

    def address_of(self, name: str, version: int | None = None) -> Address:
        """The one address of a pod, service or node, of that IP version. Raises UsageError."""
        found = sorted((network.network_address for network in self.networks(name)), key=lambda one: one.version)
        fitting = [address for address in found if version in (None, address.version)]
        first = [address for address in fitting if address.version == fitting[0].version]
        if not fitting:
            raise UsageError(f"{name!r} has no IPv{version} address")
        if len(first) > 1:
            raise UsageError(f"{name!r} has several addresses, {', '.join(map(str, first))}: say which")
        return first[0]


class LazyBook:
    """The names of a book that is made when a filter first asks for one. Raises what ``make`` raises."""

    def __init__(self, make: Callable[[], NameBook]) -> None:
        self._make = make

    @cached_property
    def book(self) -> NameBook:
        """All of it."""
        return self._make()

    def networks(self, name: str) -> Sequence[IPv4Network | IPv6Network]:
        """As ``NameBook.networks``."""
        return self.book.networks(name)

    def identities(self, name: str) -> Sequence[int]:
        """As ``NameBook.identities``."""
        return self.book.identities(name)

    def backends(self, name: str) -> Sequence[int]:
        """As ``NameBook.backends``."""
        return self.book.backends(name)

    def service(self, name: str) -> ServiceRef:
        """As ``NameBook.service``."""
        return self.book.service(name)


def _network(address: Address) -> IPv4Network | IPv6Network:
    return ip_network(address)


def _single(addresses: Iterable[Address]) -> list[IPv4Network | IPv6Network]:
    return [_network(address) for address in addresses]


def _addresses(texts: Iterable[str]) -> list[Address]:
    found = []
    for text in texts:
        try:
            found.append(ip_address(str(text).partition("/")[0]))
        except ValueError:
            continue
    return found


def _is_named(full: str, name: str) -> bool:
    """Whether a full name is meant: spelt out, or without its namespace or cluster."""
    return full == name or full.rpartition("/")[2] == name


def _find(group: dict[str, dict[Address, None]] | dict[str, dict[Frontend, None]], name: str) -> dict[str, dict]:  # type: ignore[type-arg]
    """The things of one kind with that name; a full name beats short ones."""
    if name in group:
        return {name: group[name]}
    return {full: ends for full, ends in group.items() if _is_named(full, name)}


def _hosts(listings: Listings) -> set[Address]:
    """Addresses of nodes, by the identities of their prefixes."""
    networks = (ip_network(one.prefix) for one in listings.ipcache if one.identity in (HOST, REMOTE_NODE))
    return {network.network_address for network in networks if network.num_addresses == 1}


def label_text(labels: Iterable[str]) -> str:
    """Labels for people: without their source, and without those that every pod of a namespace has."""
    plain = [label.partition(":")[2] or label for label in labels]
    telling = [label for label in plain if not label.startswith(_DULL_LABELS)]
    return ",".join(telling or plain)


def namespace_of(labels: Iterable[str]) -> str:
    """The namespace that an identity's labels say, an empty text if they say none."""
    for label in labels:
        key, _, value = (label.partition(":")[2] or label).partition("=")
        if key == _NAMESPACE_LABEL:
            return value
    return ""
