"""What the user said about a source, applied to what was read from a file."""

from __future__ import annotations

from ctctl.errors import NotFoundError
from ctctl.model.suggest import unknown_name
from ctctl.tables.sources.base import CtTable, Source, SourceOptions


def apply_options(source: Source, options: SourceOptions) -> None:
    """``--map`` and ``--layout``, and notes on what was assumed. Raises NotFoundError."""
    if options.map is not None:
        known = [table.name for table in source.tables]
        source.tables = [table for table in source.tables if table.name == options.map]
        if not source.tables:
            raise NotFoundError(unknown_name("table", options.map, dict.fromkeys(known)))
    for table in source.tables:
        if table.layout_evidence == "assumed" and options.layout is not None:
            table.layout, table.layout_evidence = options.layout, "--layout"
    _note(source, source.tables)


def _note(source: Source, tables: list[CtTable]) -> None:
    if any(table.layout_evidence == "assumed" and table.count for table in tables):
        source.notes.append("no type information in the dump: layout 1.16 assumed; choose with --layout")
    for evidence in sorted({table.clock.evidence for table in tables if table.count and table.clock.evidence}):
        source.notes.append(f"clock: {evidence}")
    if any(table.now is None for table in tables if table.count):
        source.notes.append("the dump does not say when it was made: no remaining times; give --now")
