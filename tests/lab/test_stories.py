"""Every story, as a user runs it."""

from __future__ import annotations

import pytest

from ctctl.lab import processes
from ctctl.lab.stories import STORIES
from ctctl.lab.topology import Topology
from tests.lab.conftest import ctctl

pytestmark = pytest.mark.lab


#: Those with a mode of their own are told in test_modes.py, with a look at the wire.
PLAIN = [name for name, story in STORIES.items() if not story.mode and not story.sockets]


@pytest.mark.parametrize("story", PLAIN)
def test_story(lab: Topology, story: str) -> None:
    told = run_whole(lab, story)
    assert f"== {story}: as it has to be" in told
    assert "-- which hook wrote what" in told
    assert "events were lost" not in told


def run_whole(lab: Topology, story: str) -> str:
    """What it told. Anew where an event was lost: the kernel may leave out one, not three times running."""
    for _ in range(3):
        told = ctctl("lab", "run", story, "--name", lab.name).stdout
        if "events were lost" not in told:
            break
    return told


def test_dsr_account_names_the_hooks(lab: Topology) -> None:
    """Who writes what on which node, from the events of the datapath itself."""
    told = ctctl("lab", "run", "loadbalancer-dsr", "--name", lab.name).stdout
    account = told.partition("-- which hook wrote what")[2].splitlines()

    def line(node: str, hooks: set[str], text: str) -> bool:
        return any(node in each and hooks & set(each.split()) and text in each for each in account)

    # Without a Geneve device from_netdev takes packets out of the tunnel itself.
    inbound = {"from_netdev", "from_overlay"}
    assert line("node-a", {"from_netdev"}, "created SVC, backend 241")
    assert line("node-a", {"from_netdev"}, "Geneve to 10.1.0.2, VNI 2 with DSR option 172.190.0.17:80")
    assert line("node-b", inbound, "created OUT [DSRInternal] and the SNAT entry")
    assert line("node-b", inbound, "Geneve from 10.1.0.1, VNI 2 with DSR option 172.190.0.17:80")
    assert line("node-b", {"to_container"}, "created IN [FromTunnel] with its ICMP related entry")
    assert line("node-b", {"to_netdev"}, "translated to 172.190.0.17:80 > 172.191.0.1:")


def test_a_story_that_fails_says_what_is_wrong(lab: Topology) -> None:
    """Without its server the story cannot be: one line, exit status 1, the lab still works."""
    route = ["ip", "route", "add", "blackhole", "10.64.1.36/32"]
    processes.run(lab, "node-a", route)
    try:
        done = ctctl("lab", "run", "same-node", "pod-to-pod", "--name", lab.name, check=False)
    finally:
        processes.run(lab, "node-a", ["del" if word == "add" else word for word in route])
    assert done.returncode == 1
    assert "== same-node: as it has to be" in done.stdout
    assert done.stderr.startswith("ctctl: pod1: ping 10.64.1.36: 2 packets transmitted, 0 received")
    ctctl("lab", "run", "pod-to-pod", "--name", lab.name)
