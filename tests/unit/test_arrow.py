"""Entries as Arrow columns and Parquet files, as lakes and exports have them."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest

from ctctl.decode.columns import CtColumns
from ctctl.model.tuples import Direction
from ctctl.tables.show.arrow import pyarrow, schema_of
from tests.support.fleet import A, B, Node, Row, flow

pytest.importorskip("pyarrow", reason="lakes need pyarrow (ctctl[fleet])")


def test_the_flow_number_is_one_for_one_connection() -> None:
    """The same for both ends' entries, and different for connections that differ in one bit anywhere."""
    from ctctl.model.clock import Clock
    from ctctl.tables.show.arrow import Stamp, arrow_rows

    base = flow(A, 1000, B, 80)
    others = [
        flow(A, 1001, B, 80),
        flow(A, 1000, B, 81),
        flow(B, 1000, A, 80),
        flow(A, 1000, B, 80, 17),
        flow(A, 80, B, 1000),
    ]
    given = [Row(base), Row(base, Direction.IN), *map(Row, others)]
    table = Node("a", given, [A]).source().tables[0]
    assert table.clock == Clock(None, "made")
    keys, values = next(iter(table.read()))
    made = arrow_rows(table, CtColumns(np.array(keys), np.array(values)), Stamp()).to_pylist()
    numbers = {(row["src_port"], row["dst_port"], row["proto"], row["src"]): row["flow"] for row in made}
    assert len(set(numbers.values())) == len(others) + 1


def test_rows_of_a_file_are_made_a_group_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is that of a group, and rows are sorted over several."""
    from ctctl.tables.show import arrow

    monkeypatch.setattr(arrow, "CHUNK", 40)
    monkeypatch.setattr(arrow, "ROW_GROUP", 16)
    numbers = np.random.default_rng(1).permutation(100)
    keys = np.zeros((100, 14), np.uint8)
    keys[:, 3], keys[:, 12] = numbers, 6
    batches = [CtColumns(part, np.zeros((len(part), 56), np.uint8)) for part in np.array_split(keys, 10)]
    groups = list(arrow.row_groups(iter(batches)))
    assert [len(group) for group in groups] == [16, 16, 8, 16, 16, 8, 16, 4]
    whole = np.concatenate([group.keys[:, 3] for group in groups])
    assert sorted(whole) == sorted(numbers)
    assert list(whole[:40]) == sorted(numbers[:40])


@pytest.mark.parametrize("counts", [(), (0,), (3,), (100, 100), (200, 100), (3, 5000), (5000, 3)])
def test_few_rows_are_one_plain_group_and_many_are_packed(counts: tuple[int, ...]) -> None:
    """However few the first table of a node has: the file is what all of them make."""
    from pyarrow import parquet

    from ctctl.tables.show.arrow import ParquetFile

    columns = {"word": "word", "flow": "int64", "packets": "uint64"}
    stream, pa = io.BytesIO(), pyarrow()
    file = ParquetFile(columns, stream)
    wanted: list[dict[str, object]] = []
    for number, count in enumerate(counts):
        made = [{"word": f"w{number}", "flow": at, "packets": None if at % 2 else at} for at in range(count)]
        wanted += made
        file.add(pa.Table.from_pylist(made, schema=schema_of(columns)))
    file.close()
    written = parquet.ParquetFile(io.BytesIO(stream.getvalue()))
    assert written.read().to_pylist() == wanted
    assert file.rows == len(wanted) == written.metadata.num_rows
    packed = len(wanted) > 256
    assert written.num_row_groups == (len([count for count in counts if count]) if packed else int(bool(counts)))
    for group in range(written.num_row_groups):
        assert (written.metadata.row_group(group).column(0).compression == "ZSTD") == packed


def test_what_arrow_gives_back_is_given_back() -> None:
    code = "from ctctl.tables.show.arrow import pyarrow; print(pyarrow().default_memory_pool().backend_name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "system\n"
