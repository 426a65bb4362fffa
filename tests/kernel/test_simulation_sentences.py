"""No sentence of a simulation that nothing provokes: the code's are listed from the code, and held to those said here.

As for the reasons against one (tests/unit/test_limits.py) and for what hooks tell (test_sentences.py): a sentence that
is new, or that nothing can come to any more, fails here.
"""

from __future__ import annotations

import gzip
import io
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, CookedLinux, Ether

from ctctl.abi import pins
from ctctl.cli.main import main
from ctctl.config.datapath import SocketLb
from ctctl.config.node import NodeFile, parse_node_files
from ctctl.errors import CtctlError
from ctctl.model.event import Hook
from ctctl.model.service import ServiceFlags
from ctctl.node.paths import NodePaths
from ctctl.packet.frame import build_frame
from ctctl.packet.pcapng import PcapngWriter
from ctctl.packet.text import parse_packet_text
from ctctl.simulate import (
    call,
    changes,
    conversation,
    evidence,
    journey,
    replay,
    show,
    start,
    whatif,
)
from ctctl.simulate.conversation import Journey, Prepared, Request
from ctctl.simulate.scenario import run
from ctctl.simulate.scenario_writer import ScenarioWriter
from ctctl.simulate.show import JourneyWriter, write_replay
from ctctl.simulate.show_scenario import change_words, step_record
from ctctl.tables.open import open_source
from ctctl.tables.sources.facts import NodeFacts
from tests.support.captures import files
from tests.support.samples import ROOT
from tests.support.sentences import held_by, sentences, templates, unsaid

pytestmark = pytest.mark.kernel

#: Of these the words stand in a line by themselves, or beside others: one is as much a sentence as several.
BY_WORD = (show, journey)
#: Words that are no sentences: of the configuration, names, keys.
NO_SENTENCES = {"client", "server"}

NODES = """\
node: {name: node-a, ip: 10.1.0.1, pod-cidr: 10.64.0.0/24, device: eth0}
datapath: {lb: {mode: snat}}
endpoints:
  - {name: client, ip: 10.64.0.36, identity: 3096}
  - {name: other, ip: 10.64.0.37, identity: 3097}
remote:
  - {cidr: 10.64.1.0/24, identity: 4711, node: 10.1.0.2}
  - {cidr: 10.64.2.0/24, identity: 4712, node: 10.1.0.3}
  - {cidr: 10.1.0.3/32, identity: 6}
services:
  - {name: web, ip: 10.96.0.10, port: 80, id: 7,
     backends: [{id: 101, ip: 10.64.1.64, port: 8080}, {id: 102, ip: 10.64.0.37, port: 8080}]}
  - {name: none, ip: 10.96.0.12, port: 80, id: 9, backends: []}
  - {name: ping, type: NodePort, ip: 10.1.0.1, port: 30080, id: 10, backends: [{id: 110, ip: 10.1.0.2, port: 30080}]}
policy:
  - {endpoint: other, direction: ingress, port: 8080, protocol: TCP}
---
node: {name: node-b, ip: 10.1.0.2, pod-cidr: 10.64.1.0/24, device: eth0}
datapath: {lb: {mode: snat}}
endpoints:
  - {name: web, ip: 10.64.1.64, identity: 4711}
remote:
  - {cidr: 10.64.0.0/24, identity: 3096, node: 10.1.0.1}
services:
  - {name: pong, type: NodePort, ip: 10.1.0.2, port: 30080, id: 11, backends: [{id: 111, ip: 10.1.0.1, port: 30080}]}
"""
CLIENT, WEB = "10.64.0.36:40000", "10.96.0.10:80"


@pytest.fixture(scope="module")
def nodes() -> tuple[NodeFile, ...]:
    return parse_node_files(NODES, "nodes.yaml")


def refusal(what: Callable[[], Any]) -> str:
    with pytest.raises(CtctlError) as caught:
        what()
    return str(caught.value)


