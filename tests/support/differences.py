"""What differs between two sources, record by record: what ``ct.differing`` finds by columns is held against it."""

from __future__ import annotations

from collections.abc import Iterator

from ctctl.ct.compare import Compared, load
from ctctl.ct.diff import COMPARED, changed_fields, paired
from ctctl.ct.report import Change, Difference
from ctctl.tables.query.filter import EVERYTHING
from ctctl.tables.sources.base import CtTable, Source


def differences(first: Source, second: Source) -> Iterator[Difference]:
    """Entries that were removed, added or changed from ``first`` to ``second``, table by table."""
    for table, other in paired(first, second):
        yield from _of_tables(table, other)


def _of_tables(first: CtTable | None, second: CtTable | None) -> Iterator[Difference]:
    before = load(first, EVERYTHING) if first is not None else None
    after = load(second, EVERYTHING) if second is not None else None
    if before is None or after is None or before.table.family != after.table.family:
        for change, records in ((Change.REMOVED, before), (Change.ADDED, after)):
            if records is not None:
                yield from (Difference(change, records.row(index)) for index in range(len(records)))
        return
    compared = Compared(before, after)
    yield from (Difference(Change.REMOVED, row) for row in compared.gone())
    yield from (Difference(Change.ADDED, row) for row in compared.added())
    for old, row in compared.unlike(COMPARED):
        if fields := changed_fields(old.entry, row.entry):
            yield Difference(Change.CHANGED, row, fields)
