"""Maglev in the program: the slot is Cilium's hash of client and port, the backend what the table says there."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from ctctl.node.tables import hash_seed, maglev_tables
from ctctl.simulate.simulator import Simulator
from tests.support.datapath import CLIENT, LB_VIP, forget, node_file, send, service, simulated_whole

pytestmark = pytest.mark.kernel

SIZE = 251
BACKENDS = [(201, "10.64.1.64", 8080), (202, "10.64.1.65", 8080), (203, "10.64.1.66", 8080)]
NODE = node_file(
    {"lb": {"algorithm": "maglev", "maglev-table-size": SIZE}},
    services=[service("lb", LB_VIP, 80, 20, *BACKENDS, type="LoadBalancer")],
)
WORD = 0xFFFFFFFF


@pytest.fixture(scope="module")
def node() -> Iterator[Simulator]:
    with simulated_whole(NODE) as simulator:
        yield simulator


def rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & WORD


def jhash_3words(a: int, b: int, c: int, seed: int) -> int:
    """Linux's jhash_3words (include/linux/jhash.h), written anew."""
    a, b, c = ((word + seed + 0xDEADBEEF + 12) & WORD for word in (a, b, c))
    c = ((c ^ b) - rotated(b, 14)) & WORD
    a = ((a ^ c) - rotated(c, 11)) & WORD
    b = ((b ^ a) - rotated(a, 25)) & WORD
    c = ((c ^ b) - rotated(b, 16)) & WORD
    a = ((a ^ c) - rotated(c, 4)) & WORD
    b = ((b ^ a) - rotated(a, 14)) & WORD
    return ((c ^ b) - rotated(b, 24)) & WORD


def expected_backend(client_port: int) -> int:
    """Words as a little-endian CPU loads them from the packet."""
    (saddr,) = struct.unpack("<I", IPv4Address(CLIENT).packed)
    sport, dport = struct.unpack("<HH", struct.pack(">HH", client_port, 80))
    (table,) = maglev_tables(NODE).values()
    return int(table[jhash_3words(saddr, sport << 16 | dport, 6, hash_seed(NODE.datapath.lb.maglev_seed)) % SIZE])


def test_backend_is_the_tables(node: Simulator) -> None:
    forget(node)
    chosen: Counter[int] = Counter()
    for port in range(40000, 40200):
        event = send(node, "from_netdev", f"tcp {CLIENT}:{port} > {LB_VIP}:80 S").event
        assert event is not None
        assert event.backend_id == expected_backend(port)
        chosen[event.backend_id] += 1
    assert min(chosen.values()) > 40


def test_a_connection_keeps_its_backend_whatever_the_table(node: Simulator) -> None:
    """The SERVICE entry decides; another node without it comes to the same by the hash."""
    forget(node)
    packets = ("S", "A", "PA")
    events = [send(node, "from_netdev", f"tcp {CLIENT}:41000 > {LB_VIP}:80 {flags}").event for flags in packets]
    assert {event.backend_id for event in events if event} == {expected_backend(41000)}
    forget(node)
    event = send(node, "from_netdev", f"tcp {CLIENT}:41000 > {LB_VIP}:80 A").event
    assert event is not None
    assert event.backend_id == expected_backend(41000)
