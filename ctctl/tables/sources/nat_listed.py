"""SNAT entries of listings, kept as their bytes lie, or would: a million of them are no objects.

Text shows an age in place of the time of creation, and not in every version whether conntrack is needed.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from ctctl.abi import pins
from ctctl.decode.ct import KEY_SIZE, family_of_key, flags_of_direction
from ctctl.decode.nat import AGE_FORM, VALUE_SIZE, encode_nat_key, encode_nat_value, nat_family
from ctctl.model.nat import NatEntry
from ctctl.model.tuples import Direction

if TYPE_CHECKING:
    from ctctl.decode.columns import Matrix
    from ctctl.decode.nat_rows import NatRows, NatTable


@dataclass(slots=True)
class NatColumns:
    """Entries of one family, in order.

    ``shows_ct``: of text, which tells ``needs_ct`` or does not, and whose ``ages`` are seconds; None: of bytes.
    """

    family: int
    shows_ct: bool | None
    keys: bytearray = field(default_factory=bytearray)
    values: bytearray = field(default_factory=bytearray)
    ages: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.keys) // KEY_SIZE[self.family]

    @property
    def absent(self) -> frozenset[str]:
        """Fields of an entry that the listing does not show."""
        if self.shows_ct is None:
            return frozenset()
        return frozenset({"created", "key_hex"} if self.shows_ct else {"created", "key_hex", "needs_ct"})

    def entries(self) -> Iterator[NatEntry]:
        """One by one."""
        rows, absent = self._rows(), self.absent
        yield from (rows.entry(at, absent) for at in range(len(rows)))

    def split_keys(self) -> list[bytes]:
        """The key of each."""
        return _split(self.keys, KEY_SIZE[self.family])

    def table(self) -> NatTable:
        """As a table of bytes."""
        from ctctl.decode.nat_rows import BATCH, NatTable

        whole = self._rows()

        def read() -> Iterator[NatRows]:
            for start in range(0, len(self), BATCH):
                yield whole.part(start, start + BATCH)

        return NatTable(whole.name, self.family, read, self.absent)

    def _rows(self) -> NatRows:
        from ctctl.decode.nat_rows import NatRows

        ages = None if self.shows_ct is None else self.ages.tobytes()
        return NatRows(self.family, self.keys, self.values, pins.SNAT_TABLES[self.family], ages)


def _split(memory: bytearray, width: int) -> list[bytes]:
    return [found for (found,) in struct.iter_unpack(f"{width}s", memory)]


@dataclass(slots=True)
class ListedNat:
    """All of a node, by family and by what its listings show."""

    parts: dict[tuple[int, bool | None], NatColumns] = field(default_factory=dict)
    _entries: list[NatEntry] = field(default_factory=list, repr=False, compare=False)

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def part(self, family: int, *, shows_ct: bool | None) -> NatColumns:
        """The entries of a family, made when it is first asked for."""
        return self.parts.setdefault((family, shows_ct), NatColumns(family, shows_ct))

    def add_bytes(self, key: bytes, value: bytes) -> None:
        """Add an entry by its bytes. Raises DecodeError on sizes that do not fit."""
        self.add_memory(nat_family(len(key), len(value)), key, value)

    def add_many(self, keys: Matrix, values: Matrix) -> None:
        """Add entries of one family by their bytes, which have the sizes of its table."""
        self.add_memory(family_of_key(keys.shape[1]), keys.tobytes(), values.tobytes())

    def add_memory(self, family: int, keys: Any, values: Any) -> None:
        """Add entries by keys and values beside each other: bytes, or memory views."""
        part = self.part(family, shows_ct=None)
        part.keys += keys
        part.values += values

    def add(self, entry: NatEntry) -> bool:
        """Whether an entry of text can be kept so; it is added then."""
        family = entry.tuple.src.version
        fits = entry.xlate == ("DST" if entry.direction is Direction.IN else "SRC") and entry.age_s is not None
        if not fits or {entry.tuple.dst.version, entry.to_addr.version} != {family}:
            return False
        part = self.part(family, shows_ct=entry.needs_ct is not None)
        try:
            age = AGE_FORM.pack(entry.age_s)
            value = encode_nat_value(entry.to_addr, entry.to_port, 0, entry.needs_ct or 0)
        except struct.error:
            return False
        part.keys += encode_nat_key(entry.tuple, flags_of_direction(entry.direction, entry.related))
        part.values += value
        part.ages.frombytes(age)
        return True

    def entries(self) -> list[NatEntry]:
        """One by one, made once."""
        if len(self._entries) != len(self):
            self._entries = [entry for part in self.parts.values() for entry in part.entries()]
        return self._entries

    def forms(self) -> set[str]:
        """Of what there are any: ``bytes``, ``text``."""
        return {"bytes" if part.shows_ct is None else "text" for part in self.parts.values() if len(part)}

    def counts(self) -> dict[str, int]:
        """How many there are by table."""
        found: dict[str, int] = {}
        for part in self.parts.values():
            name = pins.SNAT_TABLES[part.family]
            found[name] = found.get(name, 0) + len(part)
        return found

    def tables(self) -> list[NatTable] | None:
        """As tables of bytes; None where listings of one family differ in what they show."""
        some = [part for part in self.parts.values() if len(part)]
        return [part.table() for part in some] if len({part.family for part in some}) == len(some) else None

    @classmethod
    def joined(cls, parts: Sequence[ListedNat]) -> ListedNat:
        """One of all parts of the same node, each key once, as it is shown first."""
        whole = cls()
        known: set[bytes] = set()
        for columns in (columns for part in parts for columns in part.parts.values()):
            of = whole.part(columns.family, shows_ct=columns.shows_ct)
            _add_new(of, columns, known)
        return whole


def _add_new(of: NatColumns, more: NatColumns, known: set[bytes]) -> None:
    """Add the entries whose key is not among ``known``, which has theirs then."""
    keys = more.split_keys()
    before = len(known)
    new = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))  # where each stands first
    for key in known.intersection(new):
        del new[key]
    known.update(new)
    if len(known) - before == len(keys):
        of.keys += more.keys
        of.values += more.values
        of.ages += more.ages
        return
    width = VALUE_SIZE[more.family]
    for key, at in sorted(new.items(), key=itemgetter(1)):
        of.keys += key
        of.values += more.values[at * width : (at + 1) * width]
        if more.ages:
            of.ages.append(more.ages[at])
