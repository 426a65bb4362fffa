"""Where a simulation starts: node files and empty tables, a source of entries, or a copy of what is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ctctl.abi import pins
from ctctl.config.node import NodeFile, load_node_files, parse_node_files
from ctctl.decode.ct import decode_entry, encode_entry
from ctctl.errors import NotFoundError, UsageError
from ctctl.kernel.clock import monotonic_s
from ctctl.kernel.map import Map
from ctctl.model.entry import Layout
from ctctl.node.find import choose_nodes
from ctctl.node.record import MAP_NAME, read_record
from ctctl.simulate.whatif import StartTable

if TYPE_CHECKING:
    from ctctl.tables.sources.base import CtTable, Source

#: what a live node's connections consist of
_COPIED = (*pins.OWN_CT_TABLES, pins.SNAT4, pins.LB4_AFFINITY)


@dataclass(frozen=True, slots=True)
class Start:
    """Nodes, tables to begin with, and the clock (None: the file's, else a default). ``notes`` are for the user."""

    nodes: tuple[NodeFile, ...]
    tables: tuple[StartTable, ...] = ()
    now: int | None = None
    notes: tuple[str, ...] = ()


def from_files(path: Path, names: Sequence[str] = ()) -> Start:
    """The nodes of a file, or those of these names, with empty tables. Raises ConfigError, NotFoundError."""
    nodes = load_node_files(path)
    chosen = _chosen(nodes, names, str(path))
    return Start(chosen, notes=notes_of(chosen))


def notes_of(nodes: Iterable[NodeFile]) -> tuple[str, ...]:
    """What reading node files left out, each once: documents of one file share their Kubernetes objects."""
    return tuple(dict.fromkeys(note for nf in nodes for note in nf.notes))


def from_loaded(names: Sequence[str] = ()) -> Start:
    """A copy of the nodes that are loaded (all, or those of these names), tables and clock included.

    Raises NotFoundError where nothing is loaded.
    """
    nodes: list[NodeFile] = []
    tables: list[StartTable] = []
    for paths in choose_nodes(names):
        name = paths.node
        record = read_record(paths.map(MAP_NAME))
        if record is None:
            raise NotFoundError(f"node {name}: what was loaded is not recorded: give its node file with -f")
        files = parse_node_files(record.file_text, record.file_path)
        chosen = next((nf for nf in files if nf.node.name == name), files[0])
        nodes.append(replace(chosen, node=replace(chosen.node, name=name)))
        tables += [StartTable(table, tuple(_pinned(paths.map(table))), name) for table in _COPIED]
    copied = f"copied from {', '.join(n.node.name for n in nodes)}"
    return Start(tuple(nodes), tuple(tables), monotonic_s(), (copied, *notes_of(nodes)))


def _pinned(path: Path) -> Iterator[tuple[bytes, bytes]]:
    if path.exists():
        with Map.open_pinned(path, read_only=True) as table:
            for batch in table.batches():
                yield from zip(map(bytes, batch.keys), map(bytes, batch.values), strict=True)


def with_source(start: Start, source: Source) -> Start:
    """``start`` with the conntrack entries of a snapshot, dump or live table, and its clock.

    IPv6 tables are left out with a note. Raises UsageError where a source of several nodes cannot be matched.
    """
    names = {nf.node.name for nf in start.nodes}
    tables, notes, now = list(start.tables), list(start.notes), start.now
    for table in source.tables:
        if table.family != 4:
            notes.append(f"{table.name}: IPv6, not simulated")
            continue
        node = table.node if table.node in names else None
        if node is None and len(names) > 1:
            raise UsageError(
                f"{table.name} of {table.node or 'no named node'}: the file has {', '.join(sorted(names))}"
            )
        tables.append(StartTable(table.name, tuple(_records(table)), node))
        now = table.now if now is None else now
    return replace(start, tables=tuple(tables), now=now, notes=tuple(notes))


def _records(table: CtTable) -> Iterator[tuple[bytes, bytes]]:
    for keys, values in table.read():
        for key, value in zip(map(bytes, keys), map(bytes, values), strict=True):
            if table.layout is Layout.V1_16:
                yield key, value
            else:
                entry = replace(decode_entry(key, value, table.layout), value=None)
                yield encode_entry(entry, Layout.V1_16)


def _chosen(nodes: tuple[NodeFile, ...], names: Sequence[str], path: str) -> tuple[NodeFile, ...]:
    known = {nf.node.name: nf for nf in nodes}
    for name in names:
        if name not in known:
            raise NotFoundError(f"{path}: no node {name!r}; it has {', '.join(known)}")
    return tuple(known[name] for name in names) if names else nodes
