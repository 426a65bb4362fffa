"""Pinned tables of this machine: our own nodes', a live Cilium's, or any directory or pin.

Maps are opened read-only and nothing is ever mounted or written. Our own nodes count in seconds of
CLOCK_MONOTONIC; another program's clock is found by evidence.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ctctl.abi import pins
from ctctl.abi.constants import CT_ENTRY_LAST_TX_REPORT
from ctctl.decode.ct import KEY_SIZE, VALUE_SIZE, family_of_key, layout_of_fields
from ctctl.errors import NotFoundError, PermissionDenied
from ctctl.kernel.clock import boot_id, jiffies_units, kernel_hz, monotonic_s
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.map_handle import HASHES
from ctctl.kernel.map_types import map_types
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.model.version import CiliumVersion
from ctctl.node import agent
from ctctl.node.cilium import identify, is_this_nodes
from ctctl.node.find import find_tables, node_at
from ctctl.node.owner import own_maps
from ctctl.tables.sources import pinned
from ctctl.tables.sources.base import CtTable, NoTableError, Source, SourceOptions
from ctctl.tables.sources.clocks import RECENT_S, agent_clock, clock_by_reports, note_of_given, objection

if TYPE_CHECKING:
    from ctctl.tables.sources.base import Rows
    from ctctl.tables.sources.facts import NodeFacts

_SAMPLE = 128
_REPORTS, _REPORTS_AT = struct.Struct("<II"), CT_ENTRY_LAST_TX_REPORT
_OWN_CLOCK = Clock(None, "ktime: ctctl's own node")
#: Entries a batch: what numpy works on fits a CPU's cache, and calls are few.
BATCH = 8192


def _listing(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except PermissionError:
        raise PermissionDenied(f"cannot look into {directory}: needs root") from None
    except OSError:
        return []


def open_default(options: SourceOptions) -> Source:
    """The loaded node (``options.node`` when several), else a live Cilium's tables.

    Raises NotFoundError where there is neither, UsageError where a node must be named.
    """
    return open_directory(find_tables(options.node), options)


def open_directory(directory: Path, options: SourceOptions) -> Source:
    """All conntrack tables pinned in a directory. Raises NoTableError if there is none, KernelError."""
    names = [
        path for path in _listing(directory) if path.name in pins.CT_TABLES or path.name.startswith(pins.CT_PER_CLUSTER)
    ]
    return _open_pins(f"{directory}", directory, names, options)


def open_pin(path: Path, options: SourceOptions) -> Source:
    """One pinned map. Raises NoTableError if it is no conntrack table, KernelError."""
    return _open_pins(str(path), path.parent, [path], options)


def _open_pins(description: str, directory: Path, paths: list[Path], options: SourceOptions) -> Source:
    node = node_at(directory)
    source = Source(description, directory=str(directory))
    try:
        for path in paths:
            _add_pin(source, path, node)
        source.tables.sort(key=lambda table: _order(table.name))
        if not source.tables:
            raise NoTableError(f"{directory}: {'; '.join(source.partial) or 'no conntrack table is pinned there'}")
        _add_snat(source, directory)
        ours = own_maps()
        source.foreign = not all(table.live is not None and table.live.info.id in ours for table in source.tables)
        finish(source, options)
    except BaseException:
        source.close()
        raise
    _offer_listings(source, directory)
    if source.foreign:
        source.facts = cache(lambda _node: _agents_facts(directory))
    return source


def _agents_facts(directory: Path) -> NodeFacts:
    """What the agent of these tables stored of its configuration, and says; nothing for another node's tables."""
    # What reads dumps takes a third of a short listing's time to import.
    from ctctl.tables.sources.agent_text import add_config
    from ctctl.tables.sources.dump import Dump
    from ctctl.tables.sources.modes import modes_of_status

    dump = Dump()
    if not is_this_nodes(directory):
        return dump.facts
    stored = agent.runtime_config()
    if stored is not None:
        add_config(dump, stored[0])
    # What runs wins over what it started with.
    dump.facts.modes |= modes_of_status(agent.ask("/healthz"))
    return dump.facts


