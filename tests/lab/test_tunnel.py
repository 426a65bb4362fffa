"""A lab whose nodes encapsulate by a geneve device of the kernel, and what a kernel without one says."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import ExitStack

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import ICMP, IP, UDP

from ctctl.kernel.features import probe
from ctctl.kernel.netns import run_in_netns
from ctctl.lab import datapaths, processes
from ctctl.lab.nodefile import NO_MODE
from ctctl.lab.topology import Topology
from ctctl.packet.frame import build_frame
from ctctl.packet.geneve import GENEVE_PORT
from ctctl.packet.text import parse_packet_text
from tests.lab.capture import capture, packets, wrong_checksums
from tests.lab.conftest import ctctl, remains
from tests.support.lab_modes import ask, change_to, connect
from tests.support.wait import wait_for

pytestmark = pytest.mark.lab

NODE_PORT = 30080


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


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mode", ["dsr", "snat"])
def test_a_pod_asks_at_another_nodes_address(lab_in_some_mode: Topology, version: int, mode: str) -> None:
    """The reply goes through the tunnel, as every packet from pod to pod, and has the address that was asked."""
    lab = lab_in_some_mode
    other = lab.node("node-b")
    with ExitStack() as stack:
        stack.callback(change_to, lab, NO_MODE)  # tables of IPv6
        change_to(lab, {"ipv6": version == 6, "routing": "tunnel", "lb": {"mode": mode}})
        at = other.ip if version == 4 else other.ip6
        connection = stack.enter_context(connect(lab, "pod1", (at, NODE_PORT)))
        assert [ask(connection), ask(connection)] == ["pod3", "pod3"]


def test_an_error_about_what_came_through_the_tunnel_goes_back_through_it(lab: Topology) -> None:
    """Its sender is a pod of the other node: outside the tunnel nobody knows the way, and a device needs a key."""
    here, there, sender = lab.node("node-a"), lab.node("node-b"), lab.pod("pod3")
    service = lab.service("lb-udp")
    inner = build_frame(parse_packet_text(f"udp {sender.ip}:40000 > {service.ip}:{service.port} len=8"))
    header = struct.pack(">BBHI", 0, 0, 0x6558, sender.identity << 8)

    def from_the_other_node() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tunnel:
            tunnel.sendto(header + inner, (here.ip, GENEVE_PORT))

    datapaths.apply_node(lab, here, states={}, without=("pod3",))
    try:
        with capture(lab, "node-b") as frames:
            run_in_netns(lab.netns("node-b"), from_the_other_node)
            wait_for(lambda: any(ICMP in packet for packet in packets(frames)), what="node-a to answer")
    finally:
        datapaths.apply_node(lab, here, states={}, without=())
    (told,) = [packet for packet in packets(frames) if ICMP in packet]
    outer, answer = told[IP], told[GENEVE].payload[IP]
    assert (outer.src, outer.dst, told[UDP].dport, told[GENEVE].vni) == (here.ip, there.ip, GENEVE_PORT, 2)
    assert "DF" in outer.flags
    assert (answer.src, answer.dst) == (service.ip, sender.ip)
    assert (answer[ICMP].type, answer[ICMP].code) == (3, 3)
    assert wrong_checksums([told]) == []
