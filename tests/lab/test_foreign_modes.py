"""The legs of a connection as probes name them, for each way that a foreign node reaches a backend or the world."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ctctl.lab import processes, servers
from ctctl.lab.topology import CLIENT, CLIENT_IP
from tests.support.foreign_cluster import ForeignCluster, foreign_cluster
from tests.support.tracing import tracing
from tests.support.wait import PATIENCE_S

pytestmark = pytest.mark.lab

#: Where pods keep their own address.
CLUSTER = ["10.64.0.0/16", "10.1.0.0/24"]
POD, NODE, FAR_POD = "10.64.0.36", "10.1.0.1", "10.64.1.36"
#: A datagram from a port to an address, and what came back from where.
DATAGRAM = f"""
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout({PATIENCE_S})
s.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
print("%s:%s" % s.recvfrom(99)[1])
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ForeignCluster]:
    with foreign_cluster() as found:
        yield found


def traced(cluster: ForeignCluster, flow: str, member: str, *commands: Sequence[str]) -> list[dict[str, Any]]:
    """The packets and drops that probes tell of a flow while a member runs these."""
    with tracing("--probe", flow, *cluster.words(), "-o", "jsonl") as trace:
        for command in commands:
            processes.run(cluster.lab, member, command, timeout_s=PATIENCE_S)
        return trace.stop()


def curl(url: str) -> list[str]:
    return ["curl", "-s", "-S", "-m", "15", url]


