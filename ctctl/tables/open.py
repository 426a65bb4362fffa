"""What the user said after ``--from`` to a source whose filters know names."""

from __future__ import annotations

from collections.abc import Sequence

from ctctl.tables.names import SourceNames
from ctctl.tables.sources import open as one
from ctctl.tables.sources.base import Source, SourceOptions


def open_source(spec: str | Sequence[str] = "auto", options: SourceOptions = SourceOptions()) -> Source:  # noqa: B008
    """The source, or several as one, as ``sources.several`` has them. Raises what that does."""
    specs = [spec] if isinstance(spec, str) else spec
    if len(specs) == 1:
        source = one.open_source(specs[0], options)
    else:
        from ctctl.tables.sources.several import open_several  # with every reader of files: not for a live table

        source = open_several(specs, options)
    source.name_files = options.names
    for table in source.tables:
        table.names = SourceNames(source, table.node)
    return source
