"""Counting while a collection runs; the figures of a table as rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING

from ctctl.gc.report import Row
from ctctl.tables.classes import CLASSES, class_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
    #: deletions, of SNAT entries too, that the kernel refused: those entries stayed
    refused: int = 0
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
