"""The kernel engine: a BPF program walks the table and deletes in the callback that tested.

With an undo journal nothing may go before it is written down: the walk then only finds, part by part, and
the writer's remover deletes what was found.

The walk always starts at the first bucket. When it ends early (the rate limit's slice is used up, or
the log is full) the next part skips what the parts before left in place: on a still table exactly the
rest, under churn an entry may be passed over until the next run.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ctctl.errors import UnsupportedError
from ctctl.gc.deleters import Deleter, deleter
from ctctl.gc.job import Job
from ctctl.gc.programs import GcProgram, Kind
from ctctl.gc.tally import Tally
from ctctl.tables.sources.base import CtTable
from ctctl.tables.writer.programs import column
from ctctl.tables.writer.targets import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Log records of one part of a walk, 72 bytes each for IPv4.
LOG_SIZE = 32768

#: How soon a walk notices Ctrl-C.
_POLL_S = 0.05
#: A part of a rate-limited walk passes over the whole table: once a second, not ten times.
_SLICE_S = 1.0
_NO_LIMIT = 2**63


def collect(table: CtTable, target: Target | None, job: Job, tally: Tally) -> None:
    """Collect in the kernel. Raises UnsupportedError for an endpoint scrub, KernelError where programs cannot run."""
    if job.addresses:
        raise UnsupportedError("the kernel engine collects expired entries only: use --engine batch with --endpoint")
    log = LOG_SIZE if target is not None and job.planned else 0
    with ExitStack() as stack:
        program = stack.enter_context(GcProgram(target or table, Kind.WALK, log=log))
        delete = stack.enter_context(deleter(target, job, tally, job.batch_size)) if target and log else None
        program.control["now"] = job.now
        try:
            _walk(program, job, tally, delete, table.max_entries or 1)
        finally:
            _read_counters(program.control, tally, job)


def _walk(program: GcProgram, job: Job, tally: Tally, delete: Deleter | None, max_entries: int) -> None:
    control, stayed = program.control, 0
    while True:
        budget = _NO_LIMIT
        if job.limit.limited and delete is None:
            budget = job.limit.take(max_entries, slice_s=_SLICE_S)
        if not budget:
            tally.complete = False
            return
        control["budget"] = budget
        control["skip"], control["passed"] = control["passed"][0] + stayed, 0
        control["nr_deleted"] = control["nr_found"] = 0
        _run(program, job)
        found = int(control["nr_found"][0])
        if delete is not None and found:
            before = int(tally.skipped.sum())
            if not delete(column(program.log[:found], "key").copy(), column(program.log[:found], "entry").copy()):
                tally.complete = False
                return
            # Found, and refreshed since: the next part passes over them too.
            stayed = int(tally.skipped.sum()) - before
        if job.stop.is_set():
            tally.complete = False
            return
        if (found < len(program.log)) if delete is not None else (int(control["nr_deleted"][0]) < budget):
            return


def _run(program: GcProgram, job: Job) -> None:
    """Run one part in a thread of its own, so that this one can hear Ctrl-C and pass it on."""
    told = 0
    with ThreadPoolExecutor(1, "ctctl-gc-walk") as worker:
        running: Future[None] = worker.submit(program.run)
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
    """What the program counted; what the remover deleted is in the tally already."""
    import numpy as np

    deleted, skipped = control["deleted"][0].astype(np.int64), control["skipped"][0].astype(np.int64)
    tally.alive += control["alive"][0].astype(np.int64)
    tally.deleted += deleted
    tally.expired += deleted + skipped
    if not job.dry_run:
        tally.skipped += skipped
    tally.nat_deleted += int(control["nr_nat_deleted"][0])
    tally.refused += int(control["nr_refused"][0])
