"""A foreign cluster of two nodes: real TCP through a NodePort in SNAT mode, every leg named, nothing left behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import validate

from ctctl.kernel.link import Direction, query_tcx
from ctctl.kernel.netns import run_in_netns
from ctctl.lab.topology import CLIENT, CLIENT_IP
from ctctl.trace.schema import TRACE_SCHEMAS
from tests.support.foreign_cluster import ForeignCluster, foreign_cluster
from tests.support.tracing import tracing
from tests.support.wait import PATIENCE_S, PATIENCE_WORD, wait_for

pytestmark = pytest.mark.lab

NODE_PORT = "10.1.0.1:30080"
FLOW = f"tcp {CLIENT_IP} > {NODE_PORT}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ForeignCluster]:
    with foreign_cluster() as found:
        yield found


def get(cluster: ForeignCluster, url: str, member: str = CLIENT) -> str:
    command = ["ip", "netns", "exec", cluster.lab.netns(member), "curl", "-s", "-m", PATIENCE_WORD, url]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S).stdout


def traced(cluster: ForeignCluster, flow: str, url: str, *words: str, member: str = CLIENT) -> list[dict[str, Any]]:
    """The events of one request; the trace ends with the connection's last packets."""
    with tracing("--probe", flow, *cluster.words(), "-o", "jsonl", *words) as trace:
        get(cluster, url, member)
        events = trace.stop()
    for event in events:
        validate(event, TRACE_SCHEMAS["ctctl/probe-event/v1"])
    return events


def leg(cluster: ForeignCluster, event: dict[str, Any]) -> tuple[str, str, str, str, str | None]:
    """(node, device, direction, which part of the way, the tunnel it is in)."""
    node = next(name.name for name in cluster.lab.nodes if cluster.lab.netns(name.name) == event["node"])
    tunnel = event["tunnel"]
    return node, event["device"], event["direction"], event["leg"], tunnel and f"{tunnel['src']} > {tunnel['dst']}"


#: One packet's way through a NodePort with the backend on the other node, and its answer's.
THERE = [
    ("node-a", "eth0", "ingress", "request", None),
    ("node-a", "eth0", "egress", "request, translated", "10.1.0.1 > 10.1.0.2"),
    ("node-b", "eth0", "ingress", "request, translated", "10.1.0.1 > 10.1.0.2"),
    ("node-b", "lxc-pod3", "egress", "request, translated", None),
]
BACK = [
    ("node-b", "lxc-pod3", "ingress", "reply, translated", None),
    ("node-b", "eth0", "egress", "reply, translated", "10.1.0.2 > 10.1.0.1"),
    ("node-a", "eth0", "ingress", "reply, translated", "10.1.0.2 > 10.1.0.1"),
    ("node-a", "eth0", "egress", "reply", None),
]


def test_a_node_port_by_snat_leg_by_leg(cluster: ForeignCluster) -> None:
    events = traced(cluster, FLOW, f"http://{NODE_PORT}/")
    assert {event["connection"] for event in events} == {1}
    packets = [event for event in events if event["kind"] == "packet"]
    assert [leg(cluster, event) for event in packets[:8]] == [*THERE, *BACK]
    assert [event["tcp_flags"] for event in packets[:8]] == ["S"] * 4 + ["SA"] * 4
    # By the node's own address among its pods and back, whatever a probe's tuple is.
    assert packets[1]["tuple"]["src"] == "10.64.0.1"
    assert packets[1]["tuple"]["dst"] == "10.64.1.36"
    assert packets[6]["nat"][0]["to_addr"] == CLIENT_IP
    # Every reply has its service and its SERVICE entry, and so has what SNAT turned.
    for event in (packets[6], packets[7]):
        assert event["service"] == {"addr": "10.1.0.1", "port": 30080}
        assert "SVC" in {entry["direction"] for entry in event["behind"]}
    # What was delivered and freed with its socket is no drop.
    assert [event["reason"] for event in events if event["kind"] == "freed"] == []


def test_from_a_pod_to_a_service(cluster: ForeignCluster) -> None:
    events = traced(cluster, "tcp 10.64.0.36 > 10.68.174.146:80", "http://10.68.174.146/", member="pod1")
    packets = [event for event in events if event["kind"] == "packet"]
    assert {event["connection"] for event in events} == {1}
    assert leg(cluster, packets[0]) == ("node-a", "lxc-pod1", "ingress", "request", None)
    assert leg(cluster, packets[1])[:4] == ("node-a", "eth0", "egress", "request, translated")
    answer = next(event for event in packets if event["tcp_flags"] == "SA" and event["device"] == "lxc-pod1")
    assert answer["service"] == {"addr": "10.68.174.146", "port": 80}


def test_the_lines_name_the_legs(cluster: ForeignCluster) -> None:
    with tracing("--probe", FLOW, *cluster.words(), "--count", "8") as trace:
        get(cluster, f"http://{NODE_PORT}/")
        lines = trace.rest().splitlines()
    assert len(lines) == 8
    assert "request of connection 1" in lines[0]
    assert "request, translated of connection 1" in lines[1]
    assert "in geneve 10.1.0.1 > 10.1.0.2, VNI 2" in lines[1]
    assert "reply of connection 1, service 10.1.0.1:30080" in lines[7]
    assert "translated from SVC TCP 172.191.0.1:" in lines[6] + lines[7] or "SVC" in lines[7]


def test_killed_it_leaves_nothing(cluster: ForeignCluster) -> None:
    def chains() -> list[list[int]]:
        found = []
        for netns in cluster.tables:
            for device in ("eth0", "lxc-pod1", "lxc-pod3"):
                found += run_in_netns(netns, _chain, device)
        return found

    before = chains()
    with tracing("--probe", FLOW, *cluster.words()) as trace:
        assert chains() != before
        trace.process.kill()
        trace.process.wait(PATIENCE_S)
    wait_for(lambda: chains() == before, what="the probes to be gone")
    assert get(cluster, f"http://{NODE_PORT}/").strip() == "pod3"


def _chain(device: str) -> list[list[int]]:
    import socket

    try:
        ifindex = socket.if_nametoindex(device)
    except OSError:
        return []
    return [[one.prog_id for one in query_tcx(ifindex, direction)] for direction in Direction]
