"""Two readings of a table compared by columns are what their entries compared one by one are."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ctctl.ct.compare import row_of
from ctctl.ct.diff import COMPARED, changed_fields
from ctctl.ct.report import Change
from ctctl.model.entry import CtEntry, Layout
from ctctl.tables.sources.base import CtTable, Source
from tests.support.differences import differences

Record = tuple[bytes, bytes]
LACKING = st.sampled_from([frozenset[str](), frozenset({"backend_id", "ifindex"}), frozenset({"packets", "nat_port"})])


@st.composite
def records(draw: st.DrawFn) -> list[Record]:
    """A few records of a few keys, the same key more than once too; values that are alike but for a field or two."""
    found = []
    for number in draw(st.lists(st.integers(0, 12), max_size=14)):
        key = bytes([10, 0, 0, number, 10, 1, 0, 1, 0, 80, 4, number, 6, draw(st.sampled_from([0, 0, 4]))])
        words = [draw(st.sampled_from([0, 0, 7])) for _ in range(13)]
        found.append((key, struct.pack("<QQQQIHHHBBIII", *words)))
    return found


@st.composite
def tables(draw: st.DrawFn) -> tuple[CtTable, list[Record]]:
    """A table and what it holds."""
    rows = draw(records())

    def read() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(rows), 5):
            keys, values = zip(*rows[start : start + 5], strict=True)
            yield (
                np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 14),
                np.frombuffer(b"".join(values), np.uint8).reshape(-1, 56),
            )

    layout = draw(st.sampled_from([Layout.V1_16, Layout.V1_16, Layout.V1_15, Layout.V1_19]))
    return CtTable("cilium_ct4_global", 4, layout, read, absent=draw(LACKING)), rows


def test_every_field_of_a_value_is_compared() -> None:
    of_the_key = {"map", "tuple", "direction", "related", "tuple_flags", "key", "value"}
    assert set(COMPARED) == set(CtEntry.__annotations__) - of_the_key


@given(tables(), tables())
def test_differences(first: tuple[CtTable, list[Record]], second: tuple[CtTable, list[Record]]) -> None:
    (before, old), (after, new) = first, second
    olds, news = dict(old), dict(new)
    wanted = [(Change.REMOVED, row_of(before, key, olds[key]).entry, {}) for key in olds.keys() - news.keys()]
    wanted += [(Change.ADDED, row_of(after, key, news[key]).entry, {}) for key in news.keys() - olds.keys()]
    for key in olds.keys() & news.keys():
        row = row_of(after, key, news[key]).entry
        if fields := changed_fields(row_of(before, key, olds[key]).entry, row):
            wanted.append((Change.CHANGED, row, fields))
    found = list(differences(Source("a", [before]), Source("b", [after])))
    assert sorted(map(repr, wanted)) == sorted(repr((one.change, one.row.entry, one.fields)) for one in found)
