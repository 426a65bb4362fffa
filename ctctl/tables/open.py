"""What the user said after ``--from`` to a source whose filters know names."""

from __future__ import annotations

from collections.abc import Sequence

from ctctl.tables.names import SourceNames
from ctctl.tables.sources.base import Source, SourceOptions
from ctctl.tables.sources.several import open_several


def open_source(spec: str | Sequence[str] = "auto", options: SourceOptions = SourceOptions()) -> Source:  # noqa: B008
    """The source, or several as one, as ``sources.several`` has them. Raises what that does."""
    source = open_several([spec] if isinstance(spec, str) else spec, options)
    source.name_files = options.names
    for table in source.tables:
        table.names = SourceNames(source, table.node)
    return source
