"""The byte-matrix formatters write exactly what the one-by-one forms do."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.decode.columns import CtColumns
from ctctl.decode.ct import OPTIONAL_FIELDS
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.model.row import CtRow
from ctctl.out.bytes_matrix import Lines, decimals, signed_decimals, texts_by_value
from ctctl.tables.show.cilium import cilium_line
from ctctl.tables.show.entry import SCHEMA, row_record
from ctctl.tables.show.matrix import CiliumFormatter, JsonFormatter
from ctctl.tables.sources.base import CtTable

few = st.sampled_from([0, 1, 9, 10, 99, 9999, 10000, 10001, 65535, 99999999, 100000000, 2**32 - 1])
mapped = b"\0" * 10 + b"\xff\xff"
addresses6 = st.one_of(st.binary(min_size=16, max_size=16), st.binary(min_size=4, max_size=4).map(mapped.__add__))


@st.composite
def records(draw: st.DrawFn, family: int) -> tuple[bytes, bytes]:
    one = st.binary(min_size=4, max_size=4) if family == 4 else addresses6
    addresses = draw(one) + draw(one)
    proto = draw(st.sampled_from([0, 1, 2, 6, 17, 58, 112, 132, 255]))
    tail = draw(st.binary(min_size=4, max_size=4)) + bytes([proto, draw(st.integers(0, 255))])
    value = bytearray(draw(st.binary(min_size=56, max_size=56)))
    for at in draw(st.sets(st.sampled_from([0, 8, 16, 24]))):
        value[at : at + 8] = draw(few).to_bytes(8, "little")
    if draw(st.booleans()):
        value[32:36] = draw(few).to_bytes(4, "little")
    return addresses + tail, bytes(value)


@st.composite
def tables(draw: st.DrawFn) -> tuple[CtTable, CtColumns]:
    family, layout = draw(st.sampled_from([4, 6])), draw(st.sampled_from(list(Layout)))
    rows = draw(st.lists(records(family), min_size=1, max_size=12))
    table = CtTable(
        name="cilium_ct4_global",
        family=family,
        layout=layout,
        read=lambda: iter(()),
        node=draw(st.sampled_from([None, "a", "\u00e9\x1b"])),
        absent=draw(st.frozensets(st.sampled_from(sorted(OPTIONAL_FIELDS - {"nat_addr", "nat_port"})), max_size=2)),
        clock=Clock(draw(st.sampled_from([None, 100, 250]))),
        now=draw(st.sampled_from([None, 0, 1000, 2**31])),
    )
    keys = np.array([list(key) for key, _ in rows], dtype=np.uint8)
    values = np.array([list(value) for _, value in rows], dtype=np.uint8)
    return table, CtColumns(keys, values, layout)


@settings(max_examples=80, deadline=None)
@given(tables(), st.booleans())
def test_cilium_lines(drawn: tuple[CtTable, CtColumns], time_diff: bool) -> None:
    table, columns = drawn
    now = table.now if time_diff else None
    expected = [cilium_line(columns.entry(index), table.layout, table.clock, now) for index in range(len(columns))]
    text = "".join(line + "\n" for line in expected if line is not None)
    assert CiliumFormatter(table, now).format(columns).decode() == text


@settings(max_examples=80, deadline=None)
@given(tables(), st.booleans(), st.booleans())
def test_json_lines(drawn: tuple[CtTable, CtColumns], raw: bool, named: bool) -> None:
    table, columns = drawn
    names: dict[str, str] = {}
    if named:
        flow = columns.entry(0).tuple
        names = {str(flow.src): 'pod "x"\x1b', f"backend {columns.entry(0).backend_id}": "10.0.0.1:80"}
    formatter = JsonFormatter(table, names, raw=raw)
    rows = [
        CtRow(
            columns.entry(i, table.name, table.absent),
            table.layout,
            table.clock,
            table.now,
            table.node,
            table.raw,
            names,
        )
        for i in range(len(columns))
    ]
    expected = "".join(json.dumps({"schema": SCHEMA, **row_record(row, raw=raw)}) + "\n" for row in rows)
    if formatter.can(columns):
        assert formatter.format(columns).decode() == expected
        elements = JsonFormatter(table, names, raw=raw, element=True).format(columns).decode()
        assert elements == "".join(",\n  " + json.dumps(row_record(row, raw=raw)) for row in rows)
    else:
        assert any(row.entry.flags & 0x80 for row in rows)


@given(st.lists(st.one_of(few, st.integers(0, 2**64 - 1)), min_size=1))
def test_decimals(numbers: list[int]) -> None:
    lines = Lines(len(numbers)).add(decimals(np.array(numbers, np.uint64)), b"\n")
    assert lines.bytes().decode().splitlines() == [str(number) for number in numbers]


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1))
def test_signed_decimals(numbers: list[int]) -> None:
    lines = Lines(len(numbers)).add(signed_decimals(np.array(numbers, np.int64)), b"\n")
    assert lines.bytes().decode().splitlines() == [str(number) for number in numbers]


@pytest.mark.parametrize("address", [IPv4Address("10.0.0.1"), IPv6Address("fd00::1")])
def test_texts_are_made_once_for_each_value(address: IPv4Address | IPv6Address) -> None:
    made: list[int] = []

    def make(number: int) -> bytes:
        made.append(number)
        return f"{address}#{number};".encode()

    words = texts_by_value(np.array([3, 1, 3, 3]), make)
    assert Lines(4).add(words).bytes().decode() == f"{address}#3;{address}#1;{address}#3;{address}#3;"
    assert made == [1, 3]
