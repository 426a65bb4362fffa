"""What the columns of a table tell of each row: times, counters, names, and what rows are sorted by."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ctctl.decode.columns import CtColumns, Slot
from ctctl.decode.ct import LAYOUT_LACKS, TUPLE_RELATED, other_bits
from ctctl.tables.show.lookup import KnownAddresses
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

SLOTS = {
    "proto": Slot.PROTO,
    "src_port": Slot.SRC_PORT,
    "dst_port": Slot.DST_PORT,
    "lifetime": Slot.LIFETIME,
    "flags": Slot.FLAGS,
    "backend_id": Slot.WORD8,
    "packets": Slot.WORD16,
    "bytes": Slot.WORD24,
    "rx_packets": Slot.WORD0,
    "rx_bytes": Slot.WORD8,
    "tx_packets": Slot.WORD16,
    "tx_bytes": Slot.WORD24,
    "rev_nat": Slot.REV_NAT,
    "ifindex": Slot.IFINDEX,
    "tx_flags_seen": Slot.TX_FLAGS_SEEN,
    "rx_flags_seen": Slot.RX_FLAGS_SEEN,
    "src_sec_id": Slot.SRC_SEC_ID,
    "last_tx_report": Slot.LAST_TX_REPORT,
    "last_rx_report": Slot.LAST_RX_REPORT,
    "tuple_flags": Slot.TUPLE_FLAGS,
}


COUNTERS = ("packets", "bytes", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes")


def raw_name(name: str) -> str:
    return SLOTS[name].name.lower()


class EntryFacts(ABC):
    """Facts of one table's rows, a number or a mask a row. ``names``: of addresses and ``backend N``."""

    def __init__(self, table: CtTable, names: Mapping[str, str] | None = None) -> None:
        self.table = table
        self.names = names or {}
        self.addresses = KnownAddresses(self.names, table.family)
        self.lacks = LAYOUT_LACKS[table.layout] | table.absent

    def counted(self, columns: CtColumns) -> NDArray[np.bool_]:
        """Which entries count packets: each was made by one."""
        words = (Slot.WORD0, Slot.WORD16) if self.table.layout.split_counters else (Slot.WORD16,)
        found: NDArray[np.bool_] = np.logical_or.reduce([columns.slot(word) != 0 for word in words])
        return found

    def sort_keys(self, columns: CtColumns, name: str) -> tuple[list[Array], NDArray[np.bool_]]:
        """What rows are sorted by, the weightiest first, and which rows lack the field. Texts are bytes."""
        present = np.zeros(len(columns), np.bool_)
        absent = ~present
        if name in self.lacks:
            return [np.zeros(len(columns), np.uint64)] * (3 if name in ("src", "dst") else 1), absent
        if name in ("src", "dst"):
            high, low = (columns.slot(Slot[name.upper() + part]).astype(np.uint64) for part in ("_HI", ""))
            return [np.full(len(columns), columns.family, np.uint64), high, low], present
        if name in ("remaining", "expired"):
            if self.table.now is None:
                return [np.zeros(len(columns), np.int64)], absent
            return [self.remaining(columns) if name == "remaining" else self.expired(columns).astype(np.int64)], present
        if name == "idle":
            last = np.maximum(columns.slot(Slot.LAST_TX_REPORT), columns.slot(Slot.LAST_RX_REPORT)).astype(np.int64)
            idle = self.table.clock.seconds(self.table.now or 0) - seconds_of(last, self.table.clock.hz)
            return [idle], (last == 0) | (self.table.now is None)
        if name == "related":
            return [(columns.slot(Slot.TUPLE_FLAGS) & np.uint8(TUPLE_RELATED)).astype(np.uint64)], present
        if name in ("backend_id", "rx_bytes"):
            there = self.has_word(columns, name)
            if name == "rx_bytes":
                there = there & self.counted(columns)
            return [columns.slot(Slot.WORD8).astype(np.uint64)], ~there
        if name == "nat_port":
            return [columns.slot(Slot.IFINDEX).byteswap().astype(np.uint64)], ~columns.translated
        if name in COUNTERS:
            return [columns.slot(SLOTS[name]).astype(np.uint64)], ~self.counted(columns)
        if name in SLOTS:
            return [columns.slot(SLOTS[name]).astype(np.uint64)], present
        if name == "other_bits":
            return [(columns.slot(Slot.FLAGS) & np.uint16(other_bits(0xFFFF))).astype(np.uint64)], present
        texts = np.array(self.texts(columns, name), dtype=object)
        return [texts], texts == b"null"

    @abstractmethod
    def texts(self, columns: CtColumns, name: str) -> list[bytes]:
        """The values of a field as JSON, for what has no number to sort by."""

    def has_word(self, columns: CtColumns, name: str) -> NDArray[np.bool_]:
        """Which rows have the word that is a backend, up to 1.15 only in SERVICE entries, else received bytes."""
        if self.table.layout.split_counters:
            return columns.service if name == "backend_id" else ~columns.service
        return ~columns.translated

    def remaining(self, columns: CtColumns) -> NDArray[np.int64]:
        """Seconds until expiry of each row."""
        clock, now = self.table.clock, self.table.now or 0
        times = columns.slot(Slot.LIFETIME).astype(np.int64)
        return seconds_of(times, clock.hz) - clock.seconds(now)

    def expired(self, columns: CtColumns) -> NDArray[np.uint8]:
        """1 in rows that have expired."""
        return (columns.slot(Slot.LIFETIME) < (self.table.now or 0)).astype(np.uint8)

    def name_index(self, columns: CtColumns, side: str) -> NDArray[np.uint32]:
        """Which of the names each row's address has, from 1; 0: none."""
        return self.addresses.find(columns, side)

    def known(self, columns: CtColumns, name: str) -> NDArray[np.uint8]:
        """1 in rows where a name (``src_name``, ``dst_name``, ``backend``, ``src_identity``) is known."""
        if name == "backend":
            backends = self.backend_column(columns)
            named = np.array([int(key[8:]) for key in self.names if re.fullmatch(r"backend \d+", key)], np.uint64)
            there: NDArray[np.bool_] = np.isin(backends, named) & (backends != 0)
        elif name == "src_identity":
            identities = columns.slot(Slot.SRC_SEC_ID)
            named = np.array([int(key[9:]) for key in self.names if re.fullmatch(r"identity \d+", key)], np.uint64)
            there = np.isin(identities, named) & (identities != 0)
        else:
            there = self.name_index(columns, name[:3]) != 0
        return there.view(np.uint8)

    def backend_column(self, columns: CtColumns) -> NDArray[np.uint64]:
        """The backend of each row, 0 where it has none."""
        if "backend_id" in self.lacks:
            return np.zeros(len(columns), np.uint64)
        backends = columns.slot(Slot.WORD8) * ~columns.translated
        return backends * columns.service if self.table.layout.split_counters else backends

    def state_number(self, columns: CtColumns) -> NDArray[np.uint8]:
        """The flag bits that make the state word, 64 for related, 128 for expired."""
        number: NDArray[np.uint8] = (columns.slot(Slot.FLAGS) & 19).astype(np.uint8)
        number |= (columns.slot(Slot.TUPLE_FLAGS) & np.uint8(TUPLE_RELATED)) << 5
        if self.table.now is not None:
            number |= self.expired(columns) << 7
        return number


def seconds_of(times: NDArray[np.int64], hz: int | None) -> NDArray[np.int64]:
    return times if hz is None else (times << 8) // hz
