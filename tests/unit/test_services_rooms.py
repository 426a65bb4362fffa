"""Policy maps decided as the datapath decides, port use of SNAT, and the bytes of both."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest

from ctctl.decode.nat_rows import rows_of
from ctctl.decode.policy import decode_counter, decode_policy, stats_key
from ctctl.decode.services import decode_socket_nat, decode_tunnel
from ctctl.errors import DecodeError
from ctctl.model.drops import REASONS, file_name, reason_name
from ctctl.model.nat import NatEntry
from ctctl.model.policy import PolicyEntry, decide
from ctctl.model.service import EndpointRecord, IpcacheRecord, identity_of
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.services.policy import derived_from, judge, ports_text
from ctctl.tables.port_use import PortUse
from ctctl.tables.port_use import port_use as count_ports
from ctctl.tables.snat_ports import DEFAULT, PortRange

CLIENT, SERVER = ip_address("10.0.0.1"), ip_address("10.0.0.2")


def rule(identity: int, proto: int = 0, port: int = 0, bits: int = 16, **fields: object) -> PolicyEntry:
    port_bits = bits if proto and port else 0
    prefix = (8 + port_bits) if proto else 0
    made = PolicyEntry(7, False, identity, proto, port, port_bits, deny=False, prefix_bits=prefix)
    return replace(made, **fields)  # type: ignore[arg-type]


def key(identity: int, egress: int, proto: int, port: int, bits: int) -> bytes:
    return struct.pack("<IIBB", 40 + bits, identity, egress, proto) + port.to_bytes(2, "big")


def test_bytes_of_every_version() -> None:
    old = decode_policy(key(42, 1, 6, 80, 24), bytes([0, 0, 1, 0]) + bytes(4) + struct.pack("<QQ", 3, 120), 7)
    assert (old.egress, old.identity, old.ports, old.deny, old.packets, old.bytes) == (True, 42, (80, 80), True, 3, 120)
    new = decode_policy(key(0, 0, 6, 8000, 16), bytes([0x27, 0x10, 0, 0]) + struct.pack("<II", 0xFFFFFF00, 5), 7)
    assert (new.ports, new.proxy_port, new.precedence, new.cookie) == ((7936, 8191), 10000, 0xFFFFFF00, 5)
    assert (new.packets, new.deny) == (None, False)
    assert decode_policy(key(0, 0, 0, 0, 0), bytes(8), 7).precedence is None
    for odd in (bytes(7), bytes(16)):
        with pytest.raises(DecodeError):
            decode_policy(key(0, 0, 0, 0, 0), odd, 7)
    assert stats_key(old) == struct.pack("<HBBIBB", 7, 0, 24, 42, 1, 6) + (80).to_bytes(2, "big")


def test_the_longest_prefix_of_the_peer_or_of_everybody_decides() -> None:
    anybody, peer = rule(0), rule(42, 6, 80)
    peers_range = rule(42, 6, 0)
    rules = [anybody, peer, peers_range]
    assert decide(rules, False, 42, 6, 80) is peer
    assert decide(rules, False, 42, 6, 81) is peers_range
    assert decide(rules, False, 42, 17, 80) is anybody
    assert decide(rules, False, 43, 6, 80) is anybody
    assert decide(rules, True, 42, 6, 80) is None
    assert decide([peer], False, 42, 6, 443) is None


def test_a_deny_decides_up_to_1_17_and_precedence_from_1_18() -> None:
    deny_all, allow = rule(0, deny=True), rule(42, 6, 80)
    assert decide([deny_all, allow], False, 42, 6, 80) is deny_all
    stronger = replace(allow, precedence=200)
    weaker = replace(deny_all, precedence=128)
    assert decide([weaker, stronger], False, 42, 6, 80) is stronger
    assert decide([replace(weaker, precedence=300), stronger], False, 42, 6, 80).deny  # type: ignore[union-attr]


def test_a_range_of_ports() -> None:
    wide = rule(42, 6, 8000, bits=10)
    assert wide.ports == (8000, 8063)
    assert wide.covers(6, 8063)
    assert not wide.covers(6, 8064)
    assert not wide.covers(17, 8000)
    assert ports_text(wide) == "8000-8063/TCP"
    assert ports_text(rule(42)) == "any port"
    assert ports_text(rule(42, 6, 0)) == "any TCP port"


def test_both_ends_are_judged_and_only_those_of_this_node() -> None:
    flow = FlowTuple(6, CLIENT, 40000, SERVER, 80)
    ipcache = [IpcacheRecord("10.0.0.1/32", 41), IpcacheRecord("10.0.0.0/24", 2)]
    assert identity_of(CLIENT, ipcache) == 41
    assert identity_of(SERVER, ipcache) == 2
    assert identity_of(ip_address("fd00::1"), ipcache) is None
    server = EndpointRecord(SERVER, endpoint_id=7)
    (only,) = judge(flow, [rule(41, 6, 80)], [server], ipcache)
    assert (only.direction, only.allowed, only.peer_identity) == ("ingress", True, 41)
    assert "80/TCP" in only.why
    (refused,) = judge(flow, [rule(41, 6, 443)], [server], ipcache)
    assert (refused.allowed, refused.rule) == (False, None)
    (unknown,) = judge(flow, [], [server], ipcache)
    assert unknown.allowed is None
    assert judge(flow, [rule(41)], [EndpointRecord(SERVER, flags=1)], ipcache) == []


def test_policies_behind_a_rule() -> None:
    realized = {"rule": '{"port":80,"protocol":"TCP"}', "derived-from-rules": [["k8s:policy.name=allow-web"]]}
    answer = {"status": {"policy": {"realized": {"l4": {"ingress": [realized]}}}}}
    assert derived_from(answer, rule(41, 6, 80)) == ("k8s:policy.name=allow-web",)
    assert derived_from(answer, rule(41, 6, 81)) == ()
    for odd in (None, [], {"status": []}, {"status": {"policy": {"realized": {"l4": {"ingress": [5]}}}}}):
        assert derived_from(odd, rule(41, 6, 80)) == ()


def test_ports_are_used_by_egress_and_remote() -> None:
    def entry(port: int, remote_port: int = 443, direction: Direction = Direction.OUT) -> NatEntry:
        flow = FlowTuple(6, CLIENT, 50000, SERVER, remote_port)
        return NatEntry(None, flow, direction, False, "SRC", ip_address("192.0.2.1"), port)

    def port_use(entries: list[NatEntry], told: PortRange | None = None) -> list[PortUse]:
        return count_ports(lambda: rows_of(entries), told)

    entries = [entry(40000), entry(40001), entry(40001), entry(1234), entry(40000, 80), entry(7, 443, Direction.IN)]
    first, second = port_use(entries)
    assert (first.remote_port, first.ports, first.entries) == (443, 2, 4)
    assert (second.remote_port, second.ports, second.entries) == (80, 1, 1)
    assert first.share == 2 / 32768
    assert (str(first.range), first.range.said) == ("32768-65535", False)
    told = PortRange(40001, 65535, "the agent", said=True)
    assert (port_use(entries, told)[0].range_size, port_use(entries, told)[0].ports) == (25535, 1)
    full = [entry(port) for port in range(32768, 61000)]
    assert (str(port_use(full)[0].range), port_use(full)[0].share) == ("32768-60999", 1)
    assert port_use(full, DEFAULT)[0].share < 0.9, "what the node says is not made better"


def test_counters_and_their_places() -> None:
    value = struct.pack("<QQ", 3, 100) + struct.pack("<QQ", 4, 50)
    one = decode_counter(bytes.fromhex("9701f00101000000"), value, 16)
    assert (reason_name(one.reason), one.direction, one.packets, one.bytes, one.line) == (
        "Stale or unroutable IP",
        "ingress",
        7,
        150,
        496,
    )
    assert one.dropped
    assert file_name(111, 16) == "trace.h"
    assert file_name(111, 19) == "encap.h"
    assert file_name(111, 18) is None
    assert file_name(1, 18) == "bpf_host.c"
    assert reason_name(250) == "250"
    assert len(set(REASONS.values())) >= len(REASONS) - 1  # "Invalid packet" has two numbers


def test_sockets_and_tunnels() -> None:
    key4 = struct.pack("<Q", 4466) + bytes([10, 61, 2, 103]) + (8000).to_bytes(2, "big") + bytes(2)
    found = decode_socket_nat(key4, bytes([10, 96, 0, 10]) + (80).to_bytes(2, "big") + (10).to_bytes(2, "big"))
    assert (found.cookie, str(found.backend), found.backend_port) == (4466, "10.61.2.103", 8000)
    assert (str(found.frontend), found.frontend_port, found.rev_nat) == ("10.96.0.10", 80, 10)
    tunnel = decode_tunnel(
        bytes.fromhex("0a3d0200" + "00" * 12 + "01000000"), bytes.fromhex("c0a83d0c" + "00" * 12 + "01000000")
    )
    assert (str(tunnel.prefix), str(tunnel.endpoint), tunnel.key) == ("10.61.2.0", "192.168.61.12", 0)
