"""What every engine is told, and what it answers to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ctctl.gc.limit import RateLimit
from ctctl.gc.tables import Table
from ctctl.gc.tally import Tally
from ctctl.kernel.stopping import Stop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Fits the caches: a candidate is still there when the re-check looks it up again (measured: 7 % over 4096).
BATCH_SIZE = 1024


class Recorder(Protocol):
    """Told of every deletion: raw key and value of the entry and of the SNAT entry that went along."""

    def deleted(self, table: str, reason: str, key: bytes, value: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One collection. ``now`` is fixed for the whole run: what expires during it waits for the next.

    ``address``: scrub every entry with this address (network order), expired or not, instead of
    collecting. ``recheck`` off is for the experiment that shows what the re-check is worth.
    ``progress`` is told how many entries were looked at since it was last told.
    ``before_delete`` is called between test and delete (tests put a refresh there).
    """

    now: int
    stop: Stop
    limit: RateLimit
    dry_run: bool = False
    recorder: Recorder | None = None
    address: bytes | None = None
    batch_size: int = BATCH_SIZE
    recheck: bool = True
    before_delete: Callable[[NDArray[np.uint8]], None] | None = None
    progress: Callable[[int], None] | None = None

    @property
    def reason(self) -> str:
        """Why entries go, as the audit log says it."""
        return "expired" if self.address is None else "endpoint"


class Engine(Protocol):
    """Collects one table. Never raises for entries that vanish; stops early when ``job.stop`` is set."""

    def __call__(self, table: Table, job: Job) -> Tally: ...
