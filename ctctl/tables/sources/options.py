"""What the user said about a source, applied to what was read from a file."""

from __future__ import annotations

from ctctl.errors import NotFoundError
from ctctl.model.suggest import unknown_name
from ctctl.tables.sources.base import Source, SourceOptions
from ctctl.tables.sources.pinned import table_names
from ctctl.tables.sources.timing import note_times


def apply_options(source: Source, options: SourceOptions) -> None:
    """``--map`` and ``--layout``, and notes on what was assumed. Raises NotFoundError."""
    if options.map is not None:
        known = [table.name for table in source.tables]
        source.tables = [table for table in source.tables if table.name == options.map]
        source.has_ct = bool(source.tables)
        if not source.tables and not table_names([options.map]):
            raise NotFoundError(unknown_name("table", options.map, dict.fromkeys(known)))
    for table in source.tables:
        if table.layout_evidence == "assumed" and options.layout is not None:
            table.layout, table.layout_evidence = options.layout, "--layout"
    note_times(source)
