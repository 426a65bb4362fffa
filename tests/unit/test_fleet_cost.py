"""docs/fleet-cost.md says what follows from the committed rates, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/fleet-cost.md").read_text()
RATES = json.loads((ROOT / "tests/bench/results/fleet.json").read_text())
NODES, ROWS = 10_000, 500_000


def row(first: str) -> list[str]:
    (found,) = [line for line in PAGE.splitlines() if line.startswith(f"| {first}")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def number(text: str) -> float:
    found = re.search(r"[\d,]+(?:\.\d+)?", text)
    assert found, text
    return float(found[0].replace(",", ""))


def test_bytes_and_seconds_of_collecting() -> None:
    measured = RATES["collect"]
    for first, size in (("over the network", "snapshot_bytes"), ("in the lake", "lake_bytes")):
        each = measured[size] / measured["rows"] * ROWS
        cells = row(first)
        assert number(cells[1]) == pytest.approx(each / 1e6, rel=0.02)
        assert number(cells[2]) == pytest.approx(each * NODES / 1e9, rel=0.02)
    hours = NODES * ROWS / measured["rows_per_cpu_s"] / 3600
    assert number(row("CPU of who collects")[2]) == pytest.approx(hours, rel=0.05)


@pytest.mark.parametrize("name", ["out-without-in", "top-talkers", "node-loss", "flow", "gone-backends", "expired"])
def test_seconds_of_asking(name: str) -> None:
    measured = RATES["questions"][name]
    rows = RATES["nodes"] * RATES["rows_a_node"]
    cells = next(
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if f"| `{name}` |" in line
    )
    assert number(cells[1]) == pytest.approx(measured["cpu_s"], abs=0.06)
    assert number(cells[2]) == pytest.approx(measured["rss_mb"] / 1000, abs=0.06)
    whole = measured["cpu_s"] * NODES * ROWS / rows
    assert number(cells[3]) == pytest.approx(whole, rel=0.03)
    assert number(cells[4]) == pytest.approx(whole / 32, rel=0.05)


@pytest.mark.parametrize("name", ["top-talkers", "gone-backends"])
def test_hours_of_spark(name: str) -> None:
    spark = RATES["spark"]
    cpu_s = spark["questions"][name]["cpu_s"] - spark["start_cpu_s"]
    hours = cpu_s / (spark["nodes"] * RATES["rows_a_node"]) * NODES * ROWS / 3600
    cells = next(line for line in PAGE.split("## Spark")[1].splitlines() if line.startswith(f"| `{name}`")).split("|")
    assert number(cells[2]) == pytest.approx(hours, rel=0.05)
