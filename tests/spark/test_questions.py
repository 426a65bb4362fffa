"""Every named question, and SQL of a user's own, on DuckDB and on Spark: the same text, the same answer."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from ctctl.fleet import duck, spark
from ctctl.fleet.lake import Lake
from ctctl.fleet.questions import QUESTIONS, Query, query
from ctctl.fleet.show import rows_of
from ctctl.fleet.tables import TABLES
from tests.support.children import run_ctctl
from tests.support.fleet import A, B, Node, Row, flow, small_fleet
from tests.support.samples import ROOT

pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java: apt install default-jre-headless"),
    pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="needs PySpark: pip install 'ctctl[spark]'"),
]

VALUES: dict[str, int | str] = {
    "row_limit": 1000,
    "first_port": 32768,
    "node": "node-b",
    "family": 4,
    "proto": 6,
    "src_hi": 0,
    "src_lo": 0x0A000101,
    "src_port": 1000,
    "dst_hi": 0,
    "dst_lo": 0x0A000201,
    "dst_port": 80,
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Made-up nodes whose answers differ from one another, two collections of one of them, and a real node's tables."""
    folder = tmp_path_factory.mktemp("spark")
    again = Node("node-b", [Row(flow(A, 1000, B, 80))], [B], made=1768480000.0, boot="boot-2")
    paths = [node.write(folder) for node in small_fleet()]
    real = ROOT / "cilium-dbg-1.19-dev/ct-list-global.json"
    where = str(folder / "lake")
    for path in [*paths, again.write(folder), real]:
        assert run_ctctl("fleet", "collect", where, "--from", path).returncode == 0
    return Lake(where)


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    with spark.session("local[2]") as made:
        yield made


@pytest.mark.parametrize("name", QUESTIONS)
def test_both_engines_give_one_answer(session: Any, lake: Lake, name: str) -> None:
    asked = query(name, VALUES)
    first, second = (rows_of(answer) for answer in (duck.answer(lake, asked), spark.ask(session, lake, asked)))
    assert first == second
    assert first, "a question without an answer compares nothing"


@pytest.mark.parametrize("table", TABLES)
def test_both_engines_read_one_schema(session: Any, lake: Lake, table: str) -> None:
    asked = Query(f"SELECT * FROM {table}", {})
    first, second = (rows_of(answer) for answer in (duck.answer(lake, asked), spark.ask(session, lake, asked)))
    assert sorted(map(repr, first)) == sorted(map(repr, second))
    counted = Query(f"SELECT count(*) AS n FROM {table}", {})
    assert rows_of(spark.ask(session, lake, counted)) == [{"n": len(first)}]
