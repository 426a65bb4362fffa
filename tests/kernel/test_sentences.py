"""No sentence of a trace that nothing provokes: the code's are listed from the code, and held to those told.

The packets are those of the conformance vectors and a few of this file's, every one through the real programs: the
reasons why, the line of each hook, and what became of each connection.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP

from ctctl.decode.ct import TUPLE_SERVICE, encode_key
from ctctl.events import brief, ending, lines
from ctctl.events import explain as why_module
from ctctl.events.brief import brief_line
from ctctl.events.ending import Ending
from ctctl.events.explain import DROP_SENTENCES, explain
from ctctl.events.lines import NOT_TAKEN, event_lines
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.object import BpfObject
from ctctl.model.event import HookEvent, Why
from ctctl.model.tuples import FlowTuple
from ctctl.packet.geneve import Geneve, dsr_option
from ctctl.simulate.kept import kept
from ctctl.simulate.maps import SimulatedMaps
from ctctl.simulate.scenario import run
from ctctl.simulate.simulator import Simulator
from ctctl.trace.story import StoryBook
from tests.conformance.run import load, scenario
from tests.support.datapath import (
    CLIENT,
    LB_VIP,
    MAC_HERE,
    MAC_THERE,
    NODE,
    NODE_IP,
    NOW,
    POD,
    POD2,
    REMOTE,
    VIP,
    node_file,
    send,
    service,
    simulated,
)
from tests.support.sentences import held_by, sentences, templates, unsaid
from tests.support.socket_story import story_events
from tests.support.vectors import VECTORS

pytestmark = pytest.mark.kernel

CONFORMANCE = Path(__file__).parents[1] / "conformance"
#: Whose sentences, and how many there are of them at least: an empty list would be held to anything.
LEAST = {why_module: 60, ending: 15, brief: 10, lines: 4}
MODULES = tuple(held_by(__file__))

#: What no packet can provoke, and why.
BEYOND = {
    "no explanation for this reason": "of a reason that the command does not know: the programs are newer",
    DROP_SENTENCES["write_error"]: "the kernel has no memory to change a packet",
    DROP_SENTENCES["csum_l3"]: "the IP checksum is written by the program itself",
    DROP_SENTENCES["unknown_ct"]: "a state that lookups do not return",
    NOT_TAKEN: "events that are lost: of a lab, tests/lab",
}


def stories(documents: Iterator[dict[str, Any]], tmp_path: Path) -> Iterator[list[HookEvent]]:
    """Every event of some scenarios, one after the other."""
    for number, document in enumerate(documents):
        path = tmp_path / f"{number}.yaml"
        path.write_text(json.dumps(document))
        yield [
            event
            for record in run(path, lambda _record: {})
            for event in (record.result.events if record.result is not None else ())
        ]


def loops() -> Iterator[list[HookEvent]]:
    """What comes by again and again: until its TTL has run out, and as a sender that does not wait."""
    tunnel, packet = Geneve(IPv4Address("10.1.0.2"), IPv4Address(NODE_IP), 30001), f"tcp {REMOTE}:1 > {POD2}:80 S"
    with simulated(node_file({})) as node:
        often = [event for _ in range(8) for event in send(node, "to_container", packet).events]
        yield often
        yield [*often, *send(node, "from_overlay", f"{packet} ttl=1", geneve=tunnel).events]


def own_events() -> Iterator[HookEvent]:
    """What no recording has: Maglev, the frames that only we refuse, a table that cannot take an entry."""
    web = service("web", VIP, 80, 7, (101, REMOTE, 8080))
    host = Geneve(IPv4Address("10.1.0.2"), IPv4Address(NODE_IP), 1)
    with simulated(node_file({"lb": {"algorithm": "maglev"}}, services=[web])) as node:
        for hook, packet, how in (
            ("from_container", f"tcp {POD}:1 > {VIP}:80 S", {}),
            ("from_container", bytes(12) + (40).to_bytes(2, "big") + bytes(46), {"endpoint": "pod1"}),
            ("from_overlay", f"tcp {CLIENT}:1 > {POD2}:80 S", {"geneve": host}),
        ):
            yield from send(node, hook, packet, **how).events
        # The same SYN with DSR's option twice.
        dsr = Geneve(IPv4Address("10.1.0.9"), IPv4Address(NODE_IP), 2, dsr_option(IPv4Address(LB_VIP), 80))
        for _ in range(2):
            yield from send(node, "from_overlay", f"tcp {CLIENT}:9 > {POD2}:8080 S", geneve=dsr).events
        # An entry that another service left behind.
        _write(node, FlowTuple(6, IPv4Address(POD), 2, IPv4Address(VIP), 80), rev_nat=99)
        yield from send(node, "from_container", f"tcp {POD}:2 > {VIP}:80 A").events
    yield from _of_full_table({}, [], "from_container", f"tcp {POD}:1 > {REMOTE}:80 S")
    yield from _of_full_table({"masquerade": True}, [], "to_netdev", f"tcp {NODE_IP}:40000 > {CLIENT}:80 S")
    here = service("here", LB_VIP, 80, 8, (102, POD2, 8080), type="LoadBalancer")
    known = FlowTuple(6, IPv4Address(CLIENT), 1, IPv4Address(LB_VIP), 80)
    yield from _of_full_table({}, [here], "from_netdev", f"tcp {CLIENT}:1 > {LB_VIP}:80 S", known)
    yield from _of_unknown_l4()
    yield from _of_sockets()


def _of_sockets() -> Iterator[HookEvent]:
    """Two recorded stories, and a socket of the host on a NodePort service's port."""
    for name in ("sock_no_backend", "sock_udp_slots"):
        yield from story_events(load(CONFORMANCE / "vectors-2" / "socket" / f"{name}.json.xz"))
    node_port = {
        "addr": NODE_IP, "port": 30080, "rev_nat_id": 7, "type": "", "scope": "external", "flags": 2, "flags2": 0,
        "backends": [{"id": 101, "ip": REMOTE, "port": 8080}],
    }  # fmt: skip
    steps = [
        {"call": "socket", "socket": "own", "family": 4, "type": "tcp", "result": {}},
        {"call": "listen", "socket": "own", "to": f"{NODE_IP}:1", "result": {}},
        {"call": "socket", "socket": "host", "family": 4, "type": "tcp", "namespace": "host", "result": {}},
        {"call": "bind", "socket": "host", "to": f"{NODE_IP}:30080", "namespace": "host", "result": {}},
    ]
    yield from story_events({"config": {"start_now": NOW}, "services": [node_port], "steps": steps})


