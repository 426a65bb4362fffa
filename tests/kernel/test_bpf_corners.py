"""Corners of Cilium 1.16's datapath that no recorded vector goes through."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest

from ctctl.abi.layouts import CtctlCtFlags
from ctctl.model.entry import CtState
from ctctl.model.event import LookupKind, Why
from ctctl.node.records import affinity_match_key, backend_key
from ctctl.packet.geneve import Geneve, dsr_option
from ctctl.simulate.simulator import Simulator
from tests.support.datapath import (
    CLIENT,
    LB_VIP,
    NODE_IP,
    NOW,
    POD,
    POD2,
    REMOTE,
    VIP,
    entries,
    frame,
    node_file,
    send,
    service,
    simulated,
)

pytestmark = pytest.mark.kernel

UNTRACKED = {"fragments": False}


def tunnel(options: bytes = b"") -> Geneve:
    return Geneve(IPv4Address("10.1.0.9"), IPv4Address(NODE_IP), 2, options)


def test_untracked_fragments_reach_the_pod_and_are_read_as_whole_packets() -> None:
    with simulated(node_file(UNTRACKED)) as node:
        assert send(node, "to_container", f"udp {REMOTE}:7 > {POD}:53 frag=0+ len=24").verdict == "pass"
        later = bytearray(frame(f"udp {REMOTE}:7 > {POD}:53 frag=24 len=24"))
        later[34:38] = struct.pack(">HH", 1111, 2222)
        assert send(node, "to_container", bytes(later)).verdict == "pass"
        ports = {struct.unpack(">HH", key[8:12]) for key in entries(node) if key[12] == 17}
        # An entry's key has the flow's destination port first.
        assert ports == {(53, 7), (2222, 1111)}
        assert not list(node.maps["cilium_ipv4_frag_datagrams"].items())


def test_an_untracked_fragment_needs_a_rule_for_all_ports() -> None:
    rule = {"endpoint": "pod1", "direction": "ingress", "port": 53, "protocol": "UDP"}
    with simulated(node_file(UNTRACKED, policy=[rule])) as node:
        assert send(node, "to_container", f"udp {REMOTE}:7 > {POD}:53").verdict == "pass"
        result = send(node, "to_container", f"udp {REMOTE}:8 > {POD}:53 frag=0+ len=24")
        assert (result.verdict, result.reason) == ("drop", "frag_nosupport")


def test_the_first_untracked_fragment_of_a_reply_is_translated() -> None:
    lb = service("lb", LB_VIP, 80, 20, (202, POD2, 8080), type="LoadBalancer")
    with simulated(node_file(UNTRACKED, services=[lb])) as node:
        send(node, "from_netdev", f"udp {CLIENT}:40000 > {LB_VIP}:80")
        first = send(node, "to_netdev", f"udp {POD2}:8080 > {CLIENT}:40000 frag=0+ len=24")
        assert first.frame[26:30] == IPv4Address(LB_VIP).packed


def test_affinity_counts_as_used_though_its_backend_is_gone() -> None:
    sticky = service("sticky", VIP, 80, 7, (101, REMOTE, 8080), affinity="300s")
    with simulated(node_file(services=[sticky])) as node:
        send(node, "from_container", f"tcp {POD}:1 > {VIP}:80 S")
        node.maps.write("cilium_lb4_backends_v3", backend_key(101), None)
        node.advance(100)
        assert send(node, "from_container", f"tcp {POD}:2 > {VIP}:80 S").verdict == "redirect"
        ((_, value),) = node.tables().affinity
        assert struct.unpack_from("<QI", value) == (NOW + 100, 101)
        node.maps.write("cilium_lb_affinity_match", affinity_match_key(101, 7), None)
        send(node, "from_container", f"tcp {POD}:3 > {VIP}:80 S")
        assert not node.tables().affinity


def test_the_grace_of_a_closed_service_entry_is_over_with_its_last_second() -> None:
    """Within it a SYN reopens the entry; from service-tcp-grace on it is taken as if there were none."""
    svc = service("web", VIP, 80, 7, (101, REMOTE, 8080))
    with simulated(node_file({"timeouts": {"service-tcp-grace": "60s"}}, services=[svc])) as node:
        for port, passed in enumerate((0, 59, 60, 61, 4000), 40000):
            closed = node.now
            for flags in ("S", "FA"):
                send(node, "from_container", f"tcp {POD}:{port} > {VIP}:80 {flags}")
            node.advance(passed)
            event = send(node, "from_container", f"tcp {POD}:{port} > {VIP}:80 S").event
            assert event is not None
            first = event.lookups[0]
            assert first.kind is LookupKind.SERVICE
            assert first.before is not None
            assert (first.before.last_tx_report, first.before.state) == (closed, CtState.CLOSED)
            assert first.why & (Why.GRACE_OVER | Why.REOPENED) == (Why.GRACE_OVER if passed >= 60 else Why.REOPENED)


def test_a_report_is_renewed_after_its_interval_and_not_with_its_last_second() -> None:
    with simulated(node_file()) as node:
        for _ in range(2):
            send(node, "from_container", f"tcp {POD}:40000 > {REMOTE}:80 A")
        for passed, reported in ((5, NOW), (6, NOW + 6)):
            node.set_clock(NOW + passed)
            send(node, "from_container", f"tcp {POD}:40000 > {REMOTE}:80 A")
            (entry,) = (entry for key, entry in entries(node).items() if key[12] == 6)
            assert (entry.last_tx_report, entry.lifetime) == (reported, NOW + passed + 8000)


def test_a_service_at_the_overlay_is_no_dsr_request() -> None:
    lb = service("lb", LB_VIP, 80, 20, (202, POD2, 8080), type="LoadBalancer")
    with simulated(node_file(services=[lb])) as node:
        option = dsr_option(IPv4Address("172.16.9.9"), 99)
        result = send(node, "from_overlay", f"tcp {CLIENT}:40000 > {LB_VIP}:80 S", geneve=tunnel(option))
        assert (result.verdict, result.frame[30:34]) == ("redirect", IPv4Address(POD2).packed)
        flags = {key[13]: int(entry.flags) for key, entry in entries(node).items()}
        assert flags == {0: CtctlCtFlags.CT_NODE_PORT, 4: 0}
        assert not node.tables().snat


OPTION = dsr_option(IPv4Address(LB_VIP), 80)


@pytest.mark.parametrize(
    ("options", "verdict", "snat"),
    [
        (OPTION, "redirect", 1),
        (OPTION + bytes.fromhex("01020300"), "redirect", 0),
        (OPTION + bytes(240), "redirect", 0),
        (OPTION[:8], "drop", 0),
        (OPTION[:4], "drop", 0),
        (b"\x01\x02" + OPTION[2:], "redirect", 0),
        (OPTION[:2] + b"\x01" + OPTION[3:], "redirect", 0),
    ],
)
@pytest.mark.parametrize("packet", [f"tcp {CLIENT}:40000 > {POD2}:8080 S", f"udp {CLIENT}:40000 > {POD2}:8080"])
def test_options_as_the_kernels_helper_hands_them_over(packet: str, options: bytes, verdict: str, snat: int) -> None:
    with Simulator(node_file()) as node:
        result = send(node, "from_overlay", packet, geneve=tunnel(options))
        assert (result.verdict, len(node.tables().snat)) == (verdict, snat)


def test_ipv6_from_the_overlay_is_dropped_and_arp_is_not() -> None:
    with Simulator(node_file()) as node:
        packet = frame(f"udp {CLIENT}:1 > {POD2}:2 len=40")
        for ethertype, expected in ((b"\x86\xdd", ("drop", "unknown_l3")), (b"\x08\x06", ("pass", None))):
            result = send(node, "from_overlay", packet[:12] + ethertype + packet[14:], geneve=tunnel())
            assert (result.verdict, result.reason) == expected
