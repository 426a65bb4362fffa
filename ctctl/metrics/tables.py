"""What the tables hold now: map pressure, entries by kind, packets and drops by hook. Reads only."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ctctl.decode.ct import table_labels
from ctctl.errors import CtctlError, NotFoundError
from ctctl.kernel.map import Map, MapType
from ctctl.metrics.library import PREFIX, label_of_map, metric_families
from ctctl.model.tuples import protocol_name
from ctctl.node.counters import hook_counters, stats
from ctctl.tables import classes
from ctctl.tables.sources.base import CtTable, Source, SourceOptions
from ctctl.tables.sources.live import open_directory

if TYPE_CHECKING:
    from ctctl.tables.port_use import PortUse

_COUNTABLE = frozenset({MapType.HASH, MapType.LRU_HASH, MapType.LPM_TRIE, MapType.HASH_OF_MAPS})
#: A scrape walks the tables; scrapes within this time share one walk.
FRESH_S = 10.0
#: Remote ends whose use of SNAT's ports is exported: those that may run out. A label for each of them all would be a
#: series a peer.
REMOTES: Final = 20


@dataclass(frozen=True, slots=True)
class TableCount:
    """How full one table is. ``expired`` is None for tables without lifetimes."""

    map: str
    entries: int
    max_entries: int
    expired: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """The tables of a directory: those that could be counted, and why others could not.

    ``ports``: SNAT's ports by egress address, remote end and protocol, the fullest ``REMOTES`` of them.
    """

    tables: list[TableCount]
    failures: list[str]
    ports: list[PortUse] = field(default_factory=list)


def count_tables(path: Path) -> Counts:
    """Every hash table pinned at ``path``, counted by batches. Raises NotFoundError if it is not there."""
    found = Counts([], [])
    try:
        pinned = sorted(pin for pin in path.iterdir() if pin.is_file())
    except OSError as error:
        raise NotFoundError(f"{path}: {error.strerror}: the node's tables are not there (any more)") from None
    conntrack = _count_conntrack(path, found)
    for pin in pinned:
        if pin.name in conntrack:
            continue
        try:
            count = _count(pin)
        except CtctlError as error:
            found.failures.append(str(error))
            continue
        if count is not None:
            found.tables.append(count)
    found.tables.sort(key=lambda count: count.map)
    return found


def _count_conntrack(path: Path, found: Counts) -> set[str]:
    """Add the conntrack tables as every command opens them, per-cluster ones too; the names of their pins."""
    try:
        source = open_directory(path, SourceOptions())
    except CtctlError:
        return set()
    with source:
        for table in source.tables:
            try:
                found.tables.append(_count_entries(table))
            except CtctlError as error:
                found.failures.append(str(error))
        found.ports.extend(_ports(source, found))
        return {table.name.partition("[")[0] for table in source.tables}


def _ports(source: Source, found: Counts) -> list[PortUse]:
    """Who uses SNAT's ports; none where the tables cannot be read, which is a failure of ``found``."""
    from ctctl.tables.port_use import port_use
    from ctctl.tables.snat_ports import range_of

    if source.snat is None:
        return []
    tables = source.snat(None)
    try:
        return port_use(lambda: (rows for table in tables for rows in table.read()), range_of(source, None), REMOTES)
    except CtctlError as error:
        found.failures.append(str(error))
        return []


def _count_entries(table: CtTable) -> TableCount:
    """A conntrack table's figures, by the clock that was found for it. Raises CtctlError if it cannot be read."""
    assert table.live is not None
    entries = expired = 0
    for batch in table.live.batches():
        entries += len(batch)
        if table.now is not None:
            expired += int(classes.expired(batch.values, table.now).sum())
    return TableCount(table.name, entries, table.live.info.max_entries, expired if table.now is not None else None)


def _count(pin: Path) -> TableCount | None:
    """A table's figures, None for what is no hash table. Raises CtctlError if it cannot be read."""
    with Map.open_pinned(pin, read_only=True) as table:
        if table.info.type not in _COUNTABLE:
            return None
        return TableCount(pin.name, _entries(table), table.info.max_entries)


def _entries(table: Map) -> int:
    if table.info.type in (MapType.LPM_TRIE, MapType.HASH_OF_MAPS):
        return sum(1 for _ in table.every_key())
    return sum(len(batch) for batch in table.batches())


