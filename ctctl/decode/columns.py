"""Batches of table records as numpy columns.

A batch is two byte matrices, keys ``uint8 (n, 14|38)`` and values ``uint8 (n, 56)``, as batch
lookup returns them. Columns are computed when asked for and kept, in host order, one number per
*slot* (``enum ctctl_slot``): the flat, layout-neutral form that filters, statistics and the in-kernel
scan (``bpf/ctscan.bpf.c``) share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ctctl.abi.constants import Slot
from ctctl.decode.ct import LAYOUT_LACKS, TUPLE_IN, TUPLE_SERVICE, decode_entry, family_of_key
from ctctl.model.entry import CtEntry, CtFlags, Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CtColumns", "Slot"]

Matrix: TypeAlias = "NDArray[np.uint8]"
Column: TypeAlias = "NDArray[np.uint64]"
Mask: TypeAlias = "NDArray[np.bool_]"

_PORTS = [("dport", ">u2"), ("sport", ">u2"), ("proto", "u1"), ("tuple_flags", "u1")]
KEY4 = np.dtype([("daddr", ">u4"), ("saddr", ">u4"), *_PORTS])
KEY6 = np.dtype([("daddr_hi", ">u8"), ("daddr", ">u8"), ("saddr_hi", ">u8"), ("saddr", ">u8"), *_PORTS])
VALUE = np.dtype(
    [
        ("word0", "<u8"),
        ("word8", "<u8"),
        ("word16", "<u8"),
        ("word24", "<u8"),
        ("lifetime", "<u4"),
        ("flags", "<u2"),
        ("rev_nat", ">u2"),
        ("ifindex", "<u2"),
        ("tx_flags_seen", "u1"),
        ("rx_flags_seen", "u1"),
        ("src_sec_id", "<u4"),
        ("last_tx_report", "<u4"),
        ("last_rx_report", "<u4"),
    ]
)


_VALUE_SLOTS = {
    Slot.LIFETIME: "lifetime",
    Slot.FLAGS: "flags",
    Slot.REV_NAT: "rev_nat",
    Slot.IFINDEX: "ifindex",
    Slot.TX_FLAGS_SEEN: "tx_flags_seen",
    Slot.RX_FLAGS_SEEN: "rx_flags_seen",
    Slot.SRC_SEC_ID: "src_sec_id",
    Slot.LAST_TX_REPORT: "last_tx_report",
    Slot.LAST_RX_REPORT: "last_rx_report",
    Slot.WORD0: "word0",
    Slot.WORD8: "word8",
    Slot.WORD16: "word16",
    Slot.WORD24: "word24",
}
# (column of a SERVICE entry, column of any other): a SERVICE tuple is as the packet's, the others reversed.
_KEY_SLOTS = {
    Slot.SRC_HI: ("saddr_hi", "daddr_hi"),
    Slot.SRC: ("saddr", "daddr"),
    Slot.DST_HI: ("daddr_hi", "saddr_hi"),
    Slot.DST: ("daddr", "saddr"),
    Slot.SRC_PORT: ("dport", "sport"),
    Slot.DST_PORT: ("sport", "dport"),
}


class CtColumns:
    """The columns of one batch. ``keys`` and ``values`` must stay as they are while it is used."""

    __slots__ = ("_cache", "_key", "_value", "family", "keys", "layout", "values")

    def __init__(self, keys: Matrix, values: Matrix, layout: Layout = Layout.V1_16) -> None:
        self.keys = np.ascontiguousarray(keys)
        self.values = np.ascontiguousarray(values)
        self.layout = layout
        self.family = family_of_key(keys.shape[1])
        self._key = self.keys.view(KEY4 if self.family == 4 else KEY6)[:, 0]
        self._value = self.values.view(VALUE)[:, 0]
        self._cache: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def slot(self, slot: Slot) -> NDArray[Any]:
        """The numbers of one slot, length n, in host order and an unsigned type wide enough."""
        found = self._cache.get(slot)
        if found is None:
            found = self._cache[slot] = self._compute(slot)
        return found

    def _compute(self, slot: Slot) -> NDArray[Any]:
        if slot in _VALUE_SLOTS:
            column = self._value[_VALUE_SLOTS[slot]]
        elif slot in _KEY_SLOTS:
            if self.family == 4 and slot in (Slot.SRC_HI, Slot.DST_HI):
                return np.zeros(len(self), dtype=np.uint64)
            service, other = _KEY_SLOTS[slot]
            is_service = self.service
            column = self._key[other]
            if is_service.any():
                column = np.where(is_service, self._key[service], column)
        else:
            column = self._key["proto" if slot is Slot.PROTO else "tuple_flags"]
        return column.astype(column.dtype.newbyteorder("="), copy=False)

    def raw(self, name: str) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        """A field as it lies in the table, in network order where the table has it so; nothing is copied.

        A pair where a SERVICE entry has it elsewhere: of the others, then of those. ``src`` and ``dst`` are octets.
        """
        if name in ("src", "dst"):
            half = 4 if self.family == 4 else 16
            ends = self.keys[:, :half], self.keys[:, half : 2 * half]
            return ends if name == "src" else ends[::-1]
        if name in ("src_port", "dst_port"):
            ports = self._key["sport"], self._key["dport"]
            return ports if name == "src_port" else ports[::-1]
        if name == "nat_port":
            return self.values[:, 40:42].view(">u2")[:, 0]
        return self._key[name] if name in ("proto", "tuple_flags") else self._value[name]

    @property
    def key_end(self) -> NDArray[Any]:
        """Protocol and tuple flags as one number, ``protocol << 8 | flags``; nothing is copied."""
        return self.keys[:, -2:].view(">u2")[:, 0]

    @property
    def service(self) -> Mask:
        """Which entries are SERVICE ones."""
        return (self.slot(Slot.TUPLE_FLAGS) & np.uint8(TUPLE_SERVICE)) != 0  # type: ignore[no-any-return]

    @property
    def translated(self) -> Mask:
        """Which entries hold a service's address and port in place of a backend (1.19, DSR)."""
        if not self.layout.has_nat:
            return np.zeros(len(self), dtype=np.bool_)
        outgoing = (self.slot(Slot.TUPLE_FLAGS) & np.uint8(TUPLE_SERVICE | TUPLE_IN)) == 0
        dsr = (self.slot(Slot.FLAGS) & np.uint16(CtFlags.DSRInternal)) != 0
        return outgoing & dsr & ((self.slot(Slot.WORD0) | self.slot(Slot.WORD8)) != 0)  # type: ignore[no-any-return]

    def select(self, mask: Mask | NDArray[np.intp]) -> CtColumns:
        """The entries where ``mask`` holds (a bool array, or indices), copied."""
        return CtColumns(self.keys[mask], self.values[mask], self.layout)

    @classmethod
    def joined(cls, parts: list[CtColumns]) -> CtColumns:
        """The entries of several batches of one table."""
        keys, values = ([getattr(part, name) for part in parts] for name in ("keys", "values"))
        return cls(np.concatenate(keys), np.concatenate(values), parts[0].layout)

    def first(self, count: int) -> CtColumns:
        """The first so many entries, not copied."""
        return CtColumns(self.keys[:count], self.values[:count], self.layout)

    def with_protocol(self) -> CtColumns:
        """The entries whose protocol is not 0: the Cilium CLI has no line for the others."""
        there = self._key["proto"] != 0
        return self if there.all() else self.select(there)

    def copy(self) -> CtColumns:
        """The same entries in memory of their own, valid beyond the next batch."""
        return CtColumns(self.keys.copy(), self.values.copy(), self.layout)

    def entry(self, index: int, map_name: str | None = None, absent: frozenset[str] = frozenset()) -> CtEntry:
        """One entry of the batch as the model has it."""
        key, value = self.keys[index].tobytes(), self.values[index].tobytes()
        return decode_entry(key, value, self.layout, map_name, absent=absent)

    def lacks(self, field: str) -> bool:
        """Whether the layout has no such field."""
        return field in LAYOUT_LACKS[self.layout]
