"""Every entry to each form that ctctl or its peers write, and back, equal in what the form has."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctctl.decode.columns import CtColumns
from ctctl.decode.ct import LAYOUT_LACKS, decode_entry, decode_key, layout_of_fields
from ctctl.errors import UsageError
from ctctl.model.clock import Clock
from ctctl.model.entry import CtEntry, Layout
from ctctl.model.row import CtRow
from ctctl.out.options import Format, OutputOptions
from ctctl.out.output import write_rows
from ctctl.tables.show.cilium import cilium_line
from ctctl.tables.show.entry import ct_view
from ctctl.tables.sources.base import CtTable, Source, SourceOptions
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.frames import MAX_TABLES
from ctctl.tables.sources.listings import Listings
from ctctl.tables.sources.open import open_source
from ctctl.tables.sources.snapshot_write import write_snapshot

NOW = 1_000_000


@st.composite
def records(draw: st.DrawFn, family: int) -> tuple[bytes, bytes]:
    width = 8 if family == 4 else 32
    proto = draw(st.sampled_from([1, 6, 17, 58, 132, 255]))
    key = draw(st.binary(min_size=width + 4, max_size=width + 4)) + bytes([proto, draw(st.integers(0, 7))])
    return key, draw(st.binary(min_size=56, max_size=56))


#: Layouts that a listing can tell: 1.14 and 1.15 have the same bytes.
_TOLD = [layout for layout in Layout if layout is not Layout.V1_14]


@st.composite
def rows_of(draw: st.DrawFn) -> list[CtRow]:
    family, layout = draw(st.sampled_from([4, 6])), draw(st.sampled_from(_TOLD))
    found = draw(st.lists(records(family), min_size=1, max_size=6, unique_by=lambda record: record[0]))
    name = f"cilium_ct{family}_global"
    return [CtRow(decode_entry(key, value, layout, name), layout, Clock(), NOW) for key, value in found]


def read(data: bytes, name: str = "x") -> list[tuple[CtEntry, CtTable]]:
    dump = Dump()
    assert read_content(io.BytesIO(data), dump, name)
    assert not dump.partial
    found = []
    for collected in dump.ordered():
        table = collected.table(None)
        told = collected.told(None)
        assert told.now in (None, NOW)
        assert (told.now is None) == (not collected.shown or told.contradiction is not None)
        table.clock, table.now = told.clock or Clock(), told.now
        for columns in table.columns():
            found += [(columns.entry(i, table.name, table.absent), table) for i in range(len(columns))]
    return found


def bare(entry: CtEntry) -> CtEntry:
    return replace(entry, key=None, value=None)


def by_tuple(entries: Iterator[CtEntry] | list[CtEntry]) -> dict[Any, CtEntry]:
    return {(entry.tuple, entry.tuple_flags): entry for entry in entries}


@pytest.mark.parametrize("form", [Format.json, Format.jsonl, Format.yaml])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=rows_of(), raw=st.booleans())
def test_our_own_lists(form: Format, rows: list[CtRow], raw: bool) -> None:
    text = io.StringIO()
    clock = {"clock": [{"clock": "ktime", "evidence": "x"}], "now": NOW}
    write_rows(ct_view(raw=raw), rows, OutputOptions(format=form), text, meta=clock)
    found = by_tuple([entry for entry, _ in read(text.getvalue().encode())])
    expected = by_tuple([row.entry for row in rows])
    assert found.keys() == expected.keys()
    for key, entry in expected.items():
        if raw:
            assert found[key] == entry
        else:
            assert bare(found[key]) == bare(entry)


@settings(max_examples=60, deadline=None)
@given(rows_of(), st.booleans())
def test_cilium_text(rows: list[CtRow], time_diff: bool) -> None:
    lines = [cilium_line(row.entry, row.layout, Clock(), NOW if time_diff else None) for row in rows]
    # Text of the IPv6 tables stands third, so that an IPv4-mapped address is known to be one.
    blank = "\n\n" if rows[0].entry.tuple.src.version == 6 else ""
    text = blank + "\n".join(line or "" for line in lines) + "\n"
    # Text shows what the tuple's flag byte means, not its odd combinations: several keys can print alike, and of lines
    # with one key the last one counts.
    last = {(row.entry.tuple, row.entry.direction, row.entry.related): row for row in rows}
    found = {(entry.tuple, entry.direction, entry.related): (entry, table) for entry, table in read(text.encode())}
    assert found.keys() == last.keys()
    for key, row in last.items():
        entry, table = found[key]
        assert cilium_line(entry, table.layout) == cilium_line(row.entry, row.layout)
        assert table.layout is row.layout
        if time_diff:
            assert table.now in (NOW, None), "random report times may contradict it"


@settings(max_examples=60, deadline=None)
@given(rows_of(), st.booleans())
def test_cilium_json_and_yaml(rows: list[CtRow], as_yaml: bool) -> None:
    items = [_cilium_record(row, lower=as_yaml) for row in rows]
    text = yaml.safe_dump(items, sort_keys=False) if as_yaml else json.dumps(items, indent=2)
    found = {entry.key: (entry, table) for entry, table in read(text.encode())}
    for row in rows:
        entry, table = found[row.entry.key]
        assert table.layout is row.layout
        assert entry.value == row.entry.value
        assert entry.tuple == row.entry.tuple


def _cilium_record(row: CtRow, *, lower: bool) -> dict[str, Any]:
    """As the Cilium CLI prints it: tuple fields, octets, ports and RevNAT in network order."""
    key, value = row.entry.key or b"", row.entry.value or b""
    width = 4 if len(key) == 14 else 16
    dport, sport, proto, flags = struct.unpack("<HHBB", key[2 * width :])
    words = struct.unpack("<QQQQIHHHBBIII", value)
    names = ["RxPackets", "RxBytes", "TxPackets", "TxBytes"]
    if not row.layout.split_counters:
        names = ["Reserved0", "BackendID", "Packets", "Bytes"]
    word40 = "NatPort" if row.layout.has_nat else "Reserved4" if row.layout is Layout.V1_18 else "IfIndex"
    names += ["Lifetime", "Flags", "RevNAT", word40]
    names += ["TxFlagsSeen", "RxFlagsSeen", "SourceSecurityID", "LastTxReport", "LastRxReport"]
    item: dict[str, Any] = {
        "Key": {
            "DestAddr": list(key[:width]),
            "SourceAddr": list(key[width : 2 * width]),
            "DestPort": dport,
            "SourcePort": sport,
            "NextHeader": proto,
            "Flags": flags,
        },
        "Value": dict(zip(names, words, strict=True)),
    }
    if not lower:
        return item
    inner = {name.lower(): part for name, part in item["Key"].items()}
    return {"key": {"tuplekey4global": {"tuplekey4": inner}}, "value": {n.lower(): v for n, v in item["Value"].items()}}


@settings(max_examples=60, deadline=None)
@given(rows_of(), st.sampled_from(["json", "hex"]))
def test_bpftool(rows: list[CtRow], form: str) -> None:
    if form == "json":
        text = json.dumps([{"key": _hexes(r.entry.key), "value": _hexes(r.entry.value)} for r in rows])
    else:
        blocks = [f"key:\n{_lines(r.entry.key)}\nvalue:\n{_lines(r.entry.value)}" for r in rows]
        text = "\n".join([*blocks, f"Found {len(rows)} element{'s' * (len(rows) != 1)}", ""])
    found = {entry.key: entry.value for entry, _ in read(text.encode())}
    assert found == {row.entry.key: row.entry.value for row in rows}


def _hexes(data: bytes | None) -> list[str]:
    return [f"0x{byte:02x}" for byte in data or b""]


def _lines(data: bytes | None) -> str:
    raw = data or b""
    return "\n".join(" ".join(f"{byte:02x}" for byte in raw[at : at + 16]) for at in range(0, len(raw), 16))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows_of(), compress=st.booleans(), hz=st.sampled_from([None, 250]))
def test_snapshots(rows: list[CtRow], compress: bool, hz: int | None, tmp_path: Path) -> None:
    keys = np.array([list(row.entry.key or b"") for row in rows], dtype=np.uint8)
    values = np.array([list(row.entry.value or b"") for row in rows], dtype=np.uint8)
    family = rows[0].entry.tuple.src.version
    table = CtTable(
        "t", family, rows[0].layout, lambda: iter([(keys, values)]), clock=Clock(hz, "why"), now=NOW, node="n"
    )
    source = Source("test", tables=[table], listings=lambda _node: Listings())
    path = tmp_path / "x.ctsnap"
    with path.open("wb") as stream:
        assert write_snapshot(source, [table], lambda t: t.read(), stream, compress=compress) == len(rows)
    with open_source(str(path), SourceOptions()) as again:
        read_back = again.tables[0]
        assert (read_back.layout, read_back.clock, read_back.now, read_back.node) == (
            table.layout,
            table.clock,
            NOW,
            "n",
        )
        found = list(read_back.columns())
        assert b"".join(columns.keys.tobytes() for columns in found) == keys.tobytes()
        assert b"".join(columns.values.tobytes() for columns in found) == values.tobytes()


@pytest.mark.parametrize("more", [0, 1])
def test_a_snapshot_of_more_tables_than_it_tells_apart_is_refused(more: int, tmp_path: Path) -> None:
    """A frame has a byte for its table: a sysdump of a hundred nodes has more."""
    tables = [CtTable(f"t{number}", 4, Layout.V1_16, lambda: iter(())) for number in range(MAX_TABLES + more)]
    path = tmp_path / "x.ctsnap"
    with path.open("wb") as stream, pytest.raises(UsageError, match="256 tables") if more else nullcontext():
        write_snapshot(Source("x", tables=tables), tables, lambda table: table.read(), stream)
    if more:
        assert not path.stat().st_size
        return
    with open_source(str(path), SourceOptions()) as again:
        assert len(again.tables) == MAX_TABLES


def test_all_flag_combinations_decode_and_encode() -> None:
    for flags in range(1 << 16):
        value = bytearray(56)
        value[36:38] = flags.to_bytes(2, "little")
        entry = decode_entry(bytes(14), bytes(value), keep_raw=False)
        assert int(entry.flags) == flags


def test_layout_names_and_lacking_fields_fit() -> None:
    assert layout_of_fields({"rx_packets", "tx_packets"}) is Layout.V1_15
    columns = CtColumns(np.zeros((1, 14), np.uint8), np.zeros((1, 56), np.uint8), Layout.V1_19)
    for name in LAYOUT_LACKS[Layout.V1_19]:
        assert columns.lacks(name)
        assert getattr(columns.entry(0), name) is None
    assert decode_key(bytes(14))[1] == 0
