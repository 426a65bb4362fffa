"""``ct events``: what happens to entries, by comparing the table with itself a moment ago.

Works on every live table, ours and foreign, with read access alone. What appears and disappears
between two looks is not seen; a shorter interval sees more and costs more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ctctl.ct.diff import changed_fields, load, row_of
from ctctl.ct.report import CtEvent, CtEventKind
from ctctl.errors import UsageError
from ctctl.kernel.clock import jiffies_units, monotonic_s
from ctctl.model.entry import CtFlags
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.sources.base import CtTable, Source

_CLOSING = int(CtFlags.RxClosing | CtFlags.TxClosing)
#: Fields that every packet changes: no event by themselves.
NOISE = frozenset({"lifetime", "packets", "bytes", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes"}) | frozenset(
    {"last_tx_report", "last_rx_report"}
)


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
    """Events until ``rounds`` comparisons have been made, or for ever. Raises UsageError for a file."""
    if any(table.live is None for table in source.tables):
        raise UsageError("ct events follows live tables; compare two files with ct diff")
    before = {id(table): load(table) for table in source.tables}
    while rounds is None or rounds > 0:
        wait(interval_s)
        at = time.time()
        for table in source.tables:
            refresh_now(table)
            after = load(table)
            yield from _compare(table, before[id(table)], after, wanted, at)
            before[id(table)] = after
        rounds = None if rounds is None else rounds - 1


def _compare(
    table: CtTable, before: dict[bytes, bytes], after: dict[bytes, bytes], wanted: Filter, at: float
) -> Iterator[CtEvent]:
    context = table.context()

    def event(kind: CtEventKind, key: bytes, value: bytes, old: bytes | None = None) -> CtEvent | None:
        row = row_of(table, key, value)
        if not wanted.matches(row.entry, context):
            return None
        fields = changed_fields(row_of(table, key, old).entry, row.entry) if old is not None else {}
        return CtEvent(kind, at, row, "snapshot", fields)

    found: list[CtEvent | None] = []
    for key in before.keys() - after.keys():
        found.append(event(CtEventKind.DESTROY, key, before[key]))
    for key, value in after.items():
        old = before.get(key)
        if old is None:
            found.append(event(CtEventKind.NEW, key, value))
        elif old != value:
            kind = _kind(old, value, table)
            if kind is not None:
                found.append(event(kind, key, value, old))
    yield from (item for item in found if item is not None)


def _kind(old: bytes, new: bytes, table: CtTable) -> CtEventKind | None:
    """What a change of the value is; None for what every packet does."""
    before, after = int.from_bytes(old[36:38], "little"), int.from_bytes(new[36:38], "little")
    if after & _CLOSING & ~before:
        return CtEventKind.CLOSING
    if before & _CLOSING and not after & _CLOSING:
        return CtEventKind.NEW
    key = bytes(14 if table.family == 4 else 38)
    fields = changed_fields(row_of(table, key, old).entry, row_of(table, key, new).entry)
    return CtEventKind.UPDATE if fields.keys() - NOISE else None
