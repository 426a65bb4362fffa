"""Garbage collection that keeps running: by the interval rule, and at once when a table is full."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ctctl.abi import layouts, pins
from ctctl.errors import CtctlError
from ctctl.gc.interval import MINIMUM_S
from ctctl.gc.metrics import GcMetrics
from ctctl.gc.report import Report
from ctctl.gc.run import GcOptions, run
from ctctl.gc.schedule import Schedule
from ctctl.kernel.map import Map
from ctctl.kernel.stopping import Stop, TimeLimit
from ctctl.metrics.serve import serving
from ctctl.node.counters import read_stat
from ctctl.tables.sources.base import Source

#: How often the datapath's counter of failed creates is read while waiting.
POLL_S = 1.0


def keep_running(
    opening: Callable[[], Source],
    options: GcOptions,
    schedule: Schedule,
    stop: Stop,
    *,
    on_report: Callable[[Report], None],
    on_failure: Callable[[str], None],
    metrics: str | None = None,
    poll_s: float = POLL_S,
    least_run_s: float = MINIMUM_S,
) -> None:
    """Collect what ``opening`` opens, each turn anew, until ``stop`` is set; a run that fails is told and tried again.

    A run ends at the latest when the next one is due, though not within ``least_run_s``: with a rate
    limit a family that has more to delete than fits must not hold up the other one's turn (both run
    side by side).
    """
    with _metrics(metrics) as told:
        full = FullSignal(_directory(opening))
        while _wait(schedule, stop, full, poll_s):
            started = time.monotonic()
            limit = TimeLimit(stop, max(schedule.interval_s, least_run_s))
            due = replace(options, interval_s=schedule.interval_s, elapsed_s=schedule.elapsed(started))
            try:
                with opening() as source:
                    report = run(source, due, limit)
            except CtctlError as error:
                schedule.ran(started, 0.0)
                on_failure(str(error))
                told.failed()
                continue
            schedule.ran(started, report.ratio)
            told.ran(report, schedule.interval_s)
            on_report(replace(report, next_interval_s=schedule.interval_s))


def _directory(opening: Callable[[], Source]) -> Path | None:
    with opening() as source:
        return Path(source.directory) if source.directory is not None else None


def _wait(schedule: Schedule, stop: Stop, full: FullSignal, poll_s: float) -> bool:
    """Wait for the next turn. False: stopped."""
    table_full = False
    while not stop.is_set():
        table_full = full.raised() or table_full
        left = schedule.due_in(time.monotonic(), table_full=table_full)
        if left <= 0:
            return True
        stop.wait(min(left, poll_s))
    return False


class FullSignal:
    """The datapath's word that it could not create an entry: a counter that grew (STAT_CT_CREATE_FAILED)."""

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / pins.STATS if directory is not None else None
        self._seen = self._read()

    def raised(self) -> bool:
        """Whether it grew since the last question. A node without the counter never says so."""
        count = self._read()
        grew = count > self._seen
        self._seen = count
        return grew

    def _read(self) -> int:
        if self._path is None:
            return 0
        try:
            with Map.open_pinned(self._path, read_only=True) as stats:
                return read_stat(stats, layouts.CtctlStat.STAT_CT_CREATE_FAILED)
        except CtctlError:
            return 0


class NoMetrics:
    """Nobody asked for metrics, and prometheus-client may not be there."""

    def ran(self, report: Report, next_interval_s: float) -> None: ...

    def failed(self) -> None: ...


@contextlib.contextmanager
def _metrics(address: str | None) -> Iterator[GcMetrics | NoMetrics]:
    if address is None:
        yield NoMetrics()
        return
    told = GcMetrics()
    with serving(told.registry, address):
        yield told
