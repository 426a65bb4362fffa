"""What the user said after ``--from`` to a source whose filters know names."""

from __future__ import annotations

from ctctl.tables.names import SourceNames
from ctctl.tables.sources.base import Source, SourceOptions
from ctctl.tables.sources.open import open_source as _open


def open_source(spec: str = "auto", options: SourceOptions = SourceOptions()) -> Source:  # noqa: B008 - frozen
    """The source, as ``sources.open`` has it. Raises what that does."""
    source = _open(spec, options)
    source.name_files = options.names
    for table in source.tables:
        table.names = SourceNames(source, table.node)
    return source
