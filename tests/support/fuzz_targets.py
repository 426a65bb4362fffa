"""What random input is given to: every reader of what a user may hand over. Only our own errors may end it."""

from __future__ import annotations

import functools
import io
import json
import random
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from ctctl.btf import Btf
from ctctl.config.node import load_node_files
from ctctl.ct.decode import decode
from ctctl.decode.ct import decode_entry, table_name
from ctctl.errors import CtctlError
from ctctl.model.clock import Clock
from ctctl.model.entry import CtEntry, Layout
from ctctl.packet.capture import ethernet_frame, read_capture
from ctctl.packet.cooked import Sightings, sighting, without_tunnel
from ctctl.packet.frame import build_frame
from ctctl.packet.text import parse_flow_text, parse_packet_text
from ctctl.predict.workload import load_document, parse_workload
from ctctl.simulate.scenario_file import load_scenario
from ctctl.tables.namebook import NameBook
from ctctl.tables.names_files import add_file
from ctctl.tables.query.context import TableContext
from ctctl.tables.query.filter import Filter
from ctctl.tables.sources import archive, regular, snapshot
from ctctl.tables.sources.base import Source, SourceOptions
from ctctl.tables.sources.files import build, read_text
from ctctl.tables.sources.stream import Prefixed
from ctctl.tables.writer import journal
from ctctl.trace.show_story import InOrder, story_line, story_record
from ctctl.trace.story_filter import StoryFilter
from ctctl.trace.story_text import StoryFile
from tests.support import fuzz_mutate, fuzz_passes
from tests.support.cost import is_soon

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"


def _walk(source: Source) -> None:
    for table in source.tables:
        for columns in table.columns():
            for index in range(min(len(columns), 50)):
                columns.entry(index, table.name, table.absent)
    for node in (None, *source.nodes()):
        found = source.listings(node)
        assert len(found.nat) == found.count("nat")
        source.facts(node)


def reader(data: bytes) -> str:
    """What ``--from`` reads. The kinds of listing that were recognised in it."""
    stream = Prefixed(b"", io.BytesIO(data))
    head = stream.peek(512)
    if snapshot.is_snapshot(head):
        _walk(snapshot.open_snapshot(stream, "x", SourceOptions()))
        return "snapshot"
    if archive.is_archive(head):
        dumps = archive.read_archive(stream, "x")
        if dumps:
            _walk(build("x", dumps, SourceOptions()))
        return "archive"
    # Half of the inputs are read in passes from their first record on, however short they are.
    with mock.patch.object(regular, "WORTH", 1 if zlib.crc32(data) & 1 else regular.WORTH):
        dump = read_text(stream, "cilium_ct4_global")
    kinds = ", ".join(dump.kinds)
    _walk(build("x", {None: dump}, SourceOptions()))
    return kinds


def filters(data: bytes) -> None:
    """A filter expression, asked of an entry of every family and layout."""
    wanted = Filter.parse(data.decode("utf-8", "replace"))
    for entry, table in _entries():
        wanted.matches(entry, table)


@functools.cache
def _entries() -> list[tuple[CtEntry, TableContext]]:
    """An entry of each family in each layout, and its table with a time and without."""
    found = []
    for size, family in ((14, 4), (38, 6)):
        for layout in Layout:
            for now in (1000, None):
                name = table_name(family, 6)
                entry = decode_entry(bytes(range(1, size - 1)) + b"\x06\x01", bytes(range(56)), layout, name)
                found.append((entry, TableContext(family, layout, Clock(), now, name, "a", frozenset(), None)))
    return found


def packets(data: bytes) -> None:
    """A packet's or a flow's text."""
    text = data.decode("utf-8", "replace")
    for parse in (parse_packet_text, parse_flow_text):
        try:
            parse(text)
        except CtctlError:
            continue


def documents(data: bytes) -> None:
    """Node files with Kubernetes objects, workloads, scenarios."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm", suffix=".yaml") as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        for load in (load_node_files, lambda p: parse_workload(load_document(p), "x"), load_scenario):
            try:
                load(path)
            except CtctlError:
                continue


def captures(data: bytes) -> None:
    """A packet capture."""
    seen = Sightings()
    for time_ns, at, size, _, link_type in read_capture(data):
        packet = data[at : at + size]
        frame = ethernet_frame(packet, link_type)
        where = sighting(packet, link_type)
        if frame is not None:
            without_tunnel(frame)
            if where is not None:
                seen.again(frame[14:], where, time_ns)


def types(data: bytes) -> None:
    """BTF."""
    found = Btf(data)
    for number in range(min(len(found), 200)):
        try:
            found.size_of(number)
            found.typedef_names(number)
        except CtctlError:
            continue


def stories(data: bytes) -> None:
    """What monitor or Hubble printed, each event shown in both forms and asked for."""
    wanted = StoryFilter(parse_flow_text("ip any > any:80"), Filter.parse("proto == 6 and src == 10.0.0.0/8"))
    for event in InOrder(StoryFile(Prefixed(b"", io.BytesIO(data))).read(), window=3):
        wanted(event)
        text = "".join(word for word, _ in story_line(event))
        if "\n" in text:
            raise ValueError(f"an event of several lines: {text!r}")
        json.dumps(story_record(event), allow_nan=False)


def names(data: bytes) -> None:
    """A file of names: Kubernetes objects, an agent's answers, an archive of them."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(data)
        file.flush()
        add_file(NameBook(), Path(file.name))


