"""What the user said about a source, applied to what was read from a file."""

from __future__ import annotations

from collections.abc import Iterable

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


def choose_map(source: Source, name: str | None, pins_here: Iterable[str] | None = None) -> None:
    """Leave one table, which need not be a conntrack one: then none of those. Raises NotFoundError.

    ``pins_here``: what is pinned beside the tables; None: a file, which may show any table that there is.
    """
    if name is None:
        return
    source.only = name
    known = [table.name for table in source.tables]
    source.tables = [table for table in source.tables if table.name == name]
    source.has_ct = bool(source.tables)
    others = table_names([name] if pins_here is None else pins_here)
    if not source.tables and name not in others:
        raise NotFoundError(unknown_name("table", name, dict.fromkeys([*known, *others])))
