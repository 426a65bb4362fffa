"""Names typed where an address stands: every command answers as it does for the addresses that the name has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.captures import CapturedNode, captured_node

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

#: The pods of the capture, and what another source calls the same addresses.
PODS = {
    "p1": ("client-0", "10.61.1.101", "fd10:61:1::101"),
    "p2": ("server-0", "10.61.1.102", "fd10:61:1::102"),
}
FRONTEND = "10.96.0.20:80"
KUBERNETES = """
apiVersion: v1
kind: Pod
metadata: {name: client-0, namespace: shop}
status: {podIP: 10.61.1.101, podIPs: [{ip: 10.61.1.101}, {ip: "fd10:61:1::101"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server-0, namespace: shop}
status: {podIP: 10.61.1.102, podIPs: [{ip: 10.61.1.102}, {ip: "fd10:61:1::102"}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.20, clusterIPs: [10.96.0.20], ports: [{port: 80, protocol: TCP}]}
"""


@pytest.fixture(scope="module")
def node() -> Iterator[CapturedNode]:
    with captured_node("cilium-1.19-snat-node1", agent=True) as found:
        yield found


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names") / "objects.yaml"
    path.write_text(KUBERNETES)
    return path


def rows(node: CapturedNode, *words: str) -> set[str]:
    return set(node.run(*words, "-o", "name").splitlines())


@pytest.mark.parametrize("table", ["ct", "nat"])
@pytest.mark.parametrize(
    ("form", "pod"),
    [("--ip {}", "p1"), ("--from-ip {}", "p1"), ("--to-ip {}", "p2"), ("src == {}", "p1"), ("ip == {} and tcp", "p1")],
)
def test_a_pod_in_a_filter_is_its_addresses(node: CapturedNode, objects: Path, table: str, form: str, pod: str) -> None:
    def asked(name: str, *more: str) -> set[str]:
        text = form.format(name)
        return rows(node, table, "list", *(text.split() if text.startswith("--") else [text]), *more)

    other, *addresses = PODS[pod]
    expected = asked(addresses[0]) | asked(addresses[1])
    assert expected or (table, form) == ("nat", "--to-ip {}")  # nothing translates to a pod's own address there
    assert asked(f"default/{pod}") == asked(pod) == expected
    assert asked(f"shop/{other}", "--names", str(objects)) == expected


def test_a_service_is_its_frontend(node: CapturedNode, objects: Path) -> None:
    expected = rows(node, "ct", "list", "--service", FRONTEND)
    assert expected
    assert rows(node, "ct", "list", "--service", "sticky") == expected
    assert rows(node, "ct", "list", "--service", "shop/cart", "--names", str(objects)) == expected


def test_a_scrub_of_a_pod_is_one_of_its_addresses(node: CapturedNode, objects: Path) -> None:
    def scrubbed(name: str, *more: str) -> int:
        told = json.loads(node.run("gc", "--dry-run", "--endpoint", name, *more, "-o", "json"))
        return int(told["selected"])

    both = sum(map(scrubbed, PODS["p1"][1:]))
    assert both > 0
    assert scrubbed("default/p1") == scrubbed("p1") == both
    assert scrubbed("client-0", "--names", str(objects)) == both


@pytest.mark.parametrize("words", [("ct", "get"), ("policy", "get")])
def test_a_flow_by_names_is_one_by_addresses(node: CapturedNode, words: tuple[str, ...]) -> None:
    def answered(flow: str) -> str:
        return node.done(*words, flow, "--now", "9000", check=None).stdout

    assert answered("tcp p1 > p2:8000") == answered("tcp 10.61.1.101 > 10.61.1.102:8000")


def test_a_simulated_packet_by_names_is_one_by_addresses(node: CapturedNode, objects: Path) -> None:
    def simulated(packet: str, *more: str) -> list[tuple[object, ...]]:
        steps = map(json.loads, node.run("trace", "--simulate", packet, "-o", "jsonl", *more).splitlines())
        return [(step["hook"], step["verdict"], step["packet_out"]) for step in steps if "hook" in step]

    expected = simulated("tcp 10.61.1.101:4000 > 10.61.1.102:8000 S")
    assert expected
    assert simulated("tcp p1:4000 > p2:8000 S") == expected
    assert simulated("tcp client-0:4000 > server-0:8000 S", "--names", str(objects)) == expected


def test_a_name_that_nothing_has_is_refused_and_others_are_offered(node: CapturedNode) -> None:
    for words in (("ct", "list", "--ip", "nobody"), ("gc", "--dry-run", "--endpoint", "nobody")):
        done = node.done(*words, check=None)
        assert done.returncode in (1, 2)
        assert "nobody" in done.stderr
        assert "p1" in done.stderr
        assert done.stdout == ""
