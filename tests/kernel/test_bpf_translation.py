"""What translation and the tunnel make of a packet, read by an independent dissector."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from ctctl.abi.layouts import CtctlCtFlags, CtctlIdentity
from ctctl.packet.geneve import Geneve, dsr_option, wrap_geneve
from ctctl.simulate.simulator import Simulator
from tests.support.checksums import same_checksum
from tests.support.datapath import (
    CLIENT,
    LB_VIP,
    MAC_HERE,
    MAC_THERE,
    NODE_IP,
    POD,
    POD2,
    REMOTE,
    VIP,
    dual_stack,
    entries,
    forget,
    frame,
    node_file,
    send,
    service,
    simulated,
    simulated_whole,
)

pytestmark = pytest.mark.kernel

EMPTY_VIP, REMOTE_NODE = "10.96.0.20", "10.1.0.2"
SERVICES = [
    service("web", VIP, 80, 7, (101, REMOTE, 8080)),
    service("self", "10.96.0.40", 80, 9, (131, POD, 8080)),
    service("empty", EMPTY_VIP, 80, 8),
    service("lb", LB_VIP, 80, 20, (201, REMOTE, 8080), type="LoadBalancer"),
    service("here", "172.16.0.11", 80, 21, (202, POD2, 8080), type="LoadBalancer"),
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with simulated_whole(node_file(services=SERVICES)) as simulator:
        yield simulator


@pytest.fixture
def node(shared: Simulator) -> Simulator:
    forget(shared)
    return shared


def correct(packet: Packet) -> bool:
    """Whether every checksum in it is what scapy computes."""
    again = packet.copy()
    for layer in (IP, TCP, UDP, ICMP):
        part = again
        while part and layer in part:
            part = part[layer]
            if layer is not UDP or part.chksum:
                del part.chksum
            part = part.payload
    return bytes(type(packet)(bytes(again))) == bytes(packet)


@pytest.mark.parametrize("data", [0, 1, 2, 7, 64, 1400])
@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_clusterip_and_back(node: Simulator, proto: str, data: int) -> None:
    to = Ether(send(node, "from_container", f"{proto} {POD}:40000 > {VIP}:80 len={data}").frame)
    assert (to[IP].dst, to[IP].payload.dport, to[IP].src) == (REMOTE, 8080, POD)
    assert correct(to)
    answer = f"{proto} {REMOTE}:8080 > {POD}:40000 {'SA ' if proto == 'tcp' else ''}len={data}"
    back = Ether(send(node, "to_container", answer).frame)
    assert (back[IP].src, back[IP].payload.sport, back[IP].dst) == (VIP, 80, POD)
    assert correct(back)
    assert len(bytes(to)) == len(frame(f"{proto} {POD}:40000 > {VIP}:80 len={data}"))


def test_udp_without_checksum_stays_without(node: Simulator) -> None:
    to = Ether(send(node, "from_container", f"udp {POD}:40000 > {VIP}:80 len=9 csum=0").frame)
    assert (to[IP].dst, to[UDP].dport, to[UDP].chksum) == (REMOTE, 8080, 0)


def test_wrong_checksum_stays_wrong(node: Simulator) -> None:
    to = Ether(send(node, "from_container", f"tcp {POD}:40000 > {VIP}:80 S csum=bad").frame)
    assert to[IP].dst == REMOTE
    assert not correct(to)


def test_ip_options_stay(node: Simulator) -> None:
    to = Ether(send(node, "from_container", f"tcp {POD}:40000 > {VIP}:80 S opts=0101010101010100").frame)
    assert (to[IP].ihl, to[IP].dst, to[TCP].dport) == (7, REMOTE, 8080)
    assert correct(to)


def test_hairpin_and_back(node: Simulator) -> None:
    out = send(node, "from_container", f"tcp {POD}:40000 > 10.96.0.40:80 S")
    to = Ether(out.frame)
    assert (out.verdict, to[IP].src, to[IP].dst, to[TCP].dport) == ("redirect", "169.254.42.1", POD, 8080)
    assert (to.dst, to.src) == ("02:00:00:00:03:02", "02:00:00:00:03:01")
    assert correct(to)
    assert send(node, "to_container", out.frame, "pod1", mark=out.mark).verdict == "pass"
    answer = send(node, "from_container", f"tcp {POD}:8080 > 169.254.42.1:40000 SA", "pod1")
    back = Ether(send(node, "to_container", answer.frame, "pod1", mark=answer.mark).frame)
    assert (back[IP].src, back[TCP].sport, back[IP].dst, back[TCP].dport) == ("10.96.0.40", 80, POD, 40000)
    assert correct(back)


def test_icmp_error_of_a_backend_comes_from_the_service(node: Simulator) -> None:
    send(node, "from_container", f"udp {POD}:40000 > {VIP}:80")
    error = f'icmp {REMOTE} > {POD} type=3 code=3 inner="udp {POD}:40000 > {REMOTE}:8080"'
    back = Ether(send(node, "to_container", error).frame)
    assert (back[IP].src, back[ICMP].code) == (VIP, 3)
    assert correct(back)


@pytest.mark.parametrize("data", [0, 1, 30, 500])
def test_no_backend_is_answered(node: Simulator, data: int) -> None:
    asked = frame(f"udp {POD}:40000 > {EMPTY_VIP}:80 len={data}")
    result = send(node, "from_container", asked)
    answer = Ether(result.frame)
    assert (result.verdict, answer[IP].src, answer[IP].dst) == ("redirect", EMPTY_VIP, POD)
    assert (answer[ICMP].type, answer[ICMP].code) == (3, 3)
    quoted = min(len(asked), 64)
    assert bytes(answer[ICMP].payload) == (asked[14:] + bytes(14))[:quoted]
    assert answer[IP].len == 28 + quoted == len(result.frame) - 14
    assert correct(Ether(result.frame[:42] + bytes(answer[ICMP].payload)))
    assert not entries(node)


# ---- the tunnel


def outer_of(wire: bytes | None) -> Packet:
    assert wire is not None
    return Ether(wire)


def test_syn_leaves_with_the_dsr_option(node: Simulator) -> None:
    result = send(node, "from_netdev", f"tcp {CLIENT}:40000 > {LB_VIP}:80 S")
    outer = outer_of(result.wire)
    assert (outer[IP].src, outer[IP].dst, outer[IP].ttl) == (NODE_IP, REMOTE_NODE, 64)
    assert (outer[UDP].dport, outer[UDP].chksum) == (6081, 0)
    assert outer[UDP].sport >= 0xC000
    assert outer[IP].len == len(result.wire or b"") - 14 == outer[UDP].len + 20
    geneve = outer[GENEVE]
    assert (geneve.version, geneve.vni, geneve.proto, geneve.critical) == (0, 2, 0x6558, 1)
    (option,) = geneve.options
    assert (option.classid, option.type, option.length) == (0x014B, 0x81, 2)
    assert option.data == IPv4Address(LB_VIP).packed + (80).to_bytes(2, "big") + bytes(2)
    inner = geneve.payload
    assert (inner[IP].src, inner[IP].dst, inner[TCP].dport, inner[IP].ttl) == (CLIENT, REMOTE, 8080, 64)
    assert correct(outer)
    assert correct(inner)


def test_later_tcp_leaves_without_the_option_and_udp_with_it(node: Simulator) -> None:
    send(node, "from_netdev", f"tcp {CLIENT}:40000 > {LB_VIP}:80 S")
    later = outer_of(send(node, "from_netdev", f"tcp {CLIENT}:40000 > {LB_VIP}:80 A len=100").wire)
    assert (later[GENEVE].optionlen, later[GENEVE].critical, later[GENEVE].payload[TCP].dport) == (0, 0, 8080)
    for _ in range(2):
        datagram = outer_of(send(node, "from_netdev", f"udp {CLIENT}:40000 > {LB_VIP}:80 len=33").wire)
        assert len(datagram[GENEVE].options) == 1
        assert correct(datagram[GENEVE].payload)


def test_one_flow_has_one_outer_port_and_flows_differ(node: Simulator) -> None:
    def outer_port(client_port: int) -> int:
        return int(outer_of(send(node, "from_netdev", f"tcp {CLIENT}:{client_port} > {LB_VIP}:80 S").wire)[UDP].sport)

    ports = {port: outer_port(port) for port in range(40000, 40016)}
    assert {port: outer_port(port) for port in ports} == ports
    assert len(set(ports.values())) > 8


def from_the_wire(inner: str, options: bytes = b"") -> bytes:
    outer = Geneve(IPv4Address("10.1.0.9"), IPv4Address(NODE_IP), 2, options)
    return wrap_geneve(frame(inner), outer, src_mac=MAC_THERE, dst_mac=MAC_HERE)


def test_what_the_device_does_is_done_inline_as_well(node: Simulator) -> None:
    """The same packet by a Geneve device and from the wire: same entries, same packet to the pod."""
    option = dsr_option(IPv4Address(LB_VIP), 80)
    inner = f"tcp {CLIENT}:40000 > {POD2}:8080 S"
    tunnel = Geneve(IPv4Address("10.1.0.9"), IPv4Address(NODE_IP), 2, option)
    by_device = send(node, "from_overlay", inner, geneve=tunnel)
    left_by_device = node.tables()
    forget(node)
    by_wire = send(node, "from_netdev", from_the_wire(inner, option))
    assert (by_wire.verdict, by_wire.frame, by_wire.mark) == (by_device.verdict, by_device.frame, by_device.mark)
    assert node.tables() == left_by_device
    assert len(left_by_device.snat) == 1


@pytest.mark.parametrize("version", [4, 6])
def test_an_error_about_an_inner_packet_goes_back_to_the_node_it_came_from(version: int) -> None:
    """Inline as by a device, which is told the same key."""
    vip, pod = {4: (LB_VIP, REMOTE), 6: ("fd00:190::10", "fd00:64:1::64")}[version]
    at = "[{}]:{}" if version == 6 else "{}:{}"
    inner = f"udp {at.format(pod, 40000)} > {at.format(vip, 80)}"
    tunnel = Geneve(IPv4Address("10.1.0.2"), IPv4Address(NODE_IP), 30001, b"")
    empty = [service("none", vip, 80, 33, type="LoadBalancer")]
    with simulated(dual_stack(services=empty)) as node:
        packet = wrap_geneve(frame(inner), tunnel, src_mac=MAC_THERE, dst_mac=MAC_HERE)
        by_wire = send(node, "from_netdev", packet)
        by_device = send(node, "from_overlay", inner, geneve=tunnel)
    outer = outer_of(by_wire.wire)
    assert (outer[IP].src, outer[IP].dst, outer[UDP].dport) == (NODE_IP, "10.1.0.2", 6081)
    assert outer[GENEVE].vni == CtctlIdentity.IDENTITY_WORLD
    assert bytes(outer[GENEVE].payload)[14:] == by_device.frame[14:]
    for result in (by_wire, by_device):
        event = result.events[-1]
        assert (str(event.tunnel_remote), event.tunnel_vni) == ("10.1.0.2", CtctlIdentity.IDENTITY_WORLD)


@pytest.mark.parametrize("before", [b"", bytes.fromhex("01020201") + b"abcd", bytes.fromhex("01020200") * 3])
def test_the_option_is_found_behind_others(node: Simulator, before: bytes) -> None:
    option = dsr_option(IPv4Address(LB_VIP), 80)
    send(node, "from_netdev", from_the_wire(f"udp {CLIENT}:40000 > {POD2}:8080", before + option))
    assert len(node.tables().snat) == 1


def test_whole_dsr_way(node: Simulator) -> None:
    """Through the tunnel to the pod, and the reply straight to the client with the VIP's address."""
    option = dsr_option(IPv4Address(LB_VIP), 80)
    delivered = send(node, "from_netdev", from_the_wire(f"tcp {CLIENT}:40000 > {POD2}:8080 S", option))
    send(node, "to_container", delivered.frame, "pod2", mark=delivered.mark)
    found = {key[13]: int(entry.flags) for key, entry in entries(node).items() if key[12] == 6}
    assert found == {0: CtctlCtFlags.CT_DSR_INTERNAL, 1: CtctlCtFlags.CT_FROM_TUNNEL}
    reply = send(node, "from_container", f"tcp {POD2}:8080 > {CLIENT}:40000 SA")
    out = send(node, "to_netdev", reply.frame, mark=reply.mark)
    packet = Ether(out.frame)
    assert (packet[IP].src, packet[TCP].sport, packet[IP].dst) == (LB_VIP, 80, CLIENT)
    assert correct(packet)
    assert send(node, "to_netdev", out.frame, mark=out.mark).frame == out.frame


