"""Rows in order: what is kept of a whole table is what was given, whatever of it differs and when."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.ct.arrange import Arranger
from ctctl.ct.kept import KeptRows, compact
from ctctl.decode.columns import CtColumns
from ctctl.decode.ct import KEY_SIZE, VALUE_SIZE, decode_entry
from ctctl.model.entry import Layout
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
        listed: list[str] = []
        for chunk in arranger.chunks(5):
            placed = {
                place: f"{decode_entry(bytes(columns.keys[at]), bytes(columns.values[at]), Layout.V1_16)}"
                for _form, columns, order, places in chunk
                for place, at in zip(range(len(order)) if places is None else places, order.tolist(), strict=True)
            }
            listed += [placed[place] for place in sorted(placed)]
        shown.append(listed)
    assert shown[0] == shown[1]
    assert len(shown[0]) == sum(len(keys) // KEY_SIZE[f.table.family] for f, rows in tables for keys, _ in rows)


@given(st.lists(st.integers(-(2**40), 2**40) | st.integers(-9, 9)))
def test_compact_numbers_are_the_same(numbers: list[int]) -> None:
    assert compact(np.array(numbers, np.int64)).tolist() == numbers
