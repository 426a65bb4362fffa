"""One node's prediction: the model of ``fluid`` in plain numbers instead of columns of a fleet.

A step of numpy over one column is all overhead: the same sums in Python take a small part of its time. A property test
holds the two to one answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ctctl.gc import interval
from ctctl.predict.course import COST_S, Course, Plan, capacity
from ctctl.predict.flows import IdleClass, TableFlows, at
from ctctl.predict.model import Sample, TablePrediction


@dataclass(slots=True)
class _Idle:
    """Entries of one timeout: what came until each step, from 0; what has expired after each; what is gone."""

    inflow: list[float]
    expiry: list[float]
    haste: float
    removed: float = 0.0

    @classmethod
    def of(cls, idle: IdleClass, plan: Plan) -> _Idle:
        expiry = at(idle.inflow, np.arange(plan.steps, dtype=np.float64) - idle.timeout_s / plan.step_s)
        return cls(idle.inflow.tolist(), expiry.tolist(), idle.haste)

    def at(self, position: float) -> float:
        """``flows.at`` of one position."""
        inflow, where = self.inflow, position + 1
        if where <= 0:
            return inflow[0]
        if where >= len(inflow) - 1:
            return inflow[-1]
        low = int(where)
        return inflow[low] + (inflow[low + 1] - inflow[low]) * (where - low)


class _Table:
    """One table, brought forward step by step."""

    def __init__(self, flows: TableFlows, plan: Plan) -> None:
        self.flows, self._step_s = flows, plan.step_s
        self._capacity = capacity(flows.max_entries, plan.cpus)
        self._active: list[float] = flows.active.tolist()
        #: those of which anything is still there or to come
        self._idle = [_Idle.of(idle, plan) for idle in flows.idle]
        self._balanced: tuple[float, list[tuple[float, float, float]]] = (math.nan, [])
        self._related_expired = self._evicted_active = 0.0
        #: age at which the LRU evicted last, infinite where it need not
        self._lru_age = math.inf
        self.total = self.sums = self.peak = self.peak_expired = 0.0
        self.evicted = self.evicted_live = self.deleted = 0.0
        self.overflowed = False

    def fill(self, i: int) -> None:
        """Bring it to the end of step ``i``: entries that came, and what the LRU evicted for them."""
        present = self._related() if self.flows.related else 0.0
        if i and self._evicted_active:
            # Connections whose entry was evicted end like any other.
            self._evicted_active *= min(1.0, self._active[i] / max(self._active[i - 1], 1e-9))
        total = self._active[i] + present - self._evicted_active + self._related_expired
        for idle in self._idle:
            there = idle.inflow[i + 1] - idle.removed
            if there > 0:
                total += there
        if total > self._capacity:
            total -= self._evict(i, total - self._capacity)
        else:
            self._lru_age = math.inf
        self.total = total
        self.peak = max(self.peak, total)

    def _related(self) -> float:
        """Related entries that are there and not expired; what the LRU took of them is counted, and comes back."""
        age, balances = self._balanced
        if age != self._lru_age:
            ages = np.array([self._lru_age])
            balances = [tuple(float(part[0]) for part in one.balance(ages)) for one in self.flows.related]  # type: ignore[misc]
            self._balanced = self._lru_age, balances
        present = 0.0
        for related, (there, evicted, expiring) in zip(self.flows.related, balances, strict=True):
            present += there
            self.evicted += evicted * self._step_s
            self.evicted_live += evicted * self._step_s
            # Expired ones relax to where as many expire as are taken up again.
            decay = math.exp(-related.returning * self._step_s)
            self._related_expired = self._related_expired * decay + expiring * (1 - decay) / related.returning
        return present

    def _evict(self, i: int, need: float) -> float:
        """Make room for so many: first what is idle the longest, then what is in use. How many went."""
        self.overflowed = True
        from_related = min(need, self._related_expired)
        self._related_expired -= from_related
        need -= from_related
        low, high = -1.0, float(i)
        for _ in range(math.ceil(math.log2(i + 2)) + 6 if self._idle else 0):
            middle = (low + high) / 2
            if self._frees(i, middle, need):
                high = middle
            else:
                low = middle
        self._lru_age = (i - high) * self._step_s
        freed = 0.0
        for idle in self._idle:
            new = max(idle.removed, idle.at(i - (i - high) / idle.haste))
            self.evicted_live += max(new - max(idle.removed, idle.expiry[i]), 0.0)
            freed += new - idle.removed
            idle.removed = new
        self._drop_spent()
        in_use = max(need - freed, 0.0)
        self._evicted_active += in_use
        self.evicted_live += in_use
        self.evicted += freed + in_use + from_related
        return freed + in_use + from_related

    def _frees(self, i: int, position: float, need: float) -> bool:
        """Whether so many are gone once all that fell idle before that position are."""
        freed = 0.0
        for idle in self._idle:
            new = idle.at(i - (i - position) / idle.haste)
            if new > idle.removed:
                freed += new - idle.removed
                if freed >= need:
                    return True
        return freed >= need

    def _drop_spent(self) -> None:
        self._idle = [idle for idle in self._idle if idle.removed < idle.inflow[-1]]

    def collect(self, i: int) -> float:
        """A run of GC: how many it deletes."""
        deleted, self._related_expired = self._related_expired, 0.0
        for idle in self._idle:
            part = idle.expiry[i] - idle.removed
            if part > 0:
                idle.removed += part
                deleted += part
        self._drop_spent()
        self.peak_expired = max(self.peak_expired, deleted)
        self.deleted += deleted
        self.total -= deleted
        return deleted

    def expired(self, i: int) -> float:
        """How many are expired and still there."""
        found = self._related_expired + sum(max(idle.expiry[i] - idle.removed, 0.0) for idle in self._idle)
        self.peak_expired = max(self.peak_expired, found)
        return found

    def told(self, steps: int) -> TablePrediction:
        return TablePrediction(
            name=self.flows.name,
            max_entries=self.flows.max_entries,
            peak=self.peak,
            worst_peak=self.peak,
            mean=self.sums / steps,
            peak_expired=self.peak_expired,
            evicted=self.evicted,
            evicted_live=self.evicted_live,
            deleted=self.deleted,
        )


@dataclass(slots=True)
class _Gc:
    """The collector: when it is due, and what it costs."""

    rule: bool
    engine: str
    interval_s: float
    due: float
    cpu_s: float = 0.0
    sequence: list[tuple[float, float]] = field(default_factory=list)

    def collect(self, tables: list[_Table], i: int, now: float) -> None:
        read_s, delete_s = COST_S[self.engine]
        ratio = 0.0
        for table in tables:
            self.cpu_s += table.total * read_s
            deleted = table.collect(i)
            self.cpu_s += deleted * delete_s
            ratio = max(ratio, deleted / table.flows.max_entries)
        if self.rule:
            self.interval_s = float(interval.next_interval(self.interval_s, ratio))
        self.due = now + self.interval_s
        self.sequence.append((now, self.interval_s))


def _gc(plan: Plan) -> _Gc:
    first = interval.START_S if plan.interval_s is None else plan.interval_s
    return _Gc(plan.interval_s is None, plan.engine, first, first, sequence=[(0.0, first)])


def run(plan: Plan) -> Course:
    """Run it forward from empty tables."""
    tables, gc = [_Table(flows, plan) for flows in plan.flows], _gc(plan)
    samples = []
    for i in range(plan.steps):
        now = (i + 1) * plan.step_s
        for table in tables:
            table.fill(i)
        if now >= gc.due:
            gc.collect(tables, i, now)
        for table in tables:
            table.sums += table.total
        if plan.sampled(i):
            samples.append(
                Sample(
                    time_s=now,
                    entries={table.flows.name: table.total for table in tables},
                    expired={table.flows.name: table.expired(i) for table in tables},
                    evicted_live={table.flows.name: table.evicted_live for table in tables},
                    interval_s=gc.interval_s,
                    gc_cpu_s=gc.cpu_s,
                )
            )
    return Course(
        tables=tuple(table.told(plan.steps) for table in tables),
        samples=tuple(samples),
        intervals=tuple(gc.sequence),
        gc_runs=float(len(gc.sequence) - 1),
        gc_cpu_s=gc.cpu_s,
        overflowing=float(any(table.overflowed for table in tables)),
    )


def peak(plan: Plan, most: float) -> float:
    """The peak of the only table of the plan; the first fill above ``most``, if it comes to that."""
    (flows,) = plan.flows
    table, gc = _Table(flows, plan), _gc(plan)
    for i in range(plan.steps):
        table.fill(i)
        if table.peak > most:
            break
        now = (i + 1) * plan.step_s
        if now >= gc.due:
            gc.collect([table], i, now)
    return table.peak
