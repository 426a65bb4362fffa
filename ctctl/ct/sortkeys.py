"""What rows are sorted by: the numbers of a field, or the rank of its texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ctctl.decode.columns import CtColumns, Slot
from ctctl.decode.ct import TUPLE_RELATED, other_bits
from ctctl.tables.classes import in_seconds
from ctctl.tables.show.entry_facts import COUNTERS, NUMBERS
from ctctl.tables.show.rowform import EntryForm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Mask = NDArray[np.bool_]


def sort_keys(form: EntryForm, columns: CtColumns, name: str) -> tuple[list[Array], Mask]:
    """What rows are sorted by, the weightiest first, and which rows lack the field. Texts are bytes."""
    table = form.table
    present = np.zeros(len(columns), np.bool_)
    absent = ~present
    if name in form.lacks:
        return [np.zeros(len(columns), np.uint64)] * (3 if name in ("src", "dst") else 1), absent
    if name in ("src", "dst"):
        high, low = (columns.slot(Slot[name.upper() + part]).astype(np.uint64) for part in ("_HI", ""))
        return [np.full(len(columns), columns.family, np.uint64), high, low], present
    if name in ("remaining", "expired", "idle"):
        if table.now is None:
            return [np.zeros(len(columns), np.int64)], absent
        return _times(form, columns, name, table.now)
    if name == "related":
        return [(columns.slot(Slot.TUPLE_FLAGS) & np.uint8(TUPLE_RELATED)).astype(np.uint64)], present
    if name == "nat_port":
        return [columns.slot(Slot.IFINDEX).byteswap().astype(np.uint64)], ~columns.translated
    if name in ("backend_id", "rx_bytes"):
        there = _has_word(columns, name)
        if name == "rx_bytes":
            there = there & _counted(columns)
        return [columns.slot(Slot.WORD8).astype(np.uint64)], ~there
    if name in NUMBERS:
        lacking = ~_counted(columns) if name in COUNTERS else present
        return [columns.slot(Slot[NUMBERS[name].upper()]).astype(np.uint64)], lacking
    if name == "other_bits":
        return [(columns.slot(Slot.FLAGS) & np.uint16(other_bits(0xFFFF))).astype(np.uint64)], present
    texts = np.array(form.texts(columns, name), dtype=np.bytes_)
    return [texts], texts == b"null"


def _times(form: EntryForm, columns: CtColumns, name: str, now: int) -> tuple[list[Array], Mask]:
    clock, none = form.table.clock, np.zeros(len(columns), np.bool_)

    lifetime = columns.slot(Slot.LIFETIME)
    if name == "expired":
        return [(lifetime < now).astype(np.int64)], none
    if name == "remaining":
        return [in_seconds(lifetime.astype(np.int64), clock) - clock.seconds(now)], none
    last = np.maximum(columns.slot(Slot.LAST_TX_REPORT), columns.slot(Slot.LAST_RX_REPORT)).astype(np.int64)
    return [clock.seconds(now) - in_seconds(last, clock)], last == 0


def _counted(columns: CtColumns) -> Mask:
    """Which entries count packets: each was made by one."""
    words = (Slot.WORD0, Slot.WORD16) if columns.layout.split_counters else (Slot.WORD16,)
    found: Mask = np.logical_or.reduce([columns.slot(word) != 0 for word in words])
    return found


def _has_word(columns: CtColumns, name: str) -> Mask:
    """Which rows have the word that is a backend, up to 1.15 only in SERVICE entries, else received bytes."""
    if columns.layout.split_counters:
        return columns.service if name == "backend_id" else ~columns.service
    return ~columns.translated
