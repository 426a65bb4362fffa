"""Where a simulation starts: node files and empty tables, a source of entries, or a copy of what is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ctctl.abi import pins
from ctctl.config.node import NodeFile, load_node_files, parse_node_files
from ctctl.errors import NotFoundError, UsageError
from ctctl.kernel.clock import monotonic_s
from ctctl.kernel.map import Map
from ctctl.node.find import choose_nodes
from ctctl.node.record import MAP_NAME, read_record
from ctctl.simulate.carry import KINDS, Carried, carry
from ctctl.simulate.carry_tables import now_of, own_records
from ctctl.simulate.evidence import modes_of
from ctctl.simulate.limits import check, turns
from ctctl.simulate.limits import one_of as choices
from ctctl.simulate.sockets import with_sockets
from ctctl.simulate.whatif import StartTable
from ctctl.tables.names import book_of

if TYPE_CHECKING:
    from ctctl.packet.spec import PacketSpec
    from ctctl.tables.sources.base import Source

#: what a live node's connections consist of
_COPIED = (
    *(*pins.OWN_CT_TABLES, *pins.OWN_CT6_TABLES, *pins.SNAT_TABLES.values()),
    *(pins.LB4_AFFINITY, pins.LB6_AFFINITY),
)


@dataclass(frozen=True, slots=True)
class Start:
    """Nodes, tables to begin with, and the clock (None: the file's, else a default). ``notes`` are for the user.

    ``one_of``: as of ``conversation.Request``. ``configured``: the settings asked for are in the nodes already.
    """

    nodes: tuple[NodeFile, ...]
    tables: tuple[StartTable, ...] = ()
    now: int | None = None
    notes: tuple[str, ...] = ()
    one_of: Mapping[tuple[int, int], tuple[str, ...]] = field(default_factory=dict)
    configured: bool = False


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
        if record is None or not record.file_text:
            raise NotFoundError(f"node {name}: what was loaded is not recorded: give its node file with -f")
        files = parse_node_files(record.file_text, record.file_path)
        chosen = next((nf for nf in files if nf.node.name == name), files[0])
        nodes.append(replace(chosen, node=replace(chosen.node, name=name)))
        tables += [StartTable(table, tuple(_pinned(paths.map(table))), name) for table in _COPIED]
    copied = f"copied from {', '.join(n.node.name for n in nodes)}"
    return Start(tuple(nodes), tuple(tables), monotonic_s(), (copied, *notes_of(nodes)))


def is_whole(source: Source) -> bool:
    """Whether a source shows a node of its own, not entries alone: its pods are known."""
    if source.directory is not None and not source.foreign:
        return False
    nodes: list[str | None] = [*source.nodes()] or [None]
    return any(source.some(node, "endpoints").endpoints for node in nodes)


def from_source(source: Source, packet: PacketSpec, given: Mapping[str, str], name: str | None = None) -> Start:
    """The node of a source that the packet's source is on (or the one called so), as it is configured.

    ``given`` are settings by the keys of ``tables.sources.modes``. Raises UnsupportedError where our datapath
    cannot do what that node does with this packet, UsageError where a node must be named.
    """
    carried = carried_node(source, _node_of(source, packet, name), packet.proto, given, [packet])
    notes = check(carried, packet)
    file = with_sockets(carried.file) if turns(carried, packet) else carried.file
    services: set[tuple[int, int]] = {(service.id, service.ip.version) for service in carried.file.services}
    one_of = {key: found for key in services if (found := choices(carried, *key))}
    said = (f"copied from {source.description}", *notes)
    return Start((file,), carried.tables, carried.now, said, one_of, configured=True)


def carried_node(
    source: Source, node: str | None, proto: int, given: Mapping[str, str], packets: Iterable[PacketSpec]
) -> Carried:
    """One node of a source as it is simulated for these packets of one IP protocol."""
    listings = source.some(node, *KINDS)
    facts = source.facts(node)
    modes = modes_of(facts, source, listings, given)
    pods = {str(address): name for name, addresses in book_of(source, node).pods.items() for address in addresses}
    return carry(source, node, listings, modes, proto, facts=facts, pods=pods, packets=packets)


def _node_of(source: Source, packet: PacketSpec, name: str | None) -> str | None:
    nodes = source.nodes()
    if name is not None and nodes and name not in nodes:
        raise NotFoundError(f"no node {name!r} in {source.description}; it has {', '.join(nodes)}")
    if name is not None or len(nodes) < 2:
        return name if name in nodes else next(iter(nodes), None)
    ends = (packet.src, packet.dst)
    found = [
        (ends.index(record.addr), node)
        for node in nodes
        for record in source.some(node, "endpoints").endpoints
        if record.addr in ends
    ]
    if not found:
        raise UsageError(f"neither end of the packet is on one of the nodes {', '.join(nodes)}: say which with --node")
    return min(found)[1]


def _pinned(path: Path) -> Iterator[tuple[bytes, bytes]]:
    if path.exists():
        with Map.open_pinned(path, read_only=True) as table:
            for batch in table.batches():
                yield from zip(map(bytes, batch.keys), map(bytes, batch.values), strict=True)


def with_source(start: Start, source: Source) -> Start:
    """``start`` with the conntrack entries of a snapshot, dump or live table, and its clock.

    IPv6 tables are left out, with a note, where no node has IPv6. Raises UsageError where a source of several
    nodes cannot be matched.
    """
    names = {nf.node.name for nf in start.nodes}
    six = any(nf.datapath.ipv6 for nf in start.nodes)
    tables, notes, copied = list(start.tables), list(start.notes), []
    for table in source.tables:
        if table.family == 6 and not six:
            notes.append(f"{table.name}: IPv6, which the node does not have: left out")
            continue
        node = table.node if table.node in names else None
        if node is None and len(names) > 1:
            raise UsageError(
                f"{table.name} of {table.node or 'no named node'}: the file has {', '.join(sorted(names))}"
            )
        tables.append(StartTable(table.name, tuple(own_records(table)), node))
        copied.append(table)
    now = start.now
    if now is None:
        now = now_of(copied, notes, max((nf.clock or 0 for nf in start.nodes), default=0) or None)
    return replace(start, tables=tuple(tables), now=now, notes=tuple(notes))


def _chosen(nodes: tuple[NodeFile, ...], names: Sequence[str], path: str) -> tuple[NodeFile, ...]:
    known = {nf.node.name: nf for nf in nodes}
    for name in names:
        if name not in known:
            raise NotFoundError(f"{path}: no node {name!r}; it has {', '.join(known)}")
    return tuple(known[name] for name in names) if names else nodes
