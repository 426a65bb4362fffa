"""What row programs look up and fill: texts by number, keys to be found, groups of rows."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

from ctctl._ffi.rows import (
    ABSENT,
    SLACK,
    SUMS,
    RowsGroups,
    address_of,
    first_groups,
    place_groups,
    zeros,
)

#: Room for so many groups is there at first: of thousands of nodes each may have groups of its own.
_FEW_GROUPS = 1 << 6


class TextTable:
    """Texts by number, each made once, when a row first needs it. Numbers are below ``limit``."""

    def __init__(self, make: Callable[[int], bytes], limit: int) -> None:
        self._make = make
        self.limit = limit
        self.places = array("I", (ABSENT, 0)) * limit
        self.texts = bytearray(1 << 12)
        self._used = 0
        self.longest = 0

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> TextTable:
        """A table of texts that are known."""
        table = cls(lambda number: texts[number], max(len(texts), 1))
        for number in range(len(texts)):
            table.add(number)
        return table

    def add(self, number: int) -> None:
        """Make the text of a number."""
        text = self._make(number)
        if self._used + len(text) + SLACK > len(self.texts):
            self.texts = self.texts + bytes(len(self.texts) + len(text) + SLACK)
        self.texts[self._used : self._used + len(text)] = text
        self.places[2 * number], self.places[2 * number + 1] = self._used, len(text)
        self._used += len(text)
        self.longest = max(self.longest, len(text))


class KeyTable:
    """Keys of one width, to be found in rows (``RowProgram.find``): each its place in the list, from 1."""

    def __init__(self, keys: Sequence[bytes], width: int) -> None:
        self.width = width
        self.keys = b"".join(keys) or bytes(width)
        self.slots = 1 << (2 * len(keys)).bit_length()
        self.places = array("I", [0]) * self.slots
        for place, key in enumerate(keys, 1):
            slot = _hash_of(key)
            while self.places[slot % self.slots]:
                slot += 1
            self.places[slot % self.slots] = place


def _hash_of(key: bytes) -> int:
    """``hash_of`` of native/rows.c."""
    number = int.from_bytes(key[:8], "little")
    if len(key) == 16:
        number = number * 31 + int.from_bytes(key[8:], "little")
    return (number * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 32


class Groups:
    """Rows with the same key of ``key_size`` bytes, counted, and three of their numbers added up."""

    def __init__(self, key_size: int) -> None:
        self.memory = RowsGroups(key_size=key_size)
        self._keys, self._sums, self._slots = zeros(0), zeros(0), zeros(0)
        self.grow()

    def __len__(self) -> int:
        return int(self.memory.used)

    @property
    def matrices(self) -> Sequence[tuple[Any, int]]:
        """The groups as rows: key and sums (``SUMS`` numbers of 64 bits, the count of rows first) of each."""
        return (self._keys, int(self.memory.key_size)), (self._sums, 8 * SUMS)

    def grow(self) -> None:
        """Room for more groups."""
        memory = self.memory
        room = 4 * memory.room or _FEW_GROUPS
        self._keys = zeros(room * memory.key_size, self._keys)
        self._sums = zeros(8 * SUMS * room, self._sums)
        self._slots = zeros(4 * 2 * room)
        memory.keys, memory.sums, memory.slots = map(address_of, (self._keys, self._sums, self._slots))
        memory.room, memory.slot_count = room, 2 * room
        place_groups(memory)

    def counts(self) -> Any:
        """How many rows each group has, as numpy has them (uint64)."""
        import numpy as np

        return np.frombuffer(self._sums, np.uint64)[: SUMS * len(self) : SUMS]

    def key(self, at: int) -> bytes:
        """The key of a group, by its number from 0."""
        size = int(self.memory.key_size)
        return bytes(memoryview(self._keys).cast("B")[at * size : (at + 1) * size])

    def most(self, limit: int | None) -> list[tuple[bytes, tuple[int, ...]]]:
        """Key and sums of the groups with the most rows, most first, alike ones in the order of their keys."""
        size, keys, sums = (
            self.memory.key_size,
            memoryview(self._keys).cast("B"),
            memoryview(self._sums).cast("B").cast("Q"),
        )
        return [
            (bytes(keys[at * size : (at + 1) * size]), tuple(sums[at * SUMS : (at + 1) * SUMS]))
            for at in first_groups(self.memory, len(self) if limit is None else limit)
        ]