class TablesCollector:
    """A prometheus collector over one node's tables, walked at most every ``FRESH_S`` seconds."""

    def __init__(self, path: Path, *, fresh_s: float = FRESH_S) -> None:
        self._path = path
        self._fresh_s = fresh_s
        self._walked: tuple[float, Counts] = (-fresh_s, Counts([], []))
        self._lock = threading.Lock()

    def counts(self) -> Counts:
        """The tables' figures. Raises CtctlError that says why, if there are none: no data is not an empty table."""
        with self._lock:  # one walk, however many ask at the same time
            started = time.monotonic()
            at, counts = self._walked
            if started - at >= self._fresh_s:
                counts = count_tables(self._path)
                self._walked = (started, counts)
        if not counts.tables:
            why = (
                counts.failures[0] if counts.failures else "no table is pinned there; is a node loaded (ctctl status)?"
            )
            raise CtctlError(f"{self._path}: no data: {why}")
        return counts

    def describe(self) -> Iterator[Any]:
        """The families without samples."""
        return self._families(Counts([], []))

    def collect(self) -> Iterator[Any]:
        """The metric families, as prometheus-client asks for them. Raises CtctlError where there is no data."""
        return self._families(self.counts())

    def _families(self, counts: Counts) -> Iterator[Any]:
        families = metric_families()
        up = families.GaugeMetricFamily(f"{PREFIX}_node_up", "Whether the node's tables are there.")
        up.add_metric([], 1.0)
        yield up
        unread = families.GaugeMetricFamily(f"{PREFIX}_tables_unreadable", "Pinned tables that could not be read.")
        unread.add_metric([], len(counts.failures))
        yield unread
        yield from _table_families(families, counts.tables)
        yield from _port_families(families, counts.ports)
        yield from _datapath_families(families, self._path)


def _table_families(families: Any, counts: list[TableCount]) -> Iterator[Any]:
    pressure = families.GaugeMetricFamily(
        f"{PREFIX}_bpf_map_pressure", "Entries of a table, of its size.", labels=["map_name"]
    )
    size = families.GaugeMetricFamily(f"{PREFIX}_bpf_map_max_entries", "Size of a table.", labels=["map_name"])
    entries = families.GaugeMetricFamily(
        f"{PREFIX}_datapath_conntrack_entries",
        "Conntrack entries: alive, and expired but not yet collected.",
        labels=["family", "protocol", "status"],
    )
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    for count in counts:
        pressure.add_metric([label_of_map(count.map)], count.entries / count.max_entries)
        size.add_metric([label_of_map(count.map)], count.max_entries)
        if count.expired is not None:
            alive, expired = totals.get(table_labels(count.map), (0, 0))
            totals[table_labels(count.map)] = (alive + count.entries - count.expired, expired + count.expired)
    for labels, (alive, expired) in totals.items():
        entries.add_metric([*labels, "alive"], alive)
        entries.add_metric([*labels, "expired"], expired)
    yield from (pressure, size, entries)


def _port_families(families: Any, ports: list[PortUse]) -> Iterator[Any]:
    labels = ["egress", "remote", "remote_port", "protocol"]
    taken = families.GaugeMetricFamily(
        f"{PREFIX}_snat_ports", f"Ports that SNAT gave out towards a remote end, the fullest {REMOTES}.", labels=labels
    )
    share = families.GaugeMetricFamily(
        f"{PREFIX}_snat_port_pressure", "The same, of the ports that there are towards one remote end.", labels=labels
    )
    for use in ports:
        whose = [str(use.egress), str(use.remote), str(use.remote_port), protocol_name(use.proto)]
        taken.add_metric(whose, use.ports)
        share.add_metric(whose, use.share)
    yield from (taken, share)


def _datapath_families(families: Any, path: Path) -> Iterator[Any]:
    packets = families.CounterMetricFamily(
        f"{PREFIX}_datapath_packets", "Packets by hook and drop reason (ok: went through).", labels=["hook", "reason"]
    )
    size = families.CounterMetricFamily(
        f"{PREFIX}_datapath_bytes", "Bytes by hook and drop reason.", labels=["hook", "reason"]
    )
    for (hook, reason), (count, length) in hook_counters(path).items():
        packets.add_metric([hook, reason], count)
        size.add_metric([hook, reason], length)
    yield from (packets, size)
    for name, value in stats(path).items():
        family = families.CounterMetricFamily(f"{PREFIX}_datapath_{name}", f"The datapath's counter {name}.")
        family.add_metric([], value)
        yield family
