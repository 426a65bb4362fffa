"""The lab's node files: the topology said in the words of ``ctctl load -f`` (docs/node-file.md). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ctctl.lab.topology import SERVICES6, LabService, Node, Pod, Topology
from ctctl.model.identity import HOST, REMOTE_NODE
from ctctl.node.tunnel import BPF

#: Enough for a thousand connections in parallel many times over, and quick to allocate.
CT_TCP_MAX = 65536
CT_ANY_MAX = 65536
SNAT_MAX = 65536


#: The datapath as ``lab up`` makes it.
NO_MODE: Mapping[str, Any] = {}


def node_document(
    topology: Topology,
    node: Node,
    *,
    states: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    tunnel: str = BPF,
    mode: Mapping[str, Any] = NO_MODE,
) -> dict[str, Any]:
    """The node file of ``node`` as plain data.

    ``states`` maps a pod to the state of every backend it is (``terminating``, ...), default active;
    pods in ``without`` are no backends of any service. ``tunnel`` is who encapsulates, ``bpf`` or ``device``.
    ``mode``: what the datapath of a story does otherwise, keys of ``datapath``; with ``ipv6`` everything has
    addresses of both families.
    """
    six = bool(mode.get("ipv6"))
    addresses = {"ip6": node.ip6, "pod-cidr6": node.pod_cidr6} if six else {}
    datapath = {
        "tunnel": tunnel,
        "ct": {"tcp-max": CT_TCP_MAX, "any-max": CT_ANY_MAX, "snat-max": SNAT_MAX},
        "lb": {"algorithm": "maglev", "mode": "dsr", "dispatch": "geneve", "no-backend": "reject"},
    }
    services = (*topology.services, *SERVICES6) if six else topology.services
    return {
        "node": {
            "name": topology.datapath_node(node.name),
            "ip": node.ip,
            **addresses,
            "device": "eth0",
            "pod-cidr": node.pod_cidr,
        },
        "datapath": _changed(datapath, mode),
        "endpoints": [
            {
                "name": pod.name,
                "ip": pod.ip,
                **({"ip6": pod.ip6} if six else {}),
                "id": pod.endpoint_id,
                "identity": pod.identity,
                "interface": pod.interface,
                "mac": pod.mac,
            }
            for pod in topology.pods_of(node.name)
        ],
        "remote": _remote(topology, node, six),
        "services": [_service(topology, node, service, states or {}, without) for service in services],
        "policy": [],
    }


def _changed(datapath: Mapping[str, Any], mode: Mapping[str, Any]) -> dict[str, Any]:
    """A section with other values; sections in it keep what is not named."""
    inner = {key: {**datapath.get(key, {}), **value} for key, value in mode.items() if isinstance(value, Mapping)}
    return {**datapath, **mode, **inner}


def node_yaml(document: dict[str, Any]) -> str:
    """The text of a node file."""
    import yaml

    return yaml.safe_dump(document, sort_keys=False, width=120, default_flow_style=None)


def _remote(topology: Topology, node: Node, six: bool) -> list[dict[str, Any]]:
    """Identities of everything that is not a pod of this node. A tunnel's ends are IPv4 in either family."""
    known: list[dict[str, Any]] = []
    for own in (node.ip, node.ip6) if six else (node.ip,):
        known.append({"cidr": own, "identity": HOST})
    for other in topology.nodes:
        if other is node:
            continue
        known += [{"cidr": ip, "identity": REMOTE_NODE} for ip in ((other.ip, other.ip6) if six else (other.ip,))]
        known += [
            {"cidr": ip, "identity": pod.identity, "node": other.ip}
            for pod in topology.pods_of(other.name)
            for ip in ((pod.ip, pod.ip6) if six else (pod.ip,))
        ]
    return [{**entry, "cidr": f"{entry['cidr']}/{128 if ':' in entry['cidr'] else 32}"} for entry in known]


def address_of(owner: Node | Pod, version: int) -> str:
    """The address of one family."""
    return owner.ip if version == 4 else owner.ip6


def backend_id(service: LabService, pod: str) -> int:
    """The id of a pod as a backend of a service; the same whether or not other backends are there."""
    return service.id * 10 + 1 + [backend.pod for backend in service.backends].index(pod)


def _service(
    topology: Topology, node: Node, service: LabService, states: Mapping[str, str], without: Collection[str]
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": service.name,
        "type": service.type,
        "ip": service.ip or (node.ip if service.version == 4 else node.ip6),
        "port": service.port,
        "protocol": service.protocol,
        "id": service.id,
        "backends": [
            {
                "id": backend_id(service, backend.pod),
                "ip": address_of(topology.pod(backend.pod), service.version),
                "port": backend.port,
                "state": states.get(backend.pod, "active"),
            }
            for backend in service.backends
            if backend.pod not in without
        ],
    }
    if service.affinity != "none":
        document["affinity"] = service.affinity
    if service.traffic_policy != "Cluster":
        document["external-traffic-policy"] = service.traffic_policy
    return document
