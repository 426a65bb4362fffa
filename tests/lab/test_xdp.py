"""Real TCP through an accelerated node: requests for the other node's pod, and SNAT's answers, go on in XDP."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ctctl.kernel.netns import run_in_netns
from ctctl.lab import datapaths
from ctctl.lab.nodefile import NO_MODE
from ctctl.lab.topology import CLIENT, Topology
from ctctl.node.counters import hook_counters
from tests.support.lab_modes import ask, change_to, connect, lab_in_mode

pytestmark = pytest.mark.lab

NODE_A = "10.1.0.1"
NODE_PORT = 30080
REQUESTS = 20


def ethtool(topology: Topology, member: str, state: str) -> None:
    command = ["ethtool", "-K", "eth0", "tx", state]
    run_in_netns(topology.netns(member), lambda: subprocess.run(command, check=True, capture_output=True))


@contextmanager
def whole_checksums(topology: Topology, *members: str) -> Iterator[None]:
    """As on a real network: a sender's checksums are complete before a packet comes to the node."""
    try:
        for member in members:
            ethtool(topology, member, "off")
        yield
    finally:
        for member in members:
            ethtool(topology, member, "on")


def taken(topology: Topology, node: str = "node-a") -> int:
    """Packets that XDP has sent on."""
    return hook_counters(datapaths.pin_dir(topology, node)).get(("xdp_netdev", "ok"), (0, 0))[0]


@contextmanager
def without_xdp_afterwards(topology: Topology) -> Iterator[None]:
    """The lab is the session's; what a test attached is the test's."""
    try:
        yield
    finally:
        change_to(topology, NO_MODE)


def talk(topology: Topology) -> None:
    with connect(topology, CLIENT, (NODE_A, NODE_PORT)) as connection:
        for _ in range(REQUESTS):
            assert ask(connection) == "pod3"


@pytest.mark.parametrize(
    ("lb", "each"),
    [({"mode": "snat"}, 2), ({"mode": "dsr", "dispatch": "opt"}, 1), ({"mode": "dsr", "dispatch": "geneve"}, 1)],
    ids=["snat", "dsr-opt", "dsr-geneve"],
)
def test_connections_go_on_in_xdp(lab_in_some_mode: Topology, lb: dict[str, Any], each: int) -> None:
    topology = lab_in_some_mode
    with without_xdp_afterwards(topology), lab_in_mode(topology, {"lb": {**lb, "acceleration": "generic"}}):
        # Of senders that leave checksums to the device nothing is taken, and all of it arrives.
        talk(topology)
        before = taken(topology)
        with whole_checksums(topology, CLIENT, "pod3"):
            talk(topology)
            talk(topology)
            assert taken(topology) - before >= 2 * each * REQUESTS


def test_a_connection_outlives_a_change(lab_in_some_mode: Topology) -> None:
    topology, tc = lab_in_some_mode, {"lb": {"mode": "snat"}}
    xdp = {"lb": {"mode": "snat", "acceleration": "generic"}}
    with without_xdp_afterwards(topology), whole_checksums(topology, CLIENT, "pod3"):
        change_to(topology, xdp)
        with connect(topology, CLIENT, (NODE_A, NODE_PORT)) as kept:
            for mode in (xdp, tc, xdp):
                change_to(topology, mode)
                before = taken(topology)
                assert ask(kept) == "pod3"
                assert (taken(topology) > before) == (mode is xdp)
