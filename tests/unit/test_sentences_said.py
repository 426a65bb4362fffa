"""No sentence about a connection or a printed packet that nothing provokes: the code's are listed from the code.

As tests/kernel/test_sentences.py has it for hooks, and test_simulation_sentences.py for simulations: a sentence that is
new, or that nothing can come to any more, fails here.
"""

from __future__ import annotations

import importlib
import io
import itertools
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from types import ModuleType

import pytest

import ctctl.events
import ctctl.simulate
import ctctl.trace
from ctctl.abi import layouts
from ctctl.cli.main import main
from ctctl.ct import sentence
from ctctl.ct.get import get as connections_of
from ctctl.decode.ct import decode_entry
from ctctl.errors import CtctlError
from ctctl.events import decode, listeners
from ctctl.model.row import CtRow
from ctctl.model.service import SocketNat
from ctctl.model.tuples import Direction, protocol_name
from ctctl.packet.text import parse_flow_text
from ctctl.tables.open import open_source
from ctctl.tables.query.filter import Filter
from ctctl.tables.sources.base import Source
from ctctl.trace import decode_probe, story_files
from ctctl.trace.show_story import WINDOW, story_line
from ctctl.trace.story_files import story_sources
from ctctl.trace.story_filter import StoryFilter
from ctctl.trace.story_text import MAX_IDLE, StoryFile
from tests.support.captures import files
from tests.support.fleet import NOW, A, B, Node, Row, flow
from tests.support.sentences import HELD, SILENT, held_by, modules_of, sentences, unsaid

#: Packages and modules all of whose sentences some test holds (``HELD``).
WHOLE = (ctctl.trace, ctctl.simulate, ctctl.events)
COMMANDS = tuple(
    f"ctctl.cli.{name}" for name in ("trace", "trace_listen", "trace_modes", "trace_simulate", "trace_story")
)
NODE = "cilium-1.19-snat-node1"
EVENT = (
    "-> endpoint 3 flow 0x1 , identity 2->3 state new ifindex lxc1 orig-ip 1.1.1.1: 1.1.1.1:1 -> 2.2.2.2:80 tcp SYN\n"
)


#: What ``monitor -j`` and Hubble say of packets: lost ones, one of a proxy, one that was not captured, one in a tunnel.
LOST = b'{"lost_events":{"source":"PERF_EVENT_RING_BUFFER","num_events_lost":"3"}}\n'
LOGGED = b'{"type":"logRecord"}\n'
NOT_CAPTURED = b'{"type":"trace","observationPoint":"to-stack","ifindex":7,"bytes":60}\n'
TUNNELLED = (
    b'{"type":"trace","observationPoint":"from-overlay","summary":{"tunnel":{"vxlan":"VXLAN {VNI=2}"},'
    b'"ipv4":"IPv4 {SrcIP=1.1.1.1 DstIP=2.2.2.2 Protocol=TCP}"}}\n{"flow":{"verdict":"FORWARDED"}}\n'
)


def refusal(does: Callable[[], object]) -> str:
    """What is said by what it raises."""
    with pytest.raises(CtctlError) as caught:
        does()
    return str(caught.value)


def states() -> Iterator[str]:
    """Of every state of an entry in each direction, seen from either side, timed or not."""
    connection = flow(A, 1000, B, 80)
    marks = (0, 0x10, 0x11, 0x12, 0x13)
    seen = (0, 0x01, 0x02, 0x04, 0x1B)
    ways = [Direction.OUT, Direction.IN, Direction.SVC]
    for mark, tx, rx, way, left in itertools.product(marks, seen, seen, ways, (300, -5)):
        key, value = Row(connection, way, left, flags=mark).bytes()
        entry = replace(
            decode_entry(key, value, keep_raw=False),
            tx_flags_seen=tx,
            rx_flags_seen=rx,
            last_tx_report=0,
            last_rx_report=0,
        )
        yield from (sentence.explain([CtRow(entry, now=now)])[1] for now in (NOW, None))


