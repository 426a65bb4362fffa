"""GC engines against the same work in C: a million entries, half expired, in alternating rounds.

    .venv/bin/python tests/bench/gc.py [--entries 1000000] [--rounds 30]
    .venv/bin/python tests/bench/gc.py --costs      what `predict` reckons with: a table that is empty, alive, expired

Writes ratios to tests/bench/results/gc.json. Each engine's time runs from the open table to the last
delete, loading of the BPF program included on both sides, start of the process apart. What is held to the
limits is CPU time, user and system, the least of the rounds: wall time is told beside it, and says most of
all what else the machine was doing. Memory is the growth of the peak over what the process held before the run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from tests.support.gctables import CT, NOW, TableDir, random_keys, random_values, table_dir  # noqa: E402

NAME = "cilium_ct4_global"
RESULTS = ROOT / "tests/bench/results/gc.json"
LIMITS = {"batch": 1.3, "kernel": 1.15}

CHILD = """
import sys, threading, time
from ctctl.gc import batch, perkey, walk
from ctctl.gc.job import Job
from ctctl.gc.limit import RateLimit
from ctctl.gc.tally import Tally
from ctctl.tables.sources.base import SourceOptions
from ctctl.tables.sources.open import open_source
from ctctl.tables.writer.targets import open_targets
from pathlib import Path
import numpy, ctctl._ffi
def peak():
    return next(int(l.split()[1]) for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM"))
engine, path, now = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
collect = {"batch": batch.collect, "kernel": walk.collect, "per-key": perkey.collect}[engine]
with open_source(str(path), SourceOptions(now=now)) as source, open_targets(source, allow_foreign=False) as targets:
    stop = threading.Event()
    ctctl._ffi.libbpf()
    numpy.zeros(1).sum()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = peak()
    start, cpu = time.monotonic(), time.process_time()
    tally = Tally()
    collect(source.tables[0], targets.tables[0], Job(now, stop, RateLimit(None, stop)), tally)
    took, cpu = time.monotonic() - start, time.process_time() - cpu
after = peak()
print(int(tally.alive.sum()), int(tally.deleted.sum()), took, cpu, (after - before) / 1024)
"""


def build(directory: Path) -> tuple[Path, Path]:
    """Compile the C side; paths of the program and its BPF object."""
    program, object_ = directory / "gc_floor", directory / "gc_floor.bpf.o"
    here = ROOT / "tests/bench"
    subprocess.run(["cc", "-O2", "-Wall", "-o", program, here / "gc_floor.c", "-lbpf"], check=True)
    includes = [f"-I{ROOT}/bpf/include", f"-I/usr/include/{platform.machine()}-linux-gnu"]
    flags = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", *includes]
    subprocess.run(["clang-19", *flags, "-c", here / "gc_floor.bpf.c", "-o", object_], check=True)
    return program, object_


def measure(command: list[str], node: TableDir, filling: tuple[np.ndarray, np.ndarray]) -> list[float]:
    """Fill the table, run one collection; its [seconds, CPU seconds, MB]."""
    node.maps[NAME].update_batch(*filling)
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    alive, deleted, *figures = done.stdout.split()
    expired = int((filling[1][:, 32:36].copy().view("<u4") < NOW).sum())
    assert (int(alive), int(deleted)) == (len(filling[0]) - expired, expired), done.stdout
    return [float(figure) for figure in figures]


def costs(entries: int, rounds: int) -> dict[str, dict[str, float]]:
    """CPU microseconds of each engine for an entry that is read, and those more for one that is deleted."""
    rng = np.random.default_rng(1)
    keys = random_keys(entries, CT[NAME], rng)
    fillings = {
        "empty": (keys[:1], random_values(1, rng, expired=1.0)),
        "alive": (keys, random_values(entries, rng, expired=0.0)),
        "expired": (keys, random_values(entries, rng, expired=1.0)),
    }
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for engine in ("batch", "kernel", "per-key"):
            for name, filling in fillings.items():
                with tempfile.TemporaryDirectory() as temporary, table_dir(Path(temporary)) as node:
                    node.create(NAME, 2 * entries)
                    command = [sys.executable, "-c", CHILD, engine, str(node.path), str(NOW)]
                    found.setdefault((engine, name), []).append(measure(command, node, filling)[1])
    least = {each: min(values) for each, values in found.items()}

    def microseconds(engine: str, more: str, less: str) -> float:
        return round((least[engine, more] - least[engine, less]) / entries * 1e6, 2)

    return {
        engine: {"read": microseconds(engine, "alive", "empty"), "deleted": microseconds(engine, "expired", "alive")}
        for engine in ("batch", "kernel", "per-key")
    }


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--entries", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--costs", action="store_true")
    asked = arguments.parse_args()
    before = json.loads(RESULTS.read_text())
    if asked.costs:
        RESULTS.write_text(json.dumps({**before, "cost_us": costs(asked.entries, asked.rounds)}, indent=2) + "\n")
        return
    rng = np.random.default_rng(1)
    filling = (random_keys(asked.entries, CT[NAME], rng), random_values(asked.entries, rng))
    with tempfile.TemporaryDirectory() as temporary, table_dir(Path(temporary)) as node:
        node.create(NAME, 1 << 20 if asked.entries <= 1 << 20 else 2 * asked.entries)
        program, object_ = map(str, build(Path(temporary)))
        pin = str(node.path / NAME)
        ours = [sys.executable, "-c", CHILD]
        commands = {
            "C batch": [program, "batch", pin, str(NOW)],
            "batch": [*ours, "batch", str(node.path), str(NOW)],
            "C kernel": [program, "kernel", pin, str(NOW), object_],
            "kernel": [*ours, "kernel", str(node.path), str(NOW)],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        cpu: dict[str, list[float]] = {name: [] for name in commands}
        memory: dict[str, float] = {}
        for _ in range(asked.rounds):
            for name, command in commands.items():
                seconds, cpu_seconds, *more = measure(command, node, filling)
                times[name].append(seconds)
                cpu[name].append(cpu_seconds)
                memory[name] = max(memory.get(name, 0.0), *more, 0.0)
        per_key = measure([*ours, "per-key", str(node.path), str(NOW)], node, filling)[1]
    best = {name: min(values) for name, values in cpu.items()}
    median = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "what": f"{asked.entries} entries, half expired, CPU time, least of {asked.rounds}, loading of BPF included",
        "machine": f"Linux {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "ratios": {name: round(best[name] / best[f"C {name}"], 3) for name in LIMITS},
        "limits": LIMITS,
        "wall_ratios": {name: round(median[name] / median[f"C {name}"], 3) for name in LIMITS},
        "per_key_to_batch": round(per_key / best["batch"], 1),
        "cpu_seconds": {name: round(value, 4) for name, value in best.items()},
        "wall_seconds": {name: round(value, 4) for name, value in median.items()},
        "memory_growth_mb": {name: round(memory[name], 1) for name in LIMITS},
        "cost_us": before["cost_us"],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
