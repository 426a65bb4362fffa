"""Captures replayed through the hooks: where packets go, what is counted, and the table as it would be."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from jsonschema import validate
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, CookedLinux, Ether
from scapy.utils import PcapNgWriter

from ctctl.config.node import NodeFile
from ctctl.decode.ct import decode_entry
from ctctl.errors import NotFoundError
from ctctl.model.entry import CtState
from ctctl.model.event import Hook
from ctctl.model.tuples import Direction
from ctctl.packet.frame import build_frame
from ctctl.packet.geneve import Geneve, wrap_geneve
from ctctl.packet.text import parse_packet_text
from ctctl.simulate.replay import ReplaySummary, replay
from ctctl.trace.schema import TRACE_SCHEMAS
from tests.support.children import run_ctctl
from tests.support.nodefile import parse_node_file

pytestmark = pytest.mark.kernel

NODE = """\
node: {name: n, ip: 10.1.0.1, pod-cidr: 10.64.0.0/24, device: {name: eth0, ifindex: 10, mac: "02:00:00:00:01:01"}}
clock: 5000
endpoints:
  - {name: a, ip: 10.64.0.36, identity: 3096}
  - {name: b, ip: 10.64.0.37, identity: 3097}
policy: [{endpoint: b, direction: ingress, port: 8000, protocol: TCP}]
"""


@pytest.fixture
def node() -> NodeFile:
    return parse_node_file(NODE)


def pcap(path: Path, frames: list[tuple[float, bytes]], link_type: int = 1) -> Path:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link_type)
    body = b"".join(
        struct.pack("<IIII", int(at), round(at % 1 * 1e6), len(frame), len(frame)) + frame for at, frame in frames
    )
    path.write_bytes(head + body)
    return path


def frame(text: str) -> bytes:
    return build_frame(parse_packet_text(text))


def states(summary: ReplaySummary) -> dict[Direction, tuple[CtState, int]]:
    assert summary.tables is not None
    decoded = [decode_entry(key, value) for key, value in summary.tables.ct["cilium_ct4_global"]]
    return {entry.direction: (entry.state, entry.lifetime) for entry in decoded}


CONVERSATION = [
    (1000.5, frame("tcp 10.64.0.36:5 > 10.64.1.1:80 S")),
    (1001.5, frame("tcp 10.64.1.1:80 > 10.64.0.36:5 SA")),
    (1001.6, frame("tcp 10.64.0.36:5 > 10.64.1.1:80 A")),
    (1010.2, frame("tcp 10.64.0.36:5 > 10.64.1.1:80 FA")),
]


def test_the_clock_follows_the_capture_and_hooks_the_addresses(tmp_path: Path, node: NodeFile) -> None:
    summary = replay(pcap(tmp_path / "a.pcap", CONVERSATION), node)
    assert summary.hooks == {Hook.FROM_CONTAINER: 3, Hook.TO_CONTAINER: 1}
    assert states(summary) == {Direction.OUT: (CtState.CLOSING, 5000 + 10 + 8000)}
    assert (summary.packets, summary.now, summary.partial) == (4, 5010, None)


def test_pcapng_and_gzip_leave_the_same_table(tmp_path: Path, node: NodeFile) -> None:
    plain = pcap(tmp_path / "a.pcap", CONVERSATION)
    packed = tmp_path / "a.pcap.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    writer = PcapNgWriter(str(tmp_path / "a.pcapng"))
    for at, data in CONVERSATION:
        packet = Ether(data)
        packet.time = at
        writer.write(packet)
    writer.close()
    tables = [replay(path, node).tables for path in (plain, packed, tmp_path / "a.pcapng")]
    assert tables[0] == tables[1] == tables[2]


def test_between_two_pods_of_the_node_both_hooks_run(tmp_path: Path, node: NodeFile) -> None:
    frames = [(1.0, frame("tcp 10.64.0.36:5 > 10.64.0.37:8000 S")), (1.1, frame("tcp 10.64.0.36:5 > 10.64.0.37:9 S"))]
    summary = replay(pcap(tmp_path / "a.pcap", frames), node)
    assert summary.hooks == {Hook.FROM_CONTAINER: 2, Hook.TO_CONTAINER: 2}
    assert summary.dropped == {(Hook.TO_CONTAINER, "policy"): 1}


def test_a_chosen_hook_and_endpoint(tmp_path: Path, node: NodeFile) -> None:
    frames = [(1.0, frame("tcp 192.0.2.1:5 > 10.9.9.9:80 S"))]
    path = pcap(tmp_path / "a.pcap", frames)
    assert replay(path, node).hooks == {Hook.FROM_NETDEV: 1}
    assert replay(path, node, hook=Hook.TO_CONTAINER, endpoint="a").hooks == {Hook.TO_CONTAINER: 1}
    with pytest.raises(NotFoundError, match=r"192\.0\.2\.1 is no endpoint"):
        replay(path, node, hook=Hook.FROM_CONTAINER)
    with pytest.raises(NotFoundError, match="unknown endpoint 'c'; one of: a, b"):
        replay(path, node, endpoint="c")


def test_other_packets_are_counted_and_other_link_types_rebuilt(tmp_path: Path, node: NodeFile) -> None:
    odd = [(1.0, bytes(Ether() / ARP())), (1.0, b"short"), (1.0, bytes(14) + b"x" * 60)]
    assert replay(pcap(tmp_path / "odd.pcap", odd), node).skipped == {"not IP": 2, "too short": 1}
    cooked = [(at, bytes(CookedLinux(proto=0x0800)) + data[14:]) for at, data in CONVERSATION]
    same = replay(pcap(tmp_path / "cooked.pcap", cooked, 113), node)
    assert same.tables == replay(pcap(tmp_path / "a.pcap", CONVERSATION), node).tables


NODE6 = """\
node: {name: n, ip: 10.1.0.1, ip6: "fd00:10::1", pod-cidr: 10.64.0.0/24, pod-cidr6: "fd00:64::/64",
       device: {name: eth0, ifindex: 10, mac: "02:00:00:00:01:01"}}