def answers(folder: Path) -> Iterator[str]:
    """What is said of whole connections: of one node, of sockets, of a node that should have the other end."""
    for name in ("ct-list-global", "lb-list", "lb-list.backends", "lb-list.revnat", "socknat-list"):
        (folder / f"{name}.txt").write_bytes(files(NODE)[f"cli/{name}.txt"])
    there = [Row(flow(A, 1001, B, 80)), Row(flow(A, 1002, "10.96.0.1", 80), Direction.SVC, backend=7, rev_nat=3)]
    for number, backends in enumerate(((), (8,))):
        nodes = [Node("node-a", there, [A], backends=backends), Node("node-b", (), [B])]
        at = folder / f"nodes-{number}"
        at.mkdir()
        with open_source([str(node.write(at)) for node in nodes]) as source:
            yield from told(source, f"tcp {A}:1001 > {B}:80", f"tcp {A}:1002 > 10.96.0.1:80")
            source.tables = [table for table in source.tables if table.node != "node-b"]
            yield from told(source, f"tcp {A}:1001 > {B}:80")
    with open_source(str(folder)) as source:
        pod, vip, backend = "10.61.1.101", "10.96.0.10:80", "10.61.1.102:8000"
        yield from told(source, f"tcp {pod} > {vip}", f"tcp {pod} > {backend}", f"icmp {pod} > 10.61.1.102")
        yield from told(source, f"tcp {pod}:1 > 10.61.1.102:2")
        for nothing in ("tcp 9.9.9.9:1 > 8.8.8.8:2", "tcp 9.9.9.9 > 8.8.8.8"):
            yield refusal(lambda text=nothing: connections_of(source, text))
    # Services whose backends have no numbers there.
    listed = folder / "listed"
    listed.mkdir()
    for name in ("ct-list-global", "lb-list"):
        (listed / f"{name}.txt").write_bytes(files(NODE)[f"cli/{name}.txt"])
    with open_source(str(listed)) as source:
        yield from told(source, "tcp 192.168.61.1 > 192.168.61.11:30081")
    # Of a connection that only SNAT entries know.
    alone = folder / "nat-list.txt"
    alone.write_bytes(files(NODE)["cli/nat-list.txt"])
    with open_source(str(alone)) as source:
        entry = source.listings(None).nat[0]
        flow_of_it = entry.tuple if entry.direction is Direction.OUT else entry.tuple.reversed()
        yield from told(source, f"{protocol_name(flow_of_it.proto)} {flow_of_it.src} > {flow_of_it.dst}")
    # A service entry whose table is there, and a service that only a socket's entry tells.
    with open_source(str(Node("node-a", [Row(flow(A, 1, B, 80))], [A]).write(folder))) as source:
        home, _node = source.home_of(None)
        found = home.some(None, "sockets")
        found.sockets.append(SocketNat(1, ip_address(B), 80, ip_address("10.96.0.9"), 443, 5))
        home.partly, home.listings = None, lambda _node: found
        yield from told(home, f"tcp {A}:1 > {B}:80")


def told(source: Source, *asked: str) -> Iterator[str]:
    for text in asked:
        for connection in connections_of(source, text):
            yield from (connection.why, *connection.notes, connection.service or "")


