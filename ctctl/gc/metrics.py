"""What garbage collection did, under the Cilium agent's names and labels with our prefix."""

from __future__ import annotations

from typing import Any

from ctctl.gc.report import Report, TableReport
from ctctl.metrics.library import PREFIX, label_of_map, prometheus

_SUBSYSTEM = "datapath_conntrack"
_LABELS = ("family", "protocol", "status")
#: A run takes milliseconds on a small table and seconds on a big one.
_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class GcMetrics:
    """Counters of a garbage collector that keeps running. ``registry`` is what is served."""

    def __init__(self) -> None:
        client = prometheus()
        self.registry: Any = client.CollectorRegistry()
        how = {"namespace": PREFIX, "subsystem": _SUBSYSTEM, "registry": self.registry}
        self._runs = client.Counter("gc_runs", "Garbage collection runs.", _LABELS, **how)
        self._failures = client.Counter("gc_failures", "Runs that could not open or read any table.", **how)
        self._entries = client.Gauge("gc_entries", "Entries of the last run: alive, deleted, skipped.", _LABELS, **how)
        self._deleted = client.Counter("gc_deleted_entries", "Entries deleted.", ("family", "protocol"), **how)
        self._nat = client.Counter("gc_nat_deleted_entries", "SNAT entries deleted along.", ("family",), **how)
        self._duration = client.Histogram(
            "gc_duration_seconds", "Time a run took on one table.", _LABELS, buckets=_BUCKETS, **how
        )
        self._interval = client.Gauge("gc_interval_seconds", "Time until the next run.", ("global",), **how)
        self._resets = client.Counter(
            "dump_resets", "Walks that started over, their key being gone.", ("area", "name", "family"), **how
        )
        self._pressure = client.Gauge(
            "map_pressure",
            "Entries left after the last run, of the table's size.",
            ("map_name",),
            namespace=PREFIX,
            subsystem="bpf",
            registry=self.registry,
        )

    def ran(self, report: Report, next_interval_s: float) -> None:
        """Count one run."""
        self._interval.labels("global").set(next_interval_s)
        for table in report.tables:
            self._table(table)

    def failed(self) -> None:
        """Count a run that could not start."""
        self._failures.inc()

    def _table(self, table: TableReport) -> None:
        status = "completed" if table.complete else "uncompleted"
        family, protocol = table.family, table.protocol
        self._runs.labels(family, protocol, status).inc()
        self._duration.labels(family, protocol, status).observe(table.duration_s)
        for name, count in (("alive", table.alive), ("deleted", table.deleted), ("skipped", table.skipped)):
            self._entries.labels(family, protocol, name).set(count)
        self._deleted.labels(family, protocol).inc(table.deleted)
        self._nat.labels(family).inc(table.nat_deleted)
        self._resets.labels("conntrack", "dump_interrupts", family).inc(table.resets)
        if table.complete:
            self._pressure.labels(label_of_map(table.map)).set(table.alive / table.max_entries)
