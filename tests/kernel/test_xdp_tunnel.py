"""SNAT's answers out of the tunnel, in XDP: as tc makes them, and untouched where they are not XDP's."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from ctctl.config.node import NodeFile
from ctctl.model.event import Hook, Verdict
from ctctl.packet.checksum import internet_checksum
from ctctl.packet.geneve import Geneve, dsr_option, wrap_geneve
from ctctl.simulate.simulator import Simulator, StepResult
from tests.support.checksums import same_checksum
from tests.support.datapath import (
    CLIENT,
    LB_VIP,
    MAC_HERE,
    MAC_THERE,
    NODE_IP,
    REMOTE,
    dual_stack,
    frame,
    service,
    simulated,
)

pytestmark = pytest.mark.kernel

IDENTITY = 30001
FROM = Geneve(IPv4Address("10.1.0.2"), IPv4Address(NODE_IP), IDENTITY)
#: of each family: the client, the service, its backend on another node, the node's address among its pods
ENDS = {
    4: (CLIENT, LB_VIP, REMOTE, "10.64.0.1"),
    6: ("[2001:db8::50]", "[2001:db8:16::10]", "[fd00:64:1::64]", "[fd00:64::1]"),
}
PORT = 40000
XDP_PASS = 2


def node(acceleration: str) -> NodeFile:
    services = [
        service(f"lb{version}", vip.strip("[]"), 80, 20 + version, (200 + version, there.strip("[]"), 8080),
                type="LoadBalancer", protocol="ANY")
        for version, (_, vip, there, _) in ENDS.items()
    ]  # fmt: skip
    lb = {"mode": "snat", "algorithm": "random", "acceleration": acceleration}
    return dual_stack({"routing": "tunnel", "lb": lb}, services=services)


def request(version: int, proto: str = "tcp") -> bytes:
    client, vip, _, _ = ENDS[version]
    return frame(f"{proto} {client}:{PORT} > {vip}:80" + (" S" if proto == "tcp" else ""))


def answer(version: int, proto: str = "tcp", port: int = PORT) -> bytes:
    _, _, there, router = ENDS[version]
    return frame(f"{proto} {there}:8080 > {router}:{port}" + (" SA" if proto == "tcp" else ""))


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Simulator, Simulator]]:
    with simulated(node("generic")) as xdp, simulated(node("disabled")) as tc:
        for hook in (Hook.XDP_NETDEV, Hook.FROM_NETDEV, Hook.FROM_OVERLAY):
            xdp.load(hook)
            tc.load(hook)
        yield xdp, tc


@pytest.fixture
def xdp(both: tuple[Simulator, Simulator]) -> Simulator:
    both[0].begin(both[0].nf)
    return both[0]


@pytest.fixture
def tc(both: tuple[Simulator, Simulator]) -> Simulator:
    both[1].begin(both[1].nf)
    return both[1]


def behind_macs(result: StepResult) -> bytes:
    """The frame without its MAC addresses: in a simulation no neighbour is known."""
    return result.frame[12:]


def told(result: StepResult) -> list[object]:
    """What is told of it, without what a device's mark and index are: XDP has neither."""
    return [replace(event, mark_out=0, redirect_ifindex=0, redirect_device=None) for event in result.events]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_an_answer_is_that_of_tc(xdp: Simulator, tc: Simulator, version: int, proto: str) -> None:
    for simulator in (tc, xdp):
        simulator.run(Hook.FROM_NETDEV, request(version, proto))
    packet = answer(version, proto)
    want = tc.run(Hook.FROM_OVERLAY, packet, geneve=FROM)
    got = xdp.run(Hook.FROM_OVERLAY, packet, geneve=FROM)
    assert (want.hook, got.hook) == (Hook.FROM_OVERLAY, Hook.XDP_NETDEV)
    assert want.verdict is got.verdict is Verdict.REDIRECT
    assert behind_macs(got) == behind_macs(want)
    assert told(got) == told(want)
    assert xdp.tables() == tc.tables()

    client, vip, _, _ = (end.strip("[]") for end in ENDS[version])
    sent = Ether(got.frame)
    ip, l4 = sent[IP if version == 4 else IPv6], sent[TCP if proto == "tcp" else UDP]
    assert (ip.src, l4.sport, ip.dst, l4.dport) == (vip, 80, client, PORT)
    fresh = ip.copy()
    del fresh[type(l4)].chksum
    again = type(ip)(bytes(fresh))
    assert same_checksum(type(l4), l4.chksum, again[type(l4)].chksum)


