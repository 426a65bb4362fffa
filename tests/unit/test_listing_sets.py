"""Every output format × every filter × empty, one and many tables says the same set of entries."""

from __future__ import annotations

import csv
import io
import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctctl.cli.export_rows import export_rows
from ctctl.ct.export import ExportFormat, export_snapshot
from ctctl.ct.listing import Listing
from ctctl.ct.show_list import write_listing
from ctctl.ct.stats import stats
from ctctl.ct.top import By, top
from ctctl.decode.ct import KEY_SIZE, decode_entry
from ctctl.model.entry import Layout
from ctctl.model.tuples import FlowTuple, protocol_name
from ctctl.out.options import Format, OutputOptions
from ctctl.tables.query.filter import Filter
from ctctl.tables.rows import matching
from ctctl.tables.sources.base import CtTable, Source, SourceOptions
from ctctl.tables.sources.open import open_source

if TYPE_CHECKING:
    from ctctl.tables.sources.base import Rows

NAMES = ("cilium_ct4_global", "cilium_ct_any4_global", "cilium_ct6_global", "cilium_ct_any6_global")
NOW = 1000
FILTERS = (
    "",
    "tcp",
    "not tcp",
    "state == closing",
    "remaining < 0s",
    "svc or related",
    "ip in 10.0.0.0/9 or ip in fd00::/9",
    "port == 80 and flag(SeenNonSyn)",
    "src_port > 65535 or proto == 255",
)
Said = Counter[tuple[str, str, str]]


@st.composite
def records(draw: st.DrawFn, family: int, *, tcp: bool) -> tuple[bytes, bytes]:
    width = 4 if family == 4 else 16
    head = b"\x0a" if family == 4 else b"\xfd"
    ends = [head + draw(st.binary(min_size=width - 1, max_size=width - 1)) for _ in range(2)]
    ports = struct.pack(">HH", *draw(st.tuples(*[st.sampled_from([0, 80, 443, 65535])] * 2)))
    proto = 6 if tcp else draw(st.sampled_from([1, 17, 58, 132]))
    key = b"".join(ends) + ports + bytes([proto, draw(st.sampled_from([0, 1, 2, 3, 4]))])
    value = bytearray(56)
    struct.pack_into(
        "<IH", value, 32, draw(st.sampled_from([0, 999, 1000, 9000])), draw(st.sampled_from([0, 1, 16, 3]))
    )
    value[8] = draw(st.sampled_from([0, 7]))
    return key, bytes(value)


def reader(batches: Sequence[Sequence[tuple[bytes, bytes]]], family: int) -> Callable[[], Iterator[Rows]]:
    def matrix(items: Sequence[bytes], width: int) -> np.ndarray:
        return np.frombuffer(b"".join(items), np.uint8).reshape(len(items), width)

    def read() -> Iterator[Rows]:
        for batch in batches:
            yield matrix([key for key, _ in batch], KEY_SIZE[family]), matrix([value for _, value in batch], 56)

    return read


@st.composite
def sources(draw: st.DrawFn) -> Source:
    """None, one or many tables, each of none, one or many batches, each of none, one or many entries."""
    tables = []
    layout = draw(st.sampled_from(list(Layout)))
    for name in draw(st.sets(st.sampled_from(NAMES))):
        family = 6 if "6" in name else 4
        batch = st.lists(records(family, tcp="any" not in name), max_size=4, unique_by=lambda record: record[0])
        batches = draw(st.lists(batch, max_size=3))
        node = draw(st.sampled_from([None, "a"]))
        tables.append(CtTable(name, family, layout, reader(batches, family), node=node, now=NOW))
    return Source("made up", tables)


