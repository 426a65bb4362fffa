"""``ct events``: what happens to entries, by comparing the table with itself a moment ago.

Works on every live table, ours and foreign, with read access alone. What appears and disappears
between two looks is not seen; a shorter interval sees more and costs more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ctctl.ct.compare import Compared, Records, load
from ctctl.ct.diff import COMPARED, changed_fields
from ctctl.ct.report import CtEvent, CtEventKind
from ctctl.errors import UsageError
from ctctl.kernel.clock import jiffies_units, monotonic_s
from ctctl.model.entry import CtEntry
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.sources.base import CtTable, Source

#: Fields that every packet changes: no event by themselves.
NOISE = frozenset({"lifetime", "packets", "bytes", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes"}) | frozenset(
    {"last_tx_report", "last_rx_report"}
)
_TOLD = tuple(name for name in COMPARED if name not in NOISE)


def refresh_now(table: CtTable) -> None:
    """Move a live table's now to this moment."""
    if table.live is not None:
        table.now = monotonic_s() if table.clock.hz is None else jiffies_units()


def events(
    source: Source,
    wanted: Filter = EVERYTHING,
    *,
    interval_s: float = 1.0,
    rounds: int | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[CtEvent]:
    """Events until ``rounds`` comparisons have been made, or for ever. Raises UsageError for a file, before any."""
    if any(table.live is None for table in source.tables):
        raise UsageError("ct events follows live tables; compare two files with ct diff")
    return _events(source, wanted, interval_s, rounds, wait)


def _events(
    source: Source, wanted: Filter, interval_s: float, rounds: int | None, wait: Callable[[float], None]
) -> Iterator[CtEvent]:
    before = {id(table): load(table) for table in source.tables}
    while rounds is None or rounds > 0:
        wait(interval_s)
        at = time.time()
        for table in source.tables:
            refresh_now(table)
            after = load(table)
            yield from _compare(before[id(table)], after, wanted, at)
            before[id(table)] = after
        rounds = None if rounds is None else rounds - 1


def _compare(before: Records, after: Records, wanted: Filter, at: float) -> Iterator[CtEvent]:
    context, compared = after.table.context(), Compared(before, after)
    for kind, rows in ((CtEventKind.DESTROY, compared.gone()), (CtEventKind.NEW, compared.added())):
        yield from (CtEvent(kind, at, row, "snapshot", {}) for row in rows if wanted.matches(row.entry, context))
    for old, row in compared.unlike(_TOLD):
        changed = kind_of(old.entry, row.entry)
        if changed is not None and wanted.matches(row.entry, context):
            yield CtEvent(changed, at, row, "snapshot", changed_fields(old.entry, row.entry))


def kind_of(before: CtEntry, after: CtEntry) -> CtEventKind | None:
    """What a change of an entry is; None for what every packet does."""
    if after.flags.closing & ~before.flags.closing:
        return CtEventKind.CLOSING
    if before.flags.closing and not after.flags.closing:
        return CtEventKind.NEW
    return CtEventKind.UPDATE if changed_fields(before, after).keys() - NOISE else None
