"""What a stream is remembered by: it goes on for ever, and what is kept of it must not grow as long."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

#: Connections, tuples and the like that are remembered at most: some 8 MB of them.
REMEMBERED: Final = 1 << 14


class Recent(Generic[K, V]):
    """Values by key, at most ``limit``: what was added or asked for longest ago is forgotten first."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._kept: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: K) -> bool:
        return self.get(key) is not None

    def get(self, key: K) -> V | None:
        """The value of a key, which counts as seen now."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def add(self, key: K, value: V) -> V:
        """The value of a key: the one that it has, else this, which it has then. Values are never None."""
        found = self._kept.setdefault(key, value)
        self._kept.move_to_end(key)
        self._forget()
        return found

    def put(self, key: K, value: V) -> None:
        """Give a key this value."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        self._forget()

    def _forget(self) -> None:
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)


class RecentSet(Generic[K]):
    """The same of keys alone."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._kept: Recent[K, bool] = Recent(limit)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: K) -> bool:
        """Whether it is there, which counts as seen now."""
        return key in self._kept

    def add(self, key: K) -> None:
        """Remember a key."""
        self._kept.put(key, True)
