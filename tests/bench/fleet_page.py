"""The tables of docs/fleet-cost.md from results/fleet.json: python -m tests.bench.fleet_page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/fleet-cost.md"
RESULTS = ROOT / "tests/bench/results/fleet.json"
NODES, ROWS = 10_000, 500_000
CORES = 32
#: Questions whose cost grows with the conntrack tables.
_BY_ROWS = ("out-without-in", "top-talkers", "node-loss", "flow", "gone-backends", "expired")


def short(number: float) -> str:
    """Three digits, of what is below one two."""
    if number >= 1000:
        return f"{round(number, 3 - len(str(int(number)))):,.0f}"
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 1 else f"{number:.2f}"


def rows(rates: dict[str, Any]) -> dict[str, str]:
    """Each row that is made of rates, by how it begins."""
    collect = rates["collect"]
    sent, kept = (collect[name] / collect["rows"] for name in ("snapshot_bytes", "lake_bytes"))
    each = ROWS / collect["rows_per_cpu_s"]
    hours = each * NODES / 3600
    found = {
        "| over the network": f" (a compressed snapshot) | {sent * ROWS / 1e6:.1f} MB | "
        f"{sent * ROWS * NODES / 1e9:.0f} GB |",
        "| in the lake": f" (Parquet, zstd: {kept:.0f} bytes a row) | {kept * ROWS / 1e6:.1f} MB | "
        f"{kept * ROWS * NODES / 1e9:.0f} GB |",
        "| CPU of who collects": f" ({round(collect['rows_per_cpu_s'], -3):,} rows/s a core) | {each:.1f} s | "
        f"{short(hours)} hours: {hours * 60 / 16:.0f} minutes on 16 cores |",
    }
    for name in _BY_ROWS:
        asked = rates["questions"][name]
        whole = asked["cpu_s"] * NODES * ROWS / (rates["nodes"] * rates["rows_a_node"])
        cost, memory = short(asked["cpu_s"]), asked["rss_mb"] / 1000
        found[f"| `{name}` |"] = f" {cost} s | {memory:.1f} GB | {short(whole)} s | {short(whole / CORES)} s |"
    return found


def main() -> None:
    # What Spark took is a table of its own, with questions of the same names.
    text, mark, rest = PAGE.read_text().partition("## Spark")
    for begin, end in rows(json.loads(RESULTS.read_text())).items():
        text, count = re.subn(rf"^{re.escape(begin)}.*$", lambda _found, row=begin + end: row, text, flags=re.MULTILINE)
        if count != 1:
            raise SystemExit(f"{PAGE}: {count} rows begin with {begin!r}")
    PAGE.write_text(text + mark + rest)


if __name__ == "__main__":
    main()
