"""What every engine is told, and what it answers to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ctctl.gc.limit import RateLimit
from ctctl.gc.tally import Tally
from ctctl.kernel.stopping import Stop
from ctctl.tables.sources.base import CtTable
from ctctl.tables.writer.targets import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.tables.writer.journal import Journal
    from ctctl.tables.writer.remover import Recorder

#: Half a megabyte of table: a candidate is still in the caches when the re-check looks it up again, and what
#: numpy and ctypes take for a call is shared by enough entries (measured: 1024 takes 15 % more CPU time).
BATCH_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Job:
    """One collection. ``now`` is fixed for the whole run: what expires during it waits for the next.

    ``addresses``: scrub every entry with one of these (network order), expired or not, instead of
    collecting. ``journal``: what is to go is written there first. ``recheck`` off is for the experiment
    that shows what the re-check is worth. ``progress`` is told how many entries were looked at since it
    was last told. ``before_delete`` is called between test and delete (tests put a refresh there).
    ``say`` takes a line for the operator.
    """

    now: int
    stop: Stop
    limit: RateLimit
    dry_run: bool = False
    journal: Journal | None = None
    recorder: Recorder | None = None
    addresses: tuple[bytes, ...] = ()
    batch_size: int = BATCH_SIZE
    recheck: bool = True
    before_delete: Callable[[NDArray[np.uint8]], None] | None = None
    progress: Callable[[int], None] | None = None
    say: Callable[[str], None] = lambda _line: None

    @property
    def reason(self) -> str:
        """Why entries go, as the audit log says it."""
        return "endpoint" if self.addresses else "expired"

    @property
    def planned(self) -> bool:
        """Whether every deletion is to be written down before or after it, which takes the entry's bytes."""
        return self.journal is not None or self.recorder is not None or bool(self.addresses)


class Engine(Protocol):
    """Collects one table, open for writing as ``target`` unless the job is a dry run.

    What was done is in ``tally`` at every moment, also when something is raised. Never raises for
    entries that vanish; stops early when ``job.stop`` is set.
    """

    def __call__(self, table: CtTable, target: Target | None, job: Job, tally: Tally) -> None: ...
