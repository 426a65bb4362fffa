"""The kernel engine: a BPF program walks the table and deletes in the callback that tested.

The walk always starts at the first bucket. When it ends early (the rate limit's slice is used up, or
the log is full) the next part skips what the parts before left in place: on a still table exactly the
rest, under churn an entry may be passed over until the next run.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING

from ctctl.errors import UnsupportedError
from ctctl.gc.job import Job
from ctctl.gc.programs import GcProgram, Kind
from ctctl.gc.record import record_deleted
from ctctl.gc.tables import Table
from ctctl.gc.tally import Tally

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Log records of one part of a walk, 112 bytes each for IPv4.
LOG_SIZE = 32768

#: How soon a walk notices Ctrl-C.
_POLL_S = 0.05
#: A part of a rate-limited walk passes over the whole table: once a second, not ten times.
_SLICE_S = 1.0
_NO_LIMIT = 2**63


def collect(table: Table, job: Job) -> Tally:
    """Collect in the kernel. Raises UnsupportedError for an endpoint scrub, KernelError where programs cannot run."""
    if job.address is not None:
        raise UnsupportedError("the kernel engine collects expired entries only: use --engine batch with --endpoint")
    tally = Tally()
    log = LOG_SIZE if job.recorder is not None and not job.dry_run else 0
    with (
        GcProgram(table, Kind.WALK, log=log, dry_run=job.dry_run) as program,
        ThreadPoolExecutor(1, "ctctl-gc-walk") as worker,
    ):
        control = program.control
        control["now"] = job.now
        while True:
            budget = job.limit.take(table.map.info.max_entries, slice_s=_SLICE_S) if job.limit.limited else _NO_LIMIT
            if not budget:
                tally.complete = False
                break
            control["budget"] = min(budget, log or _NO_LIMIT)
            control["skip"], control["passed"] = control["passed"][0], 0
            control["nr_deleted"] = 0
            _run(program, job, worker)
            deleted = int(control["nr_deleted"][0])
            if job.recorder is not None and log:
                _record(program.log[:deleted], table, job)
            if job.stop.is_set():
                tally.complete = False
                break
            if deleted < control["budget"][0]:
                break
        _read_counters(control, tally, job)
    return tally


def _run(program: GcProgram, job: Job, worker: ThreadPoolExecutor) -> None:
    """Run one part in a thread of its own, so that this one can hear Ctrl-C and pass it on."""
    running: Future[None] = worker.submit(program.run)
    told = 0
    while True:
        try:
            return running.result(timeout=_POLL_S)
        except NotYet:
            if job.stop.is_set():
                program.control["stop"] = 1
            if job.progress is not None:
                looked_at = int(program.control["passed"][0] + program.control["nr_deleted"][0])
                job.progress(looked_at - told)
                told = looked_at


def _read_counters(control: NDArray[np.void], tally: Tally, job: Job) -> None:
    import numpy as np

    tally.alive += control["alive"][0].astype(np.int64)
    tally.deleted += control["deleted"][0].astype(np.int64)
    not_deleted = control["skipped"][0].astype(np.int64)
    tally.expired += tally.deleted + not_deleted
    if not job.dry_run:
        tally.skipped += not_deleted
    tally.nat_deleted += int(control["nr_nat_deleted"][0])


def _record(log: NDArray[np.void], table: Table, job: Job) -> None:
    """Hand the log of one part to the recorder."""
    if job.recorder is None or not len(log):
        return
    slots = log["slot"]
    record_deleted(
        job.recorder,
        table,
        job.reason,
        keys=_bytes(slots["key"]),
        values=_bytes(log["entry"]),
        nats=slots["nat"],
        nat_values=_bytes(slots["nat_value"]),
    )


def _bytes(column: NDArray[np.void]) -> NDArray[np.uint8]:
    """A column of structures as uint8 (n, size)."""
    import numpy as np

    rows = np.ascontiguousarray(column)
    return np.ndarray((len(rows), rows.dtype.itemsize), np.uint8, buffer=rows)
