"""The node file: everything one node's datapath needs to know, checked before anything is touched.

``load_node_file`` reads the short and the long form (docs/node-file.md). Field names
are the YAML's keys with underscores; times are whole seconds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from ctctl.config.datapath import DatapathSpec, parse_datapath
from ctctl.config.fields import (
    Fields,
    Network,
    hint,
    parse_cidr,
    parse_cidr6,
    parse_ipv4,
    parse_ipv6,
    parse_mac,
    parse_network,
)
from ctctl.config.k8s import is_kubernetes, kubernetes_services
from ctctl.config.service import PROTOCOLS, Service, assign_ids, check_services, parse_service
from ctctl.config.yamltree import Item, load_yaml, parse_yaml
from ctctl.errors import ConfigError

_TOP_KEYS = ["name", "about", "node", "datapath", "endpoints", "remote", "services", "policy", "clock", "steps"]

#: protocols that a policy can name and no service has
_ICMP = {"ICMP": 1, "ICMPv6": 58}


@dataclass(frozen=True, slots=True)
class Device:
    """The node's network device; ``ifindex`` and ``mac`` are found out on a live system."""

    name: str
    ifindex: int | None = None
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class Overlay:
    """The geneve device, or the name and number its traffic goes by where there is none."""

    name: str
    ifindex: int | None = None


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """The node itself. ``router`` is its address among its pods; None: the first of their CIDR."""

    name: str
    ip: IPv4Address
    device: Device | None = None
    overlay: Overlay | None = None
    pod_cidr: IPv4Network | None = None
    ip6: IPv6Address | None = None
    pod_cidr6: IPv6Network | None = None
    router: IPv4Address | None = None
    router6: IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod on this node. ``id`` defaults to the low 16 bits of its address (or the next free number)."""

    name: str
    ip: IPv4Address
    identity: int
    id: int
    interface: str | None = None
    ifindex: int | None = None
    mac: str | None = None
    node_mac: str | None = None
    ip6: IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class Remote:
    """An identity table entry: who lives behind ``cidr``, and on which node if that takes a tunnel."""

    cidr: Network
    identity: int
    node: IPv4Address | None = None


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """What endpoint (by name) may do: 0 and None mean any. ``protocol`` is the IP protocol number."""

    endpoint: str
    direction: str
    identity: int | None = None
    cidr: Network | None = None
    port: int = 0
    protocol: int = 0
    deny: bool = False


@dataclass(frozen=True, slots=True)
class NodeFile:
    """One node file, checked. ``steps`` are a scenario's, still as written; ``notes`` what was left out and why."""

    node: NodeSpec
    datapath: DatapathSpec = field(default_factory=DatapathSpec)
    endpoints: tuple[Endpoint, ...] = ()
    remote: tuple[Remote, ...] = ()
    services: tuple[Service, ...] = ()
    policy: tuple[PolicyRule, ...] = ()
    clock: int | None = None
    steps: tuple[Item, ...] = ()
    path: str = ""
    name: str = ""
    notes: tuple[str, ...] = field(default=(), compare=False)

    def endpoint(self, name_or_ip: str) -> Endpoint | None:
        """The endpoint of that name or address."""
        return next((e for e in self.endpoints if name_or_ip in (e.name, str(e.ip), str(e.ip6))), None)


def load_node_file(path: str | Path, name: str | None = None) -> NodeFile:
    """The node file at ``path``; of a file with several nodes the one called ``name``.

    Raises ConfigError with file, line and the offending value; nothing is half read.
    """
    nodes = load_node_files(path)
    chosen = [node for node in nodes if name is None or node.node.name == name]
    names = ", ".join(node.node.name for node in nodes)
    if not chosen:
        raise ConfigError(f"has no node {name!r}; it has {names}", path=str(path))
    if len(chosen) > 1:
        raise ConfigError(f"has several nodes ({names}): say which", path=str(path))
    return chosen[0]