def journals(data: bytes) -> None:
    """What undo reads."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(data)
        file.flush()
        list(journal.records(journal.open_journal(Path(file.name))))


def words(data: bytes) -> None:
    """What ``ct decode`` is given."""
    decode(data.decode("utf-8", "replace"))


TARGETS: dict[str, Callable[[bytes], str | None]] = {
    "reader": reader,
    "passes": fuzz_passes.passes,
    "filter": filters,
    "packet": packets,
    "document": documents,
    "capture": captures,
    "btf": types,
    "story": stories,
    "names": names,
    "journal": journals,
    "decode": words,
}


def run(name: str, data: bytes) -> str:
    """One input. How it ended: ``read``, with what where the target says it, or ``refused`` and the words.

    Raises what is no error of ours, and TimeoutError where it took more CPU than a small input may take.
    """
    started = time.process_time()
    try:
        end = f"read {TARGETS[name](data) or ''}".strip()
    except CtctlError as error:
        if "\n" in str(error):
            raise ValueError(f"a message of several lines: {error}") from error
        end = f"refused|{error}"
    cpu_s = time.process_time() - started
    if not is_soon(cpu_s):
        raise TimeoutError(f"{cpu_s:.1f} s of CPU")
    return end


def maker(name: str) -> Callable[[random.Random], bytes]:
    """What makes a target's inputs out of a source of random numbers."""
    if name == "passes":
        return fuzz_passes.make
    if name == "filter":
        return fuzz_mutate.filter_text
    if name == "packet":
        return fuzz_mutate.packet_text
    if name == "capture":
        frames = [build_frame(parse_packet_text(text)) for text in _FRAMES]
        blobs = [data for data in seeds(name) if len(data) < 3000]
        return lambda rng: fuzz_mutate.capture_bytes(rng, frames, blobs)
    if name == "btf":
        blobs = seeds(name)
        return lambda rng: fuzz_mutate.changed_bytes(rng, blobs)
    pieces = fuzz_mutate.Pieces()
    for data in seeds(name, 250_000):
        pieces.learn(data)
    if name == "reader":
        pieces.sort(_form)
    return fuzz_mutate.Maker(pieces, packs=name in ("reader", "names")).make


def _form(data: bytes) -> str:
    try:
        return read_text(io.BytesIO(data), "x").kind
    except CtctlError:
        return ""


_FRAMES = (
    *("tcp 10.0.0.1:1 > 10.0.0.2:80 S", "udp 10.0.0.1:1 > 10.0.0.2:8472 len=80", "icmp 10.0.0.1 > 10.0.0.2 id=4"),
    *("tcp [fd00::1]:1 > [fd00::2]:80 A len=9", "udp 10.0.0.1:1 > 10.0.0.2:6081 len=80", "sctp 1.1.1.1:1 > 2.2.2.2:2"),
    *(
        "udp 10.0.0.1:1 > 10.0.0.2:80 frag=0+ id=9 len=40",
        'icmp 1.1.1.1 > 2.2.2.2 type=3 inner="tcp 3.3.3.3:1 > 4.4.4.4:2"',
    ),
)


def seeds(name: str, longest: int = 20_000) -> list[bytes]:
    """Inputs that the search begins with: real ones of up to so many bytes, and those that were found before."""
    small = [path for path in sorted(DATA.rglob("*")) if path.is_file() and path.stat().st_size < longest]
    if name == "reader":
        folders = ("samples", "cases", "captures")
        return [path.read_bytes() for path in small if path.relative_to(DATA).parts[0] in folders]
    if name == "passes":
        return [fuzz_passes.whole(seed) for seed in fuzz_passes.seeds().values()]
    if name == "names":
        found = [path.read_bytes() for path in small if path.suffix in (".yaml", ".yml", ".json")]
        return [data for data in found if b"kind:" in data or b'"spec"' in data or b'"labels"' in data]
    if name == "journal":
        return [_journal()]
    if name == "decode":
        listing = DATA / "samples" / "cilium-dbg-1.16.4"
        lines = (listing / "ct-list-global.txt").read_bytes().splitlines()[:40]
        lines += (listing / "nat-list.txt").read_bytes().splitlines()[:20]
        return [*lines, b"0x1b", b"RxFlagsSeen=0x1b", b"0a" * 70, b"0a" * 14 + b":" + b"0b" * 56]
    if name == "story":
        return [path.read_bytes() for path in small if path.relative_to(DATA).parts[0] == "story"]
    if name == "capture":
        return [path.read_bytes() for path in small if path.suffix == ".pcap" or "hostile" in path.parts]
    if name == "document":
        found = [path.read_bytes() for path in small if path.suffix in (".yaml", ".yml")]
        return found + [path.read_bytes() for path in (ROOT.parent / "examples").rglob("*.yaml")]
    if name == "filter":
        return [b"tcp and state == closing", b"src == 10.0.0.0/8 or not (dport in 80-90)", b"flags has DSRInternal"]
    if name == "packet":
        inner = b'icmp 10.0.0.1 > 10.0.0.2 type=3 inner="udp 1.1.1.1:1 > 2.2.2.2:2"'
        return [b"tcp 10.0.0.1:1 > 10.0.0.2:80 S seq=1 len=9", inner]
    return [_btf()]


def _journal() -> bytes:
    head = json.dumps({"schema": journal.SCHEMA, "node": None, "source": "x"})
    record = json.dumps({"map": "cilium_ct4_global", "key_hex": "0a" * 14, "value_hex": "0b" * 56})
    stayed = json.dumps({"stayed": "cilium_ct4_global", "key_hex": "0a" * 14})
    return "\n".join([head, record, record.replace("0a", "0c"), stayed, '{"done": 2}', ""]).encode()


def _btf() -> bytes:
    from ctctl.btf.elf import btf_section

    objects = sorted((ROOT.parent / "ctctl" / "bpf").glob("*.bpf.o"), key=lambda path: path.stat().st_size)
    return btf_section(objects[0].read_bytes())
