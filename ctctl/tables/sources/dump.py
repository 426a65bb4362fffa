"""What a dump turned out to hold, collected record by record in compact form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctctl.abi import pins
from ctctl.decode.ct import KEY_SIZE, VALUE_SIZE
from ctctl.errors import DecodeError
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.tables.sources.base import CtTable, Listings
from ctctl.tables.sources.clocks import clock_by_remaining

if TYPE_CHECKING:
    from ctctl.tables.sources.base import Rows

#: Records of one dump at most: 94 bytes each, so that a hostile one cannot take all memory.
MAX_RECORDS = 8_000_000
_BATCH = 16384
_PAIRS = 512


@dataclass(slots=True)
class Collected:
    """One table of a dump. ``pairs`` are (lifetime, remaining seconds shown), a sample of them."""

    name: str
    family: int
    layout: Layout = Layout.V1_16
    evidence: str = "assumed"
    raw: bool = True
    absent: frozenset[str] = frozenset()
    keys: bytearray = field(default_factory=bytearray)
    values: bytearray = field(default_factory=bytearray)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    known: set[bytes] | None = None

    def __len__(self) -> int:
        return len(self.values) // VALUE_SIZE

    def add(self, key: bytes, value: bytes) -> None:
        """One record. Raises DecodeError on sizes that do not fit, or too many of them."""
        if len(key) != KEY_SIZE[self.family] or len(value) != VALUE_SIZE:
            raise DecodeError(f"{self.name}: key of {len(key)} and value of {len(value)} bytes")
        if len(self.keys) >= MAX_RECORDS * len(key):
            raise DecodeError(f"{self.name}: more than {MAX_RECORDS} entries")
        self.keys += key
        self.values += value

    def pair(self, lifetime: int, remaining: int) -> None:
        """Remember what a line with ``--time-diff`` shows."""
        if len(self.pairs) < _PAIRS:
            self.pairs.append((lifetime, remaining))

    def merge(self, other: Collected) -> None:
        """Add the records of another dump of the same table; those with a key that is there stay."""
        size = KEY_SIZE[self.family]
        if self.known is None:
            self.known = {bytes(self.keys[at : at + size]) for at in range(0, len(self.keys), size)}
        for index in range(len(other)):
            key = bytes(other.keys[index * size : (index + 1) * size])
            if key not in self.known:
                self.known.add(key)
                self.add(key, bytes(other.values[index * VALUE_SIZE : (index + 1) * VALUE_SIZE]))
        self.pairs += other.pairs
        self.raw = self.raw and other.raw

    def rows(self) -> Iterator[Rows]:
        """The records as matrices of up to 16384 rows."""
        import numpy as np

        size = KEY_SIZE[self.family]
        keys = np.frombuffer(bytes(self.keys), np.uint8).reshape(-1, size)
        values = np.frombuffer(bytes(self.values), np.uint8).reshape(-1, VALUE_SIZE)
        for start in range(0, len(keys), _BATCH):
            yield keys[start : start + _BATCH], values[start : start + _BATCH]

    def table(self, node: str | None, clock: Clock | None, now: int | None) -> CtTable:
        """As a source's table; clock and now by evidence of the lines where the caller knows none."""
        found = clock_by_remaining(self.pairs)
        if found is not None:
            clock = clock or found[0]
            now = now if now is not None else found[1]
        return CtTable(
            name=self.name,
            family=self.family,
            layout=self.layout,
            read=self.rows,
            layout_evidence=self.evidence,
            node=node,
            absent=self.absent,
            raw=self.raw,
            count=len(self),
            clock=clock or Clock(None, "ktime assumed: the dump does not tell"),
            now=now,
        )


@dataclass(slots=True)
class Dump:
    """Everything one file (or all files of one node in an archive) holds."""

    kind: str = ""
    tables: dict[str, Collected] = field(default_factory=dict)
    listings: Listings = field(default_factory=Listings)
    clock: Clock | None = None
    now: int | None = None
    partial: list[str] = field(default_factory=list)

    def table(self, name: str, family: int) -> Collected:
        """The table of this name, made when it is first asked for."""
        if name not in self.tables:
            self.tables[name] = Collected(name, family)
        return self.tables[name]

    def merge(self, other: Dump) -> None:
        """Add another dump of the same node."""
        for name, theirs in other.tables.items():
            mine = self.tables.setdefault(name, theirs)
            if mine is not theirs:
                mine.merge(theirs)
        self.listings.extend(other.listings)
        self.clock = self.clock or other.clock
        self.now = self.now if self.now is not None else other.now
        self.partial += other.partial

    def ordered(self) -> list[Collected]:
        """The tables in the order the Cilium CLI lists them."""
        order = {name: index for index, name in enumerate(pins.CT_TABLES)}
        return sorted(self.tables.values(), key=lambda table: (order.get(table.name, len(order)), table.name))
