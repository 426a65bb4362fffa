"""ICMP errors about what came through a tunnel, on real devices: back through it, with a key, in one piece.

By programs alone on every kernel, and through a geneve device where the kernel has one.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import Ether

from ctctl.abi.layouts import CtctlIdentity
from ctctl.kernel.features import probe
from ctctl.kernel.netns import run_in_netns
from ctctl.kernel.tc import list_filters
from ctctl.node.attach import AttachMode
from ctctl.node.counters import hook_counters
from ctctl.node.loader import load
from ctctl.node.unload import unload
from ctctl.packet.checksum import internet_checksum
from ctctl.packet.frame import build_frame
from ctctl.packet.geneve import GENEVE_PORT
from ctctl.packet.text import parse_packet_text
from tests.support.loaded import status
from tests.support.nodes import NODE_IP, OUTSIDE_IP, TestNode, make_node
from tests.support.wait import wait_for

pytestmark = pytest.mark.kernel

ETH_P_ALL = 3
MTU = 1500
#: outer IPv4, UDP, Geneve and inner Ethernet headers; with DSR's option of each family
OVERHEAD = {4: 50 + 12, 6: 50 + 24}
IDENTITY = 3099
#: of each family: a pod of another node, a service without a backend, one whose backend is a third pod, a pod here
ENDS = {
    4: ("10.244.8.7", "10.68.1.1", "10.68.1.2", "10.244.7.11"),
    6: ("fd00:244:8::7", "fd00:68::1", "fd00:68::2", "fd00:244:7::11"),
}
ROUTER6 = "fd00:244:7::1"


def has_geneve() -> bool:
    return probe(("geneve-device",))[0].available


@dataclass(frozen=True)
class Case:
    """A packet out of the tunnel, and what its sender is to be told."""

    name: str
    inner: str
    version: int
    source: str
    answer: type[Any]
    fields: dict[str, int]
    #: as whom its source is known on the way
    vni: int = int(CtctlIdentity.IDENTITY_WORLD)

    @property
    def sender(self) -> str:
        return ENDS[self.version][0]


def _text(version: int, to: str, more: str = "") -> str:
    sender = ENDS[version][0]
    ends = f"[{sender}]:40000 > [{to}]:80" if version == 6 else f"{sender}:40000 > {to}:80"
    return f"udp {ends} {more}"


def _largest(version: int) -> str:
    """As much data as comes through the tunnel at all: with DSR's option it does not get out again."""
    return f"len={MTU - 50 - {4: 28, 6: 48}[version]}"


NO_BACKEND = (
    Case("no backend", _text(4, ENDS[4][1]), 4, ENDS[4][1], ICMP, {"type": 3, "code": 3}),
    Case("no backend", _text(6, ENDS[6][1]), 6, ENDS[6][1], ICMPv6DestUnreach, {"type": 1, "code": 4}),
    Case("last hop", _text(6, ENDS[6][3], "ttl=1"), 6, ROUTER6, ICMPv6TimeExceeded, {"type": 3, "code": 0}),
)
TOO_BIG = (
    Case("too big", _text(4, ENDS[4][2], _largest(4)), 4, ENDS[4][2], ICMP,
         {"type": 3, "code": 4, "nexthopmtu": MTU - OVERHEAD[4]}),
    Case("too big", _text(6, ENDS[6][2], _largest(6)), 6, ENDS[6][2], ICMPv6PacketTooBig,
         {"type": 2, "mtu": MTU - OVERHEAD[6]}),
)  # fmt: skip
#: By the node's mode: DSR's option is what makes too big what came through. In the other one the hooks on the way out
#: look for what takes the node's address.
MODES: dict[str, tuple[dict[str, Any], tuple[Case, ...]]] = {
    "dsr": ({}, (*NO_BACKEND, *TOO_BIG)),
    "snat": ({"routing": "tunnel", "masquerade": True, "lb": {"mode": "snat"}}, NO_BACKEND),
}


def _services() -> Iterator[dict[str, Any]]:
    for version, (_, empty, far, _) in ENDS.items():
        backend = {"id": 70 + version, "ip": {4: "10.244.8.9", 6: "fd00:244:8::9"}[version], "port": 8000}
        for number, ip, backends in ((30, empty, []), (40, far, [backend])):
            yield {
                "name": f"s{number + version}", "type": "LoadBalancer", "ip": ip, "port": 80, "protocol": "UDP",
                "id": number + version, "backends": backends,
            }  # fmt: skip


def node_file(node: TestNode, tunnel: str, mode: dict[str, Any]) -> dict[str, Any]:
    """The node file's sections with both families, and services that cannot be had."""
    document = node.document()
    lb = {**document["datapath"]["lb"], "no-backend": "reject", **mode.get("lb", {})}
    return {
        "node": {**document["node"], "ip6": "fd00:9::1", "pod-cidr6": "fd00:244:7::/64"},
        "datapath": {**document["datapath"], **mode, "ipv6": True, "tunnel": tunnel, "lb": lb},
        "endpoints": [{**each, "ip6": ENDS[6][3]} for each in document["endpoints"]],
        "remote": [
            {"cidr": cidr, "identity": IDENTITY, "node": OUTSIDE_IP} for cidr in ("10.244.8.0/24", "fd00:244:8::/64")
        ],
        "services": list(_services()),
    }


