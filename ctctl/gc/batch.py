"""The batch engine: batch lookups, a vectorised test, a re-check in the live table, and the deletes.

The re-check is a BPF program over the batch's candidates (bpf/gc.bpf.c, gc_check): each is looked
up again and deleted in the next instructions, its SNAT entry with it. Where no program can be loaded
the re-check is a lookup from user space, and the window until the delete a system call instead.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeAlias

from ctctl.errors import KernelError
from ctctl.gc.job import Job
from ctctl.gc.perkey import delete_one
from ctctl.gc.programs import GcProgram, Kind, Status
from ctctl.gc.record import record_deleted
from ctctl.gc.tables import Table
from ctctl.gc.tally import Tally
from ctctl.tables import classes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.kernel.map import Batch

#: Deletes candidates given as keys and values, counts them; False: stopped before the end.
Deleter: TypeAlias = "Callable[[NDArray[np.uint8], NDArray[np.uint8]], bool]"


def collect(table: Table, job: Job) -> Tally:
    """Collect by batches. Memory is a batch's, whatever the table's size."""
    tally = Tally()
    with ExitStack() as stack:
        delete: Deleter | None = None
        for batch in table.map.batches(job.batch_size):
            if job.stop.is_set():
                tally.complete = False
                break
            if job.progress is not None:
                job.progress(len(batch))
            victims = _test(batch, job, tally)
            if job.dry_run or not len(victims):
                continue
            if delete is None:
                delete = _deleter(table, job, tally, stack)
            if not delete(batch.keys[victims], batch.values[victims]):
                tally.complete = False
                break
    return tally


def _test(batch: Batch, job: Job, tally: Tally) -> NDArray[np.intp]:
    """Count the batch's live entries (and, in a dry run, the expired); the indexes of those that have to go."""
    import numpy as np

    numbers = classes.class_numbers(batch.keys)
    mask = classes.expired(batch.values, job.now) if job.address is None else _with_address(batch.keys, job.address)
    victims = np.flatnonzero(mask)
    tally.alive += classes.count(numbers)
    if len(victims):
        found = classes.count(numbers[victims])
        tally.alive -= found
        if job.dry_run:
            tally.expired += found
    return victims


def _with_address(keys: NDArray[np.uint8], address: bytes) -> NDArray[np.bool_]:
    import numpy as np

    wanted, width = np.frombuffer(address, np.uint8), len(address)
    either: NDArray[np.bool_] = (keys[:, :width] == wanted).all(1) | (keys[:, width : 2 * width] == wanted).all(1)
    return either


def _deleter(table: Table, job: Job, tally: Tally, stack: ExitStack) -> Deleter:
    try:
        recheck = job.recheck and job.address is None
        program = stack.enter_context(GcProgram(table, Kind.CHECK, slots=job.batch_size, recheck=recheck))
    except KernelError:
        # No privilege for programs, or a kernel without syscall programs: slower, and a wider window.
        return lambda keys, _values: all(delete_one(table, job, tally, key.tobytes()) for key in keys)
    return _KernelDeleter(table, job, tally, program).delete


class _KernelDeleter:
    """Runs gc_check over candidates, as many at a time as the rate limit allows."""

    def __init__(self, table: Table, job: Job, tally: Tally, program: GcProgram) -> None:
        self._table = table
        self._job = job
        self._tally = tally
        self._program = program
        program.control["now"] = job.now

    def delete(self, keys: NDArray[np.uint8], values: NDArray[np.uint8]) -> bool:
        done = 0
        while done < len(keys):
            chunk = self._job.limit.take(min(len(keys) - done, len(self._program.slots)))
            if not chunk:
                return False
            self._chunk(keys[done : done + chunk], values[done : done + chunk])
            done += chunk
        return True

    def _chunk(self, keys: NDArray[np.uint8], values: NDArray[np.uint8]) -> None:
        if self._job.before_delete is not None:
            self._job.before_delete(keys)
        slots, control, n = self._program.slots[: len(keys)], self._program.control, len(keys)
        _key_bytes(slots, keys.shape[1])[:] = keys
        slots["status"] = Status.UNTOUCHED
        slots["nat"] = 0
        control["nr_slots"] = n
        control["nr_nat_deleted"] = 0
        self._program.run()
        status, tally = slots["status"], self._tally
        numbers = classes.class_numbers(keys)
        deleted = status == Status.DELETED
        tally.expired += classes.count(numbers)
        tally.nat_deleted += int(control["nr_nat_deleted"][0])
        if deleted.all():
            tally.deleted += classes.count(numbers)
        else:
            tally.deleted += classes.count(numbers[deleted])
            tally.skipped += classes.count(numbers[~deleted])
        if self._job.recorder is not None:
            nat_values = _nat_bytes(slots)[deleted]
            record_deleted(
                self._job.recorder,
                self._table,
                self._job.reason,
                keys=keys[deleted],
                values=values[deleted],
                nats=slots["nat"][deleted],
                nat_values=nat_values,
            )


def _key_bytes(slots: NDArray[np.void], key_size: int) -> NDArray[np.uint8]:
    """The keys of slots as uint8 (n, key size), a writable view."""
    import numpy as np

    return np.ndarray((len(slots), key_size), np.uint8, buffer=slots, strides=(slots.dtype.itemsize, 1))


def _nat_bytes(slots: NDArray[np.void]) -> NDArray[np.uint8]:
    """The SNAT values of slots as uint8 (n, value size)."""
    import numpy as np

    values = slots["nat_value"]
    shape = (len(slots), values.dtype.itemsize)
    return np.ndarray(shape, np.uint8, buffer=np.ascontiguousarray(values))
