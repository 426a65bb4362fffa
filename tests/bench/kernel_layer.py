"""How close the kernel layer comes to C: python -m tests.bench.kernel_layer

Each row is Python's time over the C floor's in the same run, median of five, on a pinned LRU table
of 1,000,000 entries. Writes tests/bench/results/kernel_layer.json and .md.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ctctl.abi import layouts
from ctctl.kernel.map import Map
from tests.bench.fill import fill, remove
from tests.bench.floors import HERE, Floors, paired
from tests.support.names import unique_name

ENTRIES = 1_000_000
RUNS = 5
_TWO = "Two readers gain only where two CPUs are free during the run; load average then: {load:.1f} on {cpus} CPUs."


def timed(work: Callable[[], int], expected: int) -> Callable[[], float]:
    def once() -> float:
        begin = time.perf_counter()
        count = work()
        assert count == expected, (count, expected)
        return time.perf_counter() - begin

    return once


def expired_keys(table: Map, now: int) -> int:
    """Read everything and pick the expired by one vectorised test, as GC does."""
    entry = np.dtype(layouts.ct_entry)
    return sum(int((batch.values.view(entry)["lifetime"] < now).sum()) for batch in table.batches(4096))


def collect(table: Map, now: int) -> int:
    entry, deleted = np.dtype(layouts.ct_entry), 0
    for batch in table.batches(4096):
        dead = batch.values.view(entry)["lifetime"].ravel() < now
        deleted += table.delete_batch(batch.keys[dead]).deleted
    return deleted


def gc_once(directory: Path, run: Callable[[Path, int, int], float]) -> float:
    """Seconds of one collection on a fresh table of the same content."""
    filled = fill(directory, entries=ENTRIES)
    try:
        return run(directory / "cilium_ct4_global", filled.now, filled.expired)
    finally:
        remove(directory)


def python_gc(pin: Path, now: int, expired: int) -> float:
    with Map.open_pinned(pin) as table:
        return timed(lambda: collect(table, now), expired)()


def main() -> None:
    directory = Path("/sys/fs/bpf") / unique_name("bench")
    floors, rows = Floors(), {}

    def c_gc(pin: Path, now: int, expired: int) -> float:
        measured = floors.gc_batch(pin, now)
        assert measured.deleted == expired
        return measured.seconds

    try:
        filled = fill(directory, entries=ENTRIES)
        pin = directory / "cilium_ct4_global"
        with Map.open_pinned(pin, read_only=True) as table:
            ways = {
                "batches, thrown away": timed(lambda: sum(map(len, table.batches(4096))), ENTRIES),
                "batches, all kept": timed(lambda: sum(map(len, list(table.batches(4096, reuse=False)))), ENTRIES),
                "batches, expired counted by numpy": timed(lambda: expired_keys(table, filled.now), filled.expired),
            }
            for name, way in ways.items():
                rows[name] = paired(RUNS, way, lambda: floors.read(pin).seconds)
        remove(directory)
        rows["batch GC without a re-check"] = paired(
            3, lambda: gc_once(directory, python_gc), lambda: gc_once(directory, c_gc)
        )
    finally:
        remove(directory)
    write_results({name: {"ratio": python / c} for name, (python, c) in rows.items()})


def write_results(rows: dict[str, dict[str, float]]) -> None:
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    rounded = {name: {key: round(value, 3) for key, value in row.items()} for name, row in rows.items()}
    document = {"entries": ENTRIES, "runs": RUNS, "rows": rounded}
    (results / "kernel_layer.json").write_text(json.dumps(document, indent=2) + "\n")
    lines = ["# Kernel layer against C, 1,000,000 entries", "", "| what | Python / C |", "|---|---|"]
    lines += [f"| {name} | {row['ratio']:.2f} |" for name, row in rounded.items()]
    lines += ["", "Floor of all but the last row: batch lookups of 4096, thrown away (tests/bench/floor.c).", _TWO]
    lines[-1] = _TWO.format(load=os.getloadavg()[0], cpus=os.cpu_count())
    (results / "kernel_layer.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
