"""What a run did: figures by table and class, the same from every engine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING

from ctctl.ops.gc.classes import CLASSES, EntryClass, class_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EngineName(StrEnum):
    """Values of ``--engine``."""

    BATCH = "batch"
    KERNEL = "kernel"
    PER_KEY = "per-key"


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one class of entries in one table.

    ``alive``: not expired; ``expired``: expired when tested; ``deleted``: of these, deleted;
    ``skipped``: of these, refreshed or gone before the delete. A dry run deletes and skips nothing.
    """

    map: str
    family: str
    entry_class: EntryClass
    alive: int
    expired: int
    deleted: int
    skipped: int


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table's part of a run. ``protocol`` is the metrics' label: ``TCP`` or ``non-TCP``."""

    map: str
    family: str
    protocol: str
    max_entries: int
    rows: tuple[Row, ...]
    nat_deleted: int
    resets: int
    complete: bool
    duration_s: float

    @property
    def alive(self) -> int:
        return sum(row.alive for row in self.rows)

    @property
    def expired(self) -> int:
        return sum(row.expired for row in self.rows)

    @property
    def deleted(self) -> int:
        return sum(row.deleted for row in self.rows)

    @property
    def skipped(self) -> int:
        return sum(row.skipped for row in self.rows)

    @property
    def ratio(self) -> float:
        """deleted / max_entries: what the interval rule looks at."""
        return self.deleted / self.max_entries if self.max_entries else 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run. ``now`` is in units of the tables' clock; times are in seconds.

    ``complete`` is False after Ctrl-C or a failure: every figure then still counts what was done.
    ``orphans_deleted`` is None unless orphans were asked for; in a dry run it counts those found.
    """

    source: str
    engine: EngineName
    dry_run: bool
    now: int
    tables: tuple[TableReport, ...]
    orphans: int | None
    duration_s: float
    complete: bool
    interval_s: float
    next_interval_s: float
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for table in self.tables for row in table.rows)

    @property
    def ratio(self) -> float:
        """The greatest share of deleted entries over the tables (spec/abi.md, "GC facts")."""
        return max((table.ratio for table in self.tables), default=0.0)

    @property
    def deleted(self) -> int:
        return sum(table.deleted for table in self.tables)

    @property
    def nat_deleted(self) -> int:
        return sum(table.nat_deleted for table in self.tables)


def _zeros() -> NDArray[np.int64]:
    import numpy as np

    return np.zeros(CLASSES, np.int64)


@dataclass(slots=True)
class Tally:
    """Counters of a running collection; int64 arrays with an element a class (``classes.class_of``)."""

    alive: NDArray[np.int64] = field(default_factory=_zeros)
    expired: NDArray[np.int64] = field(default_factory=_zeros)
    deleted: NDArray[np.int64] = field(default_factory=_zeros)
    skipped: NDArray[np.int64] = field(default_factory=_zeros)
    nat_deleted: int = 0
    #: restarts of a walk by key, because the key it stood on was gone
    resets: int = 0
    complete: bool = True

    def rows(self, map_name: str, family: str) -> tuple[Row, ...]:
        """The classes that were seen, in the order of ``EntryClass``."""
        import numpy as np

        seen = np.flatnonzero(self.alive + self.expired)
        rows = [
            Row(
                map_name,
                family,
                class_of(int(number)),
                int(self.alive[number]),
                int(self.expired[number]),
                int(self.deleted[number]),
                int(self.skipped[number]),
            )
            for number in seen
        ]
        return tuple(_merged(sorted(rows, key=lambda row: row.entry_class)))


def _merged(rows: list[Row]) -> list[Row]:
    """Rows of equal class as one: odd flag bytes (SERVICE|IN) share a class word with others."""
    groups = groupby(rows, key=lambda row: row.entry_class)
    return [reduce(_sum, group) for _, group in groups]


def _sum(a: Row, b: Row) -> Row:
    return replace(
        a,
        alive=a.alive + b.alive,
        expired=a.expired + b.expired,
        deleted=a.deleted + b.deleted,
        skipped=a.skipped + b.skipped,
    )
