"""A packet that does not fit into the tunnel: its sender is told what does, about the packet as it sent it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.contrib import geneve  # noqa: F401  (what is behind the tunnel's port)
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether

from ctctl.kernel.program import TestRun
from ctctl.model.event import Hook
from ctctl.simulate.simulator import Simulator
from tests.support.datapath import (
    CLIENT,
    LB_VIP,
    NODE_IP,
    NOW,
    POD2,
    REMOTE,
    frame,
    node_file,
    send,
    service,
    simulated,
    simulated_whole,
)
from tests.support.names import unique_name

pytestmark = pytest.mark.kernel

MTU = 1500
#: outer IPv4, UDP, Geneve and inner Ethernet headers; the DSR option
OVERHEAD, OPTION = 20 + 8 + 8 + 14, 12
REDIRECT = 7


@pytest.fixture(scope="module")
def node() -> Iterator[Simulator]:
    services = [service("lb", LB_VIP, 80, 20, (201, REMOTE, 8080), type="LoadBalancer")]
    with simulated_whole(node_file(services=services)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def ifindex() -> Iterator[int]:
    """A device of MTU 1500 for packets to be on; nothing is sent through it."""
    name = unique_name("mtu")
    subprocess.run(["ip", "link", "add", name, "mtu", str(MTU), "type", "veth", "peer", unique_name("p")], check=True)
    yield int(Path(f"/sys/class/net/{name}/ifindex").read_text())
    subprocess.run(["ip", "link", "del", name], check=True)


def run(node: Simulator, packet: bytes, ifindex: int) -> TestRun:
    node.set_clock(NOW)
    return node.program(Hook.FROM_NETDEV).test_run(packet, ifindex=ifindex)


def sized(proto: str, ip_length: int) -> bytes:
    """A packet to the service with so many bytes from its IP header on."""
    headers, flags = (40, "A ") if proto == "tcp" else (28, "")
    return frame(f"{proto} {CLIENT}:40000 > {LB_VIP}:80 {flags}len={ip_length - headers}")


@pytest.mark.parametrize(("proto", "fits"), [("tcp", MTU - OVERHEAD), ("udp", MTU - OVERHEAD - OPTION)])
def test_what_fits_goes_and_what_does_not_is_answered(node: Simulator, ifindex: int, proto: str, fits: int) -> None:
    send(node, "from_netdev", f"tcp {CLIENT}:40000 > {LB_VIP}:80 S")
    sent = run(node, sized(proto, fits), ifindex)
    assert (sent.retval, len(sent.data)) == (REDIRECT, 14 + MTU)
    assert Ether(sent.data)[UDP].dport == 6081

    packet = sized(proto, fits + 1)
    told = Ether(run(node, packet, ifindex).data)
    assert (told[IP].src, told[IP].dst) == (LB_VIP, CLIENT)
    assert (told[ICMP].type, told[ICMP].code, told[ICMP].nexthopmtu) == (3, 4, fits)
    assert bytes(told[ICMP].payload)[:28] == packet[14:42]


def test_an_answer_has_room_for_the_quote_only(node: Simulator, ifindex: int) -> None:
    told = run(node, sized("udp", 1500), ifindex)
    assert len(told.data) == 14 + 20 + 8 + 64


def test_a_reply_that_does_not_fit_is_told_as_the_pod_sent_it(ifindex: int) -> None:
    """In the tunnel it would have the service's address, which the pod has never heard of."""
    services = [service("np", NODE_IP, 80, 31, (301, POD2, 8080), type="NodePort")]
    with simulated(node_file({"routing": "tunnel"}, services=services)) as node:
        request = send(node, "from_netdev", f"tcp {REMOTE}:40000 > {NODE_IP}:80 S")
        send(node, "to_container", request.frame, "pod2", mark=request.mark)
        reply = node.program(Hook.FROM_CONTAINER, node.nf.endpoint("pod2"))
        fits, large = (frame(f"tcp {POD2}:8080 > {REMOTE}:40000 A len={MTU - OVERHEAD - 40 + n}") for n in (0, 1))
        sent, told = (Ether(reply.test_run(packet, ifindex=ifindex).data) for packet in (fits, large))
    inner = sent[IP].payload[IP]
    assert (inner.src, inner.sport) == (NODE_IP, 80)
    assert (told[IP].dst, told[ICMP].type, told[ICMP].code, told[ICMP].nexthopmtu) == (POD2, 3, 4, MTU - OVERHEAD)
    assert bytes(told[ICMP].payload)[:28] == large[14:42]
