"""The records of two readings of a table beside each other: which are gone, which are new, which differ; by columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctctl._ffi.lines import first_alike, kept_keys
from ctctl.decode.columns import fields_of
from ctctl.decode.ct import KEY_SIZE, LAYOUT_LACKS, VALUE_SIZE, decode_entry
from ctctl.model.row import CtRow
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.rows import matching
from ctctl.tables.show.entry_facts import NUMBERS
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctctl.decode.columns import Matrix

    Numbers = NDArray[Any]

_BATCH = 1 << 16


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Records:
    """The records of a table, each key once."""

    table: CtTable
    keys: bytes
    values: Matrix

    def __len__(self) -> int:
        return len(self.values)

    def columns(self, which: Numbers) -> tuple[Matrix, Matrix]:
        """Keys and values of these."""
        import numpy as np

        keys = np.frombuffer(self.keys, np.uint8).reshape(len(self), KEY_SIZE[self.table.family])
        return keys[which], self.values[which]

    def row(self, index: int) -> CtRow:
        """One of them."""
        size = KEY_SIZE[self.table.family]
        return row_of(self.table, self.keys[index * size : (index + 1) * size], self.values[index].tobytes())


def load(table: CtTable, wanted: Filter = EVERYTHING) -> Records:
    """All matching records of a table, of each key the last one."""
    import numpy as np

    keys, values = bytearray(), bytearray()
    for columns in matching(table, wanted):
        keys += columns.keys.tobytes()
        values += columns.values.tobytes()
    size = KEY_SIZE[table.family]
    matrix = np.frombuffer(values, np.uint8).reshape(-1, VALUE_SIZE)
    keep, kept = kept_keys(keys, size, last=True)
    if kept < len(matrix):
        mask = np.frombuffer(keep, np.bool_)
        return Records(table, np.frombuffer(keys, np.uint8).reshape(-1, size)[mask].tobytes(), matrix[mask])
    return Records(table, bytes(keys), matrix)


class Compared:
    """Two readings, the first and the second one. A record is known by its key."""

    def __init__(self, before: Records, after: Records) -> None:
        import numpy as np

        self._before, self._after = before, after
        count, size = len(before), KEY_SIZE[before.table.family]
        like = np.frombuffer(first_alike(before.keys + after.keys, size), np.uint32)
        new = np.flatnonzero(like[count:] < count)
        old = like[count:][new]
        order = np.argsort(old, kind="stable")
        self._old: Numbers = old[order]
        self._new: Numbers = new[order]

    def gone(self) -> Iterator[CtRow]:
        """Records that only the first has, in its order."""
        yield from (self._before.row(index) for index in self.gone_at().tolist())

    def added(self) -> Iterator[CtRow]:
        """Records that only the second has, in its order."""
        yield from (self._after.row(index) for index in self.added_at().tolist())

    def unlike(self, names: Collection[str]) -> Iterator[tuple[CtRow, CtRow]]:
        """Both records of each key whose bytes differ where they have one of these fields, in the order of the first.

        Of two layouts every pair: where a field lies is not the same in them.
        """
        for old, new in self.unlike_at(names):
            for before, after in zip(old.tolist(), new.tolist(), strict=True):
                yield self._before.row(before), self._after.row(after)

    # ---- the same as numbers of records

    def gone_at(self) -> Numbers:
        """Which records of the first are ``gone``."""
        return _others(self._old, len(self._before))

    def added_at(self) -> Numbers:
        """Which records of the second are ``added``."""
        return _others(self._new, len(self._after))

    def unlike_at(self, names: Collection[str]) -> Iterator[tuple[Numbers, Numbers]]:
        """Which pairs are ``unlike``, some at a time."""
        import numpy as np

        first, second = self._before, self._after
        lacking = LAYOUT_LACKS[first.table.layout] | first.table.absent | second.table.absent
        fields = fields_of(first.table.family)
        places = [fields[place] for name in names if name not in lacking for place in _places(name)]
        octets = [octet for place in places for octet in range(place.at, place.at + place.width)]
        for start in range(0, len(self._old), _BATCH):
            old, new = self._old[start : start + _BATCH], self._new[start : start + _BATCH]
            if first.table.layout is second.table.layout:
                found = (first.values[old] != second.values[new])[:, octets].any(axis=1)
                old, new = old[np.flatnonzero(found)], new[np.flatnonzero(found)]
            yield old, new


def _places(name: str) -> tuple[str, ...]:
    """What lies where a field does; an address that an entry is translated to has the room of two words."""
    if name == "nat_addr":
        return "word0", "word8"
    return (name if name == "nat_port" else NUMBERS[name],)


def _others(paired: Numbers, count: int) -> Numbers:
    import numpy as np

    alone = np.ones(count, np.bool_)
    alone[paired] = False
    return np.flatnonzero(alone)


def row_of(table: CtTable, key: bytes, value: bytes) -> CtRow:
    """One record of a table as a row."""
    entry = decode_entry(key, value, table.layout, table.name, absent=table.absent)
    return CtRow(entry, table.layout, table.clock, table.now, table.node, table.raw)
