"""Batches of table records: as bytes for row programs, as numpy columns for all that computes.

A batch is two byte matrices, keys ``uint8 (n, 14|38)`` and values ``uint8 (n, 56)``, as batch
lookup returns them. Columns are computed when asked for and kept, in host order, one number per
*slot* (``enum ctctl_slot``): the flat, layout-neutral form that filters, statistics and the in-kernel
scan (``bpf/ctscan.bpf.c``) share.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeAlias

from ctctl._ffi.rows import Field
from ctctl.abi.constants import Slot
from ctctl.decode.ct import KEY_SIZE, LAYOUT_LACKS, TUPLE_IN, TUPLE_SERVICE, VALUE_SIZE, decode_entry, family_of_key
from ctctl.model.entry import CtEntry, CtFlags, Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CtColumns", "Slot", "fields_of", "record_types"]

Matrix: TypeAlias = "NDArray[np.uint8]"
Column: TypeAlias = "NDArray[np.uint64]"
Mask: TypeAlias = "NDArray[np.bool_]"

# The fields of keys and values in the order of their bytes, as numpy writes types.
_PORTS = (("dport", ">u2"), ("sport", ">u2"), ("proto", "u1"), ("tuple_flags", "u1"))
_KEYS = {
    4: (("daddr", ">u4"), ("saddr", ">u4"), *_PORTS),
    6: (("daddr_hi", ">u8"), ("daddr", ">u8"), ("saddr_hi", ">u8"), ("saddr", ">u8"), *_PORTS),
}
_VALUES = (
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


@functools.cache
def record_types(family: int) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """A key of a family and a value as numpy has records."""
    import numpy as np

    return np.dtype(list(_KEYS[family])), np.dtype(list(_VALUES))


@functools.cache
def fields_of(family: int) -> dict[str, Field]:
    """Where each field lies in a row whose matrices are key and value; where else in a SERVICE entry's key.

    ``src`` and ``dst`` are octets, ``key_end`` is ``protocol << 8 | tuple flags``; ``key`` and ``value`` are all of it.
    """
    found: dict[str, Field] = {}
    for matrix, fields in enumerate((_KEYS[family], _VALUES)):
        at = 0
        for name, kind in fields:
            found[name] = Field(matrix, at, int(kind[-1]), kind[0] == ">")
            at += int(kind[-1])
        found["value" if matrix else "key"] = Field(matrix, 0, at)
    half = 4 if family == 4 else 16
    for name, usual, service in (("src", 0, half), ("dst", half, 0)):
        found[name] = Field(0, usual, half, picked=service)
    for name, usual_port, service_port in (("src_port", "sport", "dport"), ("dst_port", "dport", "sport")):
        found[name] = found[usual_port]._replace(picked=found[service_port].at)
    found["key_end"] = Field(0, found["proto"].at, 2, big=True)
    found["nat_port"] = found["ifindex"]._replace(big=True)
    return found


class CtColumns:
    """The columns of one batch. The memory behind it must stay as it is while it is used.

    Made of matrices, or of the bytes that they are (``of_bytes``): numpy is imported when columns are asked for.
    """

    __slots__ = ("_cache", "_key", "_keys", "_memory", "_size", "_values", "family", "layout")

    def __init__(self, keys: Matrix, values: Matrix, layout: Layout = Layout.V1_16) -> None:
        import numpy as np

        self._keys: Matrix | None = np.ascontiguousarray(keys)
        self._values: Matrix | None = np.ascontiguousarray(values)
        self._memory: tuple[Any, Any] = self._keys, self._values
        self._size = len(keys)
        self.layout = layout
        self.family = family_of_key(keys.shape[1])
        self._cache: dict[int, NDArray[Any]] = {}

    @classmethod
    def of_bytes(cls, family: int, keys: Any, values: Any, layout: Layout) -> CtColumns:
        """From keys and values beside each other: bytes, or memory views."""
        made = cls.__new__(cls)
        made._keys = made._values = None
        made._memory = keys, values
        made._size = len(values) // VALUE_SIZE
        made.layout, made.family, made._cache = layout, family, {}
        return made

    def __len__(self) -> int:
        return self._size

    @property
    def matrices(self) -> Sequence[tuple[Any, int]]:
        """The memory of keys and values and the bytes of a row in each, as row programs take them."""
        return (self._memory[0], KEY_SIZE[self.family]), (self._memory[1], VALUE_SIZE)

    @property
    def keys(self) -> Matrix:
        """uint8 (n, 14|38)."""
        if self._keys is None:
            self._keys = self._matrix(0)
        return self._keys

    @property
    def values(self) -> Matrix:
        """uint8 (n, 56)."""
        if self._values is None:
            self._values = self._matrix(1)
        return self._values

    def _matrix(self, which: int) -> Matrix:
        import numpy as np

        return np.frombuffer(self._memory[which], np.uint8).reshape(len(self), self.matrices[which][1])

    def _records(self, which: int) -> NDArray[Any]:
        found: NDArray[Any] = (self.values if which else self.keys).view(record_types(self.family)[which])[:, 0]
        return found

    def slot(self, slot: Slot) -> NDArray[Any]:
        """The numbers of one slot, length n, in host order and an unsigned type wide enough."""
        found = self._cache.get(slot)
        if found is None:
            found = self._cache[slot] = self._compute(slot)
        return found

    def _compute(self, slot: Slot) -> NDArray[Any]:
        import numpy as np

        if slot in _VALUE_SLOTS:
            column = self._records(1)[_VALUE_SLOTS[slot]]
        elif slot in _KEY_SLOTS:
            if self.family == 4 and slot in (Slot.SRC_HI, Slot.DST_HI):
                return np.zeros(len(self), dtype=np.uint64)
            service, other = _KEY_SLOTS[slot]
            is_service, records = self.service, self._records(0)
            column = records[other]
            if is_service.any():
                column = np.where(is_service, records[service], column)
        else:
            column = self._records(0)["proto" if slot is Slot.PROTO else "tuple_flags"]
        return column.astype(column.dtype.newbyteorder("="), copy=False)

    @property
    def service(self) -> Mask:
        """Which entries are SERVICE ones."""
        flags: NDArray[np.uint8] = self.slot(Slot.TUPLE_FLAGS)
        found: Mask = (flags & TUPLE_SERVICE) != 0
        return found

    @property
    def translated(self) -> Mask:
        """Which entries hold a service's address and port in place of a backend (1.19, DSR)."""
        import numpy as np

        if not self.layout.has_nat:
            return np.zeros(len(self), dtype=np.bool_)
        outgoing = (self.slot(Slot.TUPLE_FLAGS) & np.uint8(TUPLE_SERVICE | TUPLE_IN)) == 0
        dsr = (self.slot(Slot.FLAGS) & np.uint16(CtFlags.DSRInternal)) != 0
        return outgoing & dsr & ((self.slot(Slot.WORD0) | self.slot(Slot.WORD8)) != 0)  # type: ignore[no-any-return]

    def select(self, mask: Mask | NDArray[np.intp]) -> CtColumns:
        """The entries where ``mask`` holds (a bool array, or indices), copied."""
        import numpy as np

        # take copies a row at once, an index in brackets byte by byte.
        chosen = np.flatnonzero(mask) if mask.dtype == np.bool_ else mask
        return CtColumns(self.keys.take(chosen, axis=0), self.values.take(chosen, axis=0), self.layout)

    @classmethod
    def joined(cls, parts: list[CtColumns]) -> CtColumns:
        """The entries of several batches of one table."""
        import numpy as np

        keys, values = ([getattr(part, name) for part in parts] for name in ("keys", "values"))
        return cls(np.concatenate(keys), np.concatenate(values), parts[0].layout)

    def first(self, count: int) -> CtColumns:
        """The first so many entries, not copied where the memory may be written."""
        parts = [memory[: count * size] for memory, size in self._flat()]
        keys, values = (bytes(part) if part.readonly else part for part in parts)
        return CtColumns.of_bytes(self.family, keys, values, self.layout)

    def copy(self) -> CtColumns:
        """The same entries in memory of their own, valid beyond the next batch."""
        return CtColumns(self.keys.copy(), self.values.copy(), self.layout)

    def entry(self, index: int, map_name: str | None = None, absent: frozenset[str] = frozenset()) -> CtEntry:
        """One entry of the batch as the model has it."""
        index %= self._size
        key, value = (bytes(memory[index * size : (index + 1) * size]) for memory, size in self._flat())
        return decode_entry(key, value, self.layout, map_name, absent=absent)

    def _flat(self) -> Iterator[tuple[memoryview, int]]:
        """Keys and values as bytes, and how many each has."""
        for memory, size in self.matrices:
            yield memoryview(memory).cast("B") if self._size else memoryview(b""), size

    def lacks(self, field: str) -> bool:
        """Whether the layout has no such field."""
        return field in LAYOUT_LACKS[self.layout]
