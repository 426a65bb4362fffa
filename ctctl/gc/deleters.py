"""How the candidates of an engine are deleted, counted, and held to the rate limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from ctctl.abi.layouts import CtctlGcStatus, CtctlWriterStatus
from ctctl.errors import KernelError
from ctctl.gc.job import Job
from ctctl.gc.programs import GcProgram, Kind
from ctctl.gc.tally import Tally
from ctctl.tables import classes
from ctctl.tables.writer.programs import column
from ctctl.tables.writer.remover import ROOM, Remover
from ctctl.tables.writer.targets import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Deletes candidates given as keys and values, counts them; False: stopped before the end.
Deleter: TypeAlias = "Callable[[NDArray[np.uint8], NDArray[np.uint8]], bool]"
#: Which of a chunk went, how many SNAT entries along, and how many deletions the kernel refused.
_Chunk: TypeAlias = "Callable[[NDArray[np.uint8], NDArray[np.uint8]], tuple[NDArray[np.bool_], int, int]]"


@contextmanager
def deleter(target: Target, job: Job, tally: Tally, room: int) -> Iterator[Deleter]:
    """What deletes an engine's candidates, up to ``room`` at a time.

    Where what goes need not be written down, the kernel itself judges whether an entry is expired; else, or
    where it runs no programs, the entry has to be what the engine saw. Raises KernelError.
    """
    if not job.planned:
        try:
            program = GcProgram(target, Kind.CHECK, slots=room, recheck=job.recheck)
        except KernelError as error:
            if error.is_shortage:
                raise
            # The remover tells why, and does without.
        else:
            with program:
                program.control["now"] = job.now
                yield _limited(_ByExpiry(program, job).delete, job, tally, room)
            return
    with Remover(
        target,
        journal=job.journal,
        recorder=job.recorder,
        reason=job.reason,
        room=max(room, ROOM) if job.journal is not None else room,
        before_delete=job.before_delete,
    ) as remover:
        if remover.window is not None:
            job.say(f"{target.name}: {remover.window}")
        yield _limited(_AsPlanned(remover).delete, job, tally, remover.room)


def _limited(delete: _Chunk, job: Job, tally: Tally, room: int) -> Deleter:
    """``delete`` in chunks as large as room and rate limit allow, counted in ``tally``."""

    def run(keys: NDArray[np.uint8], values: NDArray[np.uint8]) -> bool:
        done = 0
        while done < len(keys):
            chunk = job.limit.take(min(len(keys) - done, room))
            if not chunk:
                return False
            part = keys[done : done + chunk]
            deleted, nat_deleted, refused = delete(part, values[done : done + chunk])
            numbers = classes.class_numbers(part)
            found = classes.count(numbers)
            tally.expired += found
            tally.nat_deleted += nat_deleted
            tally.refused += refused
            if deleted.all():
                tally.deleted += found
            else:
                tally.deleted += classes.count(numbers[deleted])
                tally.skipped += classes.count(numbers[~deleted])
            done += chunk
            if job.stop.is_set():
                return done == len(keys)
        return True

    return run


class _ByExpiry:
    """Runs gc_check: each candidate is looked up again, and deleted at once if its lifetime is over."""

    def __init__(self, program: GcProgram, job: Job) -> None:
        self._program = program
        self._job = job

    def delete(self, keys: NDArray[np.uint8], _values: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], int, int]:
        if self._job.before_delete is not None:
            self._job.before_delete(keys)
        slots, control = self._program.slots[: len(keys)], self._program.control
        column(slots, "key")[:] = keys
        slots["status"] = CtctlGcStatus.GC_UNTOUCHED
        control["nr_slots"] = len(keys)
        control["nr_nat_deleted"] = control["nr_refused"] = 0
        self._program.run()
        counted = int(control["nr_nat_deleted"][0]), int(control["nr_refused"][0])
        return slots["status"] == CtctlGcStatus.GC_DELETED, *counted


class _AsPlanned:
    """The writer's remover: an entry goes only if it is, byte for byte, what the engine saw."""

    def __init__(self, remover: Remover) -> None:
        self._remover = remover

    def delete(self, keys: NDArray[np.uint8], values: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], int, int]:
        removed = self._remover.remove(keys, values)
        return removed.status == CtctlWriterStatus.WRITER_DELETED, removed.nat_deleted, removed.refused
