"""Policy in the programs: which keys count, what is never asked, and that nothing is written for what is denied."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ctctl.simulate.simulator import Simulator
from tests.support.datapath import CLIENT, POD, POD2, REMOTE, entries, forget, node_file, send, simulated_whole

pytestmark = pytest.mark.kernel

#: pod1: TCP 80 out to anyone, everything to 10.64.1.0/24 but port 22; pod2: everything in but UDP.
POLICY = [
    {"endpoint": "pod1", "direction": "egress", "port": 80, "protocol": "TCP"},
    {"endpoint": "pod1", "direction": "egress", "cidr": "10.64.1.0/24"},
    {"endpoint": "pod1", "direction": "egress", "cidr": "10.64.1.0/24", "port": 22, "protocol": "TCP", "deny": True},
    {"endpoint": "pod2", "direction": "ingress"},
    {"endpoint": "pod2", "direction": "ingress", "protocol": "UDP", "deny": True},
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with simulated_whole(node_file(policy=POLICY)) as simulator:
        yield simulator


@pytest.fixture
def node(shared: Simulator) -> Simulator:
    forget(shared)
    return shared


@pytest.mark.parametrize(
    ("hook", "packet", "allowed"),
    [
        ("from_container", f"tcp {POD}:1 > {CLIENT}:80 S", True),
        ("from_container", f"udp {POD}:1 > {CLIENT}:80", False),
        ("from_container", f"tcp {POD}:1 > {CLIENT}:81 S", False),
        ("from_container", f"icmp {POD} > {CLIENT} id=1", False),
        ("from_container", f"udp {POD}:1 > {REMOTE}:53", True),
        ("from_container", f"icmp {POD} > {REMOTE} id=1", True),
        ("from_container", f"tcp {POD}:1 > {REMOTE}:22 S", False),
        ("from_container", f"tcp {POD2}:1 > {CLIENT}:81 S", True),
        ("to_container", f"tcp {CLIENT}:1 > {POD2}:22 S", True),
        ("to_container", f"udp {CLIENT}:1 > {POD2}:22", False),
        ("to_container", f"udp {CLIENT}:1 > {POD}:22", True),
    ],
)
def test_new_connections(node: Simulator, hook: str, packet: str, allowed: bool) -> None:
    result = send(node, hook, packet)
    assert (result.verdict, result.reason) == (("pass", None) if allowed else ("drop", "policy"))
    assert bool(entries(node)) is allowed


def test_replies_are_not_asked_about(node: Simulator) -> None:
    """pod1 may not open UDP to the client, but may answer one the client opened."""
    send(node, "to_container", f"udp {CLIENT}:40000 > {POD}:53")
    assert send(node, "from_container", f"udp {POD}:53 > {CLIENT}:40000").verdict == "pass"
    assert send(node, "from_container", f"udp {POD}:53 > {CLIENT}:40001").verdict == "drop"


def test_errors_about_a_flow_are_not_asked_about(node: Simulator) -> None:
    error = f'icmp {POD} > {CLIENT} type=3 code=3 inner="tcp {CLIENT}:1 > {POD}:22 S"'
    assert send(node, "from_container", error).verdict == "drop"
    send(node, "to_container", f"tcp {CLIENT}:1 > {POD}:22 S")
    assert send(node, "from_container", error).verdict == "pass"


def test_path_mtu_discovery_always_passes(node: Simulator) -> None:
    error = 'icmp {src} > {dst} type=3 code={code} inner="udp {dst}:1 > {src}:2"'
    assert send(node, "from_container", error.format(src=POD, dst=CLIENT, code=4)).verdict == "pass"
    assert send(node, "from_container", error.format(src=POD, dst="192.0.2.51", code=1)).verdict == "drop"


def test_an_open_connection_is_asked_about_again(node: Simulator) -> None:
    send(node, "from_container", f"tcp {POD}:1 > {CLIENT}:80 S")
    key = next(key for key in entries(node) if key[12] == 6)
    assert send(node, "from_container", f"tcp {POD}:1 > {CLIENT}:80 A").verdict == "pass"
    policy = node.maps["ctctl_policy"]
    taken = {k: v for k, v in policy.items() if k[:4] == (1001).to_bytes(4, "little") and k[8:10] == b"\0P"}
    assert len(taken) == 1
    for rule in taken:
        policy.delete(rule)
    node.advance(7)
    before = entries(node)[key].lifetime
    result = send(node, "from_container", f"tcp {POD}:1 > {CLIENT}:80 A")
    for rule, value in taken.items():
        policy.update(rule, value)
    assert result.reason == "policy"
    # Looked up first: the entry lives on.
    assert entries(node)[key].lifetime == before + 7
