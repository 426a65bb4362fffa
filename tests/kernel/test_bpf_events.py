"""What hooks tell a listener: content, whom it concerns, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import sizeof
from ipaddress import IPv4Address, ip_address

import pytest

from ctctl.abi.layouts import CtctlStat, ctctl_event, ctctl_trace_ctl
from ctctl.kernel.ringbuf import RingBuffer
from ctctl.model.event import CtResult, Hook, HookEvent, LookupKind, Why
from ctctl.model.tuples import Direction
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
    dual_stack,
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

SERVICES = [
    service("web", VIP, 80, 7, (101, REMOTE, 8080), affinity="30s"),
    service("lb", LB_VIP, 80, 20, (202, POD2, 8080), type="LoadBalancer"),
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with simulated_whole(node_file(services=SERVICES)) as simulator:
        yield simulator


@pytest.fixture
def node(shared: Simulator) -> Iterator[Simulator]:
    forget(shared)
    shared.now = NOW
    control = shared.maps["ctctl_trace_ctl"]
    before = control.lookup(bytes(4))
    assert before is not None
    yield shared
    control.update(bytes(4), before)


def listen(node: Simulator, *, until_s: int = NOW + 10, proto: int = 0, ends: tuple[str, str] = ("", "")) -> None:
    """Hold the lease until ``until_s``; ends are "ADDRESS:PORT", empty for any."""
    control = ctctl_trace_ctl(until_ns=until_s * 1_000_000_000, filter=int(bool(proto) or any(ends)), proto=proto)
    for side, end in enumerate(ends):
        host, _, port = (end if ":" in end else f"{end}:").rpartition(":")
        if host:
            packed = ip_address(host.strip("[]")).packed
            control.family = 1 if len(packed) == 4 else 2
            control.addr[side][: len(packed)] = packed
            control.mask[side][: len(packed)] = b"\xff" * len(packed)
        control.port[side] = int(port or 0)
    node.maps["ctctl_trace_ctl"].update(bytes(4), bytes(control))


def told(node: Simulator, hook: str, packet: str, endpoint: str | None = None, **how: object) -> HookEvent | None:
    return send(node, hook, packet, endpoint, **how).event


def test_offsets_of_the_filter() -> None:
    assert [getattr(ctctl_trace_ctl, name).offset for name in ("addr", "mask", "port")] == [8, 40, 76]


# ---- content


def test_service_event(node: Simulator) -> None:
    event = told(node, "from_container", f"tcp {POD}:40000 > {VIP}:80 S")
    assert event is not None
    assert (str(event.tuple_in.src), event.tuple_in.src_port) == (POD, 40000)
    assert (str(event.tuple_in.dst), event.tuple_in.dst_port) == (VIP, 80)
    assert (str(event.tuple_out.dst), event.tuple_out.dst_port) == (REMOTE, 8080)
    assert (event.backend_id, event.rev_nat, event.endpoint_id, event.now_s) == (101, 7, 1001, NOW)
    assert (event.src_identity, event.dst_identity, event.mark_out) == (20001, 30001, 0x4E210F00)
    assert (event.tcp_flags, event.packet_length) == (2, 54)
    svc, ct = event.lookups
    assert (svc.kind, svc.result, svc.why) == (LookupKind.SERVICE, CtResult.NEW, Why.CREATED | Why.BACKEND_RANDOM)
    assert (svc.before, svc.after and svc.after.backend_id) == (None, 101)
    assert (ct.kind, ct.result) == (LookupKind.CT, CtResult.NEW)
    assert ct.why == Why.CREATED | Why.RELATED_CREATED | Why.POLICY_ALLOWED
    assert ct.after is not None
    assert (ct.after.lifetime, ct.after.rev_nat, ct.after.tx_flags_seen) == (NOW + 60, 7, 2)


def test_a_lookup_that_finds_nothing_and_writes_nothing_says_what_it_looked_for() -> None:
    rule = {"endpoint": "pod1", "direction": "ingress", "port": 53, "protocol": "UDP"}
    with simulated(node_file(policy=[rule])) as node:
        result = send(node, "to_container", f"tcp {REMOTE}:7 > {POD}:81 S")
        assert (result.verdict, result.reason) == ("drop", "policy")
        assert result.event is not None
        lookup = result.event.lookups[-1]
        assert (lookup.before, lookup.after, lookup.result) == (None, None, CtResult.NEW)
        assert (str(lookup.flow), lookup.direction) == (f"TCP {REMOTE}:7 -> {POD}:81", Direction.IN)


def test_before_and_after_are_the_table(node: Simulator) -> None:
    """Each packet's "after" is what the table then holds, and the next one's "before"."""
    last: dict[tuple[str, str], bytes] = {}
    for hook, packet in (
        ("from_container", f"tcp {POD}:40000 > {VIP}:80 S"),
        ("to_container", f"tcp {REMOTE}:8080 > {POD}:40000 SA"),
        ("from_container", f"tcp {POD}:40000 > {VIP}:80 A"),
        ("from_container", f"tcp {POD}:40000 > {VIP}:80 FA"),
        ("to_container", f"tcp {REMOTE}:8080 > {POD}:40000 FA"),
        ("from_container", f"tcp {POD}:40000 > {VIP}:80 A"),
        ("from_container", f"tcp {POD}:40000 > {VIP}:80 S"),
        ("to_container", f"tcp {REMOTE}:8080 > {POD}:40000 R"),
    ):
        node.advance(1)
        event = told(node, hook, packet)
        assert event is not None
        table = {bytes(key): bytes(value) for key, value in entries(node).items()}
        for lookup in event.lookups:
            assert lookup.after is not None
            name = (str(lookup.flow), str(lookup.direction))
            if lookup.before is not None and not lookup.why & Why.CREATED:
                assert lookup.before.value == last[name]
            assert lookup.after.value in table.values()
            last[name] = lookup.after.value


@pytest.mark.parametrize(
    ("packets", "expected"),
    [
        (["S", "A"], Why.HIT | Why.LONG_LIFETIME | Why.POLICY_ALLOWED),
        (["S", "A", "FA"], Why.HIT | Why.HALF_CLOSED | Why.POLICY_ALLOWED),
        (["S", "R"], Why.HIT | Why.LONG_LIFETIME | Why.CLOSED | Why.POLICY_ALLOWED),
        (["S", "R", "A"], Why.HIT | Why.DEAD | Why.POLICY_ALLOWED),
        (["S", "A", "FA", "S"], Why.HIT | Why.REOPENED | Why.CREATED | Why.RELATED_CREATED | Why.POLICY_ALLOWED),
    ],
)
def test_why_of_a_connection(node: Simulator, packets: list[str], expected: Why) -> None:
    *before, last = packets
    for flags in before:
        told(node, "from_container", f"tcp {POD}:40000 > {REMOTE}:80 {flags}")
    event = told(node, "from_container", f"tcp {POD}:40000 > {REMOTE}:80 {last}")
    assert event is not None
    assert event.lookups[-1].why == expected


def test_why_of_a_backend(node: Simulator) -> None:
    def why(port: int) -> Why:
        event = told(node, "from_container", f"tcp {POD}:{port} > {VIP}:80 S")
        assert event is not None
        return event.lookups[0].why

    assert why(1) & (Why.BACKEND_RANDOM | Why.BACKEND_KEPT | Why.BACKEND_AFFINITY) == Why.BACKEND_RANDOM
    assert why(1) & (Why.BACKEND_RANDOM | Why.BACKEND_KEPT | Why.BACKEND_AFFINITY) == Why.BACKEND_KEPT
    assert why(2) & (Why.BACKEND_RANDOM | Why.BACKEND_KEPT | Why.BACKEND_AFFINITY) == Why.BACKEND_AFFINITY


def late(node: Simulator, flags: str) -> HookEvent:
    """What the hook tells of a packet with these flags that answers a connection closed before."""
    told(node, "from_container", f"tcp {POD}:40000 > {REMOTE}:80 S")
    told(node, "from_container", f"tcp {POD}:40000 > {REMOTE}:80 R")
    event = told(node, "to_container", f"tcp {REMOTE}:80 > {POD}:40000 {flags}")
    assert event is not None
    return event


def test_reopened_reply_entry_is_told_apart(node: Simulator) -> None:
    """A SYN on a dead OUT entry, from the other side, resets it and makes an IN entry: two lookups."""
    first, second = late(node, "S").lookups
    assert (str(first.direction), first.why) == ("OUT", Why.HIT | Why.REOPENED)
    assert str(second.direction) == "IN"
    assert second.why & Why.CREATED


def test_a_late_syn_ack_reopens_nothing(node: Simulator) -> None:
    """The rule from Cilium 1.16.12 on, and the default."""
    (only,) = late(node, "SA").lookups
    assert only.why & (Why.HIT | Why.DEAD | Why.REOPENED) == Why.HIT | Why.DEAD
    assert only.result is CtResult.REPLY


def test_a_late_syn_ack_reopens_as_in_1_16_4() -> None:
    with simulated(node_file({"like": "1.16.4"}, services=SERVICES)) as node:
        first, second = late(node, "SA").lookups
    assert (str(first.direction), first.why) == ("OUT", Why.HIT | Why.REOPENED)
    assert second.why & Why.CREATED


def test_dsr_and_reply_events(node: Simulator) -> None:
    tunnel = Geneve(IPv4Address("10.1.0.9"), IPv4Address(NODE_IP), 2, dsr_option(IPv4Address(LB_VIP), 80))
    event = told(node, "from_overlay", f"tcp {CLIENT}:40000 > {POD2}:8080 S", geneve=tunnel)
    assert event is not None
    assert (str(event.dsr), str(event.tunnel_remote), event.tunnel_vni) == (f"{LB_VIP}:80", "10.1.0.9", 2)
    assert event.redirect_ifindex == 22
    (lookup,) = event.lookups
    assert lookup.kind is LookupKind.DSR
    assert lookup.why == Why.CREATED | Why.SNAT_CREATED | Why.DSR_OPTION
    reply = told(node, "to_netdev", f"tcp {POD2}:8080 > {CLIENT}:40000 SA")
    assert reply is not None
    assert [found.kind for found in reply.lookups] == [LookupKind.REV_DNAT]
    assert (str(reply.tuple_out.src), reply.tuple_out.src_port) == (LB_VIP, 80)


def test_policy_words(node: Simulator) -> None:
    told(node, "to_container", f"tcp {REMOTE}:1 > {POD}:80 S")
    event = told(node, "from_container", f"tcp {POD}:80 > {REMOTE}:1 SA")
    assert event is not None
    assert event.lookups[0].why & Why.POLICY_SKIPPED
    assert event.lookups[0].result is CtResult.REPLY


# ---- to whom


@pytest.mark.parametrize(
    ("ends", "proto", "heard"),
    [
        ((POD + ":40000", REMOTE + ":80"), 6, True),
        ((REMOTE + ":80", POD + ":40000"), 6, True),
        ((POD, ""), 0, True),
        (("", f"{REMOTE}"), 0, True),
        (("", ""), 6, True),
        (("", ""), 17, False),
        ((POD + ":40001", ""), 6, False),
        ((CLIENT, ""), 0, False),
        ((POD + ":80", REMOTE + ":40000"), 6, False),
    ],
)
def test_filter(node: Simulator, ends: tuple[str, str], proto: int, heard: bool) -> None:
    listen(node, ends=ends, proto=proto)
    assert (told(node, "from_container", f"tcp {POD}:40000 > {REMOTE}:80 S") is not None) is heard
    assert (told(node, "to_container", f"tcp {REMOTE}:80 > {POD}:40000 SA") is not None) is heard


def test_errors_about_the_flow_are_heard(node: Simulator) -> None:
    listen(node, ends=(POD + ":40000", REMOTE + ":80"), proto=6)
    inner = f'inner="tcp {POD}:40000 > {REMOTE}:80 S"'
    assert told(node, "to_container", f"icmp {REMOTE} > {POD} type=3 code=3 {inner}") is not None
    assert told(node, "to_container", f"icmp {CLIENT} > {POD} type=3 code=3 {inner}") is None
    assert told(node, "to_container", f"icmp {REMOTE} > {POD} id=7") is None


def test_filter_on_what_left(node: Simulator) -> None:
    listen(node, ends=(REMOTE + ":8080", ""), proto=6)
    assert told(node, "from_container", f"tcp {POD}:40000 > {VIP}:80 S") is not None


def test_a_translated_flow_is_followed(node: Simulator) -> None:
    """The filter names client and VIP; what the VIP became is heard at every hook after it."""
    listen(node, ends=(CLIENT + ":40000", LB_VIP + ":80"), proto=6)
    assert told(node, "to_container", f"tcp {CLIENT}:40000 > {POD2}:8080 S") is None
    forget(node)
    assert told(node, "from_netdev", f"tcp {CLIENT}:40000 > {LB_VIP}:80 S") is not None
    assert told(node, "to_container", f"tcp {CLIENT}:40000 > {POD2}:8080 S") is not None
    assert told(node, "from_container", f"tcp {POD2}:8080 > {CLIENT}:40000 SA") is not None
    assert told(node, "to_netdev", f"tcp {POD2}:8080 > {CLIENT}:40000 SA") is not None
    assert told(node, "to_container", f"tcp {CLIENT}:40001 > {POD2}:8080 S") is None


def test_the_dsr_option_names_the_vip(node: Simulator) -> None:
    """On the backend's node the packet's destination is the pod; the option tells what it came for."""
    listen(node, ends=(CLIENT + ":40000", LB_VIP + ":80"), proto=6)
    tunnel = Geneve(IPv4Address("10.1.0.9"), IPv4Address(NODE_IP), 2, dsr_option(IPv4Address(LB_VIP), 80))
    assert told(node, "from_overlay", f"tcp {CLIENT}:40000 > {POD2}:8080 S", geneve=tunnel) is not None
    assert told(node, "to_container", f"tcp {CLIENT}:40000 > {POD2}:8080 S") is not None


# ---- both families


POD6, REMOTE6, VIP6, CLIENT6 = "fd00:64::36", "fd00:64:1::64", "fd00:96::10", "2001:db8::50"


@pytest.fixture(scope="module")
def dual() -> Iterator[Simulator]:
    with simulated_whole(
        dual_stack(services=[*SERVICES, service("six", VIP6, 80, 30, (301, REMOTE6, 8080))])
    ) as simulator:
        yield simulator


@pytest.mark.parametrize(
    ("ends", "proto", "heard"),
    [
        ((f"[{POD6}]:40000", f"[{REMOTE6}]:80"), 6, True),
        ((f"[{REMOTE6}]:80", f"[{POD6}]:40000"), 6, True),
        ((f"[{POD6}]:", ""), 0, True),
        (("", ":80"), 6, True),
        (("", ":81"), 6, False),
        ((f"[{CLIENT6}]:", ""), 0, False),
        ((f"[{POD6}]:40001", ""), 6, False),
        ((f"{POD}:", ""), 0, False),
    ],
)
def test_filter_of_ipv6(dual: Simulator, ends: tuple[str, str], proto: int, heard: bool) -> None:
    listen(dual, ends=ends, proto=proto)
    assert (told(dual, "from_container", f"tcp [{POD6}]:40000 > [{REMOTE6}]:80 S") is not None) is heard
    assert (told(dual, "to_container", f"tcp [{REMOTE6}]:80 > [{POD6}]:40000 SA") is not None) is heard


def test_icmp_is_that_of_either_family(dual: Simulator) -> None:
    listen(dual, proto=1)
    assert told(dual, "from_container", f"icmp {POD} > {REMOTE} id=7") is not None
    assert told(dual, "from_container", f"icmpv6 {POD6} > {REMOTE6} id=7") is not None
    assert told(dual, "from_container", f"tcp [{POD6}]:40000 > [{REMOTE6}]:80 S") is None


def test_a_translated_flow_of_ipv6_is_followed(dual: Simulator) -> None:
    listen(dual, ends=(f"[{POD6}]:41000", f"[{VIP6}]:80"), proto=6)
    assert told(dual, "to_container", f"tcp [{REMOTE6}]:8080 > [{POD6}]:41000 SA") is None
    assert told(dual, "from_container", f"tcp [{POD6}]:41000 > [{VIP6}]:80 S") is not None
    assert told(dual, "to_container", f"tcp [{REMOTE6}]:8080 > [{POD6}]:41000 SA") is not None
    assert told(dual, "to_container", f"tcp [{REMOTE6}]:8080 > [{POD6}]:41001 SA") is None


# ---- for how long


def test_the_lease_runs_out(node: Simulator) -> None:
    listen(node, until_s=NOW + 2)
    assert told(node, "from_container", f"tcp {POD}:40000 > {REMOTE}:80 S") is not None
    node.advance(2)
    assert told(node, "from_container", f"tcp {POD}:40000 > {REMOTE}:80 A") is None
    assert any(entry.flags for entry in entries(node).values())


def test_events_that_find_no_room_are_counted(node: Simulator) -> None:
    """Nobody reads: the ring fills, packets pass all the same, and each further event counts as lost."""
    room = node.maps["ctctl_events"].info.max_entries // (sizeof(ctctl_event) + 8)
    lost = per_cpu_sum(node.maps["ctctl_stats"], CtctlStat.STAT_EVENTS_LOST)
    packets = room + 50
    run = node.program(Hook.FROM_CONTAINER, node.nf.endpoint(POD)).test_run(
        frame(f"tcp {POD}:1 > {REMOTE}:80 S"), repeat=packets
    )
    assert run.retval == 0
    now_lost = per_cpu_sum(node.maps["ctctl_stats"], CtctlStat.STAT_EVENTS_LOST) - lost
    assert packets - room <= now_lost <= packets - room + 2
    with RingBuffer(node.maps["ctctl_events"], lambda record: None) as ring:
        ring.consume()
