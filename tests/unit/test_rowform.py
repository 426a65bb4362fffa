"""Row programs write exactly what the one-by-one forms do, in every format and for every field."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl._ffi.rows import Field
from ctctl.decode.columns import CtColumns, Slot
from ctctl.decode.ct import OPTIONAL_FIELDS
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.model.row import CtRow
from ctctl.model.units import format_duration, short_duration
from ctctl.out.options import Format, OutputOptions
from ctctl.out.output import write_rows
from ctctl.out.rowtables import Groups, KeyTable, TextTable
from ctctl.out.rowtext import Batch, RowProgram
from ctctl.tables.show import lines
from ctctl.tables.show.cilium import cilium_line
from ctctl.tables.show.entry import ct_view, field_names
from ctctl.tables.show.lines import TableColumn
from ctctl.tables.show.rowform import EntryForm
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
        value[44:48] = draw(st.sampled_from([0, 1, 4711, 5000])).to_bytes(4, "little")
    if draw(st.booleans()):
        value[32:36] = draw(few).to_bytes(4, "little")
    return addresses + tail, bytes(value)


NAMES = st.sampled_from(
    [
        {},
        {"10.0.0.1": "ns/pod1", "fd00::1": "ns/pod6", "backend 19": "10.0.0.1:8000", "rev-nat 15": "svc,=x"}
        | {"identity 1": "host", "identity 4711": "app=web,x", "identity 0": "unknown"},
    ]
)


@dataclass
class Rows:
    """Arrays as the matrices of a batch."""

    arrays: tuple[NDArray[Any], ...]

    def __len__(self) -> int:
        return len(self.arrays[0])

    @property
    def matrices(self) -> list[tuple[Any, int]]:
        return [(array, array.strides[0]) for array in self.arrays]


def text_of(program: RowProgram, batch: Batch, **kwargs: Any) -> str:
    found = io.BytesIO()
    program.run(batch, found.write, **kwargs)
    return found.getvalue().decode()


@st.composite
def tables(draw: st.DrawFn) -> tuple[CtTable, CtColumns, dict[str, str]]:
    family = draw(st.sampled_from([4, 6]))
    batch = draw(st.lists(records(family), min_size=0, max_size=6))
    one = bytes([10, 0, 0, 1]) if family == 4 else bytes.fromhex("fd" + "00" * 14 + "01")
    batch += [(one + key[len(one) :], value[:8] + (19).to_bytes(8, "little") + value[16:]) for key, value in batch[:2]]
    keys = np.array([list(key) for key, _ in batch], np.uint8).reshape(len(batch), 14 if family == 4 else 38)
    values = np.array([list(value) for _, value in batch], np.uint8).reshape(len(batch), 56)
    layout = draw(st.sampled_from(list(Layout)))
    table = CtTable(
        name=f"cilium_ct{family}_global",
        family=family,
        layout=layout,
        read=lambda: iter([(keys, values)]),
        node=draw(st.sampled_from([None, "node-a", "=1+1"])),
        absent=draw(st.sampled_from([frozenset(), OPTIONAL_FIELDS])),
        clock=draw(st.sampled_from([Clock(), Clock(hz=250)])),
        now=draw(st.sampled_from([None, 0, 1000, 2**31])),
    )
    return table, CtColumns(keys, values, layout), draw(NAMES)


def rows(table: CtTable, columns: CtColumns, names: dict[str, str]) -> list[CtRow]:
    return [
        CtRow(
            columns.entry(at, table.name, table.absent), table.layout, table.clock, table.now, table.node, True, names
        )
        for at in range(len(columns))
    ]


def one_by_one(
    found: list[CtRow], output: Format, fields: tuple[str, ...] = (), *, raw: bool = False, time_diff: bool = False
) -> str:
    stream = io.StringIO()
    options = OutputOptions(output, fields, no_headers=True)
    write_rows(ct_view(raw=raw, time_diff=time_diff), found, options, stream)
    return stream.getvalue()


@settings(max_examples=60, deadline=None)
@given(tables(), st.booleans())
def test_records(drawn: tuple[CtTable, CtColumns, dict[str, str]], raw: bool) -> None:
    table, columns, names = drawn
    form = EntryForm(table, names)
    expected = one_by_one(rows(table, columns, names), Format.jsonl, raw=raw)
    assert text_of(lines.json_lines(raw=raw)(form), columns) == expected
    document = yaml.safe_load("entries:\n" + text_of(lines.yaml_elements(raw=raw)(form), columns))["entries"] or []
    assert document == [{k: v for k, v in json.loads(line).items() if k != "schema"} for line in expected.splitlines()]
    elements = text_of(lines.json_elements(raw=raw)(form), columns)
    assert json.loads("[" + elements[1:] + "]") == document


@settings(max_examples=40, deadline=None)
@given(tables())
def test_every_field(drawn: tuple[CtTable, CtColumns, dict[str, str]]) -> None:
    table, columns, names = drawn
    form, found = EntryForm(table, names), rows(table, columns, names)
    fields = tuple(field_names())
    assert text_of(lines.csv_lines(fields)(form), columns) == one_by_one(found, Format.csv, fields, raw=True)
    assert text_of(lines.json_fields(fields)(form), columns) == one_by_one(found, Format.jsonl, fields, raw=True)
    document = yaml.safe_load("entries:\n" + text_of(lines.yaml_elements(fields)(form), columns))["entries"] or []
    expected = yaml.safe_load(one_by_one(found, Format.yaml, fields, raw=True))["entries"]
    assert document == expected
    for name in fields:
        shown = text_of(lines.table_lines([TableColumn(name, 0)])(form), columns)
        text = one_by_one(found, Format.table, (name,), raw=True)
        assert [line.strip() for line in shown.split("\n")] == [line.strip() for line in text.split("\n")], name


@settings(max_examples=40, deadline=None)
@given(tables(), st.booleans())
def test_cilium_lines(drawn: tuple[CtTable, CtColumns, dict[str, str]], time_diff: bool) -> None:
    table, columns, names = drawn
    table.absent = frozenset()  # what a source lacks is zero in its bytes
    columns = columns.select(columns.slot(Slot.PROTO) != 0)
    form = EntryForm(table, names, time_diff=time_diff)
    now = table.now if time_diff else None
    expected = [cilium_line(row.entry, row.layout, row.clock, now) for row in rows(table, columns, names)]
    assert text_of(lines.cilium_lines()(form), columns) == "".join(f"{line}\n" for line in expected)
    assert text_of(lines.name_lines()(form), columns) == one_by_one(rows(table, columns, names), Format.name)


def test_rows_longer_than_the_buffer_and_in_another_order() -> None:
    rows = Rows((np.array([1, 2, 3], np.uint32),))
    program = RowProgram().literal(b"x" * 100).decimal(Field(0, 0, 4)).literal(b"\n")
    assert text_of(program, rows, size=7, order=np.array([2, 0], np.int64)) == "x" * 100 + "3\n" + "x" * 100 + "1\n"
    assert program.lines(rows) == [b"x" * 100 + b"%d\n" % n for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "number", [0, 9, 10, 99, 100, 1234, 10000, 12345, 100000000, 2**32 - 1, 10**16, 2**63, 2**64 - 1]
)
def test_numbers(number: int) -> None:
    column = np.array([number], np.uint64)
    program = RowProgram()
    with program.cell(24, right=True):
        program.decimal(Field(0, 0, 8))
    program.literal(b"|").hexadecimal(Field(0, 0, 8), 4).literal(b"|").decimal(Field(1, 0, 8, big=True))
    assert text_of(program, Rows((column, column.astype(">u8")))) == f"{number:>24}|{number:04x}|{number}"


@given(st.integers(-(2**40), 2**40) | st.integers(-200000, 200000))
def test_durations(seconds: int) -> None:
    program = RowProgram().duration(Field(0, 0, 8), 4).literal(b"|").duration(Field(0, 0, 8), 2)
    expected = f"{format_duration(abs(seconds))}|{short_duration(abs(seconds))}"
    assert text_of(program, Rows((np.array([seconds], np.int64),))) == expected


@given(st.lists(st.text(alphabet="aä€😀", max_size=12), min_size=1, max_size=5))
def test_cells_count_characters(texts: list[str]) -> None:
    table = TextTable.of([text.encode() for text in texts])
    program = RowProgram()
    for right in (False, True):
        with program.cell(9, right=right):
            program.text(Field(0, 0, 4), table)
        program.literal(b"|")
    rows = Rows((np.arange(len(texts), dtype=np.uint32),))
    assert text_of(program, rows) == "".join(f"{text:<9}|{text:>9}|" for text in texts)


@given(st.sampled_from([2, 4, 8, 16]), st.data())
def test_keys_are_found(width: int, data: st.DataObject) -> None:
    one = st.binary(min_size=width, max_size=width)
    keys = data.draw(st.lists(one, unique=True, max_size=40))
    asked = keys + data.draw(st.lists(one, min_size=1, max_size=5))
    program = RowProgram()
    field, table = Field(0, 0, width), KeyTable(keys, width)
    program.decimal(program.number("found", lambda to: program.find(to, field, table))).literal(b" ")
    rows = Rows((np.frombuffer(b"".join(asked), np.uint8).reshape(len(asked), width).copy(),))
    expected = [keys.index(key) + 1 if key in keys else 0 for key in asked]
    assert [int(word) for word in text_of(program, rows).split()] == expected


def test_nothing_beyond_the_matrices_is_read() -> None:
    rows = Rows((np.zeros((3, 8), np.uint8),))
    for field in (Field(0, 1, 8), Field(1, 0, 1), Field(0, 0, 4, picked=6)):
        with pytest.raises(ValueError, match="beyond"):
            RowProgram().decimal(field).lines(rows)
    with pytest.raises(ValueError, match="beyond"):
        RowProgram().decimal(Field(0, 0, 8)).lines(rows, np.array([0, 3], np.int64))


def test_csv_is_read_back() -> None:
    key, value = bytes([10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 1, 0, 6, 0]), bytes(56)
    table = CtTable("t", 4, Layout.V1_16, lambda: iter(()), node='a,"b"\n')
    columns = CtColumns(np.frombuffer(key, np.uint8)[None], np.frombuffer(value, np.uint8)[None])
    text = text_of(lines.csv_lines(["node", "src"])(EntryForm(table)), columns)
    assert len(next(csv.reader(io.StringIO(text)))) == 2


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 2), st.integers(0, 2**40)), max_size=3000), st.data())
def test_groups(records: list[tuple[int, int, int]], data: st.DataObject) -> None:
    keys = np.array([(key, kind) for key, kind, _ in records], ">u4").reshape(len(records), 2)
    values = np.array([(value,) for *_, value in records], np.uint64).reshape(len(records), 1)
    program = RowProgram()
    program.number("value", lambda to: program.take(to, Field(1, 0, 8)))
    with program.where(Field(0, 4, 4, big=True), 3, 0, other=True):  # kind 0 is in no group
        program.copy(Field(0, 0, 4)).ordered(Field(0, 4, 4, big=True))
    groups = Groups(12)
    cut = data.draw(st.integers(0, len(records)))
    for part in (slice(None, cut), slice(cut, None)):
        program.group(Rows((keys[part].copy(), values[part].copy())), groups)
    expected: dict[bytes, tuple[int, int, int, int]] = {}
    for key, kind, value in records:
        if kind:
            raw = key.to_bytes(4, "big") + kind.to_bytes(8, "big")
            count, total, *_ = expected.get(raw, (0, 0))
            expected[raw] = (count + 1, total + value, 0, 0)
    ordered = sorted(expected.items(), key=lambda item: (-item[1][0], item[0]))
    limit = data.draw(st.none() | st.integers(0, 40))
    assert groups.most(limit) == ordered[:limit]


def test_a_key_of_another_size_is_refused() -> None:
    program = RowProgram().copy(Field(0, 0, 4))
    with pytest.raises(ValueError, match="size"):
        program.group(Rows((np.zeros((3, 4), np.uint8),)), Groups(8))
