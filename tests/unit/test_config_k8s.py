"""Kubernetes objects as services: what each becomes, what is left out and said so."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from ctctl.config.k8s import load_kubernetes_services
from ctctl.config.node import load_node_file
from ctctl.config.service import Service
from ctctl.config.yamltree import load_yaml
from ctctl.errors import ConfigError
from tests.support.nodefile import parse_node_file

DATA = Path(__file__).parent.parent / "data" / "kubernetes" / "services.yaml"
NODE_IP = IPv4Address("10.1.0.1")


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    return {service.name: service for service in load_kubernetes_services(DATA, NODE_IP).services}


def test_every_address_and_port_is_a_frontend(services: dict[str, Service]) -> None:
    assert {name: (s.type, f"{s.ip}:{s.port}") for name, s in services.items()} == {
        "shop/web:http": ("ClusterIP", "10.96.12.7:80"),
        "shop/web:http/nodeport": ("NodePort", "10.1.0.1:30080"),
        "shop/web:http/loadbalancer/172.16.0.10": ("LoadBalancer", "172.16.0.10:80"),
        "shop/web:http/external/203.0.113.9": ("ExternalIPs", "203.0.113.9:80"),
        "shop/web:https": ("ClusterIP", "10.96.12.7:443"),
        "shop/web:https/nodeport": ("NodePort", "10.1.0.1:30443"),
        "shop/web:https/loadbalancer/172.16.0.10": ("LoadBalancer", "172.16.0.10:443"),
        "shop/web:https/external/203.0.113.9": ("ExternalIPs", "203.0.113.9:443"),
        "kube-system/kube-dns:dns": ("ClusterIP", "10.96.0.10:53"),
        "default/plain:9000": ("ClusterIP", "10.96.0.77:9000"),
    }


def test_backends_by_named_port_and_conditions(services: dict[str, Service]) -> None:
    http = services["shop/web:http"].backends
    assert [(str(b.ip), b.port, b.state, b.node) for b in http] == [
        ("10.64.0.36", 8080, "active", "node-a"),
        ("10.64.1.64", 8080, "terminating", "node-b"),
        ("10.64.2.7", 8080, "active", "node-c"),
    ]
    assert [(str(b.ip), b.port) for b in services["shop/web:https"].backends] == [
        ("10.64.0.36", 8443),
        ("10.64.1.64", 8443),
    ]
    assert services["default/plain:9000"].backends == ()


def test_affinity_policy_and_ranges(services: dict[str, Service]) -> None:
    balancer = services["shop/web:http/loadbalancer/172.16.0.10"]
    assert balancer.affinity == 600
    assert (balancer.external_traffic_policy, balancer.internal_traffic_policy) == ("Local", "Cluster")
    assert balancer.source_ranges == (IPv4Network("192.0.2.0/24"),)
    assert services["shop/web:http/nodeport"].source_ranges == ()


def test_the_same_port_over_tcp_and_udp_is_one_frontend(services: dict[str, Service]) -> None:
    assert services["kube-system/kube-dns:dns"].protocol == "ANY"


def test_what_is_left_out_is_said() -> None:
    notes = load_kubernetes_services(DATA, NODE_IP).notes
    assert [note.split(":")[0] for note in notes] == ["Service shop/db", "Service shop/outside", "Service shop/six"]
    assert "headless" in notes[0]
    assert "ExternalName" in notes[1]
    assert "no IPv4 address" in notes[2]


def test_ids_are_the_same_in_every_run_and_order(tmp_path: Path) -> None:
    (document,) = load_yaml(DATA)
    body = document.plain()
    body["items"].reverse()
    other = tmp_path / "reversed.json"
    other.write_text(json.dumps(body))
    first = {
        s.name: s.id for s in load_kubernetes_services(DATA, NODE_IP).services if s.name != "kube-system/kube-dns:dns"
    }
    second = {s.name: s.id for s in load_kubernetes_services(other, NODE_IP).services}
    assert first.items() <= second.items()
    assert len(set(first.values())) == len(first)
    backends = {(b.ip, b.port): b.id for s in load_kubernetes_services(DATA, NODE_IP).services for b in s.backends}
    assert len(set(backends.values())) == len(backends)


def test_in_place_of_services(tmp_path: Path) -> None:
    indented = DATA.read_text().replace("\n", "\n  ")
    inside = tmp_path / "inside.yaml"
    inside.write_text(f"node: {{name: node-a, ip: 10.1.0.1}}\nservices:\n  {indented}\n")
    behind = tmp_path / "behind.yaml"
    own = "services: [{name: own, ip: 10.96.9.9, port: 80, id: 15}]"
    behind.write_text(f"node: {{name: node-a, ip: 10.1.0.1}}\n{own}\n---\n{DATA.read_text()}")
    wanted = {s.name for s in load_kubernetes_services(DATA, NODE_IP).services}
    assert {s.name for s in load_node_file(inside).services} == wanted
    assert {s.name for s in load_node_file(behind).services} == wanted | {"own"}
    assert len(load_node_file(inside).notes) == 3


SERVICE = """\
node: {name: n, ip: 10.1.0.1}
services:
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: shop}
  spec: {clusterIP: 10.96.0.1, ports: [{port: 80, protocol: TCP}]}
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("10.96.0.1", "10.96.0.256", "10.96.0.256"),
        ("port: 80", "port: http", "port 'http'"),
        ("protocol: TCP", "protocol: QUIC", "QUIC"),
        ("ports: [{port: 80, protocol: TCP}]", "ports: 80", "web"),
        ("{clusterIP: 10.96.0.1, ports: [{port: 80, protocol: TCP}]}", "[x]", "web"),
    ],
)
def test_objects_that_make_no_sense(old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_node_file(SERVICE.replace(old, new))
    assert caught.value.line == 3
    assert "web" in str(caught.value)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\n")
    with pytest.raises(ConfigError, match="not a Kubernetes object"):
        load_kubernetes_services(path, NODE_IP)
