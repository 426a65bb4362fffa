"""What is said of captured nodes: nothing of a healthy one, the fault that was put into it, whole connections."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctctl.abi import pins
from tests.support.captures import GLOBALS, NAMES, CapturedNode, captured_node, document

pytestmark = pytest.mark.kernel
FOUR_ONLY = "cilium-1.14-snat-node1"
DSR, SNAT, OLD = "cilium-1.19-dsr-node1", "cilium-1.19-snat-node1", "cilium-1.16-snat-node1"


def now_of(name: str) -> str:
    return str(int(document(name, "maps.json")["monotonic_s"]))


def examined(node: CapturedNode, *more: str, code: int | None = None) -> tuple[list[str], str]:
    """The findings' checks, and the verdict."""
    found = json.loads(node.run("doctor", "--now", now_of(node.name), "-o", "json", *more, check=code))
    (about,) = found["sources"]
    return [finding["check"] for finding in found["findings"]], about["verdict"]


@pytest.mark.parametrize("name", NAMES)
def test_the_doctor_is_silent_on_a_healthy_node(name: str) -> None:
    with captured_node(name) as node:
        assert examined(node, code=0) == ([], "healthy")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("without", [pins.OWN_CT_TABLES, (pins.CT4_ANY,), pins.OWN_CT6_TABLES])
def test_a_node_without_the_tables_of_its_mode_is_not_called_healthy(name: str, without: tuple[str, ...]) -> None:
    """By its configuration, its pods, its SNAT table; that of 1.14 has IPv4 only."""
    with captured_node(name, without=without) as node:
        if name == FOUR_ONLY and without == pins.OWN_CT_TABLES:
            node.run("doctor", check=1)
        elif name == FOUR_ONLY and without == pins.OWN_CT6_TABLES:
            assert examined(node, code=0) == ([], "healthy")
        else:
            assert examined(node, code=0) == ([], "unknown")
            said = " ".join(node.run("doctor", "--now", now_of(name)).split())
            assert f"not checked: gc-backlog: not pinned here: {' and '.join(without)}, which a node" in said


@pytest.fixture
def node() -> Iterator[CapturedNode]:
    with captured_node(OLD) as made:
        yield made


def in_node(node: CapturedNode, *words: str) -> None:
    subprocess.run(["nsenter", "-t", str(node.pid), "-m", *words], check=True, capture_output=True)


def delete_all(node: CapturedNode, pin: str) -> None:
    """Empty a table."""
    about = next(one for one in document(node.name, "maps.json")["maps"] if one["pin"] == pin)
    for key, _ in about["entries"]:
        spread = [key[at : at + 2] for at in range(0, len(key), 2)]
        in_node(node, "bpftool", "map", "delete", "pinned", f"{GLOBALS}/{pin}", "key", "hex", *spread)


def test_backends_that_are_gone_and_frontends_without_any(node: CapturedNode) -> None:
    delete_all(node, "cilium_lb4_backends_v3")
    checks, _ = examined(node, code=3)
    assert {"backend-gone", "no-backends"} <= set(checks)


def test_a_backend_that_no_pod_has(node: CapturedNode) -> None:
    pod = "0a3d0166"  # 10.61.1.102, the backend of this node
    for pin in ("cilium_lxc", "cilium_ipcache"):
        about = next(one for one in document(node.name, "maps.json")["maps"] if one["pin"] == pin)
        for key, _ in about["entries"]:
            if pod in key:
                spread = [key[at : at + 2] for at in range(0, len(key), 2)]
                in_node(node, "bpftool", "map", "delete", "pinned", f"{GLOBALS}/{pin}", "key", "hex", *spread)
    checks, _ = examined(node, code=3)
    assert "backend-without-endpoint" in checks


def test_another_clock_is_said_and_nothing_judged_by_it(node: CapturedNode) -> None:
    found = json.loads(node.run("doctor", "--now", "100", "-o", "json", check=3))
    assert {finding["check"] for finding in found["findings"]} == {"clock-mismatch"}


def connection(node: CapturedNode, flow: str, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.run("ct", "get", flow, *more, "--now", now_of(node.name), "-o", "json"))
    return found


def test_a_nodeport_connection_by_snat_is_found_whole(node: CapturedNode) -> None:
    for flow in (
        "tcp 192.168.61.1:53336 > 192.168.61.11:30080",
        "TCP OUT 192.168.61.1:53336 -> 10.61.2.103:8000 expires=13400 Packets=0",
        "TCP IN 10.61.2.103:8000 -> 10.61.1.52:53336 XLATE_DST 192.168.61.1:53336 Created=95sec ago NeedsCT=0",
    ):
        found = connection(node, flow)
        assert [entry["role"] for entry in found["entries"]] == ["service", "out"]
        assert found["service"].endswith("192.168.61.11:30080")
        assert found["backend"]["addr"] == "10.61.2.103"
        assert len(found["snat"]) == 2


def test_any_port_gives_each_connection(node: CapturedNode) -> None:
    found = connection(node, "tcp 192.168.61.1 > 192.168.61.11:30080")["connections"]
    listed = node.run("ct", "list", "svc and dst == 192.168.61.11 and dst_port == 30080", "-o", "name")
    assert len(found) == len(listed.splitlines()) > 1
    assert {one["state"] for one in found} == {"established"}


def test_what_the_load_balancer_in_the_socket_turned() -> None:
    with captured_node(SNAT) as node:
        found = connection(node, "tcp 10.61.1.101 > 10.96.0.10:80")["connections"]
    turned = [one for one in found if one["flow"]["dst"] != "10.96.0.10"]
    assert turned
    assert all("no service entry" in one["notes"][0] for one in turned)


@pytest.mark.parametrize("name", NAMES)
def test_looking_up_finds_what_going_through_the_tables_does(name: str, tmp_path: Path) -> None:
    """Live tables are looked up in, those of a snapshot gone through."""
    with captured_node(name) as node:
        node.run("ct", "export", str(tmp_path / "all.ctsnap"))
        flows = [line for line in node.run("ct", "list", "-o", "name").splitlines() if line.startswith(("tcp", "udp"))]
        assert flows
        for flow in flows[:: max(len(flows) // 12, 1)]:
            live, held = (connection(node, flow, *more) for more in ((), ("--from", str(tmp_path / "all.ctsnap"))))
            assert told(live) == told(held), flow


def told(found: dict[str, Any]) -> object:
    ends = ("role", "proto", "direction", "src", "src_port", "dst", "dst_port", "lifetime")
    entries = [tuple(entry.get(name) for name in ends) for entry in found["entries"]]
    return found["state"], found["backend"], found["service"], sorted(map(str, entries)), len(found["snat"])


def test_what_a_missing_table_would_hold_is_unknown() -> None:
    """Not "a packet would be NEW", "as if there were none" or "healthy": nobody looked."""
    without = ("cilium_ct4_global", "cilium_lb4_services_v2", "cilium_lb6_services_v2")
    with captured_node(SNAT, without=without) as node:
        said = node.done("ct", "get", "tcp 192.168.61.1:35346 > 192.168.61.11:30080", check=1).stderr
        assert "the table that it would be in is not here, so nothing is known of it" in said
        assert "would be NEW" in node.done("ct", "get", "tcp [fd61::1]:1 > [fd61::11]:2", check=1).stderr
        (about,) = node.json("doctor", "--now", now_of(SNAT))["sources"]
        assert about["skipped"]["no-backends"] == "the source shows no services"
        said = node.done("trace", "--simulate", "tcp 10.61.1.101:1 > 10.96.0.10:80").stderr
        assert "the source shows no services: simulated as if there were none" in said
