"""What the user said about a source, applied to what was read from a file."""

from __future__ import annotations

from ctctl.errors import NotFoundError
from ctctl.model.suggest import unknown_name
from ctctl.tables.sources.base import Source, SourceOptions
from ctctl.tables.sources.pinned import table_names
from ctctl.tables.sources.timing import note_times


def apply_options(source: Source, options: SourceOptions) -> None:
    """``--map`` and ``--layout``, and notes on what was assumed. Raises NotFoundError."""
    choose_map(source, options.map)
    for table in source.tables:
        if table.layout_evidence == "assumed" and options.layout is not None:
            table.layout, table.layout_evidence = options.layout, "--layout"
    note_times(source)


def choose_map(source: Source, name: str | None) -> None:
    """Leave one table, which need not be a conntrack one: then none of those. Raises NotFoundError."""
    if name is None:
        return
    source.only = name
    known = [table.name for table in source.tables]
    source.tables = [table for table in source.tables if table.name == name]
    source.has_ct = bool(source.tables)
    if not source.tables and not table_names([name]):
        raise NotFoundError(unknown_name("table", name, dict.fromkeys(known)))
