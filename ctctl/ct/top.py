"""``ct top``: who has the most entries, grouped on columns."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(slots=True)
class _Group:
    entries: int = 0
    expired: int = 0
    packets: int = 0
    bytes: int = 0


def top(
    source: Source,
    by: By,
    wanted: Filter = EVERYTHING,
    *,
    limit: int | None = 20,
    names: Mapping[str, str] | None = None,
) -> list[Talker]:
    """The groups with the most entries, most first. Raises UsageError if the filter needs an unknown now."""
    groups: dict[str, _Group] = {}
    counted = timed = bool(source.tables)
    for table in source.tables:
        counted = counted and not table.layout.split_counters and not table.absent & {"packets", "bytes"}
        timed = timed and table.now is not None
        for columns in matching(table, wanted):
            _add_batch(groups, table, columns, by)
    chosen = heapq.nlargest(
        limit if limit is not None else len(groups), groups.items(), key=lambda i: (i[1].entries, i[0])
    )
    known = names or {}
    return [
        Talker(
            key=key,
            name=_name(by, key, known),
            entries=group.entries,
            expired=group.expired if timed else None,
            packets=group.packets if counted else None,
            bytes=group.bytes if counted else None,
        )
        for key, group in chosen
    ]


def _name(by: By, key: str, names: Mapping[str, str]) -> str | None:
    if by is By.service:
        return names.get(f"rev-nat {key}")
    if by is By.backend:
        return names.get(f"backend {key}")
    if by is By.pair:
        ends = [names.get(end) for end in key.split(" -> ")]
        return " -> ".join(end or "?" for end in ends) if any(ends) else None
    return names.get(key)


def _add_batch(groups: dict[str, _Group], table: CtTable, columns: CtColumns, by: By) -> None:
    import numpy as np

    from ctctl.decode.columns import Slot

    chosen = columns
    if by in (By.service, By.backend):  # what has none is of no service or backend
        column = columns.slot(Slot.REV_NAT) if by is By.service else columns.slot(Slot.WORD8) * columns.service
        if not column.any():
            return
        chosen = columns.select(column != 0)
    unique, inverse = np.unique(_key(chosen, by), return_inverse=True)
    inverse = inverse.reshape(-1)
    entries = np.bincount(inverse, minlength=len(unique))
    expired: NDArray[Any] = np.zeros(len(unique))
    if table.now is not None:
        expired = np.bincount(inverse, weights=chosen.slot(Slot.LIFETIME) < table.now, minlength=len(unique))
    packets: NDArray[Any] = np.zeros(len(unique))
    octets: NDArray[Any] = np.zeros(len(unique))
    if not table.layout.split_counters:
        packets = np.bincount(inverse, weights=chosen.slot(Slot.WORD16), minlength=len(unique))
        octets = np.bincount(inverse, weights=chosen.slot(Slot.WORD24), minlength=len(unique))
    for index, raw in enumerate(unique.tolist()):
        group = groups.setdefault(_text(raw, by, table.family), _Group())
        group.entries += int(entries[index])
        group.expired += int(expired[index])
        group.packets += int(packets[index])
        group.bytes += int(octets[index])


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
    if columns.family == 4 and by is not By.pair:
        return columns.slot(slots[1])
    words = np.stack([columns.slot(slot).astype(np.uint64) for slot in slots], axis=1).astype(">u8")
    return np.ascontiguousarray(words).view(f"V{8 * len(slots)}")[:, 0]


def _text(raw: int | bytes, by: By, family: int) -> str:
    if by in (By.service, By.backend, By.identity, By.port):
        return str(raw)
    if isinstance(raw, int):
        return str(IPv4Address(raw))

    def address(part: bytes) -> str:
        return str(IPv4Address(part[-4:]) if family == 4 else IPv6Address(part))

    return address(raw) if by is not By.pair else f"{address(raw[:16])} -> {address(raw[16:])}"
