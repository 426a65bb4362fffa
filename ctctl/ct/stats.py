"""Counts of tables: in one pass inside the kernel where that can be, else from batches; the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ctctl.ct.report import BUCKETS, TableStats
from ctctl.model.entry import CtFlags
from ctctl.model.tuples import Direction, protocol_name
from ctctl.tables.classes import in_seconds
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.query.values import STATES
from ctctl.tables.scan import scan_stats
from ctctl.tables.sources.base import CtTable, Source

if TYPE_CHECKING:
    from ctctl.decode.columns import CtColumns

_DIRECTIONS = tuple(direction.value for direction in Direction)
_PROTOS, _KINDS, _OCTET = 256, 48, 256
_SIZE = 1 + _PROTOS + _KINDS + 2 * _OCTET + 3 * BUCKETS


def stats(source: Source, wanted: Filter = EVERYTHING) -> Iterator[TableStats]:
    """Each table's counts, of the entries that match. Raises UsageError if the filter needs an unknown now."""
    for table in source.tables:
        numbers = scan_stats(table) if wanted.node is None else None
        engine = "kernel" if numbers is not None else "batch"
        yield stats_of(table, numbers if numbers is not None else count(table, wanted), engine)


def count(table: CtTable, wanted: Filter) -> Sequence[int]:
    """The numbers of ``struct ctscan_stats`` (bpf/ctscan.bpf.c), counted from batches."""
    import numpy as np

    from ctctl.tables.rows import matching

    total = np.zeros(_SIZE, np.int64)
    for columns in matching(table, wanted):
        total += _count_batch(columns, table)
    return list(total.tolist())


def _count_batch(columns: CtColumns, table: CtTable) -> Any:
    import numpy as np

    from ctctl.decode.columns import Slot

    proto = columns.slot(Slot.PROTO)
    tuple_flags = columns.slot(Slot.TUPLE_FLAGS).astype(np.int64)
    flags = columns.slot(Slot.FLAGS).astype(np.int64)
    lifetime = columns.slot(Slot.LIFETIME).astype(np.int64)
    direction = np.where(tuple_flags & 4, 2, tuple_flags & 1)
    closing = flags & 3
    state = np.where(closing, np.where(closing == 3, 3, 2), flags >> 4 & 1)
    now = table.now
    expired = lifetime < now if now is not None else np.zeros(len(columns), np.bool_)
    kind = ((direction * 2 + (tuple_flags >> 1 & 1)) * 4 + state) * 2 + expired
    parts = [
        np.array([len(columns)]),
        np.bincount(proto, minlength=_PROTOS),
        np.bincount(kind, minlength=_KINDS),
        np.bincount(flags & 0xFF, minlength=_OCTET),
        np.bincount(flags >> 8 & 0xFF, minlength=_OCTET),
    ]
    if now is None:
        return np.concatenate([*parts, np.zeros(3 * BUCKETS, np.int64)])
    last = np.maximum(columns.slot(Slot.LAST_TX_REPORT), columns.slot(Slot.LAST_RX_REPORT)).astype(np.int64)
    now_s = table.clock.seconds(now)
    left = in_seconds(lifetime, table.clock) - now_s
    known = (last > 0) & (last <= now)
    parts += [
        _buckets(left[~expired]),
        _buckets(-left[expired]),
        _buckets(now_s - in_seconds(last[known], table.clock)),
    ]
    return np.concatenate(parts)


def _buckets(seconds: Any) -> Any:
    """Counts by powers of two: bucket 0 is zero, bucket n from 2^(n-1) to 2^n - 1."""
    import numpy as np

    edges = 1 << np.arange(BUCKETS - 1, dtype=np.int64)
    return np.bincount(np.searchsorted(edges, seconds, side="right"), minlength=BUCKETS)


def stats_of(table: CtTable, numbers: Sequence[int], engine: str) -> TableStats:
    """The counts with their names."""
    protos, rest = numbers[1 : 1 + _PROTOS], numbers[1 + _PROTOS :]
    kinds, octets = rest[:_KINDS], rest[_KINDS : _KINDS + 2 * _OCTET]
    histograms = rest[_KINDS + 2 * _OCTET :]
    by_direction, by_state = dict.fromkeys(_DIRECTIONS, 0), dict.fromkeys(STATES, 0)
    live_by_state = dict.fromkeys(STATES, 0)
    related = expired = 0
    for index, number in enumerate(kinds):
        if not number:
            continue
        direction, is_related, state, is_expired = index // 16, index // 8 % 2, index // 2 % 4, index % 2
        by_direction[_DIRECTIONS[direction]] += number
        by_state[STATES[state]] += number
        live_by_state[STATES[state]] += 0 if is_expired or is_related else number
        related += number * is_related
        expired += number * is_expired
    timed = table.now is not None
    return TableStats(
        map=table.name,
        node=table.node,
        entries=numbers[0],
        capacity=table.max_entries,
        by_protocol={protocol_name(proto): number for proto, number in enumerate(protos) if number},
        by_direction=by_direction,
        by_state=by_state,
        related=related,
        expired=expired if timed else None,
        half_open=live_by_state["new"],
        half_closed=live_by_state["closing"],
        flags={_flag_name(bit): number for bit in range(16) if (number := _with_bit(octets, bit))},
        remaining=tuple(histograms[:BUCKETS]) if timed else None,
        overdue=tuple(histograms[BUCKETS : 2 * BUCKETS]) if timed else None,
        idle=tuple(histograms[2 * BUCKETS :]) if timed else None,
        engine=engine,
    )


def _with_bit(octets: Sequence[int], bit: int) -> int:
    """How many entries have this bit of the flags, counted by the flags' two octets."""
    first = bit // 8 * _OCTET
    return sum(octets[first + value] for value in range(_OCTET) if value >> bit % 8 & 1)


def _flag_name(bit: int) -> str:
    name = CtFlags(1 << bit).name
    return name if name is not None and bit != 9 else f"bit{bit}"
