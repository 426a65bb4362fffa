"""Rows in order: what is kept of a whole table is what was given, whatever of it differs and when."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.ct.arrange import Arranger
from ctctl.ct.kept import KeptRows, compact
from ctctl.decode.columns import CtColumns
from ctctl.decode.ct import KEY_SIZE, VALUE_SIZE
from ctctl.model.entry import CtEntry, Layout
from ctctl.tables.show.rowform import EntryForm
from ctctl.tables.sources.base import CtTable


@st.composite
def batches(draw: st.DrawFn, family: int) -> list[tuple[bytes, bytes]]:
    """Rows beside each other, of which few bytes differ, in later batches others than before."""
    base = draw(st.binary(min_size=KEY_SIZE[family] + VALUE_SIZE, max_size=KEY_SIZE[family] + VALUE_SIZE))
    found = []
    for count in draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)):
        rows = []
        for _ in range(count):
            row = bytearray(base)
            for at in draw(st.lists(st.integers(0, len(base) - 1), max_size=3)):
                row[at] = draw(st.integers(0, 255))
            rows.append(bytes(row))
        found.append(
            (b"".join(row[: KEY_SIZE[family]] for row in rows), b"".join(row[KEY_SIZE[family] :] for row in rows))
        )
    return found


def columns_of(family: int, batch: tuple[bytes, bytes]) -> CtColumns:
    return CtColumns.of_bytes(family, *batch, Layout.V1_16)


@pytest.mark.parametrize("family", [4, 6])
@given(data=st.data())
def test_kept_rows(family: int, data: st.DataObject) -> None:
    given_rows, kept = data.draw(batches(family)), KeptRows(family, Layout.V1_16)
    for batch in given_rows:
        kept.add(columns_of(family, batch))
    every = CtColumns.joined([columns_of(family, batch) for batch in given_rows])
    assert len(kept) == len(every)
    for _ in range(2):
        order = np.array(data.draw(st.lists(st.integers(0, len(every) - 1), min_size=1)), np.int64)
        found = kept.take(order)
        assert found.keys.tobytes() == every.keys[order].tobytes()
        assert found.values.tobytes() == every.values[order].tobytes()


def listed(arranger: Arranger) -> list[CtEntry]:
    found: list[CtEntry] = []
    for chunk in arranger.chunks(5):
        placed = {
            place: columns.entry(at)
            for _form, columns, order, places in chunk
            for place, at in zip(range(len(order)) if places is None else places, order.tolist(), strict=True)
        }
        found += [placed[place] for place in sorted(placed)]
    return found


@pytest.mark.parametrize("limit", [None, 2, 10])
@pytest.mark.parametrize(("sort", "first"), [("src_name", "10.0.1.2"), ("-src_name", "10.0.1.1")])
def test_rows_without_a_name_come_last(sort: str, first: str, limit: int | None) -> None:
    keys = b"".join(bytes([10, 0, 1, at, 10, 0, 0, at, 0, 80, 0, at, 6, 0]) for at in range(4))
    names = {"10.0.1.1": "web", "10.0.1.2": "db"}
    form, arranger = EntryForm(CtTable("four", 4, Layout.V1_16, lambda: iter(())), names), Arranger(sort, limit)
    arranger.add(form, columns_of(4, (keys, bytes(4 * VALUE_SIZE))))
    shown = [str(entry.tuple.src) for entry in listed(arranger)]
    assert shown[0] == first
    assert set(shown[:2]) == set(names)
    assert shown[2:] == ([] if limit == 2 else ["10.0.1.0", "10.0.1.3"])


SORTS = ["src_port", "-dst_port", "lifetime", "-flags", "src", "-dst", "state", "-source"]


@given(data=st.data(), sort=st.sampled_from(SORTS))
def test_all_rows_in_the_order_of_some(sort: str, data: st.DataObject) -> None:
    """Without a limit as with one that takes them all: two ways, one order."""
    tables = [
        (EntryForm(CtTable(name, family, Layout.V1_16, lambda: iter(())), {}), data.draw(batches(family)))
        for family, name in ((4, "four"), (6, "six"))
    ]
    shown = []
    for limit in (None, 1 << 20):
        arranger = Arranger(sort, limit)
        for form, given_rows in tables:
            for batch in given_rows:
                arranger.add(form, columns_of(form.table.family, batch))
        shown.append([str(entry) for entry in listed(arranger)])
    assert shown[0] == shown[1]
    assert len(shown[0]) == sum(len(keys) // KEY_SIZE[f.table.family] for f, rows in tables for keys, _ in rows)


@given(st.lists(st.integers(-(2**40), 2**40) | st.integers(-9, 9)))
def test_compact_numbers_are_the_same(numbers: list[int]) -> None:
    assert compact(np.array(numbers, np.int64)).tolist() == numbers