datapath: {ipv6: true}
clock: 5000
endpoints:
  - {name: a, ip: 10.64.0.36, ip6: "fd00:64::36", identity: 3096, ifindex: 21, mac: "02:00:00:00:03:02"}
"""
CONVERSATION6 = [
    (1000.5, frame("tcp [fd00:64::36]:5 > [fd00:65::1]:80 S")),
    (1001.5, frame("tcp [fd00:65::1]:80 > [fd00:64::36]:5 SA")),
    (1001.6, frame("tcp [fd00:64::36]:5 > [fd00:65::1]:80 A")),
]
IPV6_ENTRIES = {Direction.OUT: (CtState.ESTABLISHED, 5001 + 8000)}


def states6(summary: ReplaySummary) -> dict[Direction, tuple[CtState, int]]:
    assert summary.tables is not None
    decoded = [decode_entry(key, value) for key, value in summary.tables.ct["cilium_ct6_global"]]
    return {entry.direction: (entry.state, entry.lifetime) for entry in decoded}


def test_ipv6(tmp_path: Path, node: NodeFile) -> None:
    plain = pcap(tmp_path / "a.pcap", sorted([*CONVERSATION, *CONVERSATION6]))
    both = replay(plain, parse_node_file(NODE6))
    assert (states6(both), both.skipped, both.concerned) == (IPV6_ENTRIES, {}, True)
    assert both.hooks == {Hook.FROM_CONTAINER: 5, Hook.TO_CONTAINER: 2}
    one = replay(plain, node)
    assert (one.hooks.total(), one.skipped) == (4, {"IPv6, which the node has not": 3})
    cooked = [(at, bytes(CookedLinux(proto=0x86DD)) + data[14:]) for at, data in CONVERSATION6]
    assert states6(replay(pcap(tmp_path / "any.pcap", cooked, 113), parse_node_file(NODE6))) == IPV6_ENTRIES


@pytest.mark.parametrize("tunnel", ["geneve", "vxlan"])
@pytest.mark.parametrize("options", [b"", bytes.fromhex("01020304")])
def test_ipv6_in_a_tunnel_over_ipv4(tmp_path: Path, tunnel: str, options: bytes) -> None:
    inner = frame("tcp [fd00:65::1]:5 > [fd00:64::36]:80 S")
    outer = Geneve(IPv4Address("10.1.0.2"), IPv4Address("10.1.0.1"), 7, options)
    packet = wrap_geneve(inner, outer, src_mac=bytes(6), dst_mac=bytes(6))
    if tunnel == "vxlan":
        packet = packet[:36] + struct.pack(">H", 8472) + packet[38:42] + b"\x08\0\0\0" + packet[46:50] + inner
    found = replay(pcap(tmp_path / "a.pcap", [(1.0, packet)]), parse_node_file(NODE6))
    assert found.hooks == {Hook.FROM_NETDEV if tunnel == "geneve" else Hook.TO_CONTAINER: 1}
    assert found.skipped == {}
    assert found.dropped == {}


def test_frames_longer_than_a_test_run_takes(tmp_path: Path, node: NodeFile) -> None:
    large = bytes(Ether() / IP(src="10.64.0.36", dst="10.64.1.1") / TCP(sport=5, dport=80, flags="S") / (b"x" * 60000))
    summary = replay(pcap(tmp_path / "a.pcap", [(1.0, large)]), node)
    assert (summary.cut, summary.hooks[Hook.FROM_CONTAINER]) == (1, 1)
    assert list(states(summary)) == [Direction.OUT]


def test_a_capture_that_ends_early_is_played_as_far_as_it_goes(tmp_path: Path, node: NodeFile) -> None:
    path = pcap(tmp_path / "a.pcap", CONVERSATION)
    path.write_bytes(path.read_bytes()[:-7])
    summary = replay(path, node)
    assert summary.packets == 3
    assert summary.partial == "a.pcap: ends in the middle of a packet"


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return run_ctctl("trace", *options)


def test_the_command(tmp_path: Path) -> None:
    node = tmp_path / "n.yaml"
    node.write_text(NODE)
    path = pcap(tmp_path / "a.pcap", CONVERSATION)
    done = command("--pcap", str(path), "-f", str(node), "-o", "jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    summary, *entries = [json.loads(line) for line in done.stdout.splitlines()]
    validate(summary, TRACE_SCHEMAS["ctctl/trace-replay/v1"])
    assert summary["packets"] == 4
    assert summary["runs"] == {"from_container": 3, "to_container": 1}
    assert summary["entries"] == {"cilium_ct4_global": 1, "cilium_ct_any4_global": 1}
    assert [entry["schema"] for entry in entries] == ["ctctl/ct-entry/v1"] * 2
    path.write_bytes(path.read_bytes()[:-7])
    done = command("--pcap", str(path), "-f", str(node))
    assert done.returncode == 5
    assert "3 packets" in done.stdout
    assert "ends in the middle" in done.stderr
    done = command("--pcap", str(node), "-f", str(node))
    assert done.returncode == 1
    assert "neither pcap nor pcapng" in done.stderr


def test_speed_is_that_of_the_replay_not_of_loading_programs(node: NodeFile, tmp_path: Path) -> None:
    path = pcap(tmp_path / "a.pcap", [(1.0, frame("tcp 10.64.0.36:1000 > 10.64.1.64:80 S"))])
    started = time.perf_counter()
    assert min(replay(path, node).elapsed_s for _ in range(3)) < (time.perf_counter() - started) / 3 / 5
