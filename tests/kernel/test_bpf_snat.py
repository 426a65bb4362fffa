"""Packets that leave by the node's address and their answers, read by an independent dissector."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from ctctl.abi.layouts import CtctlStat
from ctctl.model.event import LookupKind, Verdict, Why
from ctctl.simulate.simulator import Simulator, StepResult
from tests.support.checksums import same_checksum
from tests.support.datapath import (
    CLIENT,
    LB_VIP,
    MAC_HERE,
    MAC_THERE,
    NODE_IP,
    NOW,
    POD,
    REMOTE,
    dual_stack,
    entries,
    forget,
    node_file,
    per_cpu_sum,
    send,
    service,
    simulated,
    simulated_whole,
)

pytestmark = pytest.mark.kernel

SERVICES = [service("lb", LB_VIP, 80, 20, (202, REMOTE, 8080), type="LoadBalancer", protocol="ANY")]
MODES = {"lb": {"mode": "snat", "algorithm": "random", "loopback": "169.254.42.1"}, "masquerade": True}
ROUTER = "10.64.0.1"
WORLD = "198.51.100.9"


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with simulated_whole(node_file({**MODES, "native-routing-cidr": ["10.64.0.0/16"]}, services=SERVICES)) as simulator:
        yield simulator


@pytest.fixture
def node(shared: Simulator) -> Simulator:
    forget(shared)
    shared.now = NOW
    return shared


def ends(result: StepResult) -> tuple[str, int, str, int]:
    """Source and destination of a packet whose checksums are all right."""
    packet = Ether(result.frame)
    check(packet[IP])
    layer = packet[TCP] if TCP in packet else packet[UDP]
    return packet[IP].src, layer.sport, packet[IP].dst, layer.dport


def check(packet: Packet) -> None:
    """Every checksum from this IP header on is what scapy computes."""
    fresh = packet.copy()
    for layer in (IP, TCP, UDP, ICMP):
        if layer in fresh:
            del fresh[layer].chksum
    again = IP(bytes(fresh))
    for layer in (IP, TCP, UDP, ICMP):
        if layer in packet:
            assert same_checksum(layer, packet[layer].chksum, again[layer].chksum), layer.__name__


def snat_ports(node: Simulator) -> list[int]:
    """Ports of the node's that answers can come to."""
    return sorted(
        int.from_bytes(key[8:10], "big") for key, _ in node.maps["cilium_snat_v4_external"].items() if key[13] == 1
    )


def test_request_and_reply_by_the_node(node: Simulator) -> None:
    request = send(node, "from_netdev", f"tcp {CLIENT}:40000 > {LB_VIP}:80 S")
    assert ends(request) == (NODE_IP, 40000, REMOTE, 8080)
    assert (request.verdict, request.mark & 0xF00) == (Verdict.REDIRECT, 0x300)
    assert request.event is not None
    assert request.event.lookups[-1].kind is LookupKind.SNAT
    assert request.event.lookups[-1].why == Why.SNAT_CREATED
    reply = send(node, "from_netdev", f"tcp {REMOTE}:8080 > {NODE_IP}:40000 SA")
    assert ends(reply) == (LB_VIP, 80, CLIENT, 40000)
    again = send(node, "from_netdev", f"tcp {CLIENT}:40000 > {LB_VIP}:80 A")
    assert ends(again) == (NODE_IP, 40000, REMOTE, 8080)
    assert again.event is not None
    assert again.event.lookups[-1].why == Why.SNAT_KEPT


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_pod_to_the_world_and_back(node: Simulator, protocol: str) -> None:
    send(node, "from_container", f"{protocol} {POD}:1024 > {WORLD}:443")
    out = send(node, "to_netdev", f"{protocol} {POD}:1024 > {WORLD}:443", random=7)
    assert ends(out) == (NODE_IP, 32775, WORLD, 443)
    back = send(node, "from_netdev", f"{protocol} {WORLD}:443 > {NODE_IP}:32775")
    assert ends(back) == (WORLD, 443, POD, 1024)


def test_pod_keeps_its_address_where_the_network_is_native(node: Simulator) -> None:
    send(node, "from_container", f"tcp {POD}:40000 > {REMOTE}:443")
    assert ends(send(node, "to_netdev", f"tcp {POD}:40000 > {REMOTE}:443"))[0] == POD
    assert snat_ports(node) == []


def test_answers_of_a_pod_keep_its_address(node: Simulator) -> None:
    send(node, "to_container", f"tcp {WORLD}:5000 > {POD}:80 S")
    assert ends(send(node, "to_netdev", f"tcp {POD}:80 > {WORLD}:5000 SA"))[0] == POD