def legs(cluster: ForeignCluster, events: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(node and device, direction, leg)."""
    nodes = {cluster.lab.netns(node.name): node.name for node in cluster.lab.nodes}
    return [(f"{nodes[event['node']]} {event['device']}", event["direction"], event["leg"]) for event in events]


def services(events: list[dict[str, Any]]) -> set[str | None]:
    return {event["service"] and f"{event['service']['addr']}:{event['service']['port']}" for event in events}


#: One packet out and its answer through a node that masquerades.
MASQUERADE = [
    ("node-a lxc-pod1", "ingress", "request"),
    ("node-a eth0", "egress", "request"),
    ("node-a eth0", "ingress", "reply, translated"),
    ("node-a lxc-pod1", "egress", "reply"),
]


def test_masquerade_from_the_first_answer_on(cluster: ForeignCluster) -> None:
    with cluster.turned({"masquerade": True, "native-routing-cidr": CLUSTER, "lb": {"mode": "snat"}}):
        server = servers.start(cluster.lab, CLIENT)
        try:
            assert servers.is_ready(cluster.lab, CLIENT)
            events = traced(cluster, f"tcp {POD} > {CLIENT_IP}:8000", "pod1", curl(f"http://{CLIENT_IP}:8000/"))
        finally:
            server.kill()
            server.wait()
        assert legs(cluster, events[:4]) == MASQUERADE
        assert {event["connection"] for event in events} == {1}
        back = events[2]
        assert back["tuple"]["dst"] == NODE
        assert (back["nat"][0]["xlate"], back["nat"][0]["to_addr"]) == ("DST", POD)
        # The same asked for as the world sees it.
        port = back["tuple"]["dst_port"]
        words = ["curl", "-s", "-m", "15", "--local-port", str(port + 1), f"http://{CLIENT_IP}:8000/"]
        server = servers.start(cluster.lab, CLIENT)
        try:
            assert servers.is_ready(cluster.lab, CLIENT)
            events = traced(cluster, f"tcp {NODE}:{port + 1} > {CLIENT_IP}:8000", "pod1", words)
        finally:
            server.kill()
            server.wait()
        assert {event["connection"] for event in events} == {1}
        assert {event["device"] for event in events} == {"eth0", "lxc-pod1"}


def test_a_masqueraded_ping_has_its_answer_and_no_drop(cluster: ForeignCluster) -> None:
    with cluster.turned({"masquerade": True, "native-routing-cidr": CLUSTER, "lb": {"mode": "snat"}}):
        events = traced(cluster, f"icmp {POD} > {CLIENT_IP}", "pod1", ["ping", "-c", "1", CLIENT_IP])
        assert {event["kind"] for event in events} == {"packet"}
        assert legs(cluster, events) == MASQUERADE


def test_a_pod_that_reaches_itself(cluster: ForeignCluster) -> None:
    with cluster.turned({"lb": {"mode": "snat"}}):
        events = traced(cluster, f"tcp {POD} > 10.68.0.40:80", "pod1", curl("http://10.68.0.40/"))
        assert {event["connection"] for event in events} == {1}
        assert legs(cluster, events[:4]) == [
            ("node-a lxc-pod1", "ingress", "request"),
            ("node-a lxc-pod1", "egress", "request, translated"),
            ("node-a lxc-pod1", "ingress", "reply, translated"),
            ("node-a lxc-pod1", "egress", "reply, translated"),
        ]
        assert services(events) == {"10.68.0.40:80"}


@pytest.mark.parametrize("dispatch", ["geneve", "opt"])
def test_dsr_goes_one_way_and_comes_back_another(cluster: ForeignCluster, dispatch: str) -> None:
    with cluster.turned({"lb": {"mode": "dsr", "dispatch": dispatch}}):
        events = traced(cluster, f"tcp {CLIENT_IP} > 172.190.0.17:80", CLIENT, curl("http://172.190.0.17/"))
        assert {event["connection"] for event in events} == {1}
        assert legs(cluster, events[:6]) == [
            ("node-a eth0", "ingress", "request"),
            ("node-a eth0", "egress", "request, translated"),
            ("node-b eth0", "ingress", "request, translated"),
            ("node-b lxc-pod3", "egress", "request, translated"),
            ("node-b lxc-pod3", "ingress", "reply, translated"),
            ("node-b eth0", "egress", "reply, translated"),
        ]
        tunnels = [event["tunnel"] and event["tunnel"]["kind"] for event in events[:6]]
        assert tunnels == ([None, "geneve", "geneve", None, None, None] if dispatch == "geneve" else [None] * 6)
        assert events[5]["nat"][0]["to_addr"] == "172.190.0.17"
        assert services(events) == {"172.190.0.17:80"}


#: One packet and its answer where the socket itself was turned.
SOCKET = [
    ("node-a lxc-pod1", "ingress", "request"),
    ("node-a eth0", "egress", "request"),
    ("node-b eth0", "ingress", "request"),
    ("node-b lxc-pod3", "egress", "request"),
    ("node-b lxc-pod3", "ingress", "reply"),
    ("node-b eth0", "egress", "reply"),
    ("node-a eth0", "ingress", "reply"),
    ("node-a lxc-pod1", "egress", "reply"),
]


def test_what_a_socket_asked_for_is_known_by_its_cookie(cluster: ForeignCluster) -> None:
    with cluster.turned({"lb": {"mode": "snat"}}, sockets=True):
        # Twice the service, and in between the backend itself, which is another flow though nothing in it differs.
        commands = [curl("http://10.68.174.146/"), curl(f"http://{FAR_POD}:8000/"), curl("http://10.68.174.146/")]
        events = traced(cluster, f"tcp {POD} > 10.68.174.146:80", "pod1", *commands)
        assert {event["connection"] for event in events} == {1, 2}
        for number in (1, 2):
            own = [event for event in events if event["connection"] == number]
            assert legs(cluster, own[:8]) == SOCKET
            assert services(own) == {"10.68.174.146:80"}
        events = traced(cluster, f"tcp {POD} > {FAR_POD}:8000", "pod1", curl(f"http://{FAR_POD}:8000/"))
        assert services(events) == {None}


def test_a_datagram_of_a_turned_socket(cluster: ForeignCluster) -> None:
    with cluster.turned({"lb": {"mode": "snat"}}, sockets=True):
        command = ["python3", "-c", DATAGRAM, "10.68.0.53", "53"]
        events = traced(cluster, f"udp {POD} > 10.68.0.53:53", "pod1", command)
        assert legs(cluster, events) == SOCKET
        assert services(events) == {"10.68.0.53:53"}
