"""Every way a packet is dropped: the reason, counted once, and nothing written but what the rules say."""

from __future__ import annotations

import errno
import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP

from ctctl.abi.layouts import CtctlReason, CtctlStat
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.object import BpfObject
from ctctl.model.event import Why
from ctctl.packet.geneve import Geneve, wrap_geneve
from ctctl.simulate.maps import SimulatedMaps
from ctctl.simulate.simulator import Simulator
from tests.support.datapath import (
    CLIENT,
    LB_VIP,
    MAC_HERE,
    MAC_THERE,
    NODE,
    NODE_IP,
    POD,
    POD2,
    REMOTE,
    VIP,
    drops,
    entries,
    forget,
    frame,
    node_file,
    per_cpu_sum,
    send,
    service,
    simulated,
    simulated_whole,
)

pytestmark = pytest.mark.kernel

LOADBALANCER = {"type": "LoadBalancer"}
GUARDED = {**LOADBALANCER, "source-ranges": ["203.0.113.0/24"]}
SERVICES = [
    service("web", VIP, 80, 7, (101, REMOTE, 8080)),
    service("empty", "10.96.0.20", 80, 8),
    service("lb", LB_VIP, 80, 20, (201, REMOTE, 8080), **LOADBALANCER),
    service("nowhere", "172.16.0.11", 80, 21, (209, "198.51.100.7", 8080), **LOADBALANCER),
    service("guarded", "172.16.0.12", 80, 22, (201, REMOTE, 8080), **GUARDED),
    service("host-port", "172.16.0.13", 80, 23, (201, REMOTE, 8080), type="HostPort"),
]  # fmt: skip
POLICY = [{"endpoint": "pod2", "direction": "egress", "port": 443, "protocol": "TCP"}]


@pytest.fixture(scope="module")
def node() -> Iterator[Simulator]:
    datapath = {"sctp": True, "lb": {"algorithm": "random", "no-backend": "drop"}}
    with simulated_whole(node_file(datapath, services=SERVICES, policy=POLICY)) as simulator:
        yield simulator


def ethernet(ethertype: int, payload: bytes = bytes(46)) -> bytes:
    return MAC_HERE + MAC_THERE + ethertype.to_bytes(2, "big") + payload


def cut(text: str, l4_bytes: int) -> bytes:
    """The packet with so many bytes left of its L4 header and data."""
    return frame(text)[: 34 + l4_bytes]


def tunnel(inner: bytes, **fields: Any) -> bytes:
    """A Geneve packet for this node, from the wire."""
    outer = Geneve(**{"remote": IPv4Address("10.1.0.9"), "local": IPv4Address(NODE_IP), "vni": 2} | fields)
    return wrap_geneve(inner, outer, src_mac=MAC_THERE, dst_mac=MAC_HERE)


def spoilt(packet: bytes, at: int, value: bytes) -> bytes:
    return packet[:at] + value + packet[at + len(value) :]


SYN_IN = frame(f"tcp {CLIENT}:40000 > {POD2}:8080 S")
GENEVE_AT = 14 + 20 + 8


@dataclass(frozen=True)
class Drop:
    reason: str
    hook: str
    packet: str | bytes
    endpoint: str | None = "pod1"
    how: dict[str, Any] = field(default_factory=dict)
    #: entries the packet leaves all the same
    entries: int = 0
    #: the hook that has the packet in the end: after decapsulation it is from_overlay's
    counted_at: str = ""


