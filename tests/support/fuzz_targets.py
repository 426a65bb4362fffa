"""What random input is given to: every reader of what a user may hand over. Only our own errors may end it."""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ctctl.btf import Btf
from ctctl.config.node import load_node_files
from ctctl.errors import CtctlError
from ctctl.packet.capture import ethernet_frame, read_capture
from ctctl.packet.cooked import Sightings, sighting, without_tunnel
from ctctl.packet.text import parse_flow_ends, parse_flow_text, parse_packet_text
from ctctl.predict.workload import load_document, parse_workload
from ctctl.simulate.scenario_file import load_scenario
from ctctl.tables.query.filter import Filter
from ctctl.tables.sources import archive, snapshot
from ctctl.tables.sources.base import Source, SourceOptions
from ctctl.tables.sources.files import build, read_text
from ctctl.tables.sources.stream import Prefixed
from ctctl.trace.show_story import InOrder, story_line, story_record
from ctctl.trace.story_filter import StoryFilter
from ctctl.trace.story_text import StoryFile

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
CPU_S = 2.0


def _walk(source: Source) -> None:
    for table in source.tables:
        for columns in table.columns():
            for index in range(min(len(columns), 50)):
                columns.entry(index, table.name, table.absent)
    for node in (None, *source.nodes()):
        source.listings(node)
        source.facts(node)


def reader(data: bytes) -> None:
    """What ``--from`` reads."""
    stream = Prefixed(b"", io.BytesIO(data))
    head = stream.peek(512)
    if snapshot.is_snapshot(head):
        _walk(snapshot.open_snapshot(stream, "x", SourceOptions()))
    elif archive.is_archive(head):
        dumps = archive.read_archive(stream, "x")
        if dumps:
            _walk(build("x", dumps, SourceOptions()))
    else:
        _walk(build("x", {None: read_text(stream, "cilium_ct4_global")}, SourceOptions()))


def filters(data: bytes) -> None:
    """A filter expression."""
    Filter.parse(data.decode("utf-8", "replace"))


def packets(data: bytes) -> None:
    """A packet's or a flow's text."""
    text = data.decode("utf-8", "replace")
    for parse in (parse_packet_text, parse_flow_text, parse_flow_ends):
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
    wanted = StoryFilter(parse_flow_ends("ip any > any:80"), Filter.parse("proto == 6 and src == 10.0.0.0/8"))
    for event in InOrder(StoryFile(Prefixed(b"", io.BytesIO(data))).read(), window=3):
        wanted(event)
        text = "".join(word for word, _ in story_line(event))
        if "\n" in text:
            raise ValueError(f"an event of several lines: {text!r}")
        json.dumps(story_record(event), allow_nan=False)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "reader": reader,
    "filter": filters,
    "packet": packets,
    "document": documents,
    "capture": captures,
    "btf": types,
    "story": stories,
}


def run(name: str, data: bytes) -> None:
    """One input. Raises what is no error of ours, and TimeoutError after more than two seconds of CPU."""
    started = time.process_time()
    try:
        TARGETS[name](data)
    except CtctlError as error:
        if "\n" in str(error):
            raise ValueError(f"a message of several lines: {error}") from error
    if time.process_time() - started > CPU_S:
        raise TimeoutError(f"{time.process_time() - started:.1f} s of CPU")


def seeds(name: str) -> list[bytes]:
    """Inputs that the search begins with: real ones, and those that were found before."""
    small = [path for path in sorted(DATA.rglob("*")) if path.is_file() and path.stat().st_size < 20_000]
    if name == "reader":
        folders = ("samples", "cases", "captures")
        return [path.read_bytes() for path in small if path.relative_to(DATA).parts[0] in folders]
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


def _btf() -> bytes:
    from ctctl.btf.elf import btf_section

    objects = sorted((ROOT.parent / "ctctl" / "bpf").glob("*.bpf.o"), key=lambda path: path.stat().st_size)
    return btf_section(objects[0].read_bytes())
