"""Texts for a whole batch at once: names of addresses, and numbers from a wide range."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

import numpy as np

from ctctl.decode.columns import CtColumns, Slot
from ctctl.out.rowtext import TextTable

if TYPE_CHECKING:
    from numpy.typing import NDArray


class KnownAddresses:
    """Addresses of one family that have names: looked up for a whole batch at once."""

    def __init__(self, names: Mapping[str, str], family: int) -> None:
        found: list[tuple[int, int, str]] = []
        for text, name in names.items():
            if text.startswith(("backend ", "rev-nat ")):
                continue
            try:
                address = ip_address(text)
            except ValueError:
                continue
            if address.version == family:
                found.append((int(address) & _LOW, int(address) >> 64, name))
        found.sort()
        self.names = [name for _low, _high, name in found]
        self._low = np.array([low for low, _high, _name in found], np.uint64)
        self._high = np.array([high for _low, high, _name in found], np.uint64)
        #: addresses that end alike stand beside each other: at most so many
        self._alike = max(np.unique(self._low, return_counts=True)[1], default=0)

    def find(self, columns: CtColumns, side: str) -> NDArray[np.uint32]:
        """Which of the names each row's address has, from 1; 0: none."""
        result = np.zeros(len(columns), np.uint32)
        if not self.names:
            return result
        low = columns.slot(Slot[side.upper()]).astype(np.uint64)
        high = columns.slot(Slot[f"{side.upper()}_HI"])
        first = np.searchsorted(self._low, low)
        for step in range(int(self._alike)):
            at = np.minimum(first + step, len(self.names) - 1)
            hit = (self._low[at] == low) & (self._high[at] == high)
            result[hit] = at[hit] + 1
        return result


_LOW = (1 << 64) - 1


class Numbers:
    """Texts of numbers from a wide range, of which a table has few: each made once."""

    def __init__(self, make: Callable[[int], bytes]) -> None:
        self._numbers: NDArray[np.int64] = np.zeros(0, np.int64)
        self._ids: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._by_id: list[int] = []
        self.table = TextTable(lambda place: make(self._by_id[place]), 0)

    def places(self, numbers: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Where in the table each number's text is."""
        if not len(numbers):
            return np.zeros(0, np.uint32)
        at = self._find(numbers)
        missing = np.ones(len(numbers), np.bool_) if at is None else self._numbers[at] != numbers
        if missing.any():
            fresh = np.unique(numbers[missing])
            ids = np.arange(len(self._by_id), len(self._by_id) + len(fresh), dtype=np.uint32)
            self._by_id += fresh.tolist()
            order = np.argsort(joined := np.concatenate([self._numbers, fresh]))
            self._numbers, self._ids = joined[order], np.concatenate([self._ids, ids])[order]
            self.table.grow(len(self._by_id))
            at = self._find(numbers)
        return self._ids[at]

    def _find(self, numbers: NDArray[np.int64]) -> NDArray[np.intp] | None:
        if not len(self._numbers):
            return None
        return np.minimum(np.searchsorted(self._numbers, numbers), len(self._numbers) - 1)