@pytest.fixture
def node() -> Iterator[TestNode]:
    with make_node() as made:
        yield made
        if made.dir.exists():
            unload(made.name)


@contextmanager
def other_end(node: TestNode) -> Iterator[tuple[socket.socket, socket.socket]]:
    """What is on the wire of the other node, and its own end of the tunnel."""

    def opened() -> tuple[socket.socket, socket.socket]:
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        wire.bind(("eth0", 0))
        tunnel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tunnel.bind(("", GENEVE_PORT))
        return wire, tunnel

    wire, tunnel = run_in_netns(node.outside, opened)
    with wire, tunnel:
        yield wire, tunnel


def through_the_tunnel(inner: str) -> bytes:
    """What the other node's datagram to this one has in it."""
    header = struct.pack(">BBHI", 0, 0, 0x6558, IDENTITY << 8)
    return header + build_frame(parse_packet_text(inner))


def next_error(wire: socket.socket, version: int) -> Any:
    """The next packet in the tunnel from the node with an ICMP message of that family in it; None: none yet."""
    while True:
        try:
            packet: Any = Ether(wire.recv(65536, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return None
        if GENEVE in packet and packet[IP].src == NODE_IP:
            inner = packet[GENEVE].payload
            if (version == 4 and ICMP in inner) or (version == 6 and IPv6 in inner and inner[IPv6].nh == 58):
                return packet


def check(case: Case, told: Any) -> None:
    outer, answer = told[IP], told[GENEVE].payload[IP if case.version == 4 else IPv6]
    assert (outer.dst, told[UDP].dport) == (OUTSIDE_IP, GENEVE_PORT)
    assert (told[GENEVE].vni, "DF" in outer.flags, outer.frag) == (case.vni, True, 0)
    assert (answer.src, answer.dst) == (case.source, case.sender)
    assert {name: getattr(answer[case.answer], name) for name in case.fields} == case.fields
    # Of the whole message, with what it quotes; IPv6's over the pseudo header too.
    raw = bytes(told[GENEVE].payload)[14:]
    if case.version == 4:
        assert internet_checksum(raw[:20]) == internet_checksum(raw[20 : answer.len]) == 0
    else:
        assert answer.plen == len(raw) - 40
        assert internet_checksum(raw[8:40] + struct.pack(">II", answer.plen, 58) + raw[40:]) == 0


# No failure under CTCTL_REQUIRE_KERNEL: the datapath does without such a device (docs/datapath.md).
BY_DEVICE = pytest.param(
    "device", marks=pytest.mark.skipif("not has_geneve()", reason="this kernel has no geneve device")
)


def tell_all(node: TestNode, cases: tuple[Case, ...]) -> None:
    with other_end(node) as (wire, end):
        for case in cases:
            what = f"{case.name} of IPv{case.version}"
            end.sendto(through_the_tunnel(case.inner), (NODE_IP, GENEVE_PORT))
            told = wait_for(partial(next_error, wire, case.version), what=f"the node to tell {what}")
            check(case, told)
        # Each once.
        assert [next_error(wire, version) for version in (4, 6)] == [None, None]
    # Pods and devices say other things meanwhile, of themselves.
    counted = hook_counters(node.dir)
    assert {at for at in counted if at[0] in {"from_overlay", "to_overlay"} and at[1] != "ok"} == set()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tunnel", ["bpf", BY_DEVICE])
def test_its_sender_is_told(node: TestNode, tunnel: str, mode: str) -> None:
    datapath, cases = MODES[mode]
    report = load(node.request(**node_file(node, tunnel, datapath)))
    assert report.tunnel == tunnel
    tell_all(node, cases)


def test_filters_do_as_links_do(node: TestNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of IPv4 takes outer headers off for that of IPv6: it has to be the first one of the two."""
    datapath, cases = MODES["dsr"]
    wanted = {"request": {"attach": AttachMode.tc}, **node_file(node, "bpf", datapath)}
    load(node.request(**wanted))
    tell_all(node, cases)
    # What was attached in the wrong order gets into the right one, and nothing of it stays.
    unload(node.name)
    with monkeypatch.context() as before:
        before.setattr("ctctl.node.attach._PRIORITY", {4: 50, 6: 50})
        load(node.request(**wanted))
    for _ in range(2):
        load(node.request(**wanted))
        assert status(node).problems == ()
        tell_all(node, cases)
        found = [each.name.rpartition("/")[2] for each in run_in_netns(node.name, list_filters)]
        assert len(found) == len(set(found)) == 8
