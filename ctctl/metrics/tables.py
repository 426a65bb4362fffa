"""What the tables hold now: map pressure, entries by kind, packets and drops by hook. Reads only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctctl.abi import pins
from ctctl.decode.ct import table_labels
from ctctl.errors import CtctlError
from ctctl.kernel.clock import monotonic_s
from ctctl.kernel.map import Map, MapType
from ctctl.metrics.library import PREFIX, label_of_map, metric_families
from ctctl.node.counters import hook_counters, stats
from ctctl.tables import classes

_COUNTABLE = frozenset({MapType.HASH, MapType.LRU_HASH, MapType.LPM_TRIE, MapType.HASH_OF_MAPS})
#: A scrape walks the tables; scrapes within this time share one walk.
FRESH_S = 10.0


@dataclass(frozen=True, slots=True)
class TableCount:
    """How full one table is. ``expired`` is None for tables without lifetimes."""

    map: str
    entries: int
    max_entries: int
    expired: int | None = None


def count_tables(path: Path, now: int) -> list[TableCount]:
    """Every hash table pinned at ``path``, counted by batches; those that cannot be read are left out."""
    return [found for pin in sorted(path.iterdir()) if pin.is_file() and (found := _count(pin, now)) is not None]


def _count(pin: Path, now: int) -> TableCount | None:
    try:
        with Map.open_pinned(pin, read_only=True) as table:
            if table.info.type not in _COUNTABLE:
                return None
            if pin.name in pins.CT_TABLES:
                entries = expired = 0
                for batch in table.batches():
                    entries += len(batch)
                    expired += int(classes.expired(batch.values, now).sum())
                return TableCount(pin.name, entries, table.info.max_entries, expired)
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
    """A prometheus collector over one node's tables, walked at most every ``FRESH_S`` seconds."""

    def __init__(self, path: Path, *, fresh_s: float = FRESH_S) -> None:
        self._path = path
        self._fresh_s = fresh_s
        self._walked: tuple[float, list[TableCount]] = (-fresh_s, [])

    def collect(self) -> Iterator[Any]:
        """The metric families, as prometheus-client asks for them."""
        families = metric_families()
        started = time.monotonic()
        at, counts = self._walked
        if started - at >= self._fresh_s:
            counts = count_tables(self._path, monotonic_s()) if self._path.is_dir() else []
            self._walked = (started, counts)
        up = families.GaugeMetricFamily(f"{PREFIX}_node_up", "Whether the node's tables are there.")
        up.add_metric([], float(bool(counts)))
        yield up
        yield from _table_families(families, counts)
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
    for count in counts:
        pressure.add_metric([label_of_map(count.map)], count.entries / count.max_entries)
        size.add_metric([label_of_map(count.map)], count.max_entries)
        if count.expired is not None:
            labels = table_labels(count.map)
            entries.add_metric([*labels, "alive"], count.entries - count.expired)
            entries.add_metric([*labels, "expired"], count.expired)
    yield from (pressure, size, entries)


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
