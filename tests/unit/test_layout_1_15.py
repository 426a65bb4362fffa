"""Up to Cilium 1.15 one word of an entry is a SERVICE entry's backend and every other's received bytes.

Each place that reads or writes the word is held against the two meanings written out here, not against
another place that may make the same mistake.
"""

from __future__ import annotations

import io
import json
import struct
import sys

import numpy as np
import pytest

from ctctl.ct.top import By, top
from ctctl.decode.columns import CtColumns
from ctctl.decode.ct import decode_entry, encode_key, encode_value
from ctctl.model.entry import CtEntry, Layout
from ctctl.model.row import CtRow
from ctctl.tables.query.filter import Filter, slots_of
from ctctl.tables.query.predicate import holds, mask_of
from ctctl.tables.show.entry import row_record
from ctctl.tables.show.lines import json_lines
from ctctl.tables.show.rowform import EntryForm
from ctctl.tables.sources.base import CtTable, Source

#: TCP 10.0.0.1:1000 -> 10.0.0.2:80: key bytes by hand (destination address first, ports crossed), then flags.
FLOW = bytes((10, 0, 0, 1, 10, 0, 0, 2)) + struct.pack(">HH", 80, 1000) + b"\x06"
OUT, IN, SVC = 0, 1, 4
WORD = 77
#: rx_packets, the shared word, tx_packets, tx_bytes; then lifetime and what follows it.
VALUE = struct.pack("<QQQQI20x", 5, WORD, 6, 600, 1000)

KINDS = pytest.mark.parametrize(
    ("flags", "backend", "received"), [(OUT, None, WORD), (IN, None, WORD), (SVC, WORD, None)], ids=["out", "in", "svc"]
)


@pytest.fixture(params=[Layout.V1_14, Layout.V1_15], autouse=True)
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Both versions that have it so."""
    monkeypatch.setattr(sys.modules[__name__], "OLD", request.param)
    return request.param


OLD = Layout.V1_15


def decoded(flags: int) -> CtEntry:
    return decode_entry(FLOW + bytes([flags]), VALUE, OLD, keep_raw=False)


def columns() -> CtColumns:
    keys = np.array([list(FLOW + bytes([flags])) for flags in (OUT, IN, SVC)], np.uint8)
    return CtColumns(keys, np.array([list(VALUE)] * 3, np.uint8), OLD)


def table() -> CtTable:
    return CtTable("cilium_ct4_global", 4, OLD, lambda: iter([(columns().keys, columns().values)]), now=900)


@KINDS
def test_decoded_and_encoded_by_direction(flags: int, backend: int | None, received: int | None) -> None:
    entry = decoded(flags)
    assert (entry.backend_id, entry.rx_bytes) == (backend, received)
    assert (entry.rx_packets, entry.tx_packets, entry.tx_bytes) == (5, 6, 600)
    assert (encode_key(entry.tuple, entry.tuple_flags), encode_value(entry, OLD)) == (FLOW + bytes([flags]), VALUE)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"backend_id == {WORD}", [SVC]),
        (f"rx_bytes == {WORD}", [OUT, IN]),
        ("backend_id >= 0", [SVC]),
        (f"not backend_id == {WORD}", [OUT, IN]),
        ("rx_bytes == 1", []),
    ],
)
def test_filters_ask_the_right_entries(text: str, found: list[int]) -> None:
    context = table().context()
    predicate = Filter.parse(text).bind(context)
    assert np.flatnonzero(mask_of(predicate, columns())).tolist() == [(OUT, IN, SVC).index(flags) for flags in found]
    for flags in (OUT, IN, SVC):
        assert Filter.parse(text).matches(decoded(flags), context) == (flags in found)
        assert holds(predicate, slots_of(decoded(flags), OLD)) == (flags in found)


def test_shown_under_its_own_name() -> None:
    lines = json_lines()(EntryForm(table(), {f"backend {WORD}": "10.0.0.9:80"})).lines(columns())
    for flags, line in zip((OUT, IN, SVC), lines, strict=True):
        row = CtRow(decoded(flags), OLD, names={f"backend {WORD}": "10.0.0.9:80"})
        for record in (json.loads(line), row_record(row)):
            assert record["backend_id"] == (WORD if flags == SVC else None)
            assert record["rx_bytes"] == (None if flags == SVC else WORD)
            assert record.get("backend") == ("10.0.0.9:80" if flags == SVC else None)


def test_only_service_entries_count_for_a_backend() -> None:
    found = top(Source("", [table()]), By.backend)
    assert [(talker.key, talker.entries, talker.bytes) for talker in found] == [(str(WORD), 1, None)]


def test_columns_of_a_file_of_rows() -> None:
    """The word that is both is a backend of service entries and bytes of the others, and null elsewhere."""
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from ctctl.tables.show.arrow import write_parquet

    stream = io.BytesIO()
    assert write_parquet([table()], lambda _table: iter([columns()]), stream) == 3
    for row in parquet.read_table(io.BytesIO(stream.getvalue())).to_pylist():
        service = row["direction"] == "SVC"
        assert (row["backend_id"], row["rx_bytes"]) == ((WORD, None) if service else (None, WORD))
        assert row["packets"] is row["bytes"] is None
        assert None not in (row["rx_packets"], row["tx_packets"], row["tx_bytes"])
