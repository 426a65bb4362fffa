"""``ct top``: who has the most entries, grouped on columns."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

from ctctl.ct.report import Talker
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.rows import matching
from ctctl.tables.sources.base import CtTable, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.decode.columns import CtColumns


class By(StrEnum):
    """What ``ct top`` groups by."""

    src = "src"
    dst = "dst"
    pair = "pair"
    service = "service"
    backend = "backend"
    identity = "identity"
    port = "port"


_ADDRESSES = (By.src, By.dst, By.pair)


def top(
    source: Source,
    by: By,
    wanted: Filter = EVERYTHING,
    *,
    limit: int | None = 20,
    names: Mapping[str, str] | None = None,
) -> list[Talker]:
    """The groups with the most entries, most first. Raises UsageError if the filter needs an unknown now."""
    counted = timed = bool(source.tables)
    kinds: dict[int, _Totals] = {}
    for table in source.tables:
        counted = counted and not table.layout.split_counters and not table.absent & {"packets", "bytes"}
        timed = timed and table.now is not None
        totals = kinds.setdefault(table.family if by in _ADDRESSES else 0, _Totals())
        for columns in matching(table, wanted):
            _add_batch(totals, table, columns, by)
    known = names or {}
    found = [
        Talker(
            key=key,
            name=_name(by, key, known),
            entries=entries,
            expired=expired if timed else None,
            packets=packets if counted and packets else None,  # each entry was made by a packet: 0 is "not counted"
            bytes=octets if counted and packets else None,
        )
        for _family, totals in sorted(kinds.items())
        for raw, (entries, expired, packets, octets) in totals.most(limit)
        for key in (_text(raw, by),)
    ]
    found.sort(key=lambda talker: -talker.entries)  # stable: alike ones stay in the order of their keys
    return found[:limit]


def _name(by: By, key: str, names: Mapping[str, str]) -> str | None:
    if by is By.service:
        return names.get(f"rev-nat {key}")
    if by is By.backend:
        return names.get(f"backend {key}")
    if by is By.identity:
        return names.get(f"identity {key}")
    if by is By.pair:
        ends = [names.get(end) for end in key.split(" -> ")]
        return " -> ".join(end or "?" for end in ends) if any(ends) else None
    return names.get(key)


def _add_batch(totals: _Totals, table: CtTable, columns: CtColumns, by: By) -> None:
    import numpy as np

    from ctctl.decode.columns import Slot

    chosen = columns
    if by in (By.service, By.backend):  # what has none is of no service or backend
        column = columns.slot(Slot.REV_NAT) if by is By.service else columns.slot(Slot.WORD8) * columns.service
        if not column.any():
            return
        chosen = columns.select(column != 0)
    figures = np.zeros((4, len(chosen)), np.uint64)
    figures[0] = 1
    if table.now is not None:
        figures[1] = chosen.slot(Slot.LIFETIME) < table.now
    if not table.layout.split_counters:
        figures[2], figures[3] = chosen.slot(Slot.WORD16), chosen.slot(Slot.WORD24)
    totals.add(_key(chosen, by), figures)


class _Totals:
    """Sums of figures (4, n) by key, of any number of batches: entries, expired, packets, bytes."""

    def __init__(self) -> None:
        self._keys: list[NDArray[Any]] = []
        self._figures: list[NDArray[np.uint64]] = []

    def add(self, keys: NDArray[Any], figures: NDArray[np.uint64]) -> None:
        """Add a batch, its keys summed up already so that what is kept is small."""
        keys, figures = _summed(keys, figures)
        self._keys.append(keys)
        self._figures.append(figures)

    def most(self, limit: int | None) -> list[tuple[Any, tuple[int, ...]]]:
        """The keys with the most entries and their figures, most first, alike ones in the order of the keys."""
        import numpy as np

        if not self._keys:
            return []
        keys, figures = _summed(np.concatenate(self._keys), np.concatenate(self._figures, axis=1))
        order = np.argsort(~figures[0], kind="stable")[:limit]
        return list(zip(keys[order].tolist(), map(tuple, figures[:, order].T.tolist()), strict=True))


def _summed(keys: NDArray[Any], figures: NDArray[np.uint64]) -> tuple[NDArray[Any], NDArray[np.uint64]]:
    """Each key once, in order, with the sums of its figures."""
    import numpy as np

    if not len(keys):
        return keys, figures
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(figures[:, order], starts, axis=1)


def _key(columns: CtColumns, by: By) -> NDArray[np.generic]:
    """What entries are grouped by: a number, or the raw bytes of addresses."""
    import numpy as np

    from ctctl.decode.columns import Slot

    numbers = {
        By.service: Slot.REV_NAT,
        By.backend: Slot.WORD8,
        By.identity: Slot.SRC_SEC_ID,
        By.port: Slot.DST_PORT,
    }
    if by in numbers:
        return columns.slot(numbers[by])
    slots = {
        By.src: (Slot.SRC_HI, Slot.SRC),
        By.dst: (Slot.DST_HI, Slot.DST),
        By.pair: (Slot.SRC_HI, Slot.SRC, Slot.DST_HI, Slot.DST),
    }[by]
    if columns.family == 4:
        ends = [columns.slot(slot) for slot in slots[1::2]]
        return ends[0] if by is not By.pair else ends[0].astype(np.uint64) << np.uint64(32) | ends[1]
    words = np.stack([columns.slot(slot).astype(np.uint64) for slot in slots], axis=1).astype(">u8")
    return np.ascontiguousarray(words).view(f"V{8 * len(slots)}")[:, 0]


def _text(raw: int | bytes, by: By) -> str:
    if by in (By.service, By.backend, By.identity, By.port):
        return str(raw)
    if isinstance(raw, int):
        low = str(IPv4Address(raw & 0xFFFFFFFF))
        return low if by is not By.pair else f"{IPv4Address(raw >> 32)} -> {low}"
    first = str(IPv6Address(raw[:16]))
    return first if by is not By.pair else f"{first} -> {IPv6Address(raw[16:])}"
