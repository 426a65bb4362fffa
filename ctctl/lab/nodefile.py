"""The lab's node files: the topology said in the words of ``ctctl load -f`` (docs/node-file.md). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ctctl.lab.topology import LabService, Node, Topology
from ctctl.model.identity import HOST, REMOTE_NODE

#: Enough for a thousand connections in parallel many times over, and quick to allocate.
CT_TCP_MAX = 65536
CT_ANY_MAX = 65536
SNAT_MAX = 65536

#: Encapsulation by the programs themselves: every kernel can. The other one is ``device``.
BPF = "bpf"


def node_document(
    topology: Topology,
    node: Node,
    *,
    states: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    tunnel: str = BPF,
) -> dict[str, Any]:
    """The node file of ``node`` as plain data.

    ``states`` maps a pod to the state of every backend it is (``terminating``, ...), default active;
    pods in ``without`` are no backends of any service. ``tunnel`` is who encapsulates, ``bpf`` or ``device``.
    """
    return {
        "node": {"name": topology.datapath_node(node.name), "ip": node.ip, "device": "eth0", "pod-cidr": node.pod_cidr},
        "datapath": {
            "tunnel": tunnel,
            "ct": {"tcp-max": CT_TCP_MAX, "any-max": CT_ANY_MAX, "snat-max": SNAT_MAX},
            "lb": {"algorithm": "maglev", "mode": "dsr", "dispatch": "geneve", "no-backend": "reject"},
        },
        "endpoints": [
            {
                "name": pod.name,
                "ip": pod.ip,
                "id": pod.endpoint_id,
                "identity": pod.identity,
                "interface": pod.interface,
                "mac": pod.mac,
            }
            for pod in topology.pods_of(node.name)
        ],
        "remote": _remote(topology, node),
        "services": [_service(topology, node, service, states or {}, without) for service in topology.services],
        "policy": [],
    }


def node_yaml(document: dict[str, Any]) -> str:
    """The text of a node file."""
    import yaml

    return yaml.safe_dump(document, sort_keys=False, width=120, default_flow_style=None)


def _remote(topology: Topology, node: Node) -> list[dict[str, Any]]:
    """Identities of everything that is not a pod of this node."""
    known: list[dict[str, Any]] = [{"cidr": f"{node.ip}/32", "identity": HOST}]
    for other in topology.nodes:
        if other is node:
            continue
        known.append({"cidr": f"{other.ip}/32", "identity": REMOTE_NODE})
        known += [
            {"cidr": f"{pod.ip}/32", "identity": pod.identity, "node": other.ip} for pod in topology.pods_of(other.name)
        ]
    return known


def backend_id(service: LabService, pod: str) -> int:
    """The id of a pod as a backend of a service; the same whether or not other backends are there."""
    return service.id * 10 + 1 + [backend.pod for backend in service.backends].index(pod)


def _service(
    topology: Topology, node: Node, service: LabService, states: Mapping[str, str], without: Collection[str]
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": service.name,
        "type": service.type,
        "ip": service.ip or node.ip,
        "port": service.port,
        "protocol": service.protocol,
        "id": service.id,
        "backends": [
            {
                "id": backend_id(service, backend.pod),
                "ip": topology.pod(backend.pod).ip,
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
