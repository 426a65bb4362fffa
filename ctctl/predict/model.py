"""Workloads, and what a prediction tells. Times in seconds, rates a second, everything frozen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ctctl.model.timeouts import TIMEOUTS, Timeouts

DAY_S = 86400.0


class Shape(StrEnum):
    """Forms of a distribution of durations."""

    CONSTANT = "constant"
    EXPONENTIAL = "exponential"
    LOGNORMAL = "lognormal"
    PARETO = "pareto"
    EMPIRICAL = "empirical"


@dataclass(frozen=True, slots=True)
class Duration:
    """How long connections carry packets.

    ``scale_s``: the constant, the mean (exponential), the median (lognormal) or the least (pareto);
    ``spread``: sigma of the logarithm, or the Pareto shape; ``samples``: sorted, for empirical.
    """

    shape: Shape
    scale_s: float = 0.0
    spread: float = 0.0
    samples: tuple[float, ...] = ()

    def cdf(self, t: float) -> float:
        """Share of connections that are over after ``t`` seconds."""
        if t < 0:
            return 0.0
        if self.shape is Shape.EXPONENTIAL and self.scale_s > 0:
            return -math.expm1(-t / self.scale_s)
        if self.shape is Shape.LOGNORMAL and self.scale_s > 0 and self.spread > 0:
            if t == 0:
                return 0.0
            # Logarithms, not the ratio: that of a small time is 0, which has none.
            return 0.5 * math.erfc((math.log(self.scale_s) - math.log(t)) / (self.spread * math.sqrt(2)))
        if self.shape is Shape.PARETO:
            return 0.0 if t < self.scale_s else 1 - (self.scale_s / t) ** self.spread if t > 0 else 0.0
        if self.shape is Shape.EMPIRICAL:
            from bisect import bisect_right

            return bisect_right(self.samples, t) / len(self.samples)
        return float(t >= self.scale_s)


class Pattern(StrEnum):
    """Where on the node a connection leaves entries (docs/reference/datapath.md)."""

    POD = "pod"
    SAME_NODE = "same-node"
    CLUSTERIP = "clusterip"
    LB_REMOTE = "lb-remote"
    LB_LOCAL = "lb-local"
    DSR_BACKEND = "dsr-backend"


#: pattern → (OUT and IN entries, SERVICE entries, ICMP related entries of an address pair)
ENTRIES_OF: dict[Pattern, tuple[int, int, int]] = {
    Pattern.POD: (1, 0, 1),
    Pattern.SAME_NODE: (2, 0, 2),
    Pattern.CLUSTERIP: (1, 1, 1),
    Pattern.LB_REMOTE: (0, 1, 0),
    Pattern.LB_LOCAL: (2, 1, 1),
    Pattern.DSR_BACKEND: (2, 0, 1),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of connection: ``rate`` new ones a second, and how they live and end.

    TCP connections end with FIN from both sides, but for the share ``lost`` (no FIN: the entry keeps
    the long timeout) and the share ``unanswered`` (only its first
    packet was ever seen; of any protocol). ``pairs``: distinct
    address pairs, of which each has one ICMP related entry; None: not counted. ``daily``: amplitude
    of a daily swing of the rate, 0 to 1. ``open``: connections that are there at the start, ``idle``: entries
    of connections that are over by then, as (seconds left, how many).
    """

    name: str
    protocol: str
    rate: float
    duration: Duration
    pattern: Pattern = Pattern.POD
    lost: float = 0.0
    unanswered: float = 0.0
    pairs: float | None = None
    daily: float = 0.0
    ipv6: float = 0.0
    open: float = 0.0
    idle: tuple[tuple[float, float], ...] = ()


#: The timeouts that the model knows: no entry of a connection that is closed lives by the grace of a service's.
MODELLED_TIMEOUTS = tuple(name for name in TIMEOUTS if name != "service_tcp_grace")


@dataclass(frozen=True, slots=True)
class Workload:
    """What runs on a node. ``interval_s``: None for the interval rule; ``engine`` decides what GC costs.

    ``nodes`` and ``spread``: of a fleet, whose nodes' loads are spread lognormally (sigma) around it.
    """

    kinds: tuple[Kind, ...]
    timeouts: Timeouts = field(default_factory=Timeouts)
    tcp_max: int = 524288
    any_max: int = 262144
    interval_s: float | None = None
    engine: str = "batch"
    nodes: int = 1
    spread: float = 0.0
    name: str = ""
    #: what a table that the workload was learned from has now, by name: entries alive, and its size
    alive: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment. Counts are of the average node; ``interval_s`` is the mean interval in force."""

    time_s: float
    entries: dict[str, float]
    expired: dict[str, float]
    evicted_live: dict[str, float]
    interval_s: float
    gc_cpu_s: float


@dataclass(frozen=True, slots=True)
class TablePrediction:
    """One table over the whole time, the average node; ``worst_peak`` is the fullest node's.

    ``evicted`` entries were thrown out by the LRU, ``evicted_live`` of them before they expired.
    """

    name: str
    max_entries: int
    peak: float
    worst_peak: float
    mean: float
    peak_expired: float
    evicted: float
    evicted_live: float
    deleted: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a workload does to the tables in ``duration_s`` seconds."""

    name: str
    duration_s: float
    step_s: float
    nodes: int
    tables: tuple[TablePrediction, ...]
    samples: tuple[Sample, ...]
    intervals: tuple[tuple[float, float], ...]
    gc_runs: float
    gc_cpu_s: float
    overflowing_nodes: int
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Size:
    """How large a table should be, and what that costs.

    ``alive``: entries that are there now, where the workload was learned from a table. ``configured`` None:
    nobody says how large the table is.
    """

    name: str
    peak: float
    recommended: int
    configured: int | None
    memory_bytes: int
    configured_bytes: int | None
    alive: int | None = None