def told(parts: Iterator[Any]) -> str:
    """A conversation as people see it."""
    stream = io.StringIO()
    writer, said = JourneyWriter(stream, json_lines=False, color=False), []
    for part in parts:
        if isinstance(part, Prepared):
            said.append(part.words)
        elif isinstance(part, Journey):
            writer.arrival(part)
        else:
            said.append(part.step.step.note or "")
            writer.tables(part)
    writer.finish()
    return "\n".join([*said, stream.getvalue()])


def conversations(nodes: tuple[NodeFile, ...]) -> Iterator[str]:
    """Packets on nodes that turn packets."""
    files_of = tuple(map(journey.with_ifindexes, nodes))
    with journey.Cluster.of(files_of) as cluster:
        for text, how in (
            (f"tcp {CLIENT} > {WEB}", {"handshake": True, "close": True, "one_of": {(7, 4): ("a:1", "b:2")}}),
            ("tcp 10.64.0.36:40001 > 10.64.0.37:8080", {"handshake": True}),
            ("tcp 10.64.0.36:40002 > 10.64.0.37:8080 FA", {"handshake": True}),
            ("tcp 10.64.0.36:40003 > 10.64.0.37:9", {}),
            ("udp 10.64.0.36:1 > 10.64.2.9:53", {}),
            ("udp 10.64.0.36:1 > 10.1.0.3:53", {}),
            ("udp 10.64.0.36:1 > 192.0.2.1:53", {}),
            ("tcp 10.64.0.36:1 > 10.96.0.12:80", {}),
            ("udp 10.64.0.36:2 > 10.1.0.1:53", {}),
            ("udp 10.1.0.1:2 > 10.64.0.36:53", {}),
            ("tcp 192.0.2.7:1 > 10.1.0.1:30080", {}),
            ("udp 10.64.0.36:3 > 10.64.0.36:53", {"reply": True}),
        ):
            request = Request(parse_packet_text(text), files_of, **how)
            yield told(conversation.converse(cluster, request))
        yield refusal(lambda: cluster.origin(request.packet.src, request.packet.dst, "node-z"))
        node = cluster.nodes["node-a"]
        for packet, hook in (
            ("udp 192.0.2.1:1 > 192.0.2.2:2", Hook.FROM_CONTAINER),
            ("udp 1.1.1.1:1 > 1.1.1.2:2", Hook.TO_CONTAINER),
        ):
            frame = build_frame(parse_packet_text(packet))
            yield refusal(lambda frame=frame, hook=hook: node.run(hook, frame))
    request = Request(parse_packet_text(f"tcp {CLIENT} > 192.0.2.1:80"), nodes[:1], collect=True, full=True)
    yield told(conversation.run(request))
    yield refusal(
        lambda: conversation.turns(
            parse_packet_text("udp 1.1.1.1:1 > 1.1.1.2:2"), reply=False, handshake=True, close=False
        )
    )
    yield refusal(lambda: list(conversation.run(replace(request, without_backends=(9,)))))


