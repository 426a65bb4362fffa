"""All rows of a table in memory, in about half of what they take: bytes that are the same in all of them once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ctctl.decode.columns import CtColumns
from ctctl.decode.ct import KEY_SIZE
from ctctl.model.entry import Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]


class KeptRows:
    """Rows of one table, batch by batch; then ``take`` them in any order."""

    def __init__(self, family: int, layout: Layout) -> None:
        self._family, self._layout = family, layout
        self._usual: Bytes | None = None
        #: which bytes of a row differ between rows, as far as they were seen
        self._differ: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._parts: list[tuple[Bytes, NDArray[np.intp]]] = []
        self._rows: Bytes | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, columns: CtColumns) -> None:
        """Keep the rows of a batch, whose memory may be used again."""
        rows = np.concatenate([columns.keys, columns.values], axis=1)
        if self._usual is None:
            self._usual, self._differ = rows[0].copy(), np.zeros(rows.shape[1], np.bool_)
        self._differ = self._differ | (rows != self._usual).any(axis=0)
        places = np.flatnonzero(self._differ)
        self._parts.append((np.take(rows, places, axis=1), places))
        self._size += len(rows)

    def take(self, rows: NDArray[np.int64]) -> CtColumns:
        """These rows, in this order. After the last batch."""
        if self._usual is None:
            raise ValueError("no rows were kept")
        kept = self._joined(self._usual)
        found = np.tile(self._usual, (len(rows), 1))
        found[:, np.flatnonzero(self._differ)] = np.take(kept, rows, axis=0)
        size = KEY_SIZE[self._family]
        return CtColumns(found[:, :size], found[:, size:], self._layout)

    def _joined(self, usual: Bytes) -> Bytes:
        """All parts beside each other, with the bytes that differ in any of them."""
        if self._rows is None:
            differ = np.flatnonzero(self._differ)
            rows = np.empty((self._size, len(differ)), np.uint8)
            at = 0
            self._parts.reverse()
            while self._parts:  # each is let go when it is copied
                part, places = self._parts.pop()
                into = rows[at : at + len(part)]
                if len(places) < len(differ):
                    into[:] = usual[differ]
                into[:, np.searchsorted(differ, places)] = part
                at += len(part)
            self._rows = rows
        return self._rows


def compact(key: NDArray[Any]) -> NDArray[Any]:
    """Numbers in four bytes where they fit; texts as they are."""
    if key.dtype.kind == "S" or key.dtype.itemsize < 8 or not len(key):
        return key
    narrow = np.dtype(np.int32 if key.dtype.kind == "i" else np.uint32)  # mixed signs would become floats
    fits = np.iinfo(narrow).min <= int(key.min()) and int(key.max()) <= np.iinfo(narrow).max
    return key.astype(narrow) if fits else key