def _add_snat(source: Source, directory: Path) -> None:
    """The SNAT table of each conntrack table: its family's, its cluster's where there is one a cluster."""
    opened: dict[tuple[int, int | None], Map | None] = {}
    for table in source.tables:
        name, _, cluster = table.name.removesuffix("]").partition("[")
        key = (table.family, int(cluster) if cluster else None)
        if cluster or not name.startswith(pins.CT_PER_CLUSTER):
            if key not in opened:
                opened[key] = _open_snat(source, directory, *key)
            table.nat = opened[key]


def _open_snat(source: Source, directory: Path, family: int, cluster: int | None) -> Map | None:
    name = pins.SNAT_TABLES[family] if cluster is None else pins.SNAT_PER_CLUSTER[family]
    try:
        found = source.resources.enter_context(Map.open_pinned(directory / name, read_only=True))
        if cluster is not None:
            inner = found.lookup(cluster.to_bytes(4, "little"))
            if inner is None:
                return None
            name = f"{name}[{cluster}]"
            found = source.resources.enter_context(Map.open_id(int.from_bytes(inner, "little"), name))
    except NotFoundError:
        return None
    from ctctl.tables.pairs import KEY_LAYOUTS

    info, keys = found.info, KEY_LAYOUTS[family]
    if (info.key_size, info.value_size) != (keys.size, keys.nat_value_size) or info.type not in HASHES:
        source.notes.append(
            f"{name} is no SNAT table: keys of {info.key_size} and values of {info.value_size} bytes,"
            f" not {keys.size} and {keys.nat_value_size}; it is left alone"
        )
        return None
    return found


def _offer_listings(source: Source, directory: Path) -> None:
    source.listings = lambda _node: pinned.read_listings(directory)
    source.partly = lambda _node, kinds: pinned.read_listings(directory, kinds)
    source.snat = lambda _node: pinned.nat_tables(directory)
    source.nat_of = lambda flows: pinned.find_nat(directory, flows)


def _order(name: str) -> tuple[int, str]:
    return (pins.CT_TABLES.index(name), "") if name in pins.CT_TABLES else (len(pins.CT_TABLES), name)


def _add_pin(source: Source, path: Path, node: str | None) -> None:
    opened = source.resources.enter_context(Map.open_pinned(path, read_only=True))
    if opened.info.type not in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
        _add_map(source, opened, path.name, node)
        return
    for key, value in opened.items():
        try:
            inner = source.resources.enter_context(Map.open_id(int.from_bytes(value, "little")))
        except NotFoundError:
            source.notes.append(f"{path.name}: the table of cluster {int.from_bytes(key, 'little')} went away")
            continue
        _add_map(source, inner, f"{path.name}[{int.from_bytes(key, 'little')}]", node)


def _add_map(source: Source, table: Map, name: str, node: str | None) -> None:
    info = table.info
    family = {size: family for family, size in KEY_SIZE.items()}.get(info.key_size)
    if family is None or info.value_size != VALUE_SIZE or info.type not in HASHES:
        source.partial.append(
            f"{name} is not a conntrack table: a map of type {info.type} with keys of {info.key_size} and values of"
            f" {info.value_size} bytes, where a hash with 14 or 38 and {VALUE_SIZE} is expected"
        )
        return
    layout, evidence = layout_of(table)
    source.tables.append(
        CtTable(
            name=name,
            family=family,
            layout=layout,
            layout_evidence=evidence,
            read=lambda: read_map(table),
            node=node,
            max_entries=info.max_entries,
            live=table,
        )
    )


def table_of(name: str, table: Map, nat: Map | None = None) -> CtTable:
    """A map of this process's own as a table. ``now`` is not known: it may be simulated."""
    return CtTable(
        name=name,
        family=family_of_key(table.info.key_size),
        layout=Layout.V1_16,
        read=lambda: read_map(table),
        max_entries=table.info.max_entries,
        live=table,
        nat=nat,
    )


def layout_of(table: Map) -> tuple[Layout, str]:
    """Layout and evidence: by the BTF of the map's value, else assumed to be 1.16.

    Raises LayoutError, naming the first field that differs, for BTF that fits no known layout.
    """
    types = map_types(table)
    if types is None or not types.value_type_id:
        return Layout.V1_16, "assumed"
    layout = layout_of_fields(types.value_fields)
    from ctctl.abi.check import check_entry

    check_entry(types.btf, types.value_type_id, layout or Layout.V1_16, what=f"{table.name}: value")
    return (layout, "BTF") if layout is not None else (Layout.V1_16, "assumed")


