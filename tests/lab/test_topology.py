"""The lab on paper: names, addresses, node files."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import combinations
from pathlib import Path

import pytest

from ctctl.config.node import load_node_file
from ctctl.errors import UsageError
from ctctl.lab.nodefile import backend_id, node_document, node_yaml
from ctctl.lab.stories import STORIES, find_story
from ctctl.lab.topology import MEMBERS, NODES, PODS, SERVICES, Topology


@pytest.mark.parametrize("name", ["lab", "a", "second-lab", "x1", "a" * 24])
def test_lab_names_that_are_fine(name: str) -> None:
    assert Topology(name).netns("pod1") == f"ctctl-{name}-pod1"


@pytest.mark.parametrize("name", ["", "-a", "a-", "Lab", "a/b", "a b", "a.b", "ä", "a" * 25, "a\n"])
def test_lab_names_that_are_not(name: str) -> None:
    with pytest.raises(UsageError, match="lab name"):
        Topology(name)


def test_labs_never_share_a_namespace() -> None:
    """Also where one lab's name begins with another's and a member's."""
    labs = [Topology(name) for name in ("a", "a-node", "a-node-a", "a-pod1", "node-a", "a-router")]
    names = {lab.name: {lab.netns(member) for member in MEMBERS} for lab in labs}
    for one, other in combinations(names, 2):
        assert not names[one] & names[other]


def test_unknown_member_is_named() -> None:
    with pytest.raises(UsageError, match="no 'pod9'; its members are node-a"):
        Topology().netns("pod9")


def test_addresses_are_where_they_belong() -> None:
    for pod in PODS:
        node = Topology().node(pod.node)
        assert ip_address(pod.ip) in ip_network(node.pod_cidr)
        assert pod.ip != node.gateway
    assert len({pod.mac for pod in PODS} | {pod.node_mac for pod in PODS}) == 2 * len(PODS)
    assert len({service.id for service in SERVICES}) == len(SERVICES)
    assert len({(service.ip, service.port) for service in SERVICES}) == len(SERVICES)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_node_files_are_valid(node, tmp_path: Path) -> None:
    topology = Topology()
    path = tmp_path / "node.yaml"
    path.write_text(node_yaml(node_document(topology, node)))
    loaded = load_node_file(path)
    assert loaded.node.name == f"lab-{node.name}"
    assert [endpoint.name for endpoint in loaded.endpoints] == [pod.name for pod in topology.pods_of(node.name)]
    assert {service.name for service in loaded.services} == {service.name for service in SERVICES}
    remote = {str(entry.cidr) for entry in loaded.remote}
    assert remote >= {f"{pod.ip}/32" for pod in PODS if pod.node != node.name}


def test_backends_keep_their_ids_when_another_goes() -> None:
    service = Topology().service("web")
    document = node_document(Topology(), NODES[0], states={"pod4": "terminating"}, without={"pod2"})
    backends = next(entry for entry in document["services"] if entry["name"] == "web")["backends"]
    assert [(backend["id"], backend["state"]) for backend in backends] == [
        (backend_id(service, "pod3"), "active"),
        (backend_id(service, "pod4"), "terminating"),
    ]


def test_every_story_that_was_promised_is_there() -> None:
    promised = (
        "pod-to-pod same-node icmp-error clusterip clusterip-affinity hairpin nodeport loadbalancer-dsr"
        " loadbalancer-local udp no-backend backend-drain nodeport-snat nodeport-snat-v6 masquerade masquerade-icmp"
        " socket-lb dual-stack hybrid dsr-opt port-exhaustion"
    )
    assert set(promised.split()) == set(STORIES)
    with pytest.raises(UsageError, match="did you mean 'hairpin'"):
        find_story("hairpn")