def calls(nodes: tuple[NodeFile, ...], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Connections on nodes that turn calls."""
    balanced = [
        replace(nf, datapath=replace(nf.datapath, lb=replace(nf.datapath.lb, socket=SocketLb()))) for nf in nodes
    ]
    files_of = tuple(map(journey.with_ifindexes, balanced))
    opening, later = parse_packet_text(f"tcp {CLIENT} > {WEB}"), parse_packet_text(f"tcp {CLIENT} > {WEB} A")
    with journey.Cluster.of(files_of) as cluster:
        here = cluster.nodes["node-a"]
        lb = replace(here.nf.datapath.lb, socket=SocketLb("/sys/fs/cgroup/pods"))
        here.nf = replace(here.nf, datapath=replace(here.nf.datapath, lb=lb))
        yield told(conversation.converse(cluster, Request(opening, files_of)))
        yield told(conversation.converse(cluster, Request(later, files_of)))
        yield told(
            conversation.converse(cluster, Request(parse_packet_text(f"tcp {CLIENT} > 10.96.0.12:80"), files_of))
        )
        other = parse_packet_text("tcp 10.64.0.37:5 > 10.96.0.10:80 A")
        yield refusal(lambda: list(conversation.converse(cluster, Request(other, files_of))))
        whatif.apply_changes(cluster, [whatif.parse_change("tcp out 10.64.0.37:5 > 10.96.0.10:80 node=node-a")])
        yield refusal(lambda: list(conversation.converse(cluster, Request(other, files_of))))
        for change in (
            "tcp out 1.1.1.1:1 > 1.1.1.2:2",
            "tcp out 1.1.1.1:1 > 1.1.1.2:2 node=node-z",
            "tcp out [::1]:1 > [::2]:2 node=node-a",
        ):
            yield refusal(lambda change=change: whatif.apply_changes(cluster, [whatif.parse_change(change)]))
        for place in (None, Path("/proc")):
            monkeypatch.setattr(call, "cgroup2_mount", lambda place=place: place)
            yield refusal(lambda: list(conversation.converse(cluster, Request(opening, files_of))))
        monkeypatch.undo()
        monkeypatch.setattr(call, "own_command", lambda *_: ["false"])
        yield refusal(lambda: list(conversation.converse(cluster, Request(opening, files_of))))
        monkeypatch.undo()


def replays(nodes: tuple[NodeFile, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Captures, with what is left out, and such as are none."""
    long = bytes(Ether() / IP(src="10.64.0.36", dst="192.0.2.1") / TCP(sport=5, dport=80) / (b"x" * 60000))
    texts = ("tcp 10.64.0.36:1 > 10.64.0.37:9", "tcp [fd00::1]:1 > [fd00::2]:9")
    mine = [long, bytes(Ether() / ARP()), *(build_frame(parse_packet_text(text)) for text in texts)]
    for name, frames in (("mine", mine), ("others", [build_frame(parse_packet_text("udp 192.0.2.1:1 > 192.0.2.2:2"))])):
        path = tmp_path / name
        with path.open("wb") as file:
            writer = PcapngWriter(file)
            for frame in frames:
                writer.packet(frame, time_ns=1, interface="node-a:eth0", comment="")
        stream = io.StringIO()
        write_replay(replay.replay(path, nodes[0]), stream, json_lines=False, color=False, raw=False)
        yield stream.getvalue()
    # Of tcpdump -i any, which says at which device a packet was seen.
    cooked = tmp_path / "cooked"
    leaving = build_frame(parse_packet_text("tcp 192.0.2.7:1 > 10.1.0.1:30080"))
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 113)
    # One that came and went, which counts once; one that only went.
    packets = [
        bytes(CookedLinux(proto=0x0800, pkttype=way)) + frame[14:]
        for frame, way in ((mine[2], 0), (mine[2], 4), (leaving, 4))
    ]
    cooked.write_bytes(head + b"".join(struct.pack("<IIII", 1, 0, len(one), len(one)) + one for one in packets))
    stream = io.StringIO()
    write_replay(replay.replay(cooked, nodes[0]), stream, json_lines=False, color=False, raw=False)
    yield stream.getvalue()
    yield refusal(lambda: replay.replay(path, nodes[0], hook=Hook.FROM_CONTAINER))
    yield refusal(lambda: replay.replay(path, nodes[0], endpoint="nobody"))
    path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
    monkeypatch.setattr(replay, "_MAX_UNPACKED", 1)
    yield refusal(lambda: replay.replay(path.with_suffix(".gz"), nodes[0]))
    monkeypatch.undo()


