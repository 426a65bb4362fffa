"""One conntrack table in memory, and what of it each entry is."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ctctl.decode.columns import CtColumns, Slot
from ctctl.decode.ct import KEY_SIZE, TUPLE_IN, TUPLE_RELATED, VALUE_SIZE
from ctctl.model.entry import CtFlags
from ctctl.model.tuples import TCP, Address
from ctctl.tables.classes import in_seconds
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

_CLOSING = int(CtFlags.RxClosing | CtFlags.TxClosing)
_LOW = 2**64 - 1


def words(keys: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Keys as one bytes value each. Only trailing NULs are lost, which equal widths make harmless."""
    rows = np.ascontiguousarray(keys)
    return rows.view(f"S{rows.shape[1]}")[:, 0]


def _no_rows(table: CtTable) -> CtColumns:
    keys, values = np.zeros((0, KEY_SIZE[table.family]), np.uint8), np.zeros((0, VALUE_SIZE), np.uint8)
    return CtColumns(keys, values, table.layout)


class TableFacts:
    """One conntrack table in memory, with the masks that several checks share; a bool an entry each."""

    def __init__(self, table: CtTable) -> None:
        self.name = table.name
        self.family = table.family
        self.now = table.now
        self.clock = table.clock
        self.max_entries = table.max_entries
        self.layout = table.layout
        self.live = table.live
        parts = [columns if table.stays else columns.copy() for columns in table.columns()] or [_no_rows(table)]
        self.columns = parts[0] if len(parts) == 1 else CtColumns.joined(parts)

    def __len__(self) -> int:
        return len(self.columns)

    def slot(self, slot: Slot) -> NDArray[Any]:
        """A column in host order."""
        return self.columns.slot(slot)

    def flag(self, mask: int) -> Mask:
        """Entries with any of these flag bits."""
        found: Mask = (self.slot(Slot.FLAGS) & np.uint16(mask)) != 0
        return found

    @cached_property
    def left(self) -> NDArray[np.int64]:
        """Seconds until expiry, negative after it. Only where ``now`` is known."""
        assert self.now is not None
        return self._seconds(self.slot(Slot.LIFETIME).astype(np.int64)) - self.clock.seconds(self.now)

    @cached_property
    def reports(self) -> NDArray[np.int64]:
        """The later of an entry's two reports, in units of the clock; 0: there is none."""
        found: NDArray[np.int64] = np.maximum(self.slot(Slot.LAST_TX_REPORT), self.slot(Slot.LAST_RX_REPORT)).astype(
            np.int64
        )
        return found

    @cached_property
    def timeouts(self) -> NDArray[np.int64]:
        """Seconds from the later report to expiry: the timeout that an entry was written with, or a little less."""
        return self._seconds(self.slot(Slot.LIFETIME).astype(np.int64)) - self._seconds(self.reports)

    @cached_property
    def idle(self) -> NDArray[np.int64]:
        """Seconds since the later report, negative for one to come. Only where ``now`` is known."""
        assert self.now is not None
        return self.clock.seconds(self.now) - self._seconds(self.reports)

    def _seconds(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = in_seconds(times, self.clock)
        return found

    @cached_property
    def alive(self) -> Mask:
        """Not expired; all of them where the time of the dump is unknown."""
        if self.now is None:
            return np.ones(len(self), bool)
        found: Mask = self.slot(Slot.LIFETIME) >= self.now
        return found

    @cached_property
    def service(self) -> Mask:
        return self.columns.service

    @cached_property
    def related(self) -> Mask:
        found: Mask = (self.slot(Slot.TUPLE_FLAGS) & np.uint8(TUPLE_RELATED)) != 0
        return found

    @cached_property
    def flow(self) -> Mask:
        """OUT and IN entries of connections, neither SERVICE nor related."""
        return ~self.service & ~self.related

    @cached_property
    def out(self) -> Mask:
        found: Mask = self.slot(Slot.TUPLE_FLAGS) == 0
        return found

    @cached_property
    def inbound(self) -> Mask:
        found: Mask = self.slot(Slot.TUPLE_FLAGS) == TUPLE_IN
        return found

    @cached_property
    def tcp(self) -> Mask:
        found: Mask = self.slot(Slot.PROTO) == TCP
        return found

    @cached_property
    def closing(self) -> NDArray[np.uint16]:
        """The two closing bits."""
        found: NDArray[np.uint16] = self.slot(Slot.FLAGS) & np.uint16(_CLOSING)
        return found

    @cached_property
    def closed(self) -> Mask:
        found: Mask = self.closing == _CLOSING
        return found

    @cached_property
    def half_closed(self) -> Mask:
        found: Mask = (self.closing != 0) & ~self.closed
        return found

    @cached_property
    def seen_non_syn(self) -> Mask:
        return self.flag(int(CtFlags.SeenNonSyn))

    def _saw(self, side: str) -> Mask:
        """Whether a packet of that side was ever seen: its flags, its report or (up to 1.15) its counter say so."""
        found: Mask = (self.slot(Slot[f"{side}_FLAGS_SEEN"]) != 0) | (self.slot(Slot[f"LAST_{side}_REPORT"]) != 0)
        if self.layout.split_counters:
            found |= self.slot(Slot.WORD0 if side == "RX" else Slot.WORD16) != 0
        return found

    @cached_property
    def saw_rx(self) -> Mask:
        return self._saw("RX")

    @cached_property
    def saw_tx(self) -> Mask:
        return self._saw("TX")

    def is_any(self, slot: Slot, addresses: Collection[Address]) -> Mask:
        """Entries whose source or destination (``Slot.SRC``, ``Slot.DST``) is one of these addresses."""
        numbers = [int(address) for address in addresses if address.version == self.family]
        if not numbers:
            return np.zeros(len(self), bool)
        wanted = np.array([[n >> 64, n & _LOW] for n in numbers], np.uint64).reshape(len(numbers), 2)
        have = np.stack([self.slot(Slot(slot - 1)), self.slot(slot)], axis=1).astype(np.uint64)
        found: Mask = np.isin(words(have.view(np.uint8)), words(wanted.view(np.uint8)))
        return found

    @cached_property
    def open_services(self) -> dict[tuple[int, int, int], int]:
        """Open SERVICE entries by what they lead to: both words of the address, the port."""
        return self._ends(self.service & self.alive & ~self.closed)

    @cached_property
    def new_connections(self) -> dict[tuple[int, int, int], int]:
        """OUT entries that have seen nothing but a SYN, likewise."""
        return self._ends(self.out & self.alive & ~self.closed & ~self.seen_non_syn)

    def _ends(self, mask: Mask) -> dict[tuple[int, int, int], int]:
        order = np.flatnonzero(mask)
        slots = (Slot(Slot.DST - 1), Slot.DST, Slot.DST_PORT)
        rows = np.stack([self.slot(slot)[order].astype(np.uint64) for slot in slots], axis=1)
        ends, counts = np.unique(rows, axis=0, return_counts=True)
        return {(high, low, port): int(count) for (high, low, port), count in zip(ends.tolist(), counts, strict=True)}

    def top(self, mask: Mask, slot: Slot, count: int = 5) -> dict[str, int]:
        """The commonest addresses (``Slot.SRC``, ``Slot.DST``) of the chosen entries, with how many each has."""
        order = np.flatnonzero(mask)
        rows = np.stack([self.slot(Slot(slot - 1))[order], self.slot(slot)[order]], axis=1).astype(np.uint64)
        _, first, counts = np.unique(rows, axis=0, return_index=True, return_counts=True)
        found: dict[str, int] = {}
        for at in np.argsort(-counts, kind="stable")[:count]:
            entry = self.columns.entry(int(order[first[at]]))
            address = entry.tuple.src if slot is Slot.SRC else entry.tuple.dst
            found[str(address)] = int(counts[at])
        return found

    def keys_where(self, mask: Mask) -> list[bytes]:
        """Raw keys of the chosen entries."""
        return [row.tobytes() for row in self.columns.keys[mask]]

    def examples(self, mask: Mask, count: int = 3) -> list[str]:
        """The first chosen entries in words."""
        chosen = [self.columns.entry(int(index)) for index in np.flatnonzero(mask)[:count]]
        return [f"{entry.direction} {entry.tuple}" for entry in chosen]
