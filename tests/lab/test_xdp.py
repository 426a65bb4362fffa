"""Real TCP through an accelerated node: requests for the other node's pod, and SNAT's answers, go on in XDP."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from ctctl.kernel.attached import xdp_programs
from ctctl.kernel.link import XdpLink
from ctctl.kernel.netns import run_in_netns
from ctctl.kernel.object import BpfObject
from ctctl.kernel.program import Program
from ctctl.lab import datapaths
from ctctl.lab.nodefile import NO_MODE
from ctctl.lab.topology import CLIENT, ROUTER, Topology
from ctctl.node.counters import hook_counters
from tests.support.bpf import compile_file
from tests.support.lab_modes import ask, change_to, connect, lab_in_mode

pytestmark = pytest.mark.lab

NODE_A = {4: "10.1.0.1", 6: "fd00:10:1::1"}
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


@contextmanager
def ends_that_take_frames(topology: Topology) -> Iterator[None]:
    """What a node's device sends from XDP in its driver arrives: at the router's end of each veth XDP runs too."""
    with BpfObject.open(compile_file("somebodys_xdp.bpf.c")) as bpf, ExitStack() as attached:
        bpf.load()
        for node in topology.nodes:
            with_program = partial(_pass_everything_on, bpf.program("somebodys"), f"to-{node.name}")
            attached.enter_context(run_in_netns(topology.netns(ROUTER), with_program))
        yield


def _pass_everything_on(program: Program, device: str) -> XdpLink:
    return XdpLink.attach(program, socket.if_nametoindex(device), "native")


def taken(topology: Topology, node: str = "node-a") -> int:
    """Packets that XDP has sent on."""
    return hook_counters(datapaths.pin_dir(topology, node)).get(("xdp_netdev", "ok"), (0, 0))[0]


def left(topology: Topology, node: str = "node-a") -> int:
    """Packets that met tc's program on their way out of the node's device."""
    return hook_counters(datapaths.pin_dir(topology, node)).get(("to_netdev", "ok"), (0, 0))[0]


def drops(topology: Topology) -> dict[tuple[str, str], tuple[int, int]]:
    """What the nodes have dropped."""
    counted = [hook_counters(datapaths.pin_dir(topology, node.name)) for node in topology.nodes]
    return {at: count for each in counted for at, count in each.items() if at[1] != "ok"}


def running(topology: Topology) -> dict[str, str]:
    """How XDP runs at each node's device."""
    return {
        node.name: program.mode
        for node in topology.nodes
        for program in run_in_netns(topology.netns(node.name), xdp_programs)
    }


@contextmanager
def without_xdp_afterwards(topology: Topology) -> Iterator[None]:
    """The lab is the session's; what a test attached is the test's."""
    try:
        yield
    finally:
        change_to(topology, NO_MODE)


def talk(topology: Topology, version: int) -> None:
    with connect(topology, CLIENT, (NODE_A[version], NODE_PORT)) as connection:
        for _ in range(REQUESTS):
            assert ask(connection) == "pod3"


def in_xdp(version: int, how: str = "generic", **lb: Any) -> dict[str, Any]:
    """A mode of a node of one family, or of both, in which requests go on in XDP."""
    return {"ipv6": version == 6, "lb": {**lb, "acceleration": how}}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("lb", "each"),
    [({"mode": "snat"}, 2), ({"mode": "dsr", "dispatch": "opt"}, 1), ({"mode": "dsr", "dispatch": "geneve"}, 1)],
    ids=["snat", "dsr-opt", "dsr-geneve"],
)
def test_connections_go_on_in_xdp(lab_in_some_mode: Topology, version: int, lb: dict[str, Any], each: int) -> None:
    topology = lab_in_some_mode
    with without_xdp_afterwards(topology), lab_in_mode(topology, in_xdp(version, **lb)):
        # Of senders that leave checksums to the device nothing is taken, and all of it arrives.
        before = taken(topology)
        talk(topology, version)
        assert taken(topology) - before < REQUESTS
        before = taken(topology)
        with whole_checksums(topology, CLIENT, "pod3"):
            talk(topology, version)
            talk(topology, version)
            assert taken(topology) - before >= 2 * each * REQUESTS


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("mode", "each"),
    [({"lb": {"mode": "snat"}, "routing": "tunnel"}, 2), ({"lb": {"mode": "dsr", "dispatch": "opt"}}, 1)],
    ids=["snat-tunnel", "dsr-opt"],
)
def test_connections_go_on_in_the_driver(
    lab_in_some_mode: Topology, version: int, mode: dict[str, Any], each: int
) -> None:
    """Native XDP of veth: requests that grow in front, and in between, and SNAT's answers out of the tunnel."""
    topology = lab_in_some_mode
    with ends_that_take_frames(topology), without_xdp_afterwards(topology):
        # From generic there is no way but by none.
        change_to(topology, NO_MODE)
        change_to(topology, {**mode, **in_xdp(version, "native", **mode["lb"])})
        # Of senders that leave checksums to the device nothing is taken, and all of it arrives.
        before, dropped = taken(topology), drops(topology)
        talk(topology, version)
        assert taken(topology) - before < REQUESTS
        before = taken(topology)
        with whole_checksums(topology, CLIENT, "pod3"):
            talk(topology, version)
            assert taken(topology) - before >= each * REQUESTS
            assert running(topology) == {"node-a": "native", "node-b": "native"}
        assert drops(topology) == dropped


@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_outlives_a_change(lab_in_some_mode: Topology, version: int) -> None:
    topology, tc = lab_in_some_mode, {"ipv6": version == 6, "lb": {"mode": "snat"}}
    xdp = in_xdp(version, mode="snat")
    with without_xdp_afterwards(topology), whole_checksums(topology, CLIENT, "pod3"):
        change_to(topology, xdp)
        with connect(topology, CLIENT, (NODE_A[version], NODE_PORT)) as kept:
            for mode in (xdp, tc, xdp):
                change_to(topology, mode)
                before = taken(topology)
                assert ask(kept) == "pod3"
                assert (taken(topology) > before) == (mode is xdp)


@pytest.mark.parametrize("version", [4, 6])
def test_answers_out_of_the_tunnel_go_on_in_xdp(lab_in_some_mode: Topology, version: int) -> None:
    topology = lab_in_some_mode
    mode = {**in_xdp(version, mode="snat"), "routing": "tunnel"}
    with (
        without_xdp_afterwards(topology),
        lab_in_mode(topology, mode),
        connect(topology, CLIENT, (NODE_A[version], NODE_PORT)) as kept,
    ):
        before = left(topology)
        for _ in range(REQUESTS):
            assert ask(kept) == "pod3"
        assert left(topology) - before >= REQUESTS
        with whole_checksums(topology, CLIENT, "pod3"):
            requests, before = taken(topology), left(topology)
            for _ in range(REQUESTS):
                assert ask(kept) == "pod3"
            assert taken(topology) - requests >= REQUESTS
            assert left(topology) - before < REQUESTS


def test_both_families_at_once(lab_in_some_mode: Topology) -> None:
    """One program of the device: what is IPv6's is left to theirs, and what is IPv4's is not."""
    topology = lab_in_some_mode
    with (
        without_xdp_afterwards(topology),
        lab_in_mode(topology, in_xdp(6, mode="hybrid")),
        whole_checksums(topology, CLIENT, "pod3"),
    ):
        for version in (4, 6, 4, 6):
            before = taken(topology)
            talk(topology, version)
            assert taken(topology) - before >= REQUESTS