def test_a_tunnel_for_another_node_and_its_fragments_are_left_alone(node: Simulator) -> None:
    wire = from_the_wire(f"tcp {CLIENT}:40000 > {POD2}:8080 S")
    elsewhere = wire[:30] + IPv4Address("10.1.0.77").packed + wire[34:]
    fragment = wire[:20] + b"\x20\x00" + wire[22:]
    for packet in (elsewhere, fragment):
        result = send(node, "from_netdev", packet)
        assert (result.verdict, result.frame) == ("pass", packet)
    assert not entries(node)


def test_own_outer_packets_leave_untouched(node: Simulator) -> None:
    encapsulated = send(node, "from_netdev", f"tcp {CLIENT}:40000 > {LB_VIP}:80 S")
    before = node.tables()
    assert encapsulated.wire is not None
    again = send(node, "to_netdev", encapsulated.wire, mark=encapsulated.mark)
    assert (again.verdict, again.mark) == ("pass", encapsulated.mark)
    assert node.tables() == before


def test_local_backend_reply(node: Simulator) -> None:
    to = Ether(send(node, "from_netdev", f"tcp {CLIENT}:40000 > 172.16.0.11:80 S len=3").frame)
    assert (to[IP].dst, to[TCP].dport, bytes(to[Raw])) == (POD2, 8080, b"xxx")
    back = Ether(send(node, "to_netdev", f"tcp {POD2}:8080 > {CLIENT}:40000 SA").frame)
    assert (back[IP].src, back[TCP].sport) == ("172.16.0.11", 80)
    assert correct(to)
    assert correct(back)


