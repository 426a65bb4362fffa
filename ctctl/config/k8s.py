"""Kubernetes Service and EndpointSlice objects, as ``kubectl get -o yaml|json`` prints them, as services.

What becomes of them follows the Cilium agent: one frontend per cluster IP, node port, load balancer
address and external IP; backends that are ready are active, those that still serve while they
terminate are terminating, others are left out. What the datapath cannot do is left out with a note.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from ctctl.config.fields import Address, parse_cidr, parse_ipv4
from ctctl.config.service import DEFAULT_AFFINITY_S, PROTOCOLS, Backend, Service, assign_ids, check_services
from ctctl.config.yamltree import Item, load_yaml
from ctctl.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_SERVICE_NAME_LABEL = "kubernetes.io/service-name"
#: slices, by (namespace, service), each with the item it came from
_Slices = dict[tuple[str, str], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class KubernetesServices:
    """Services read from objects, and a note for everything that was left out. Ids are still 0."""

    services: tuple[Service, ...]
    notes: tuple[str, ...]


def is_kubernetes(item: Item) -> bool:
    """Whether a YAML value is a Kubernetes object (or list of them)."""
    return item.kind == "map" and "kind" in item.entries and "apiVersion" in item.entries


def load_kubernetes_services(path: str | Path, node_ip: IPv4Address) -> KubernetesServices:
    """Services with ids from a file of nothing but Kubernetes objects. Raises ConfigError."""
    documents = load_yaml(path)
    for document in documents:
        if not is_kubernetes(document):
            raise document.error("is not a Kubernetes object: apiVersion and kind are missing")
    found = kubernetes_services(documents, node_ip)
    services = assign_ids(found.services)
    check_services(services, str(path))
    return KubernetesServices(services, found.notes)


def kubernetes_services(items: Iterable[Item], node_ip: IPv4Address) -> KubernetesServices:
    """Services for one node (its address carries the node ports). Raises ConfigError."""
    objects = [single for item in items for single in _flatten(item)]
    slices: _Slices = defaultdict(list)
    notes: list[str] = []
    for item in objects:
        kind, body = item.entries["kind"].text, item.plain()
        if kind == "EndpointSlice":
            label = (_get(body, "metadata", "labels") or {}).get(_SERVICE_NAME_LABEL)
            if label:
                slices[_namespace(body), str(label)].append(body)
        elif kind != "Service":
            notes.append(f"{kind} {_namespace(body)}/{_get(body, 'metadata', 'name')}: ignored")
    services: list[Service] = []
    for item in objects:
        if item.entries["kind"].text == "Service":
            try:
                services += _service(item.plain(), slices, node_ip, item.line, notes)
            except (ValueError, TypeError, KeyError, AttributeError) as err:
                name = _get(item.plain(), "metadata", "name")
                raise item.error(f"Service {name}: {err or type(err).__name__}") from err
    return KubernetesServices(tuple(_merge_protocols(services, notes)), tuple(notes))


def _flatten(item: Item) -> Iterator[Item]:
    if not is_kubernetes(item):
        raise item.error("is not a Kubernetes object: apiVersion and kind are missing")
    if item.entries["kind"].text.endswith("List"):
        for child in item.entries["items"].items if "items" in item.entries else ():
            yield from _flatten(_in_list(child, item))
    else:
        yield item


def _in_list(child: Item, parent: Item) -> Item:
    """An item of a typed list (ServiceList) may lack kind and apiVersion: they are the list's."""
    if child.kind != "map" or "kind" in child.entries or parent.entries["kind"].text == "List":
        return child
    kind = replace(parent.entries["kind"], text=parent.entries["kind"].text.removesuffix("List"))
    return replace(child, entries={**child.entries, "kind": kind, "apiVersion": parent.entries["apiVersion"]})


def _get(body: Any, *keys: str) -> Any:
    for key in keys:
        body = body.get(key) if isinstance(body, dict) else None
    return body


def _namespace(body: dict[str, Any]) -> str:
    return str(_get(body, "metadata", "namespace") or "default")


