"""A lab whose nodes encapsulate by a geneve device of the kernel, and what a kernel without one says."""

from __future__ import annotations

import json

import pytest

from ctctl.kernel.features import probe
from ctctl.lab import datapaths, processes
from ctctl.lab.topology import Topology
from tests.lab.conftest import ctctl, remains
from tests.support.wait import wait_for

pytestmark = pytest.mark.lab


def has_geneve() -> bool:
    return probe(("geneve-device",))[0].available


def device_packets(lab: Topology, node: str) -> tuple[int, int]:
    """Packets that a node's geneve device received and sent."""
    shown = processes.run(lab, node, ["ip", "-j", "-s", "link", "show", "ctctl_geneve"]).stdout
    counted = json.loads(shown)[0]["stats64"]
    return counted["rx"]["packets"], counted["tx"]["packets"]


@pytest.mark.skipif("has_geneve()", reason="this kernel has geneve devices")
def test_without_geneve_the_lab_says_so(fresh_lab: Topology) -> None:
    done = ctctl("lab", "up", "--name", fresh_lab.name, "--tunnel", "device", check=False)
    assert done.returncode == 4
    assert "this kernel has no geneve device (CONFIG_GENEVE)" in done.stderr
    assert remains(fresh_lab) == []


@pytest.mark.skipif("not has_geneve()", reason="this kernel has no geneve device")
def test_dsr_through_a_geneve_device(fresh_lab: Topology) -> None:
    ctctl("lab", "up", "--name", fresh_lab.name, "--tunnel", "device")
    told = ctctl("lab", "run", "loadbalancer-dsr", "--name", fresh_lab.name).stdout
    assert "== loadbalancer-dsr: as it has to be" in told
    assert "from_overlay" in told
    # SYN, ACK, request and FIN at least; the reply goes another way.
    wait_for(
        lambda: device_packets(fresh_lab, "node-a")[1] == device_packets(fresh_lab, "node-b")[0] >= 4,
        what="node-b to receive what node-a sent",
    )
    assert device_packets(fresh_lab, "node-b")[1] == 0
    # Services that change later leave the tunnel as it is.
    node = fresh_lab.nodes[0]
    datapaths.apply_node(fresh_lab, node, states={"pod4": "terminating"}, without=())
    assert datapaths.tunnel_of(fresh_lab, node) == "device"
    assert not datapaths.is_as_built(fresh_lab, node)