def load_node_files(path: str | Path) -> tuple[NodeFile, ...]:
    """Every node of a file: one YAML document each. Kubernetes objects may follow as documents of their own."""
    return _nodes(load_yaml(path), str(path))


def parse_node_files(text: str, path: str = "<text>") -> tuple[NodeFile, ...]:
    """Every node of a file's text; ``path`` is what errors call it."""
    return _nodes(parse_yaml(text, path), path)


def _nodes(documents: list[Item], path: str) -> tuple[NodeFile, ...]:
    objects = [document for document in documents if is_kubernetes(document)]
    nodes = [document for document in documents if not is_kubernetes(document)]
    if not nodes:
        raise ConfigError("has no node in it: expected a mapping with a 'node' key", path=path)
    files = tuple(_node_file(document, objects, path) for document in nodes)
    _unique([file.node.name for file in files], nodes, "node name")
    return files


def _node_file(document: Item, objects: list[Item], path: str) -> NodeFile:
    fields = Fields(document, "node file", _TOP_KEYS)
    if "node" not in fields:
        raise document.error("node file: node is missing")
    node = _node(fields.mapping("node"))
    endpoints = _endpoints(fields.sequence("endpoints"))
    services, notes = _services(fields, objects, node)
    remote = tuple(_remote(item) for item in fields.sequence("remote"))
    _unique([entry.cidr for entry in remote], fields.sequence("remote"), "remote: cidr")
    datapath = parse_datapath(fields.mapping("datapath"))
    _check_families(document, datapath, node, services)
    return NodeFile(
        node=node,
        datapath=datapath,
        endpoints=endpoints,
        remote=remote,
        services=services,
        policy=tuple(_policy(item, endpoints) for item in fields.sequence("policy")),
        clock=fields.optional_integer("clock", low=1),
        steps=fields.sequence("steps"),
        path=path,
        name=fields.text("name", node.name),
        notes=notes,
    )


def _check_families(document: Item, datapath: DatapathSpec, node: NodeSpec, services: tuple[Service, ...]) -> None:
    if datapath.ipv6 and node.ip6 is None:
        raise document.error("node: ip6 is missing, with datapath.ipv6")
    for service in services:
        for what, address in (("ip", service.ip), *(("backend", backend.ip) for backend in service.backends)):
            if address.version != service.ip.version:
                raise document.error(f"service {service.name}: {what} {address} is of another family than {service.ip}")
        if service.ip.version == 6 and not datapath.ipv6:
            raise document.error(f"service {service.name}: {service.ip} is IPv6, and datapath.ipv6 is not set")


def _node(item: Item) -> NodeSpec:
    known = ("name", "ip", "ip6", "device", "overlay", "pod-cidr", "pod-cidr6", "router-ip", "router-ip6")
    fields = Fields(item, "node", known)
    device = overlay = None
    if "device" in fields:
        long = _long_form(fields, "device", ("name", "ifindex", "mac"))
        device = Device(long.text("name"), long.optional_integer("ifindex"), long.parsed("mac", parse_mac, None))
    if "overlay" in fields:
        long = _long_form(fields, "overlay", ("name", "ifindex"))
        overlay = Overlay(long.text("name"), long.optional_integer("ifindex"))
    pod_cidr = fields.parsed("pod-cidr", parse_cidr, None)
    ip6 = fields.parsed("ip6", parse_ipv6, None)
    pod_cidr6 = fields.parsed("pod-cidr6", parse_cidr6, None)
    return NodeSpec(
        fields.text("name"),
        fields.parsed("ip", parse_ipv4),
        device,
        overlay,
        pod_cidr,
        ip6,
        pod_cidr6,
        fields.parsed("router-ip", parse_ipv4, None),
        fields.parsed("router-ip6", parse_ipv6, None),
    )


def _long_form(fields: Fields, key: str, known: tuple[str, ...]) -> Fields:
    item = fields.item.entries[key]
    if item.kind not in ("map", "seq"):
        item = Item("map", item.path, item.line, entries={"name": item}, key_lines={"name": item.line})
    return Fields(item, f"node: {key}", known)


