"""What the model of one node and that of a fleet have in common: what is run, what GC costs, what is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ctctl.predict.flows import TableFlows
from ctctl.predict.model import Sample, TablePrediction

#: CPU seconds of GC for each entry read, and those more for each deleted, by engine: `cost_us` of
#: tests/bench/results/gc.json, which a test compares.
COST_S: dict[str, tuple[float, float]] = {
    "batch": (0.33e-6, 0.51e-6),
    "kernel": (0.09e-6, 0.22e-6),
    "per-key": (7.31e-6, 0.88e-6),
}
#: Free elements that each CPU holds back, on average half of LOCAL_FREE_TARGET (bpf_lru_list.h).
HELD_PER_CPU = 64
_SAMPLES = 600


class Course(NamedTuple):
    """How it went: ``intervals`` of the node with the median load, GC's runs and CPU of the average one, and which
    share of the nodes had to evict."""

    tables: tuple[TablePrediction, ...]
    samples: tuple[Sample, ...]
    intervals: tuple[tuple[float, float], ...]
    gc_runs: float
    gc_cpu_s: float
    overflowing: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: flows of every table, in steps of how many seconds, and GC by its rule (``interval_s`` None)."""

    flows: tuple[TableFlows, ...]
    steps: int
    step_s: float
    cpus: int
    interval_s: float | None
    engine: str

    def sampled(self, i: int) -> bool:
        """Whether a sample is taken after this step: some hundred of them, and the last."""
        return i % max(1, self.steps // _SAMPLES) == 0 or i == self.steps - 1


def capacity(max_entries: int, cpus: int) -> float:
    """How many entries an LRU table holds before it evicts."""
    return max(1.0, max_entries - min(HELD_PER_CPU, max_entries / (2 * cpus)) * cpus)