@pytest.mark.parametrize("quoted", [f"tcp {NODE_IP}:32775 > {WORLD}:443 A", f"udp {NODE_IP}:32775 > {WORLD}:443"])
def test_too_big_is_told_to_the_pod_with_right_checksums(node: Simulator, quoted: str) -> None:
    """Cilium leaves the error's checksum wrong here; ours is right, and so is the quoted packet's."""
    protocol = quoted.split(maxsplit=1)[0]
    send(node, "to_netdev", f"{protocol} {POD}:1024 > {WORLD}:443", random=7)
    inner = IP(src=NODE_IP, dst=WORLD, proto=6 if protocol == "tcp" else 17)
    layer = TCP(sport=32775, dport=443, flags="A") if protocol == "tcp" else UDP(sport=32775, dport=443)
    error = Ether(src=MAC_HERE, dst=MAC_THERE) / IP(src="203.0.113.1", dst=NODE_IP)
    error /= ICMP(type=3, code=4, nexthopmtu=1400) / (inner / layer / Raw(b"x" * 20))
    result = send(node, "from_netdev", bytes(error))
    packet = Ether(result.frame)
    assert packet[IP].dst == POD
    body = bytes(packet[ICMP].payload)
    told = IP(body)
    assert (told.src, told.payload.sport) == (POD, 1024)
    plain = IP(bytes(packet[IP]))
    outer = plain[ICMP].copy()
    del outer.chksum
    assert plain[ICMP].chksum == ICMP(bytes(outer)).chksum
    assert bytes(IP(bytes(_recomputed(told))))[:20] == body[:20]
    assert _recomputed(told).payload.chksum == told.payload.chksum


def _recomputed(packet: Packet) -> Packet:
    fresh = packet.copy()
    del fresh.chksum
    del fresh.payload.chksum
    return IP(bytes(fresh))


def test_no_free_port_is_counted_and_said(node: Simulator) -> None:
    """All ports that the tries come to are taken: steps of two from the drawn one."""
    before = per_cpu_sum(node.maps["ctctl_stats"], CtctlStat.STAT_SNAT_EXHAUSTED)
    for number in range(150):
        send(node, "to_netdev", f"udp {POD}:{1000 + number} > {WORLD}:53", random=0)
    ports = snat_ports(node)
    assert len(ports) == 127
    assert ports[:3] == [32768, 32770, 32772]
    refused = send(node, "to_netdev", f"udp {POD}:2000 > {WORLD}:53", random=0)
    assert (refused.verdict, refused.reason) == (Verdict.DROP, "nat_no_mapping")
    assert refused.event is not None
    assert refused.event.lookups[-1].why & Why.SNAT_EXHAUSTED
    assert per_cpu_sum(node.maps["ctctl_stats"], CtctlStat.STAT_SNAT_EXHAUSTED) - before == 150 - 127 + 1


def test_no_free_port_of_ipv6_is_counted_and_said() -> None:
    masquerade = {**MODES, "native-routing-cidr": ["10.64.0.0/16", "fd00::/16"]}
    with simulated_whole(dual_stack(masquerade)) as node:
        for number in range(150):
            last = send(node, "to_netdev", f"udp [fd00:64::36]:{1000 + number} > [2001:db8::9]:53", random=0)
        assert len([*node.maps["cilium_snat_v6_external"].items()]) == 2 * 127
        assert (last.verdict, last.reason) == (Verdict.DROP, "nat_no_mapping")
        assert last.event is not None
        assert last.event.lookups[-1].why & Why.SNAT_EXHAUSTED
        assert per_cpu_sum(node.maps["ctctl_stats"], CtctlStat.STAT_SNAT_EXHAUSTED) == 150 - 127


def test_the_node_keeps_the_ports_of_its_own_flows(node: Simulator) -> None:
    own = send(node, "to_netdev", f"tcp {NODE_IP}:50000 > {WORLD}:443 S")
    assert ends(own)[:2] == (NODE_IP, 50000)
    (entry,) = entries(node).values()
    assert entry.src_sec_id == 0
    send(node, "from_container", f"tcp {POD}:50000 > {WORLD}:443 S")
    assert ends(send(node, "to_netdev", f"tcp {POD}:50000 > {WORLD}:443 S", random=1))[:2] == (NODE_IP, 32769)


def test_a_pair_for_another_address_is_replaced() -> None:
    """The mode is changed by a load: the flow's pair is for the address of before."""
    with simulated(node_file(MODES, services=SERVICES)) as node:
        send(node, "from_netdev", f"tcp {CLIENT}:40000 > {LB_VIP}:80 S")
        table = node.maps["cilium_snat_v4_external"]
        for key, value in list(table.items()):
            if key[13] == 0:
                table.update(key, value[:32] + bytes([10, 9, 9, 9]) + value[36:])
        again = send(node, "from_netdev", f"tcp {CLIENT}:40000 > {LB_VIP}:80 A", random=3)
        assert again.event is not None
        assert again.event.lookups[-1].why & Why.SNAT_STALE


def test_tunnel_routing_uses_the_router_address() -> None:
    with simulated(node_file({**MODES, "routing": "tunnel"}, services=SERVICES)) as node:
        request = send(node, "from_netdev", f"tcp {CLIENT}:40000 > {LB_VIP}:80 S")
        assert ends(request) == (ROUTER, 40000, REMOTE, 8080)
        assert request.tunnel is not None
        assert (str(request.tunnel.remote), request.tunnel.vni) == ("10.1.0.2", 2)
        out = send(node, "from_container", f"tcp {POD}:40000 > {REMOTE}:80 S")
        assert out.tunnel is not None
        assert (str(out.tunnel.remote), out.tunnel.vni) == ("10.1.0.2", 20001)