def _endpoints(items: tuple[Item, ...]) -> tuple[Endpoint, ...]:
    parsed = [_endpoint(item) for item in items]
    for what in ("name", "ip", "ip6", "id", "interface"):
        _unique([getattr(endpoint, what) or None for endpoint in parsed], items, f"endpoint {what}")
    used = {endpoint.id for endpoint in parsed if endpoint.id}
    ids: dict[IPv4Address, int] = {}
    for endpoint in sorted(parsed, key=lambda endpoint: endpoint.ip):
        number = endpoint.id or int(endpoint.ip) & 0xFFFF
        while not endpoint.id and (number in used or not number):
            number = (number + 1) & 0xFFFF
        used.add(number)
        ids[endpoint.ip] = number
    return tuple(
        Endpoint(e.name, e.ip, e.identity, ids[e.ip], e.interface, e.ifindex, e.mac, e.node_mac, e.ip6) for e in parsed
    )


def _endpoint(item: Item) -> Endpoint:
    fields = Fields(
        item, "endpoint", ["name", "ip", "ip6", "id", "identity", "interface", "ifindex", "mac", "node-mac"]
    )
    name = fields.text("name")
    fields.what = f"endpoint {name}"
    return Endpoint(
        name=name,
        ip=fields.parsed("ip", parse_ipv4),
        identity=fields.integer("identity", low=1, high=0xFFFFFF),
        id=fields.integer("id", 0, low=1, high=0xFFFF),
        interface=fields.parsed("interface", str, None),
        ifindex=fields.optional_integer("ifindex", low=1),
        mac=fields.parsed("mac", parse_mac, None),
        node_mac=fields.parsed("node-mac", parse_mac, None),
        ip6=fields.parsed("ip6", parse_ipv6, None),
    )


def _remote(item: Item) -> Remote:
    fields = Fields(item, "remote", ("cidr", "identity", "node"))
    cidr = fields.parsed("cidr", parse_network)
    return Remote(cidr, fields.integer("identity", low=1), fields.parsed("node", parse_ipv4, None))


def _services(fields: Fields, objects: list[Item], node: NodeSpec) -> tuple[tuple[Service, ...], tuple[str, ...]]:
    item = fields.item.entries.get("services")
    items = (item,) if item is not None and is_kubernetes(item) else fields.sequence("services")
    found = kubernetes_services([*objects, *filter(is_kubernetes, items)], node.ip)
    own = [parse_service(item) for item in items if not is_kubernetes(item)]
    services = assign_ids([*own, *found.services])
    check_services(services, fields.item.path)
    return services, found.notes


def _policy(item: Item, endpoints: tuple[Endpoint, ...]) -> PolicyRule:
    fields = Fields(item, "policy rule", ["endpoint", "direction", "identity", "cidr", "port", "protocol", "deny"])
    name = fields.text("endpoint")
    if name not in (known := [endpoint.name for endpoint in endpoints]):
        raise fields.error("endpoint", f"no endpoint is called {name!r}; {hint(name, known)}")
    if "identity" in fields and "cidr" in fields:
        raise fields.error("cidr", "a rule names the peer by identity or by cidr, not both")
    return PolicyRule(
        endpoint=name,
        direction=fields.choice("direction", ("ingress", "egress")),
        identity=fields.optional_integer("identity", low=1),
        cidr=fields.parsed("cidr", parse_network, None),
        port=fields.integer("port", 0, low=1, high=65535),
        protocol={**PROTOCOLS, **_ICMP}[fields.choice("protocol", [*PROTOCOLS, *_ICMP], "ANY")],
        deny=fields.boolean("deny", False),
    )


def _unique(values: Iterable[Hashable | None], items: Iterable[Item], what: str) -> None:
    """Refuse a value that was there before; None is no value. ``items`` say where each stands."""
    seen: dict[Hashable, int] = {}
    for value, item in zip(values, items, strict=True):
        if value is not None and value in seen:
            raise item.error(f"{what} {value} is already used on line {seen[value]}")
        seen[value] = item.line
