"""What is printed can be typed back: every value that a column shows, as a condition, finds the row that showed it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.errors import UsageError
from ctctl.model.entry import CtEntry, CtFlags
from ctctl.model.row import CtRow
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.out.cells import cell, csv_cell
from ctctl.tables.names import names_of
from ctctl.tables.open import open_source
from ctctl.tables.query.context import TableContext
from ctctl.tables.query.filter import Filter
from ctctl.tables.rows import row_of
from ctctl.tables.show.entry import ct_view
from ctctl.tables.sources.base import SourceOptions

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "samples"
FILES = (
    "cilium-dbg-1.16.4/ct-list-global.txt",
    "cilium-dbg-1.16.4/ct-list-global.time-diff-ktime.txt",
    "cilium-dbg-1.19-dev/ct-list-global.time-diff-jiffies-250.txt",
    "bpftool/btf-1.15",
    "archives/cilium-bugtool-20261122-141124.719+0000-UTC-2339991198.tar.gz",
)
#: Rows of a table that are looked at.
ROWS = 12
#: Not of an entry but of its bytes.
BYTES = ("key_hex", "value_hex")


def values_of(row: CtRow) -> Iterator[tuple[str, str]]:
    """Each field with what a table and a spreadsheet show of it; absent values are no condition."""
    view = ct_view(raw=True, nodes=True)
    for column in (*view.columns, *view.extra):
        value = column.value(row)
        if column.name in BYTES or value is None or value == []:
            continue
        shown = column.text(row) if column.text is not None else cell(value)
        spread = str(csv_cell(value))
        for text in {shown, spread, *({column.short(row)} if column.short is not None else ())} - {"", "-"}:
            yield column.name, text


@pytest.mark.parametrize("file", FILES)
def test_every_printed_value_finds_its_row(file: str, tmp_path: Path) -> None:
    names = tmp_path / "names.yaml"
    names.write_text(
        "kind: List\nitems:\n"
        "- {kind: Pod, metadata: {namespace: shop, name: dead}, status: {podIP: 10.64.0.36}}\n"
        "- {kind: Pod, metadata: {namespace: shop, name: b-1}, status: {podIP: 10.64.0.64}}\n"
    )
    seen: set[str] = set()
    with open_source(str(SAMPLES / file), SourceOptions(now=3_100_000, names=(str(names),))) as source:
        for table in source.tables:
            names_shown, context = names_of(source, table.node), table.context()
            for columns in table.columns():
                for index in range(0, len(columns), max(len(columns) // ROWS, 1)):
                    row = row_of(table, columns, index, names_shown)
                    for name, text in values_of(row):
                        seen.add(name)
                        wanted = Filter.parse(f'{name} == "{text}"')
                        assert wanted.matches(row.entry, context), (name, text)
                        assert not Filter.parse(f'{name} != "{text}"').matches(row.entry, context), (name, text)
    assert len(seen) > 20


def row(flags: int) -> CtRow:
    flow = FlowTuple(6, IPv4Address("10.0.0.1"), 1, IPv4Address("10.0.0.2"), 80)
    return CtRow(CtEntry(None, flow, Direction.OUT, False, 0, CtFlags(flags), 100, *[0] * 6), now=50)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_flags_as_they_are_printed_are_those_and_no_others(flags: int, other: int) -> None:
    view = ct_view()
    for name, bits in (("flags", 0xFFFF), ("flag_names", 0xFFFF), ("other_bits", 0xFA00)):
        column = view.column(name)
        shown = column.text(row(flags)) if column.text is not None else cell(column.value(row(flags)))
        wanted = Filter.parse(f'{name} == "{shown}"')
        assert wanted.matches(row(flags).entry, TableContext())
        for different in (other, flags ^ (1 << other % 16)):
            # A spreadsheet shows no bits without a name beside the names: they are asked for where they are shown.
            asked = bits if name != "flag_names" or flags & 0xFA00 else 0x05FF
            assert wanted.matches(row(different).entry, TableContext()) is ((flags ^ different) & asked == 0)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("flag_names == 'SeenNonSym'", "SeenNonSyn"),
        ("flag_names < 3", "no order"),
        ("other_bits == 3", "bits that have names"),
        ("state == 'closng, 3s left'", "closing"),
        ("source == '10.0.0.1:99999'", "out of range"),
        ("src_names == web", "src_name"),
    ],
)
def test_what_no_column_prints_is_refused(text: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Filter.parse(text)
