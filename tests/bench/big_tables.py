"""Looking at 1,000,000 entries against C floors in the same run: python -m tests.bench.big_tables

Each row runs a whole ctctl process and its floor turn by turn, median of five. "ratio" is (wall time,
less the start-up of an interpreter with typer and numpy where the row says so) over the floor's wall
time; "cpu_ratio" the same in CPU time, which repeats better on a machine that others use too. Writes
tests/bench/results/big_tables.json and .md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.fill import fill, remove
from tests.bench.floors import HERE, Floors, Measured, Process
from tests.support.names import unique_name

CTCTL = Path(sys.executable).parent / "ctctl"
STARTUP = [sys.executable, "-c", "import typer, numpy"]
TABLE = "cilium_ct4_global"


@dataclass(frozen=True)
class Row:
    """One row of the goals: command, floor, how many times the floor it may take, how much memory."""

    name: str
    words: tuple[str, ...]
    floor: str
    limit: float
    startup_apart: bool
    max_mb: int | None = None


TOP = ("src", "dst", "pair", "service", "backend", "identity", "port")
ROWS = (
    Row("ct stats", ("ct", "stats"), "count", 2.0, True),
    Row("ct list, a filter that matches 1,000 rows", ("ct", "list", "--ip", "10.65.0.0/30"), "count", 2.0, True),
    Row("ct list", ("ct", "list"), "format", 3.0, False, 120),
    Row("ct list -o wide", ("ct", "list", "-o", "wide"), "format", 3.0, False, 120),
    Row("ct list -o cilium", ("ct", "list", "-o", "cilium"), "format", 1.5, False, 120),
    Row("ct list -o jsonl", ("ct", "list", "-o", "jsonl"), "format", 2.0, False, 120),
    Row("ct list -o json", ("ct", "list", "-o", "json"), "format", 2.0, False, 120),
    Row("ct list -o csv", ("ct", "list", "-o", "csv"), "format", 3.0, False, 120),
    Row("ct list -o yaml", ("ct", "list", "-o", "yaml"), "format", 5.0, False, 120),
    Row("ct list -o name", ("ct", "list", "-o", "name"), "format", 3.0, False, 120),
    Row("ct list --fields src,dst,state", ("ct", "list", "--fields", "src,dst,state"), "format", 3.0, False, 120),
    Row("ct list --sort remaining", ("ct", "list", "--sort", "remaining"), "format", 5.0, False),
    Row("ct export", ("ct", "export", "{output}"), "read", 1.5, True),
    Row("first 50 by remaining time", ("ct", "list", "--sort", "remaining", "--limit", "50"), "read", 2.5, True),
    *(Row(f"ct top --by {by}", ("ct", "top", "--by", by), "format", 1.5, False) for by in TOP),
    Row("doctor", ("doctor",), "format", 2.0, False),
)


@dataclass(frozen=True)
class Times:
    """Medians over the rounds of one row."""

    wall: float
    cpu: float
    max_mb: float


def medians(runs: list[Process] | list[Measured]) -> Times:
    return Times(
        statistics.median(run.wall_seconds for run in runs),
        statistics.median(run.cpu_seconds for run in runs),
        max(run.max_rss_kib for run in runs) / 1024,
    )


def measure(row: Row, directory: Path, floors: Floors, rounds: int, output: Path) -> dict[str, float | bool]:
    """Ratios of one row."""
    words = [str(CTCTL), *(word.format(output=output) for word in row.words), "--from", str(directory)]
    floor: Callable[[Path], Measured] = getattr(floors, row.floor)
    ours, theirs, startups = [], [], []
    for _ in range(rounds):
        output.unlink(missing_ok=True)
        ours.append(floors.process(words))
        theirs.append(floor(directory / TABLE))
        startups.append(floors.process(STARTUP))
    mine, base, start = medians(ours), medians(theirs), medians(startups)
    less = (start.wall, start.cpu) if row.startup_apart else (0.0, 0.0)
    ratio = (mine.wall - less[0]) / base.wall
    reached = ratio <= row.limit and (row.max_mb is None or mine.max_mb <= row.max_mb)
    return {
        "ratio": round(ratio, 2),
        "cpu_ratio": round((mine.cpu - less[1]) / base.cpu, 2),
        "limit": row.limit,
        "max_mb": round(mine.max_mb),
        "reached": reached,
    }


def measure_empty(floors: Floors, rounds: int) -> dict[str, float | bool]:
    """``ct list`` of an empty table over the start-up of an interpreter with typer and numpy."""
    directory = Path("/sys/fs/bpf") / unique_name("empty")
    try:
        fill(directory, entries=1)
        words = [str(CTCTL), "ct", "list", "--from", str(directory), "--ip", "192.0.2.1"]
        pairs = [(floors.process(words), floors.process(STARTUP)) for _ in range(rounds)]
    finally:
        remove(directory)
    mine, start = medians([pair[0] for pair in pairs]), medians([pair[1] for pair in pairs])
    return {
        "ratio": round(mine.wall / start.wall, 2),
        "cpu_ratio": round(mine.cpu / start.cpu, 2),
        "limit": 2.0,
        "max_mb": round(mine.max_mb),
        "reached": mine.wall <= 2 * start.wall,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="rows whose name has this; prints, writes no results")
    asked = parser.parse_args()
    floors, results = Floors(), {}
    directory = Path("/sys/fs/bpf") / unique_name("bench")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            fill(directory, entries=asked.entries)
            for row in (row for row in ROWS if asked.only in row.name):
                results[row.name] = measure(row, directory, floors, asked.rounds, Path(scratch) / "export")
                print(row.name, results[row.name], flush=True)
        finally:
            remove(directory)
    if asked.only:
        return
    results["ct list of an empty table"] = measure_empty(floors, asked.rounds)
    write_results(results, asked.entries, asked.rounds)


def write_results(results: dict[str, dict[str, float | bool]], entries: int, rounds: int) -> None:
    directory = HERE / "results"
    directory.mkdir(exist_ok=True)
    document = {"entries": entries, "rounds": rounds, "rows": results}
    (directory / "big_tables.json").write_text(json.dumps(document, indent=2) + "\n")
    lines = [
        f"# Big tables: {entries:,} entries, whole process, median of {rounds}",
        "",
        "Ratios to the C floor of the same run (tests/bench/floor.c); the last row to the start-up of an",
        "interpreter with typer and numpy.",
        "",
        "| what | ratio | in CPU time | must reach | peak memory | reached |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['ratio']:.2f} | {row['cpu_ratio']:.2f} | {row['limit']:.1f} | {row['max_mb']} MB "
        f"| {'yes' if row['reached'] else 'no'} |"
        for name, row in results.items()
    ]
    (directory / "big_tables.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