def starts(nodes: tuple[NodeFile, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a simulation begins: node files, listings of one and of several nodes, what is loaded."""
    file = tmp_path / "nodes.yaml"
    file.write_text(NODES)
    yield refusal(lambda: start.from_files(file, ["node-z"]))
    packet = parse_packet_text("udp 192.0.2.1:1 > 192.0.2.2:2")
    listings = {name[4:]: text for name, text in files("cilium-1.16-snat-node1").items() if name.startswith("cli/")}
    whole, two, bare = tmp_path / "whole", tmp_path / "two", tmp_path / "bare"
    for place in (whole, two / "node-1", two / "node-2", bare):
        place.mkdir(parents=True)
        for name, text in listings.items():
            if place is not bare or name.startswith("ct-"):
                (place / name).write_bytes(text)
    ipcache = whole / "ipcache-list.txt"
    ipcache.write_text(
        ipcache.read_text() + "10.61.9.0/24   identity=4 encryptkey=0 tunnelendpoint=fd00::2 flags=<none>\n"
    )
    with open_source([str(whole)]) as source:
        yield "\n".join(start.from_source(source, packet, {"routing": "tunnel"}).notes)
        yield refusal(lambda: start.from_source(source, packet, {evidence.NODE_PORT_MAX: "0"}))
        only = start.from_files(file, ["node-a"])
        yield "\n".join(start.with_source(only, source).notes)
    with open_source([str(ROOT / "cilium-dbg-1.16.4/ct-list-global.ipv4-only.txt")]) as source:
        yield "\n".join(start.with_source(only, source).notes)
    with open_source([str(two / "node-1"), str(two / "node-2")]) as source:
        yield refusal(lambda: start.from_source(source, packet, {}))
        yield refusal(lambda: start.from_source(source, packet, {}, "node-z"))
        yield refusal(lambda: start.with_source(start.from_files(file), source))
    with open_source([str(ROOT / "cilium-dbg-1.16.4/ct-list-global.ipv4-only.txt")]) as source:
        yield refusal(lambda: start.with_source(start.from_files(file), source))
    with open_source([str(bare)]) as source:
        yield refusal(lambda: start.from_source(source, packet, {}))
    monkeypatch.setattr(start, "choose_nodes", lambda _names: [NodePaths(tmp_path, "n")])
    yield refusal(start.from_loaded)
    monkeypatch.undo()


def settings(tmp_path: Path) -> Iterator[str]:
    """What tells how a node works where no configuration does: services, SNAT entries, names of maps."""
    found = []
    for name in ("cilium-1.16-snat-node1", "cilium-1.19-dsr-node1", "cilium-1.19-snat-node1"):
        place = tmp_path / "settings" / name
        place.mkdir(parents=True)
        for file, text in files(name).items():
            if file.startswith("cli/") and file.endswith(".txt"):
                (place / file[4:]).write_bytes(text)
        with open_source([str(place)]) as source:
            listings = source.listings(None)
            unflagged = [replace(slot, flags=slot.flags and ServiceFlags(0)) for slot in listings.services]
            for services in (listings.services, unflagged, [*listings.services, *unflagged]):
                for nat in ({}, {"nat_entries": [], "nat_text": None}):
                    changed = replace(listings, services=services, **nat)
                    found.append(evidence.modes_of(NodeFacts(), source, changed, {}))
            source.directory, source.foreign = str(place), True
            for pin in (pins.RUNTIME_CONFIG, "cilium_calls_overlay_2"):
                (place / pin).touch()
                found.append(evidence.modes_of(NodeFacts(), source, listings, {}))
    for modes in found:
        yield from (fact.evidence for fact in modes.values())


STEPS = """\
steps:
  - {hook: from_container, endpoint: client, packet: "tcp 10.64.0.36:1 > 10.96.0.10:80 S", expect: {verdict: drop}}
  - {advance: 10s}
  - {service: web, backends: []}
  - {gc: {}}
  - {gc: {endpoint: 10.64.0.36}}
  - {op: snat_clear}
  - {hook: from_netdev, packet-hex: "0200000000010200000000020806"}
"""


def scenarios(tmp_path: Path) -> Iterator[str]:
    """A scenario with a step of every kind, as lines and as blocks; what does not come out is said."""
    path = tmp_path / "steps.yaml"
    path.write_text(NODES.partition("---")[0] + STEPS)
    records = list(run(path, lambda record: step_record(record, raw=True)))
    for verbose in (False, True):
        stream = io.StringIO()
        writer = ScenarioWriter(stream, json_lines=False, verbose=verbose)
        for record in records:
            writer.step(record)
        writer.finish()
        yield stream.getvalue()
    yield from (change_words(record.step) for record in records)


def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What the command refuses, and what it says of a source beside the simulation."""
    steps, file, capture = tmp_path / "steps.yaml", tmp_path / "nodes.yaml", tmp_path / "mine"
    node, copied = files("cilium-1.16-snat-node1"), tmp_path / "copied"
    copied.mkdir()
    for name, text in node.items():
        if name.startswith("cli/"):
            (copied / name[4:]).write_bytes(text)
    entries, cut = tmp_path / "entries.txt", tmp_path / "cut.txt"
    entries.write_bytes(node["cli/ct-list-global.txt"])
    cut.write_bytes(node["cli/ct-list-global.txt"] + b"TCP OUT 10.0.0.1:1 -> 10.0.0.2:80 expires=1 Flags\n")
    packet = "udp 10.64.0.36:3 > 10.64.0.37:53"
    for words in (
        ("--from", str(cut), "-o", "svg"),
        ("--scenario", str(steps), "--node", "a", "--node", "b"),
        ("--scenario", str(steps)),
        ("--simulate",),
        ("--pcap", str(capture), "-f", str(file)),
        ("--pcap", str(capture), "-f", str(file), "-o", "svg"),
        ("--pcap", str(capture), "--from", str(copied)),
        (packet, "--simulate", "--from", str(entries)),
        (packet, "--simulate", "-f", str(file), "--node", "node-a", "--from", str(cut)),
    ):
        with monkeypatch.context() as patch:
            # Whatever is loaded on this machine.
            patch.setattr("ctctl.node.find.own_nodes", dict)
            patch.setattr("sys.stdout", io.StringIO())
            patch.setattr("sys.stderr", stream := io.StringIO())
            main(["trace", *words])
        yield stream.getvalue()


def what_ifs(nodes: tuple[NodeFile, ...]) -> Iterator[str]:
    """What cannot be meant."""
    yield refusal(lambda: changes.parse_settings(["lb.mode"]))
    for rule in (
        "deny ingress x port=0",
        "deny ingress x colour=red",
        "deny ingress x identity=5 cidr=10.0.0.0/8",
        "deny",
        "deny '",
    ):
        yield refusal(lambda rule=rule: changes.parse_rule(rule))
    yield refusal(lambda: changes.check_pods(nodes, [changes.parse_rule("deny ingress nobody port=80")]))
    for change in (
        "tcp",
        "tpc out a > b",
        "tcp out 1.1.1.1:1 > [::1]:2",
        "tcp out x > y",
        "tcp out 1.1.1.1:1 > 1.1.1.2:2 packets=-1",
    ):
        yield refusal(lambda change=change: whatif.parse_change(change))


def test_every_sentence_is_provoked(
    nodes: tuple[NodeFile, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [
        *what_ifs(nodes), *starts(nodes, tmp_path, monkeypatch), *replays(nodes, tmp_path, monkeypatch),
        *conversations(nodes), *calls(nodes, monkeypatch),
        *scenarios(tmp_path), *settings(tmp_path), *commands(tmp_path, monkeypatch),
    ]  # fmt: skip
    known = "\n".join(said)
    modules = held_by(__file__)
    missing = {module.__name__: unsaid(module, known) for module in modules}
    for module in BY_WORD:
        words = (one.replace(r"\{place\}", ".*") for one in templates(module) if one not in NO_SENTENCES)
        missing[module.__name__] += [one for one in words if re.search(one, known) is None]
    assert {name: found for name, found in missing.items() if found} == {}
    # A list that is empty would be held to anything.
    assert len([one for module in modules for one in sentences(module)]) > 100
