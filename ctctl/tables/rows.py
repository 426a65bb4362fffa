"""Entries of a table that a filter wants, and entries as rows with what their table tells of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ctctl.tables.query.filter import Filter
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    from ctctl.decode.columns import CtColumns
    from ctctl.model.row import CtRow


def row_of(table: CtTable, columns: CtColumns, index: int, names: Mapping[str, str]) -> CtRow:
    """One entry of a batch as a row."""
    from ctctl.model.row import CtRow  # lists are written from the bytes

    entry = columns.entry(index, table.name, table.absent)
    return CtRow(entry, table.layout, table.clock, table.now, table.node, table.raw, names)


def matching(table: CtTable, wanted: Filter) -> Iterator[CtColumns]:
    """The table's entries that the filter wants, batch by batch, none empty; live tables are filtered in the kernel.

    Raises UsageError if the filter needs a now that is unknown.
    """
    predicate = wanted.bind(table.context())
    if predicate is False:
        return
    if predicate is True:
        yield from table.columns()
        return
    if table.live is not None:
        from ctctl.tables.scan import scan

        found = scan(table, predicate)
        if found is not None:
            if len(found):
                yield found
            return
    from ctctl.tables.query.predicate import mask_of

    for columns in table.columns():
        mask = mask_of(predicate, columns)
        if mask.any():
            yield columns.select(mask)
