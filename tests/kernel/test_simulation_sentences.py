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
from types import ModuleType
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, CookedLinux, Ether

from ctctl.config.datapath import SocketLb
from ctctl.config.node import NodeFile, parse_node_files
from ctctl.errors import CtctlError
from ctctl.model.event import Hook
from ctctl.node.paths import NodePaths
from ctctl.packet.frame import build_frame
from ctctl.packet.pcapng import PcapngWriter
from ctctl.packet.text import parse_packet_text
from ctctl.simulate import (
    call,
    carry,
    carry_tables,
    changes,
    conversation,
    evidence,
    journey,
    replay,
    show,
    simulator,
    sockets,
    start,
    whatif,
)
from ctctl.simulate.conversation import Journey, Prepared, Request
from ctctl.simulate.show import JourneyWriter, write_replay
from ctctl.tables.open import open_source
from tests.support.captures import files
from tests.support.samples import ROOT
from tests.support.sentences import templates

pytestmark = pytest.mark.kernel

MODULES = (
    *(call, carry, carry_tables, changes, conversation, evidence, journey, replay, show, simulator, sockets),
    *(start, whatif),
)
#: Of these the words stand in a line by themselves, or beside others: one is as much a sentence as several.
BY_WORD = (show, journey)
#: Words that are no sentences: of the configuration, names, keys.
NO_SENTENCES = {"client", "server", r"no\ .*_\*\ is\ pinned"}

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
    frame = bytes(CookedLinux(proto=0x0800)) + mine[2][14:]
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 113)
    cooked.write_bytes(head + struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame)
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
    with open_source([str(bare)]) as source:
        yield refusal(lambda: start.from_source(source, packet, {}))
    monkeypatch.setattr(start, "choose_nodes", lambda _names: [NodePaths(tmp_path, "n")])
    yield refusal(start.from_loaded)
    monkeypatch.undo()


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


def sentences(module: ModuleType) -> list[str]:
    found = [one for one in templates(module) if one not in NO_SENTENCES]
    return [one for one in found if module in BY_WORD or one.count("\\ ") > 1]


def test_every_sentence_is_provoked(
    nodes: tuple[NodeFile, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [
        *what_ifs(nodes), *starts(nodes, tmp_path, monkeypatch), *replays(nodes, tmp_path, monkeypatch),
        *conversations(nodes), *calls(nodes, monkeypatch),
    ]  # fmt: skip
    known = "\n".join(said)
    missing = {
        module.__name__: [one for one in sentences(module) if re.search(one.replace(r"\{place\}", ".*"), known) is None]
        for module in MODULES
    }
    assert {name: found for name, found in missing.items() if found} == {}
    # A list that is empty would be held to anything.
    assert len([one for module in MODULES for one in sentences(module)]) > 70