def _value(rev_nat: int = 0, backend: int = 0) -> bytes:
    head = bytes(8) + backend.to_bytes(8, "little") + bytes(16) + (NOW + 60).to_bytes(4, "little")
    return (head + bytes(2) + rev_nat.to_bytes(2, "big")).ljust(56, b"\0")


def _write(node: Simulator, flow: FlowTuple, rev_nat: int) -> None:
    node.maps["cilium_ct4_global"].update(encode_key(flow, TUPLE_SERVICE), _value(rev_nat))


def _of_full_table(
    datapath: dict[str, Any], services: list[Any], hook: str, packet: str, known: FlowTuple | None = None
) -> Iterator[HookEvent]:
    """An LRU never fails: here the table is a plain hash, full with the SERVICE entry of ``known`` or another."""
    share = SimulatedMaps.share
    with Map.create("full", MapType.HASH, 14, 56, 1) as full, pytest.MonkeyPatch.context() as patch:
        full.update(bytes(14) if known is None else encode_key(known, TUPLE_SERVICE), _value(8, 102))

        def share_full(maps: SimulatedMaps, bpf: BpfObject) -> None:
            share(maps, bpf)
            bpf.reuse_map("cilium_ct4_global", full)

        patch.setattr(SimulatedMaps, "share", share_full)
        with simulated(node_file(datapath, services=services)) as node:
            yield from send(node, hook, packet).events


def _of_unknown_l4() -> Iterator[HookEvent]:
    """The last hop of an IPv6 packet that nobody knows how much of to quote."""
    node = {**NODE["node"], "ip6": "fd00:1::1", "pod-cidr6": "fd00:64::/112"}
    endpoints = [{**pod, "ip6": f"fd00:64::{number}"} for number, pod in enumerate(NODE["endpoints"], 1)]
    at = Geneve(IPv4Address("10.1.0.2"), IPv4Address(NODE_IP), 30001)
    inner = IPv6(src="fd00:65::9", dst="fd00:64::2", hlim=1) / SCTP(sport=1, dport=2)
    packet = bytes(Ether(src=MAC_THERE.hex(":"), dst=MAC_HERE.hex(":")) / inner)
    with simulated(node_file({"ipv6": True, "sctp": True}, node=node, endpoints=endpoints)) as six:
        yield from send(six, "from_overlay", packet, geneve=at).events


@dataclass(frozen=True)
class Told:
    """What was told of every event: by the module whose sentences they are, and the names of every reason why."""

    texts: dict[str, str]
    why: set[str]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    documents = (scenario(load(path)) for path in VECTORS)
    found: dict[str, set[str]] = {module.__name__: set() for module in MODULES}
    why: set[str] = set()
    with kept():
        recorded = list(stories(documents, tmp_path_factory.mktemp("sentences")))
    for story in (*recorded, list(own_events()), *loops()):
        book, endings = StoryBook(None), defaultdict[int | None, Ending](Ending)
        for event in story:
            found[why_module.__name__].update(explain(event))
            found[lines.__name__].update(
                "".join(words for words, _ in line) for line in event_lines(event, time_text="")
            )
            found[brief.__name__].add("".join(words for words, _ in brief_line(event, time_text="0s", connection=1)))
            why.update(name for lookup in event.lookups for name in lookup.why.names())
            endings[book.admit(event)].add(event)
        found[ending.__name__].update(one.sentence() for one in endings.values())
    return Told({name: "\n".join(sorted(sentences)) for name, sentences in found.items()}, why)


@pytest.mark.parametrize("module", MODULES)
def test_every_sentence_is_provoked(told: Told, module: ModuleType) -> None:
    text = told.texts[module.__name__]
    found = templates(module) if module is not lines else sentences(module)
    assert len(found) > LEAST[module]
    missing = [one for one in found if re.search(one, text) is None]
    assert [one for one in {*missing, *unsaid(module, text)} if one.replace("\\", "") not in BEYOND] == []
    # What is said to be beyond is: else it is a sentence like any other.
    assert [words for words in BEYOND if words in text] == []


def test_every_reason_why_is_provoked(told: Told) -> None:
    assert {str(bit.name).lower() for bit in Why} - told.why == set()
