"""What the tables hold now: map pressure, entries by kind, packets and drops by hook. Reads only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctctl.errors import CtctlError
from ctctl.kernel.map import Map, MapType
from ctctl.metrics.library import PREFIX, label_of_map, metric_families
from ctctl.node.counters import hook_counters, stats
from ctctl.tables import classes
from ctctl.tables.sources.base import CtTable, Source

_COUNTABLE = frozenset({MapType.HASH, MapType.LRU_HASH, MapType.LPM_TRIE, MapType.HASH_OF_MAPS})
#: A scrape walks the tables; scrapes within this time share one walk.
FRESH_S = 10.0


@dataclass(frozen=True, slots=True)
class TableCount:
    """How full one table is. ``labels``: family and protocol of a conntrack table, which alone has ``expired``."""

    map: str
    entries: int
    max_entries: int
    labels: tuple[str, str] | None = None
    expired: int = 0


def count_tables(source: Source) -> list[TableCount]:
    """The conntrack tables of ``source`` and every other hash table pinned beside them, where it can be read."""
    known = {table.name.partition("[")[0] for table in source.tables}
    found = [_count_entries(table) for table in source.tables if table.live is not None and table.now is not None]
    if source.directory is None:
        return found
    pinned = [pin for pin in sorted(Path(source.directory).iterdir()) if pin.is_file() and pin.name not in known]
    return found + [count for pin in pinned if (count := _count(pin)) is not None]


def _count_entries(table: CtTable) -> TableCount:
    assert table.live is not None
    assert table.now is not None
    entries = expired = 0
    for batch in table.live.batches():
        entries += len(batch)
        expired += int(classes.expired(batch.values, table.now).sum())
    return TableCount(table.name, entries, table.live.info.max_entries, (table.family_label, table.protocol), expired)


def _count(pin: Path) -> TableCount | None:
    try:
        with Map.open_pinned(pin, read_only=True) as table:
            if table.info.type not in _COUNTABLE:
                return None
            return TableCount(pin.name, _entries(table), table.info.max_entries)
    except CtctlError:
        return None


def _entries(table: Map) -> int:
    if table.info.type in (MapType.LPM_TRIE, MapType.HASH_OF_MAPS):
        return sum(1 for _ in _keys(table))
    return sum(len(batch) for batch in table.batches())


def _keys(table: Map) -> Iterator[bytes]:
    key = table.next_key(None)
    while key is not None:
        yield key
        key = table.next_key(key)


class TablesCollector:
    """A prometheus collector over the tables that ``opening`` opens, walked at most every ``FRESH_S`` seconds."""

    def __init__(self, opening: Callable[[], Source], *, fresh_s: float = FRESH_S) -> None:
        self._opening = opening
        self._fresh_s = fresh_s
        self._walked: tuple[float, list[TableCount]] = (-fresh_s, [])
        self._directory: Path | None = None

    def collect(self) -> Iterator[Any]:
        """The metric families, as prometheus-client asks for them."""
        families = metric_families()
        started = time.monotonic()
        if started - self._walked[0] >= self._fresh_s:
            self._walked = (started, self._count())
        counts = self._walked[1]
        up = families.GaugeMetricFamily(f"{PREFIX}_node_up", "Whether the node's tables are there.")
        up.add_metric([], float(bool(counts)))
        yield up
        yield from _table_families(families, counts)
        yield from _datapath_families(families, self._directory)

    def _count(self) -> list[TableCount]:
        try:
            with self._opening() as source:
                self._directory = Path(source.directory) if source.directory is not None else None
                return count_tables(source)
        except (CtctlError, OSError):
            return []


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
        if count.labels is not None:
            alive, expired = totals.setdefault(count.labels, (0, 0))
            totals[count.labels] = (alive + count.entries - count.expired, expired + count.expired)
    for labels, (alive, expired) in totals.items():
        entries.add_metric([*labels, "alive"], alive)
        entries.add_metric([*labels, "expired"], expired)
    yield from (pressure, size, entries)


def _datapath_families(families: Any, path: Path | None) -> Iterator[Any]:
    packets = families.CounterMetricFamily(
        f"{PREFIX}_datapath_packets", "Packets by hook and drop reason (ok: went through).", labels=["hook", "reason"]
    )
    size = families.CounterMetricFamily(
        f"{PREFIX}_datapath_bytes", "Bytes by hook and drop reason.", labels=["hook", "reason"]
    )
    for (hook, reason), (count, length) in (hook_counters(path) if path is not None else {}).items():
        packets.add_metric([hook, reason], count)
        size.add_metric([hook, reason], length)
    yield from (packets, size)
    for name, value in (stats(path) if path is not None else {}).items():
        family = families.CounterMetricFamily(f"{PREFIX}_datapath_{name}", f"The datapath's counter {name}.")
        family.add_metric([], value)
        yield family