def stories(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What is said of printed packets, of where they come from, and of what is asked of them."""
    lines = [EVENT, "CPU 1: MARK 0x1 FROM 1 DEBUG: x\n", "nonsense\n", "-> Request http\n", "xx drop (cut\n"]
    for text in ("".join(lines), EVENT + "nothing\n" * (MAX_IDLE + 2)):
        file = StoryFile(io.BytesIO(text.encode()))
        yield from ("".join(words for words, _ in story_line(event)) for event in file.read())
        yield from (*file.partial, *file.notes)
    yield refusal(lambda: list(StoryFile(io.BytesIO(b"nothing\n")).read()))
    long = b"x" * (2 << 20) + b"\n"
    for text in (EVENT.encode() + b"{damaged}\n" + LOST + LOGGED + long, EVENT.encode() + b'{\n "a":\n'):
        file = StoryFile(io.BytesIO(text))
        list(file.read())
        yield from file.partial
    for event in StoryFile(io.BytesIO(NOT_CAPTURED + TUNNELLED)).read():
        yield "".join(words for words, _ in story_line(event))
    hubble = (
        b'{"flow":{"time":"2026-01-01T00:00:00Z","verdict":"DROPPED","drop_reason":999,"l4":{"ICMPv4":{"type":3}}}}\n'
    )
    for event in StoryFile(io.BytesIO(hubble)).read():
        yield f"{event.reason} {event.packet.other} {event.packet.icmp}"
    yield refusal(StoryFilter(parse_flow_text("tcp any > any"), Filter.parse("lifetime > 3")).check)
    (folder / "log.txt").write_text(EVENT)
    monkeypatch.setattr(story_files, "MAX_COPIED", 10)
    with tarfile.open(folder / "all.tar", "w") as packed:
        packed.add(folder / "log.txt", "cilium-bugtool-a/cmd/monitor.txt")
    with ExitStack() as stack:
        yield from story_sources([str(folder / "all.tar")], io.BytesIO(), stack).partial
        (folder / "empty").mkdir()
        yield refusal(lambda: story_sources([str(folder / "empty")], io.BytesIO(), stack))
        (folder / "bad").mkdir()
        (folder / "bad" / "cut.tar").write_bytes((folder / "all.tar").read_bytes()[:520])
        yield refusal(lambda: story_sources([str(folder / "bad")], io.BytesIO(), stack))
        with monkeypatch.context() as patch:
            # As for a user who may not read it: root may.
            patch.setattr(Path, "open", lambda *_: _raise(PermissionError(13, "Permission denied")))
            yield refusal(lambda: story_sources([str(folder / "log.txt")], io.BytesIO(), stack))


def _raise(error: Exception) -> None:
    raise error


def commands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What the command says beside a story: events that came too late, a file that is none, what is missing."""
    flow = '{"flow":{"time":"2026-01-01T00:%02d:00Z","verdict":"DROPPED"}}\n'
    (folder / "late.jsonl").write_text(flow % 1 * (WINDOW + 1) + flow % 0)
    (folder / "none.txt").write_text("nothing\n")
    (folder / "partly.txt").write_text(EVENT + "{damaged}\n")
    for name in ("late.jsonl", "none.txt", "partly.txt"):
        with monkeypatch.context() as patch:
            streams = {name: io.StringIO() for name in ("sys.stdout", "sys.stderr")}
            for stream, text in streams.items():
                patch.setattr(stream, text)
            main(["trace", "--from", str(folder / name)])
        yield streams["sys.stderr"].getvalue()


def places(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A node that may be read and not listened to."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", lambda *_, **__: _raise(PermissionError(13, "Permission denied")))
        yield refusal(listeners.Listener("node-a", b"", folder / "listeners").join)


def records() -> Iterator[str]:
    """Bytes that are no event."""
    for module, kind in ((decode, layouts.ctctl_event), (decode_probe, layouts.ctctl_probe_event)):
        read = module.decode_event if module is decode else module.decode_probe_event
        yield refusal(lambda read=read: read(b"short"))
        yield refusal(lambda read=read, kind=kind: read(bytes([255]) * len(bytes(kind()))))


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        parts = [
            *states(),
            *answers(tmp_path_factory.mktemp("answers")),
            *stories(tmp_path_factory.mktemp("stories"), patch),
            *commands(tmp_path_factory.mktemp("commands"), patch),
            *places(tmp_path_factory.mktemp("places"), patch),
            *records(),
        ]
    return "\n".join(parts)


@pytest.mark.parametrize("module", held_by(__file__))
def test_every_sentence_is_provoked(module: ModuleType, said: str) -> None:
    assert sentences(module)
    assert unsaid(module, said) == []


def test_every_module_that_says_something_is_held_by_one_test() -> None:
    held = [name for names in HELD.values() for name in names]
    assert sorted(held) == sorted(set(held))
    modules = [*modules_of(*WHOLE), *map(importlib.import_module, COMMANDS)]
    assert {module.__name__ for module in modules if sentences(module)} - {*held, *SILENT} == set()
    for name in HELD:
        assert "held_by(__file__)" in (Path(__file__).parents[1] / name).read_text(), name