def read_map(table: Map) -> Iterator[Rows]:
    """A live map batch by batch."""
    yield from table.batches(BATCH)


def finish(source: Source, options: SourceOptions) -> None:
    """Find version, layout and clock; apply ``--map``, ``--layout``, ``--clock`` and ``--now``."""
    _find_layout(source, options.layout)
    source.clock, now = _clock(source, options)
    source.now = options.now if options.now is not None else now
    source.collected_at, source.boot_id = time.time(), boot_id()
    for table in source.tables:
        table.clock, table.now = source.clock, source.now
    if options.map is not None:
        # With the readers of files: not for a list of everything.
        from ctctl.tables.sources.options import choose_map

        pins_here = [path.name for path in _listing(Path(source.directory))] if source.directory else []
        choose_map(source, options.map, pins_here)
        if not source.has_ct:
            source.description = f"{source.description}/{options.map}"


def _find_layout(source: Source, asked: Layout | None) -> None:
    """The layout of tables without BTF: as the user says, else by evidence of what Cilium this is."""
    bare = [table for table in source.tables if table.layout_evidence == "assumed"]
    if source.foreign and source.directory is not None:
        source.version = version_of(Path(source.directory), source.tables)
    if source.version is not None:
        source.details.append(f"Cilium {source.version} by {source.version.evidence}")
    for table in bare:
        if asked is not None:
            table.layout, table.layout_evidence = asked, "--layout"
        elif source.version is not None:
            table.layout, table.layout_evidence = source.version.layout, source.version.evidence
    if bare and asked is None and source.version is None:
        source.details.append("no entry and no name tells the layout: 1.16 assumed; choose with --layout")


def version_of(directory: Path, tables: Iterable[CtTable]) -> CiliumVersion | None:
    """The Cilium whose maps are pinned in a directory, of which ``tables`` are the conntrack ones."""
    samples = (record for table in tables for record in _sample(table))
    return identify([path.name for path in _listing(directory)], samples, here=is_this_nodes(directory))


def _sample(table: CtTable) -> Iterator[tuple[bytes, bytes]]:
    if table.live is not None:
        yield from islice(table.live.items(), _SAMPLE)


def _clock(source: Source, options: SourceOptions) -> tuple[Clock, int | None]:
    if options.clock is None and not source.foreign:
        return _OWN_CLOCK, monotonic_s()
    clock = options.clock or agent_clock()
    if clock is not None:
        source.details.append(f"clock: {clock.evidence}")
        now = monotonic_s() if clock.hz is None else jiffies_units()
        if options.clock is not None and options.now is None:
            _note_given_clock(source, clock, now)
        return clock, now
    reports = [report for table in source.tables for report in _reports(table)]
    if not any(reports):
        return Clock(None, "ktime assumed: no entry tells"), monotonic_s()
    found = clock_by_reports(reports, monotonic_s(), None, None)
    if found is None or found[0].seconds(found[1]) - max(reports) > RECENT_S:
        # Reports that ktime explains badly: see whether jiffies do better. Finding HZ takes a moment.
        jiffies_now = jiffies_units()
        found = clock_by_reports(reports, monotonic_s(), jiffies_now, kernel_hz() if jiffies_now else None)
    if found is None:
        source.notes.append("clock unknown: report times fit neither ktime nor jiffies; ktime assumed")
        return Clock(None, "assumed"), monotonic_s()
    source.details.append(f"clock: {found[0].evidence}")
    return found


def _note_given_clock(source: Source, given: Clock, now: int | None) -> None:
    """Say what speaks against a clock that the user gave; what deletes does not go by it then (writer/clock.py)."""
    if not source.foreign:
        source.notes += note_of_given(given, _OWN_CLOCK)
    elif now is not None:
        newest = max((report for table in source.tables for report in _reports(table)), default=0)
        if (text := objection(given, now, newest)) is not None:
            source.notes.append(f"clock: --clock {given} was given, and {text}")


def _reports(table: CtTable) -> Iterator[int]:
    """The report times of a sample of the table, read without numpy: it is all that some commands need."""
    for _, value in _sample(table):
        yield from _REPORTS.unpack_from(value, _REPORTS_AT)
