"""Packets of other flows are told by a look at their headers; what that look says is what reading them whole says."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from ctctl.abi import layouts, pins
from ctctl.decode.nat import encode_nat_key, encode_nat_value
from ctctl.kernel.map import Map
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.kernel.program import Program
from ctctl.kernel.ringbuf import RingBuffer
from ctctl.model.tuples import ICMP, FlowTuple, protocol_name
from ctctl.packet.frame import build_frame
from ctctl.packet.text import parse_flow_text, parse_packet_text
from ctctl.trace.decode_probe import decode_probe_event
from ctctl.trace.probe_follow import follow
from ctctl.trace.probe_request import control_of

pytestmark = pytest.mark.kernel

HOSTS = {4: ("10.0.0.1", "10.0.0.2", "10.0.0.77"), 6: ("[fd00::1]", "[fd00::2]", "[fd00::77]")}
OWN = {4: "10.0.0.77", 6: "fd00::77"}
PORTS = (80, 4000, 8472)
FLOWS = (
    "tcp 10.0.0.1:4000 > 10.0.0.2:80",
    "tcp 10.0.0.1 > 10.0.0.2",
    "tcp 10.0.0.2 > 10.0.0.0/24",
    "udp 0.0.0.0/0 > 0.0.0.0/0:80",
    "icmp 10.0.0.1 > 10.0.0.77",
    "udp [fd00::1]:4000 > [fd00::2]:80",
    "tcp [fd00::1] > [fd00::77]:80",
)
FOLLOWED = ("tcp 10.0.0.77:4000 > 10.0.0.2:8472", "udp [fd00::77]:80 > [fd00::2]:4000", "icmp 10.0.0.77 > 10.0.0.2")
PACKETS = 400


@dataclass
class Probe:
    """A probe that frames are run through, and what it told of the last one."""

    program: Program
    maps: dict[str, Map]
    ring: RingBuffer
    told: list[bytes]

    def sees(self, frame: bytes) -> tuple[FlowTuple, str | None] | None:
        """The flow of the packet, and the tunnel it is in; None where the probe left it alone."""
        # A frame's memory is soon another one's: it is not the packet that the CPU had in its hands.
        current = self.maps[pins.PROBE_CURRENT]
        current.update(bytes(4), bytes(current.value_bytes))
        self.program.test_run(frame)
        self.ring.consume()
        records, self.told[:] = list(self.told), []
        if not records:
            return None
        (event,) = map(decode_probe_event, records)
        return event.flow, event.tunnel.kind if event.tunnel else None

    def ask(self, flow: str, followed: tuple[str, ...] = ()) -> None:
        """Listen for a flow, and for what it was translated to."""
        for slot, value in list(self.maps[pins.PROBE_SLOTS].items()):
            if any(value):
                self.maps[pins.PROBE_SLOTS].update(slot, bytes(1))
        for key in list(self.maps[pins.PROBE_FOLLOW].every_key()):
            self.maps[pins.PROBE_FOLLOW].delete(key)
        control = layouts.ctctl_probe_ctl.from_buffer_copy(control_of(parse_flow_text(flow), []))
        control.following = bool(followed)
        self.maps[pins.PROBE_CTL].update(bytes(4), bytes(control))
        for text in followed:
            follow(self.maps, tuple_of(text))


@contextmanager
def probe(*, looks: bool) -> Iterator[Probe]:
    """A probe. Without ``looks`` it takes every device for one without Ethernet, and reads all packets whole."""
    with ExitStack() as stack:
        bpf = stack.enter_context(BpfObject.open(OBJECTS / "probe.bpf.o"))
        for switch in ("cfg_nat", "cfg_nat6"):
            bpf.set_config(switch, 1)
        if not looks:
            bpf.set_config("cfg_raw", b"\xff" * 32)
        for variable, version in (("cfg_own", 4), ("cfg_own6", 6)):
            bpf.set_config(variable, ip_address(OWN[version]).packed * 8)
        bpf.load()
        maps = {name: bpf.map(name) for name in bpf.map_names()}
        for version, table in pins.SNAT_TABLES.items():
            answer = tuple_of(f"tcp {HOSTS[version][1]}:80 > {HOSTS[version][2]}:4000")
            value = encode_nat_value(ip_address(HOSTS[version][0].strip("[]")), 4000)
            maps[table].update(encode_nat_key(answer, 1), value)
        told: list[bytes] = []
        ring = stack.enter_context(RingBuffer(maps[pins.PROBE_EVENTS], lambda data: told.append(bytes(data))))
        yield Probe(bpf.program("probe_ingress"), maps, ring, told)


@pytest.fixture(scope="module")
def looking() -> Iterator[Probe]:
    with probe(looks=True) as one:
        yield one


@pytest.fixture(scope="module")
def reading() -> Iterator[Probe]:
    with probe(looks=False) as one:
        yield one


def tuple_of(text: str) -> FlowTuple:
    spec = parse_packet_text(text)
    return FlowTuple(spec.proto, spec.src, spec.src_port, spec.dst, spec.dst_port)


def plain(chance: random.Random, version: int) -> bytes:
    """A packet between the few ends there are, of any protocol, sometimes a fragment."""
    src, dst = chance.choice(HOSTS[version]), chance.choice(HOSTS[version])
    proto = chance.choice(("tcp", "tcp", "udp", "udp", "icmp" if version == 4 else "icmpv6", "sctp"))
    if proto.startswith("icmp"):
        return build_frame(parse_packet_text(f"{proto} {src} > {dst} id={chance.choice(PORTS)}"))
    frame = build_frame(
        parse_packet_text(
            f"{proto} {src}:{chance.choice(PORTS)} > {dst}:{chance.choice(PORTS)} len={chance.randrange(60)}"
        )
    )
    if version == 4 and chance.random() < 0.3:
        fragment = chance.choice((0x2000, 0x2010, 0x0010))
        frame = frame[:20] + struct.pack(">H", fragment) + frame[22:]
    return frame


def tunnelled(chance: random.Random, inner: bytes) -> bytes:
    """``inner`` in a tunnel, in one with options, or in what only looks like one."""
    kind = chance.choice(("vxlan", "geneve", "options", "neither"))
    heads = {
        "vxlan": (chance.choice((8472, 4789)), struct.pack(">II", 0x08000000, 5 << 8)),
        "geneve": (6081, struct.pack(">BBHI", 0, 0, 0x6558, 5 << 8)),
        "options": (6081, struct.pack(">BBHI", 3, 0, 0x6558, 5 << 8) + bytes(12)),
        "neither": (chance.choice((8472, 6081)), struct.pack(">II", 0x01000800, 5 << 8)),
    }
    port, head = heads[kind]
    data = head + inner
    version = chance.choice((4, 6))
    ends = f"{chance.choice(HOSTS[version])}:4000 > {chance.choice(HOSTS[version])}:{port}"
    outer = build_frame(parse_packet_text(f"udp {ends} len={len(data)}"))
    return outer[: -len(data)] + data


def frames(chance: random.Random) -> Iterator[bytes]:
    """Packets of every kind, some cut short, some with a byte that is another."""
    for _ in range(PACKETS):
        frame = plain(chance, chance.choice((4, 6)))
        if chance.random() < 0.4:
            frame = tunnelled(chance, frame)
        if chance.random() < 0.3:
            at = chance.randrange(12, len(frame))
            frame = frame[:at] + bytes((chance.randrange(256),)) + frame[at + 1 :]
        if chance.random() < 0.1:
            frame = frame[: chance.randrange(min(54, len(frame)), len(frame) + 1)]
        yield frame


@pytest.mark.parametrize("followed", [(), FOLLOWED], ids=["as it is", "translated"])
@pytest.mark.parametrize("flow", FLOWS)
def test_a_look_says_what_reading_the_packet_says(
    looking: Probe, reading: Probe, flow: str, followed: tuple[str, ...]
) -> None:
    chance = random.Random(f"{flow} {followed}")
    looking.ask(flow, followed)
    reading.ask(flow, followed)
    told = 0
    for frame in frames(chance):
        seen = looking.sees(frame)
        assert seen == reading.sees(frame), frame.hex()
        told += seen is not None
    # Both kinds are among them, or this shows nothing.
    assert 0 < told < PACKETS


@pytest.mark.parametrize("text", FOLLOWED)
def test_a_followed_tuple_is_told_both_ways_and_its_neighbours_are_not(looking: Probe, text: str) -> None:
    looking.ask("tcp 192.0.2.1 > 192.0.2.2", (text,))
    flow = tuple_of(text)
    src, dst = (f"[{end}]" if flow.src.version == 6 else str(end) for end in (flow.src, flow.dst))
    if flow.proto == ICMP:
        packets = {f"icmp {src} > {dst}": True, f"icmp {dst} > {src} id=9": False}
    else:
        name = protocol_name(flow.proto).lower()
        packets = {
            text: True,
            f"{name} {dst}:{flow.dst_port} > {src}:{flow.src_port}": True,
            f"{name} {src}:{flow.src_port + 1} > {dst}:{flow.dst_port}": False,
        }
    for packet, wanted in packets.items():
        assert (looking.sees(build_frame(parse_packet_text(packet))) is not None) == wanted, packet
