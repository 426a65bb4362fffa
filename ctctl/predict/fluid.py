"""The prediction: tables as reservoirs, step by step; here for a whole fleet at once, ``one_node`` has one alone.

Within a class of equal timeout, entries fall idle, expire and are evicted in the same order, so what
was removed is always the oldest part: one number a class says how much. GC removes what is older
than the timeout; the LRU removes the oldest over all classes (bpf_lru_list.c: a second-chance list,
whose order is that of the last use but for entries used a moment ago). State is per node and class,
not per entry: a node with millions of entries costs what a small one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from ctctl.gc import interval
from ctctl.predict import one_node
from ctctl.predict.course import COST_S, Course, Plan, capacity
from ctctl.predict.flows import IdleClass, TableFlows, at, table_flows
from ctctl.predict.model import Prediction, Sample, TablePrediction, Workload

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: A fleet is looked at more coarsely, so that it too takes seconds.
_FLEET_STEPS = 5_000
_GROUPS = 128
#: Of a day each is 7 s: shorter than the shortest lifetime, 10 s.
_MAX_STEPS = 12_000


@dataclass(slots=True)
class _Table:
    """One table of every node: arrays have an element a node, ``removed`` a row a class."""

    flows: TableFlows
    load: Floats
    capacity: float
    removed: Floats
    related_expired: Floats
    evicted_active: Floats
    #: age at which the LRU evicted last, infinite where it need not
    lru_age: Floats
    peak: Floats
    total: Floats
    evicted: Floats
    evicted_live: Floats
    deleted: Floats
    peak_expired: float = 0.0
    sums: float = 0.0
    overflowed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))


def predict(workload: Workload, duration_s: float, *, step_s: float | None = None, cpus: int = 2) -> Prediction:
    """Run a workload forward for ``duration_s`` seconds from empty tables, ``step_s`` (a second or more) at a time."""
    plan = plan_of(workload, duration_s, step_s=step_s, cpus=cpus)
    course = course_of(plan, loads(workload.nodes, workload.spread))
    return Prediction(
        name=workload.name,
        duration_s=duration_s,
        step_s=plan.step_s,
        nodes=workload.nodes,
        tables=course.tables,
        samples=course.samples,
        intervals=course.intervals,
        gc_runs=course.gc_runs,
        gc_cpu_s=course.gc_cpu_s,
        overflowing_nodes=round(course.overflowing * workload.nodes),
    )


def plan_of(workload: Workload, duration_s: float, *, step_s: float | None = None, cpus: int = 2) -> Plan:
    """What ``predict`` runs: a step is short enough for the workload, unless it is given."""
    step = step_s or max(1.0, duration_s / (_MAX_STEPS if workload.nodes == 1 else _FLEET_STEPS))
    steps = max(1, round(duration_s / step))
    flows = tuple(table_flows(workload, steps, step))
    return Plan(flows, steps, step, cpus, workload.interval_s, workload.engine)


def course_of(plan: Plan, load: Floats) -> Course:
    """The course of nodes of these loads."""
    return one_node.run(plan) if len(load) == 1 else run_fleet(plan, load)


def peak_of_size(plan: Plan, load: Floats, flows: TableFlows, max_entries: int, most: float) -> float:
    """The peak on the fullest node of one table of the plan, were it that large and alone; where it comes to more than
    ``most``, anything above that."""
    alone = replace(plan, flows=(replace(flows, max_entries=max_entries),))
    return one_node.peak(alone, most) if len(load) == 1 else run_fleet(alone, load).tables[0].worst_peak


def run_fleet(plan: Plan, load: Floats) -> Course:
    """Run nodes of these loads forward from empty tables."""
    step = plan.step_s
    tables = [_table(flows, load, plan.cpus) for flows in plan.flows]
    gc = _Gc(plan, load)
    samples: list[Sample] = []
    for i in range(plan.steps):
        now = (i + 1) * step
        for table in tables:
            _fill(table, i, step)
        due = now >= gc.due
        if due.any():
            gc.collect(tables, i, step, now, due)
        for table in tables:
            table.sums += float(table.total.mean())
        if plan.sampled(i):
            samples.append(_sample(tables, gc, i, step, now))
    return Course(
        tables=tuple(_told(table, plan.steps) for table in tables),
        samples=tuple(samples),
        intervals=tuple(gc.sequence),
        gc_runs=gc.runs / len(gc.due),
        gc_cpu_s=float(gc.cpu_s.mean()),
        overflowing=_overflowed(tables),
    )


def loads(nodes: int, spread: float) -> Floats:
    """Loads of a fleet, mean 1: its quantiles, each of which stands for an equal share of the nodes.

    Nodes of equal load do the same, so a fleet of any size is as many columns as its spread needs.
    """
    groups = min(nodes, _GROUPS) if spread > 0 else 1
    normal = NormalDist()
    quantiles = np.array([normal.inv_cdf((group + 0.5) / groups) for group in range(groups)])
    load: Floats = np.exp(spread * quantiles)
    scaled: Floats = load / load.mean()
    return scaled


def _table(flows: TableFlows, load: Floats, cpus: int) -> _Table:
    def zero() -> Floats:
        return np.zeros(len(load))

    return _Table(
        flows=flows,
        load=load,
        capacity=capacity(flows.max_entries, cpus),
        removed=np.zeros((len(flows.idle), len(load))),
        related_expired=zero(),
        evicted_active=zero(),
        lru_age=np.full(len(load), np.inf),
        peak=zero(),
        total=zero(),
        evicted=zero(),
        evicted_live=zero(),
        deleted=zero(),
        overflowed=np.zeros(len(load), bool),
    )


def _expiry(idle: IdleClass, i: int, step: float) -> float:
    """Cumulative count of what has expired at the end of step ``i``."""
    return float(at(idle.inflow, np.asarray(i - idle.timeout_s / step)))


def _fill(table: _Table, i: int, step: float) -> None:
    """Bring a table to the end of step ``i``: entries that came, and what the LRU evicted for them."""
    flows, load = table.flows, table.load
    present = _related(table, step)
    if i and table.evicted_active.any():
        # Connections whose entry was evicted end like any other.
        table.evicted_active *= min(1.0, flows.active[i] / max(flows.active[i - 1], 1e-9))
    total = load * flows.active[i] + present - table.evicted_active + table.related_expired
    for c, idle in enumerate(flows.idle):
        total = total + np.maximum(load * idle.inflow[i + 1] - table.removed[c], 0)
    over = total - table.capacity
    if (over > 0).any():
        total = _evict(table, i, step, over, total)
    else:
        table.lru_age[:] = np.inf
    table.total = total
    np.maximum(table.peak, total, out=table.peak)


def _related(table: _Table, step: float) -> Floats:
    """Related entries that are there and not expired; what the LRU took of them is counted, and comes back."""
    present = np.zeros(len(table.load))
    for related in table.flows.related:
        there, evicted, expiring = related.balance(table.lru_age)
        present += table.load * there
        table.evicted += table.load * evicted * step
        table.evicted_live += table.load * evicted * step
        # Expired ones relax to where as many expire as are taken up again.
        decay = np.exp(-related.returning * step)
        table.related_expired *= decay
        table.related_expired += table.load * expiring * (1 - decay) / related.returning
    return present


def _evict(table: _Table, i: int, step: float, over: Floats, total: Floats) -> Floats:
    """Make room in the nodes that are over: first what is idle the longest, then what is in use."""
    nodes = np.flatnonzero(over > 0)
    need = over[nodes].copy()
    table.overflowed[nodes] = True
    table.lru_age[:] = np.inf
    from_related = np.minimum(need, table.related_expired[nodes])
    table.related_expired[nodes] -= from_related
    need -= from_related
    load = table.load[nodes]
    low, high = np.full(len(nodes), -1.0), np.full(len(nodes), float(i))
    classes = table.flows.idle
    removed = table.removed[:, nodes]

    def up_to(age: Floats) -> list[Floats]:
        return [
            np.maximum(removed[c], load * at(idle.inflow, i - (i - age) / idle.haste)) for c, idle in enumerate(classes)
        ]

    for _ in range(int(np.ceil(np.log2(i + 2))) + 6 if classes else 0):
        middle = (low + high) / 2
        freed = sum((new - old for new, old in zip(up_to(middle), removed, strict=True)), np.zeros(len(nodes)))
        enough = freed >= need
        high, low = np.where(enough, middle, high), np.where(enough, low, middle)
    table.lru_age[nodes] = (i - high) * step
    freed = np.zeros(len(nodes))
    for c, new in enumerate(up_to(high)):
        expired = load * _expiry(classes[c], i, step)
        table.evicted_live[nodes] += np.maximum(new - np.maximum(removed[c], expired), 0)
        freed += new - removed[c]
        table.removed[c, nodes] = new
    in_use = np.maximum(need - freed, 0)
    table.evicted_active[nodes] += in_use
    table.evicted_live[nodes] += in_use
    table.evicted[nodes] += freed + in_use + from_related
    result = total.copy()
    result[nodes] -= freed + in_use + from_related
    return result


class _Gc:
    """The collectors of all nodes: when each is due, and what they cost."""

    def __init__(self, plan: Plan, load: Floats) -> None:
        self._rule = plan.interval_s is None
        first = interval.START_S if plan.interval_s is None else plan.interval_s
        self.interval = np.full(len(load), first)
        self.due = np.full(len(load), first)
        self.read_s, self.delete_s = COST_S[plan.engine]
        self.cpu_s = np.zeros(len(load))
        self.runs = 0
        #: (time, interval then in force) of the node with the median load
        self._median = len(load) // 2
        self.sequence: list[tuple[float, float]] = [(0.0, first)]

    def collect(self, tables: list[_Table], i: int, step: float, now: float, due: NDArray[np.bool_]) -> None:
        """Run GC on the nodes that are due and set when they are next."""
        nodes = np.flatnonzero(due)
        ratio = np.zeros(len(nodes))
        for table in tables:
            deleted = self._collect_table(table, i, step, nodes)
            ratio = np.maximum(ratio, deleted / table.flows.max_entries)
        self.runs += len(nodes)
        if self._rule:
            self.interval[nodes] = next_intervals(self.interval[nodes], ratio)
        self.due[nodes] = now + self.interval[nodes]
        if due[self._median]:
            self.sequence.append((now, float(self.interval[self._median])))

    def _collect_table(self, table: _Table, i: int, step: float, nodes: NDArray[np.intp]) -> Floats:
        self.cpu_s[nodes] += table.total[nodes] * self.read_s
        deleted = table.related_expired[nodes].copy()
        expired_most = deleted.copy()
        table.related_expired[nodes] = 0
        for c, idle in enumerate(table.flows.idle):
            gone = table.load[nodes] * _expiry(idle, i, step)
            part = np.maximum(gone - table.removed[c, nodes], 0)
            table.removed[c, nodes] += part
            deleted += part
            expired_most += part
        table.peak_expired = max(table.peak_expired, float(expired_most.mean()))
        table.deleted[nodes] += deleted
        table.total[nodes] -= deleted
        self.cpu_s[nodes] += deleted * self.delete_s
        return deleted


def next_intervals(intervals: Floats, ratio: Floats) -> Floats:
    """``interval.next_interval`` for many nodes at once."""
    shrunk = np.maximum(interval.MINIMUM_S, np.floor(intervals * (1 - np.minimum(ratio, interval.SHRINK_LIMIT)) + 0.5))
    grown = np.minimum(interval.MAXIMUM_S, intervals * interval.GROWTH)
    few = (ratio < interval.GROW_BELOW) & (ratio > 0)
    return np.where(ratio > interval.SHRINK_ABOVE, shrunk, np.where(few, grown, intervals))


def _expired(table: _Table, i: int, step: float) -> float:
    total = table.related_expired.copy()
    for c, idle in enumerate(table.flows.idle):
        gone = table.load * _expiry(idle, i, step)
        total += np.maximum(gone - table.removed[c], 0)
    return float(total.mean())


def _sample(tables: list[_Table], gc: _Gc, i: int, step: float, now: float) -> Sample:
    for table in tables:
        table.peak_expired = max(table.peak_expired, _expired(table, i, step))
    return Sample(
        time_s=now,
        entries={table.flows.name: float(table.total.mean()) for table in tables},
        expired={table.flows.name: _expired(table, i, step) for table in tables},
        evicted_live={table.flows.name: float(table.evicted_live.mean()) for table in tables},
        interval_s=float(gc.interval.mean()),
        gc_cpu_s=float(gc.cpu_s.mean()),
    )


def _overflowed(tables: Sequence[_Table]) -> float:
    """Share of the nodes whose LRU had to evict."""
    return float(np.any([table.overflowed for table in tables], axis=0).mean()) if tables else 0.0


def _told(table: _Table, steps: int) -> TablePrediction:
    return TablePrediction(
        name=table.flows.name,
        max_entries=table.flows.max_entries,
        peak=float(table.peak.mean()),
        worst_peak=float(table.peak.max()),
        mean=table.sums / steps,
        peak_expired=table.peak_expired,
        evicted=float(table.evicted.mean()),
        evicted_live=float(table.evicted_live.mean()),
        deleted=float(table.deleted.mean()),
    )