def _end(text: str) -> str:
    """``[fd00::1]:80`` of an end, however it is written: the Cilium form has no brackets."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    return f"[{host}]:{port}" if ":" in host else text


def flow_name(flow: FlowTuple) -> tuple[str, str, str]:
    def end(address: object, port: int) -> str:
        return f"{address}:{port}" if ":" not in str(address) else f"[{address}]:{port}"

    return protocol_name(flow.proto).lower(), end(flow.src, flow.src_port), end(flow.dst, flow.dst_port)


def expected(source: Source, wanted: Filter) -> Said:
    found: Said = Counter()
    for table in source.tables:
        for keys, values in table.read():
            for key, value in zip(keys, values, strict=True):
                entry = decode_entry(key.tobytes(), value.tobytes(), table.layout, table.name)
                if wanted.matches(entry, table.context()):
                    found[flow_name(entry.tuple)] += 1
    return found


def _of_record(record: dict[str, Any]) -> tuple[str, str, str]:
    flow = FlowTuple(
        int(record["proto"]),
        ip_address(record["src"]),
        int(record["src_port"]),
        ip_address(record["dst"]),
        int(record["dst_port"]),
    )
    return flow_name(flow)


def _words(lines: Sequence[str], columns: Sequence[int]) -> Said:
    found: Said = Counter()
    for line in lines:
        proto, src, dst = (line.split()[column] for column in columns)
        found[proto.lower(), _end(src), _end(dst)] += 1
    return found


def said(text: str, form: Format, *, nodes: bool) -> Said:
    """What an output says, read back from its own form."""
    lines = text.splitlines()
    if form in (Format.table, Format.wide):
        assert "SOURCE" in lines[0]
        return _words(lines[1:], [1, 3, 4] if nodes else [0, 2, 3])
    if form is Format.cilium:
        # 1.14 writes a service entry from the service to the client, and says "service".
        turned = [line for line in lines if " service expires=" in line]
        straight = [line for line in lines if line and line not in turned]
        return _words(straight, [0, 2, 4]) + _words(turned, [0, 4, 2])
    if form is Format.name:
        return _words(lines, [0, 1, 3])
    if form is Format.csv:
        found = csv.DictReader(io.StringIO(text))
        return Counter((protocol_name(int(row["proto"])).lower(), row["source"], row["destination"]) for row in found)
    if form is Format.jsonl:
        return Counter(_of_record(json.loads(line)) for line in lines)
    document = json.loads(text) if form is Format.json else yaml.safe_load(text)
    return Counter(map(_of_record, document["entries"]))


def listing(source: Source, wanted: Filter, options: OutputOptions) -> tuple[int, str]:
    stream = io.StringIO()
    count = write_listing(
        source,
        lambda table: matching(table, wanted),
        Listing(options),
        stream,
    )
    return count, stream.getvalue()


@settings(max_examples=60, deadline=None)
@given(sources(), st.sampled_from(FILTERS))
def test_every_format_says_the_same_set(source: Source, text: str) -> None:
    wanted = Filter.parse(text) if text else Filter()
    truth = expected(source, wanted)
    for form in Format:
        for changes in ({}, {"sort": "-remaining"}, {"limit": 10**30}, {"sort": "src_port", "limit": 1000}):
            options = replace(OutputOptions(format=form), **changes)
            count, out = listing(source, wanted, options)
            assert said(out, form, nodes=len(source.nodes()) > 1) == truth, (form, changes)
            assert count == truth.total()
    assert sum(table.entries for table in stats(source, wanted)) == truth.total()
    assert sum(talker.entries for talker in top(source, By.src, wanted, limit=None)) == truth.total()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sources(), st.sampled_from(FILTERS))
def test_every_export_says_the_same_set(tmp_path: Path, source: Source, text: str) -> None:
    wanted = Filter.parse(text) if text else Filter()
    truth = expected(source, wanted)
    for form in (ExportFormat.jsonl, ExportFormat.csv, ExportFormat.parquet):
        path = tmp_path / f"export.{form}"
        assert export_rows(source, wanted, form, str(path)) == truth.total()
        if form is not ExportFormat.parquet:
            assert said(path.read_text(), Format(form.value), nodes=False) == truth
        else:
            assert path.read_bytes()[-4:] == b"PAR1"
    snapshot = tmp_path / "export.ctsnap"
    assert export_snapshot(source, snapshot, wanted) == truth.total()
    with open_source(str(snapshot), SourceOptions()) as again:
        assert expected(again, Filter()) == truth


@pytest.mark.parametrize("family", [4, 6])
def test_a_batch_without_entries_is_no_batch(family: int) -> None:
    table = CtTable("cilium_ct4_global", family, Layout.V1_16, reader([[], [], []], family), now=NOW)
    assert list(table.columns()) == []