CASES = {
    "LLC at the pod": Drop("unsupported_l2", "from_container", ethernet(40)),
    "IPv6 from the pod": Drop("unknown_l3", "from_container", ethernet(0x86DD)),
    "LLDP to the pod": Drop("unknown_l3", "to_container", ethernet(0x88CC)),
    "another's source": Drop("invalid_sip", "from_container", f"tcp 10.64.0.99:1 > {REMOTE}:80 S"),
    "Geneve from the pod": Drop("encap_prohibited", "from_container", f"udp {POD}:1 > {REMOTE}:6081"),
    "TCP of 13 bytes out": Drop("ct_invalid_hdr", "from_container", cut(f"tcp {POD}:1 > {REMOTE}:80 S", 13)),
    "TCP of 13 bytes in": Drop("ct_invalid_hdr", "to_container", cut(f"tcp {REMOTE}:1 > {POD}:80 S", 13)),
    "UDP of 3 bytes": Drop("ct_invalid_hdr", "from_container", cut(f"udp {POD}:1 > {REMOTE}:53", 3)),
    "UDP of 3 bytes at the node": Drop("ct_invalid_hdr", "from_netdev", cut(f"udp {CLIENT}:1 > {VIP}:53", 3), None),
    "UDP of 3 bytes leaving": Drop("ct_invalid_hdr", "to_netdev", cut(f"udp {POD}:1 > {CLIENT}:53", 3), None),
    "TCP to a LoadBalancer without flags": Drop(
        "ct_invalid_hdr", "from_netdev", cut(f"tcp {CLIENT}:1 > {LB_VIP}:80 S", 8), None),
    "ping of 5 bytes": Drop("ct_invalid_hdr", "from_container", cut(f"icmp {POD} > {REMOTE}", 5)),
    "ping of 7 bytes": Drop("invalid", "from_container", cut(f"icmp {POD} > {REMOTE}", 7)),
    "GRE": Drop("ct_unknown_proto", "to_container", spoilt(frame(f"udp {REMOTE}:1 > {POD}:2"), 23, b"\x2f")),
    "later fragment alone": Drop("frag_not_found", "from_container", f"udp {POD}:1 > {REMOTE}:53 frag=24"),
    "later fragment at the node": Drop("frag_not_found", "from_netdev", f"udp {CLIENT}:1 > {VIP}:53 frag=24", None),
    "port not allowed": Drop("policy", "from_container", f"tcp {POD2}:1 > {REMOTE}:80 S", "pod2"),
    "no backend": Drop("no_service", "from_container", f"tcp {POD}:1 > 10.96.0.20:80 S"),
    "ClusterIP from outside": Drop("is_cluster_ip", "from_netdev", f"tcp {CLIENT}:1 > {VIP}:80 S", None),
    "client out of range": Drop("not_in_src_range", "from_netdev", f"tcp {CLIENT}:1 > 172.16.0.12:80 S", None),
    "host port elsewhere": Drop("invalid", "from_netdev", f"tcp {CLIENT}:1 > 172.16.0.13:80 S", None, entries=1),
    "no node behind the backend": Drop(
        "no_tunnel_endpoint", "from_netdev", f"tcp {CLIENT}:1 > 172.16.0.11:80 S", None, entries=1),
    "SCTP to another port": Drop("csum_l4", "from_container", f"sctp {POD}:1 > {VIP}:80", entries=1),
    "TCP checksum cut off": Drop("csum_l4", "from_container", cut(f"tcp {POD}:1 > {VIP}:80 S", 16), entries=1),
    "no tunnel key": Drop("no_tunnel_key", "from_overlay", SYN_IN, None),
    "tunnelled as the host": Drop("invalid_identity", "from_overlay", SYN_IN, None,
                                  {"geneve": Geneve(IPv4Address("10.1.0.2"), IPv4Address(NODE_IP), 1)}),
    "tunnelled with TTL 1": Drop("ttl_exceeded", "from_overlay", spoilt(SYN_IN, 22, b"\x01"), None,
                                 {"geneve": Geneve(IPv4Address("10.1.0.2"), IPv4Address(NODE_IP), 30001)}),
    "TCP of 13 bytes tunnelled": Drop("ct_invalid_hdr", "from_netdev", tunnel(SYN_IN[: 34 + 13]), None,
                                      counted_at="from_overlay"),
    "Geneve version 1": Drop("invalid", "from_netdev", spoilt(tunnel(SYN_IN), GENEVE_AT, b"\x40"), None),
    "Geneve of no Ethernet": Drop("invalid", "from_netdev", spoilt(tunnel(SYN_IN), GENEVE_AT + 2, b"\x08\x00"), None),
    "Geneve header cut": Drop("invalid", "from_netdev", tunnel(SYN_IN)[: GENEVE_AT + 7], None),
    "Geneve options cut": Drop("invalid", "from_netdev", spoilt(tunnel(SYN_IN)[: GENEVE_AT + 14], GENEVE_AT, b"\x3f"),
                               None),
    "tunnelled IPv6": Drop("unknown_l3", "from_netdev", tunnel(ethernet(0x86DD)), None),
    "tunnelled half an IP header": Drop("invalid", "from_netdev", tunnel(SYN_IN[:24]), None),
    "tunnelled as the host, inline": Drop("invalid_identity", "from_netdev", tunnel(SYN_IN, vni=1), None,
                                          counted_at="from_overlay"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_dropped_counted_and_nothing_else(node: Simulator, name: str) -> None:
    case = CASES[name]
    forget(node)
    before = drops(node)
    result = send(node, case.hook, case.packet, case.endpoint, **case.how)
    assert (result.verdict, result.reason) == ("drop", case.reason)
    counted = {at: n - before.get(at, 0) for at, n in drops(node).items() if n != before.get(at, 0)}
    assert counted == {(case.counted_at or case.hook, case.reason): 1}
    assert len(entries(node)) == case.entries


def test_an_ipv6_packet_of_no_known_protocol_has_no_answer_for_its_last_hop() -> None:
    """Whom to tell how much of the packet is known of TCP, UDP and ICMPv6 only."""
    node = {**NODE["node"], "ip6": "fd00:1::1", "pod-cidr6": "fd00:64::/112"}
    endpoints = [{**pod, "ip6": f"fd00:64::{number}"} for number, pod in enumerate(NODE["endpoints"], 1)]
    at = Geneve(IPv4Address("10.1.0.2"), IPv4Address(NODE_IP), 30001)
    inner = IPv6(src="fd00:65::9", dst="fd00:64::2", hlim=1) / SCTP(sport=1, dport=2)
    packet = bytes(Ether(src=MAC_THERE.hex(":"), dst=MAC_HERE.hex(":")) / inner)
    with simulated(node_file({"ipv6": True, "sctp": True}, node=node, endpoints=endpoints)) as six:
        result = send(six, "from_overlay", packet, geneve=at)
    assert (result.verdict, result.reason) == ("drop", "unknown_l4")


def recorded_reasons() -> set[str]:
    """The reasons in the recordings of Cilium's own programs, each of which test_vectors.py plays."""
    found = set()
    for path in (Path(__file__).parents[1] / "conformance" / "vectors-2").rglob("*.json.xz"):
        steps = json.loads(lzma.decompress(path.read_bytes()))["steps"]
        reasons = [(step.get("result") or {}).get("drop_reason") or "" for step in steps]
        found |= {reason.split()[0].removeprefix("DROP_").lower() for reason in reasons if reason}
    return found


def test_the_cases_cover_every_reason_a_packet_can_have() -> None:
    """Not reached by a packet: checksums of L3 are written by the program itself, the others need
    memory to run out, a state that lookups do not return, or tables and settings of the tests here."""
    # address_in_use: of a socket that wants to be bound, not of a packet.
    elsewhere = {
        "ok",
        "max",
        "csum_l3",
        "write_error",
        "unknown_ct",
        "ct_create_failed",
        "frag_nosupport",
        "address_in_use",
    }
    names = {name.removeprefix("REASON_").lower() for name in CtctlReason.__members__}
    provoked = {case.reason for case in CASES.values()} | {"unknown_l4"} | recorded_reasons()
    assert names - elsewhere - provoked == set()
    assert {case.reason for case in CASES.values()} <= names


def test_fragments_are_dropped_where_they_are_not_tracked() -> None:
    with simulated(node_file({"fragments": False})) as node:
        for hook, packet in (
            ("from_container", f"udp {POD}:1 > {REMOTE}:53 frag=0+"),
            ("from_netdev", f"udp {CLIENT}:1 > {VIP}:53 frag=24"),
        ):
            result = send(node, hook, packet)
            assert (result.verdict, result.reason) == ("drop", "frag_nosupport"), hook
        assert not entries(node)


def test_a_create_that_fails_drops_the_packet_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """An LRU never fails: here the table is a plain hash, and full."""
    share = SimulatedMaps.share
    with Map.create("full", MapType.HASH, 14, 56, 1) as full:
        full.update(bytes(14), bytes(56))

        def share_full(maps: SimulatedMaps, bpf: BpfObject) -> None:
            share(maps, bpf)
            bpf.reuse_map("cilium_ct4_global", full)

        monkeypatch.setattr(SimulatedMaps, "share", share_full)
        with simulated(node_file()) as node:
            result = send(node, "from_container", f"tcp {POD}:1 > {REMOTE}:80 S")
            assert (result.verdict, result.reason) == ("drop", "ct_create_failed")
            assert result.event is not None
            (lookup,) = result.event.lookups
            assert lookup.why & Why.CREATE_FAILED
            assert lookup.error == errno.E2BIG
            assert per_cpu_sum(node.maps["ctctl_stats"], CtctlStat.STAT_CT_CREATE_FAILED) == 1
            assert list(full.items()) == [(bytes(14), bytes(56))]


def test_no_packet_changes_an_entry_of_another_flow(node: Simulator) -> None:
    """The dropped packets and a flow of the same addresses leave a connection as it was."""
    forget(node)
    send(node, "from_container", f"tcp {POD}:50000 > {REMOTE}:80 S", "pod1")
    key, kept = next((k, bytes(v)) for k, v in entries(node).items() if k[12] == 6)
    for case in CASES.values():
        send(node, case.hook, case.packet, case.endpoint, **case.how)
    for other in (50001, 49999, 50000 ^ 1):
        send(node, "from_container", f"tcp {POD}:{other} > {REMOTE}:80 FR", "pod1")
        send(node, "to_container", f"tcp {REMOTE}:80 > {POD}:{other} R", "pod1")
    send(node, "from_container", f"udp {POD}:50000 > {REMOTE}:80", "pod1")
    assert bytes(entries(node)[key]) == kept