def _service(
    body: dict[str, Any], slices: _Slices, node_ip: IPv4Address, line: int, notes: list[str]
) -> Iterator[Service]:
    spec, name = body.get("spec") or {}, str(_get(body, "metadata", "name"))
    full_name = f"{_namespace(body)}/{name}"
    kind = spec.get("type", "ClusterIP")
    if kind == "ExternalName":
        notes.append(f"Service {full_name}: ExternalName has no frontend: ignored")
        return
    if spec.get("clusterIP") == "None":
        notes.append(f"Service {full_name}: headless, has no frontend: ignored")
        return
    addresses = list(_frontends(spec, body.get("status") or {}, node_ip))
    if not addresses:
        notes.append(f"Service {full_name}: has no IPv4 address: ignored")
        return
    for port in spec.get("ports") or ():
        port_name = port.get("name") or ""
        backends = tuple(_backends(slices.get((_namespace(body), name), ()), port_name))
        for frontend, address, label in addresses:
            number = port.get("nodePort") if frontend == "NodePort" else port["port"]
            if not number:
                continue
            yield Service(
                name=f"{full_name}:{port_name or port['port']}{label}",
                type=frontend,
                ip=address,
                port=_port(number),
                protocol=_protocol(port.get("protocol", "TCP")),
                id=0,
                affinity=_affinity(spec),
                external_traffic_policy=_policy(spec, "externalTrafficPolicy"),
                internal_traffic_policy=_policy(spec, "internalTrafficPolicy"),
                source_ranges=_source_ranges(spec) if frontend == "LoadBalancer" else (),
                backends=backends,
                line=line,
            )


def _frontends(
    spec: dict[str, Any], status: dict[str, Any], node_ip: IPv4Address
) -> Iterator[tuple[str, IPv4Address, str]]:
    """(frontend type, address, suffix of its name) of each address a service has."""
    kind = spec.get("type", "ClusterIP")
    cluster = _ipv4_only(spec.get("clusterIPs") or [spec.get("clusterIP")])
    balancer = _ipv4_only(ingress.get("ip") for ingress in _get(status, "loadBalancer", "ingress") or ())
    external = _ipv4_only(spec.get("externalIPs") or ())
    yield from (("ClusterIP", address, "") for address in cluster)
    if kind in ("NodePort", "LoadBalancer"):
        yield "NodePort", node_ip, "/nodeport"
    if kind == "LoadBalancer":
        yield from (("LoadBalancer", address, f"/loadbalancer/{address}") for address in balancer)
    yield from (("ExternalIPs", address, f"/external/{address}") for address in external)


def _ipv4_only(texts: Iterable[Any]) -> list[IPv4Address]:
    return [parse_ipv4(str(text)) for text in texts if text and ":" not in str(text)]


def _port(value: Any) -> int:
    if not isinstance(value, int) or not 0 < value < 65536:
        raise ValueError(f"port {value!r} is not a number in 1..65535")
    return value


def _protocol(value: str) -> str:
    if value not in PROTOCOLS:
        raise ValueError(f"protocol {value!r} is not one of TCP, UDP, SCTP")
    return value


def _policy(spec: dict[str, Any], key: str) -> str:
    return "Local" if spec.get(key) == "Local" else "Cluster"


def _affinity(spec: dict[str, Any]) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    return int(_get(spec, "sessionAffinityConfig", "clientIP", "timeoutSeconds") or DEFAULT_AFFINITY_S)


def _source_ranges(spec: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(parse_cidr(str(text)) for text in spec.get("loadBalancerSourceRanges") or () if ":" not in str(text))


def _backends(slices: Iterable[dict[str, Any]], port_name: str) -> Iterator[Backend]:
    """The backends behind a named port; an address that is in two slices counts once."""
    seen: set[tuple[IPv4Address, int]] = set()
    for body in slices:
        if body.get("addressType", "IPv4") != "IPv4":
            continue
        ports = [port.get("port") for port in body.get("ports") or () if (port.get("name") or "") == port_name]
        for endpoint in body.get("endpoints") or ():
            state = _state(endpoint.get("conditions") or {})
            for address in _ipv4_only(endpoint.get("addresses") or ()):
                for port in ports:
                    if state and port and (address, port) not in seen:
                        seen.add((address, port))
                        yield Backend(0, address, _port(port), state, node=endpoint.get("nodeName"))


def _state(conditions: dict[str, Any]) -> str | None:
    """A backend's state from its conditions, None when it takes no traffic; an absent ready means true."""
    if conditions.get("ready") is not False:
        return "active"
    serving = conditions.get("serving")
    return "terminating" if serving and conditions.get("terminating") else None


def _merge_protocols(services: list[Service], notes: list[str]) -> Iterator[Service]:
    """One frontend for each address and port: the 1.16 service key has no protocol (DNS over TCP and UDP)."""
    merged: dict[tuple[Address, int], Service] = {}
    for service in services:
        first = merged.setdefault((service.ip, service.port), service)
        if first is service:
            continue
        if first.protocol == service.protocol:
            where = f"{service.ip}:{service.port}"
            raise ConfigError(f"Services {first.name} and {service.name} have the same frontend {where}")
        if {(b.ip, b.port) for b in first.backends} == {(b.ip, b.port) for b in service.backends}:
            merged[service.ip, service.port] = replace(first, protocol="ANY")
        else:
            notes.append(f"{service.name}: {service.protocol} ignored, {first.name} has the frontend (1.16 key)")
    yield from merged.values()
