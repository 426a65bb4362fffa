"""What the tables hold now: map pressure, entries by kind, packets and drops by hook. Reads only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctctl.abi import layouts, pins
from ctctl.errors import CtctlError
from ctctl.gc.tables import CT_TABLES, family_name
from ctctl.kernel.clock import monotonic_s
from ctctl.kernel.map import Map, MapType
from ctctl.metrics.library import PREFIX, label_of_map, metric_families
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
            if pin.name in CT_TABLES:
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


def hook_counters(path: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Packets and bytes by hook and reason ("ok": went through), where they are not 0."""
    hooks, reasons = layouts.CtctlHook, layouts.CtctlReason
    found: dict[tuple[str, str], tuple[int, int]] = {}
    try:
        with Map.open_pinned(path / pins.METRICS, read_only=True) as table:
            for hook in hooks:
                for reason in reasons:
                    if hook is hooks.HOOK_MAX or reason is reasons.REASON_MAX:
                        continue
                    packets, size = _sum(table, hook * reasons.REASON_MAX + reason)
                    if packets:
                        found[_word(hook.name, "HOOK_"), _word(reason.name, "REASON_")] = (packets, size)
    except CtctlError:
        return {}
    return found


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()


def _sum(table: Map, index: int) -> tuple[int, int]:
    value = table.lookup(index.to_bytes(4, "little")) or b""
    size = table.per_cpu_stride
    per_cpu = [layouts.ctctl_counter.from_buffer_copy(value, at) for at in range(0, len(value), size)]
    return sum(c.packets for c in per_cpu), sum(c.bytes for c in per_cpu)


#: Not counters: the end of the enum, and an errno.
_NO_COUNTERS = frozenset({layouts.CtctlStat.STAT_MAX, layouts.CtctlStat.STAT_CT_CREATE_ERRNO})


def stats(path: Path) -> dict[str, int]:
    """The datapath's own counters: events lost, entries that could not be created."""
    names = [stat for stat in layouts.CtctlStat if stat not in _NO_COUNTERS]
    try:
        with Map.open_pinned(path / pins.STATS, read_only=True) as table:
            return {_word(stat.name, "STAT_"): _sum_u64(table, stat) for stat in names}
    except CtctlError:
        return {}


def create_errnos(path: Path) -> list[int]:
    """The kernel's errno of the last create that failed, of each CPU that saw one."""
    try:
        with Map.open_pinned(path / pins.STATS, read_only=True) as table:
            value = table.lookup(int(layouts.CtctlStat.STAT_CT_CREATE_ERRNO).to_bytes(4, "little")) or b""
            found = {int.from_bytes(value[at : at + 8], "little") for at in range(0, len(value), table.per_cpu_stride)}
    except CtctlError:
        return []
    return sorted(found - {0})


def _sum_u64(table: Map, index: int) -> int:
    value = table.lookup(index.to_bytes(4, "little")) or b""
    return sum(int.from_bytes(value[at : at + 8], "little") for at in range(0, len(value), table.per_cpu_stride))


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
            layout, protocol = CT_TABLES[count.map]
            entries.add_metric([family_name(layout), protocol, "alive"], count.entries - count.expired)
            entries.add_metric([family_name(layout), protocol, "expired"], count.expired)
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