def outer(change: Callable[[bytearray], None]) -> Callable[[bytes], bytes]:
    """The packet in the tunnel with something in its outer headers changed, their checksum right again."""

    def wrapped(inner: bytes) -> bytes:
        packet = bytearray(wrap_geneve(inner, FROM, src_mac=MAC_THERE, dst_mac=MAC_HERE))
        change(packet)
        packet[24:26] = bytes(2)
        struct.pack_into(">H", packet, 24, internet_checksum(bytes(packet[14:34])))
        return bytes(packet)

    return wrapped


def put(at: int, value: bytes) -> Callable[[bytes], bytes]:
    def change(packet: bytearray) -> None:
        packet[at : at + len(value)] = value

    return outer(change)


def by(tunnel: Geneve) -> Callable[[bytes], bytes]:
    return lambda inner: wrap_geneve(inner, tunnel, src_mac=MAC_THERE, dst_mac=MAC_HERE)


PASSED_ON: dict[str, Callable[[bytes], bytes]] = {
    "for another node": by(replace(FROM, local=IPv4Address("10.1.0.9"))),
    "of the identity host": by(replace(FROM, vni=1)),
    "with an option": by(replace(FROM, options=dsr_option(IPv4Address(LB_VIP), 80))),
    "another port": put(36, b"\x17\xc2"),
    "not UDP": put(23, b"\x06"),
    "a fragment": put(20, b"\x20\x00"),
    "longer than it says": lambda inner: by(FROM)(inner) + bytes(4),
    "shorter than it says": lambda inner: by(FROM)(inner)[:-1],
    "with a UDP checksum": put(40, b"\x12\x34"),
    "of another version": put(42, b"\x40"),
    "a control packet": put(43, b"\x80"),
    "not Ethernet in it": put(44, b"\x08\x00"),
    "ARP in it": put(62, b"\x08\x06"),
    "cut off in the outer headers": lambda inner: by(FROM)(inner)[:60],
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("what", PASSED_ON)
def test_what_is_no_plain_packet_of_the_tunnel_is_passed_on(xdp: Simulator, version: int, what: str) -> None:
    xdp.run(Hook.FROM_NETDEV, request(version))
    before = xdp.tables()
    packet = PASSED_ON[what](answer(version))
    result = xdp.run(Hook.XDP_NETDEV, packet)
    assert (result.verdict, result.frame, result.events) == (Verdict.PASS, packet, ())
    assert xdp.tables() == before
    # And it was only this: the packet as it is without it is taken.
    assert xdp.run(Hook.XDP_NETDEV, by(FROM)(answer(version))).verdict is Verdict.REDIRECT


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("what", ["nobody's answer", "a low port", "a service's request", "the last hop"])
def test_what_is_in_it_and_no_answer_is_passed_on(xdp: Simulator, version: int, what: str) -> None:
    xdp.run(Hook.FROM_NETDEV, request(version))
    last = bytearray(answer(version))
    if version == 4:
        last[22], last[24:26] = 1, bytes(2)
        struct.pack_into(">H", last, 24, internet_checksum(bytes(last[14:34])))
    else:
        last[21] = 1
    inner = {
        "nobody's answer": answer(version, port=PORT + 1),
        "a low port": answer(version, port=20000),
        "a service's request": request(version),
        "the last hop": bytes(last),
    }[what]
    before, packet = xdp.tables(), by(FROM)(inner)
    result = xdp.run(Hook.XDP_NETDEV, packet)
    assert (result.verdict, result.frame, result.events) == (Verdict.PASS, packet, ())
    assert xdp.tables() == before


@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_whose_entry_is_gone_is_tcs(xdp: Simulator, version: int) -> None:
    xdp.run(Hook.FROM_NETDEV, request(version))
    for table in xdp.ct_tables:
        for key, _ in list(xdp.maps[table].items()):
            xdp.maps[table].delete(key)
    packet = by(FROM)(answer(version))
    assert xdp.run(Hook.XDP_NETDEV, packet).frame == packet
    assert xdp.run(Hook.FROM_OVERLAY, answer(version), geneve=FROM).hook is Hook.FROM_OVERLAY


def test_ipv4s_program_passes_on_what_there_is_no_program_for(xdp: Simulator) -> None:
    """Its program array is empty here: outer headers of what is IPv6's stay where they are."""
    xdp.run(Hook.FROM_NETDEV, request(6))
    packet = by(FROM)(answer(6))
    run = xdp.program(Hook.XDP_NETDEV, None, 4).prepare_test_run(max_frame=len(packet))
    assert (run.run(packet), run.data) == (XDP_PASS, packet)
