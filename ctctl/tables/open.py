"""What the user said after ``--from`` to a source whose filters know names."""

from __future__ import annotations

from collections.abc import Sequence

from ctctl.config.allowance import shared
from ctctl.errors import NotFoundError
from ctctl.model.suggest import unknown_name
from ctctl.node.find import node_directories
from ctctl.out.fetched import as_named, is_fetched
from ctctl.tables.names import SourceNames
from ctctl.tables.sources import open as one
from ctctl.tables.sources.base import Source, SourceOptions


def open_nodes(specs: Sequence[str], names: Sequence[str], options: SourceOptions) -> Source:
    """The nodes called ``names`` of a source, or without names every one; of this machine for ``auto``.

    There it is the nodes that ctctl loaded, and for every one a live Cilium's tables too. Raises NotFoundError for
    an unknown name or where nothing is, and what ``open_source`` does.
    """
    if list(specs) == ["auto"]:
        return open_source([str(directory) for directory in node_directories(names)], options)
    source = open_source(specs, options)
    known = source.nodes()
    for name in names:
        if name not in known:
            source.close()
            raise NotFoundError(unknown_name("node", name, known))
    if names:
        source.tables = [table for table in source.tables if table.node in names]
        source.node_names = list(names)
    return source


def open_source(spec: str | Sequence[str] = "auto", options: SourceOptions = SourceOptions()) -> Source:  # noqa: B008
    """The source, or several as one, as ``sources.several`` has them. Raises what that does."""
    specs = [spec] if isinstance(spec, str) else spec
    if len(specs) == 1 and not is_fetched(specs[0]):
        source = one.open_source(specs[0], options)
    else:
        from ctctl.tables.sources.several import open_several  # with every reader of files: not for a live table

        with shared():
            source = open_several(specs, options)
    source.description = as_named(source.description)
    source.name_files = options.names
    for table in source.tables:
        table.names = SourceNames(source, table.node)
    return source