#: Of each family: a pod of another node, this node's address, a VIP, a pod here.
ACROSS = {
    4: (REMOTE, NODE_IP, LB_VIP, POD2),
    6: ("[fd00:64:1::64]", "[fd00:1::1]", "[2001:db8:16::10]", "[fd00:64::64]"),
}


def bare(address: str) -> str:
    return address.strip("[]")


def asked(node: Simulator, version: int, by: str) -> str:
    """A pod of another node has asked a pod here, at this node's address or by another node's DSR; that address."""
    there, own, vip, here = ACROSS[version]
    if by == "node port":
        request = send(node, "from_netdev", f"tcp {there}:40000 > {own}:80 S")
    else:
        option = dsr_option(ip_address(bare(vip)), 80)
        from_other = Geneve(IPv4Address("10.1.0.7"), IPv4Address(NODE_IP), 30001, option)
        request = send(node, "from_overlay", f"tcp {there}:40000 > {here}:8080 S", geneve=from_other)
    send(node, "to_container", request.frame, "pod2", mark=request.mark)
    return bare(own if by == "node port" else vip)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("by", "mode"), [("node port", "snat"), ("node port", "dsr"), ("dsr", "dsr"), ("dsr", "hybrid")]
)
def test_a_reply_in_the_tunnel_has_the_services_address(version: int, by: str, mode: str) -> None:
    """Where BPF makes the outer headers, a pod's packet meets no other hook on its way."""
    there, own, _, here = ACROSS[version]
    services = [service("np", bare(own), 80, 31, (301, bare(here), 8080), type="NodePort")]
    with simulated(dual_stack({"routing": "tunnel", "lb": {"mode": mode}}, services=services)) as node:
        address = asked(node, version, by)
        answer = send(node, "from_container", f"tcp {here}:8080 > {there}:40000 SA len=5", "pod2")
        other = send(node, "from_container", f"tcp {here}:8080 > {there}:40001 SA len=5", "pod2")
    for result, source, port in ((answer, address, 80), (other, bare(here), 8080)):
        assert result.tunnel is not None
        assert str(result.tunnel.remote) == REMOTE_NODE
        packet = Ether(result.frame)[IPv6 if version == 6 else IP]
        assert (packet.src, packet[TCP].sport, packet.dst, packet[TCP].dport) == (
            source,
            port,
            bare(there),
            40000 + (result is other),
        )
        fresh = packet.copy()
        del fresh[TCP].chksum
        assert same_checksum(TCP, packet[TCP].chksum, type(packet)(bytes(fresh))[TCP].chksum)


def test_an_error_about_a_hairpin_goes_to_the_stack(node: Simulator) -> None:
    out = send(node, "from_container", f"tcp {POD}:40000 > 10.96.0.40:80 S")
    send(node, "to_container", out.frame, "pod1", mark=out.mark)
    error = f'icmp {POD} > 169.254.42.1 type=3 code=3 inner="tcp 169.254.42.1:40000 > {POD}:8080 S"'
    assert send(node, "from_container", error, "pod1").verdict == "pass"
