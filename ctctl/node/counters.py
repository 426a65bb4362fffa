"""What the datapath counts: packets by hook and reason (``ctctl_metrics``), and its statistics (``ctctl_stats``).

Both are per-CPU arrays of a node's directory. One that cannot be read counts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ctctl.abi import pins
from ctctl.abi.layouts import CtctlHook, CtctlReason, CtctlStat
from ctctl.abi.words import hook_name, reason_name, stat_name
from ctctl.errors import CtctlError
from ctctl.kernel.map import Map

_WORD = 8
#: Not sums over CPUs: the end of the enum, and an errno.
_NO_SUMS: Final = frozenset({CtctlStat.STAT_MAX, CtctlStat.STAT_CT_CREATE_ERRNO})


@dataclass(frozen=True, slots=True)
class Counter:
    """Packets and bytes one hook ended in one way with; ``reason`` "ok" counts what went through."""

    hook: str
    reason: str
    packets: int
    bytes: int


def read_counters(table: Map) -> tuple[Counter, ...]:
    """Counters of ``ctctl_metrics`` that are not 0 (index: hook * REASON_MAX + reason, abi.h)."""
    found = []
    reasons = int(CtctlReason.REASON_MAX)
    for hook in range(1, int(CtctlHook.HOOK_MAX)):
        for reason in range(reasons):
            packets, size = map(sum, zip(*_per_cpu(table, hook * reasons + reason, 2), strict=True))
            if packets:
                found.append(Counter(hook_name(hook), reason_name(reason), packets, size))
    return tuple(found)


def read_stat(table: Map, stat: CtctlStat) -> int:
    """A statistic of ``ctctl_stats``, summed over all CPUs."""
    return sum(value for (value,) in _per_cpu(table, stat, 1))


def _per_cpu(table: Map, index: int, words: int) -> list[tuple[int, ...]]:
    """The first ``words`` u64 of a per-CPU array's element, for each CPU."""
    value = table.lookup(index.to_bytes(4, "little")) or bytes(words * _WORD)
    stride = table.per_cpu_stride or len(value)
    return [
        tuple(int.from_bytes(value[at : at + _WORD], "little") for at in range(cpu, cpu + words * _WORD, _WORD))
        for cpu in range(0, len(value), stride)
    ]


def hook_counters(directory: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Packets and bytes by hook and reason, where they are not 0."""
    try:
        with Map.open_pinned(directory / pins.METRICS, read_only=True) as table:
            return {(c.hook, c.reason): (c.packets, c.bytes) for c in read_counters(table)}
    except CtctlError:
        return {}


def stats(directory: Path) -> dict[str, int]:
    """The datapath's statistics by name: events lost, entries that could not be created."""
    try:
        with Map.open_pinned(directory / pins.STATS, read_only=True) as table:
            names = [stat for stat in CtctlStat if stat not in _NO_SUMS]
            return {stat_name(stat): read_stat(table, stat) for stat in names}
    except CtctlError:
        return {}


def create_errnos(directory: Path) -> list[int]:
    """The kernel's errno of the last create that failed, of each CPU that saw one."""
    try:
        with Map.open_pinned(directory / pins.STATS, read_only=True) as table:
            found = {value for (value,) in _per_cpu(table, CtctlStat.STAT_CT_CREATE_ERRNO, 1)}
    except CtctlError:
        return []
    return sorted(found - {0})
