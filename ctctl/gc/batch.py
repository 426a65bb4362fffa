"""The batch engine: batch lookups, a vectorised test, and the deletes, each behind another look in the kernel.

With an undo journal or an audit log candidates go through the writer's remover, which compares every
byte. Else the kernel only has to see that the lifetime is still over (bpf/gc.bpf.c, gc_check).
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from ctctl.gc.deleters import Deleter, deleter
from ctctl.gc.job import Job
from ctctl.gc.tally import Tally
from ctctl.tables import classes
from ctctl.tables.sources.base import CtTable
from ctctl.tables.writer.remover import ROOM
from ctctl.tables.writer.targets import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.kernel.map import Batch


def collect(table: CtTable, target: Target | None, job: Job, tally: Tally) -> None:
    """Collect by batches. Memory is a batch's, whatever the table's size."""
    assert table.live is not None
    with ExitStack() as stack:
        delete: Deleter | None = None
        for batch in table.live.batches(_size(job)):
            if job.stop.is_set():
                tally.complete = False
                break
            if job.progress is not None:
                job.progress(len(batch))
            victims = _test(batch, job, tally)
            if target is None or not len(victims):
                continue
            if delete is None:
                delete = stack.enter_context(deleter(target, job, tally, job.batch_size))
            # take: an index array in brackets copies rows of bytes ten times slower.
            if not delete(batch.keys.take(victims, axis=0), batch.values.take(victims, axis=0)):
                tally.complete = False
                break


def _size(job: Job) -> int:
    """A journal is flushed once a batch: then fewer and greater ones are faster."""
    return max(job.batch_size, ROOM) if job.journal is not None else job.batch_size


def _test(batch: Batch, job: Job, tally: Tally) -> NDArray[np.intp]:
    """Count the batch's live entries (and, in a dry run, the expired); the indexes of those that have to go."""
    import numpy as np

    numbers = classes.class_numbers(batch.keys)
    mask = classes.with_address(batch.keys, job.addresses) if job.addresses else classes.expired(batch.values, job.now)
    victims = np.flatnonzero(mask)
    tally.alive += classes.count(numbers)
    if len(victims):
        found = classes.count(numbers[victims])
        tally.alive -= found
        if job.dry_run:
            tally.expired += found
    return victims
