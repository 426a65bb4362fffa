"""SNAT entries as rows of a lake, from their bytes as they lie: a node has as many of them as of connections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ctctl.decode.columns import record_types
from ctctl.decode.ct import TUPLE_IN, TUPLE_RELATED
from ctctl.decode.nat import VALUE_ADDRESS, VALUE_SIZE
from ctctl.decode.nat_rows import NatRows, NatTable
from ctctl.model.clock import Clock
from ctctl.tables.show.arrow import CHUNK, ROW_GROUP, Stamp, StampedRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

#: By whether an entry is of packets that come in.
_DIRECTIONS, _XLATES = ["OUT", "IN"], ["SRC", "DST"]
_MOST = 1 << 62


def nat_rows(
    tables: Iterable[NatTable], columns: Mapping[str, str], stamp: Stamp, time: tuple[Clock, int | None]
) -> Iterator[Any]:
    """The entries of SNAT tables as Arrow tables of these columns, the same order for the same content.

    At most ``CHUNK`` are sorted at once.
    """
    for table in tables:
        batches = table.read()
        while len(whole := NatRows.joined(table.family, table.name, _some(batches))):
            order = _Rows(table, whole, stamp).order()
            for start in range(0, len(order), ROW_GROUP):
                yield _Rows(table, whole, stamp, order[start : start + ROW_GROUP]).table(columns, *time)


def _some(batches: Iterator[NatRows]) -> Iterator[NatRows]:
    """The next batches, till they are ``CHUNK`` entries; none at the end."""
    count = 0
    for rows in batches:
        yield rows
        count += len(rows)
        if count >= CHUNK:
            return


class _Rows(StampedRows):
    """The columns of entries, those of ``rows`` that ``chosen`` has the places of."""

    def __init__(self, table: NatTable, rows: NatRows, stamp: Stamp, chosen: Array | None = None) -> None:
        super().__init__(stamp, len(rows) if chosen is None else len(chosen), table.family)
        self.of = table
        every = slice(None) if chosen is None else chosen
        self.keys = np.frombuffer(rows.keys, record_types(table.family)[0])[every]
        values = np.frombuffer(rows.values, np.uint8).reshape(-1, VALUE_SIZE[table.family])
        self.values = values[every]
        self.ages = None if rows.ages is None else np.frombuffer(rows.ages, np.int64)[every]
        self.incoming = (self.keys["tuple_flags"] & TUPLE_IN) != 0

    def order(self) -> NDArray[np.intp]:
        """Where each goes: by direction and the end that is elsewhere, as conntrack entries do."""
        keys, flow = self.keys, ("dport", "sport", "saddr", "proto", "daddr")
        columns = [keys[name] for name in flow]
        if self.family == 6:
            columns[3:3], columns[6:] = [keys["saddr_hi"]], [keys["daddr_hi"]]
        return np.lexsort((*columns, ~self.incoming))

    def table(self, columns: Mapping[str, str], clock: Clock, now: int | None) -> Any:
        flags, codes = self.keys["tuple_flags"], self.incoming.astype(np.int32)
        made = {
            **self.about(self.of.name),
            **self._end("src", "saddr"),
            **self._end("dst", "daddr"),
            "src_port": self.number(self.keys["sport"], "int32"),
            "dst_port": self.number(self.keys["dport"], "int32"),
            "proto": self.number(self.keys["proto"], "int32"),
            "direction": self.coded(codes, _DIRECTIONS),
            "xlate": self.coded(codes, _XLATES),
            "related": self.pa.array((flags & TUPLE_RELATED) != 0),
            **self._to(),
            "age_s": self._age(clock, now),
        }
        if "needs_ct" not in self.of.absent:
            made["needs_ct"] = self.number(self._word(8), "uint64")
        return self.whole(columns, made)

    def _end(self, name: str, column: str) -> dict[str, Any]:
        high = np.zeros(self.count, np.uint64) if self.family == 4 else self.keys[f"{column}_hi"]
        return self.address(name, high, self.keys[column])

    def _to(self) -> dict[str, Any]:
        end = VALUE_ADDRESS + (4 if self.family == 4 else 16)
        halves = np.ascontiguousarray(self.values[:, VALUE_ADDRESS:end]).view(">u4" if self.family == 4 else ">u8")
        high = np.zeros(self.count, np.uint64) if self.family == 4 else halves[:, 0]
        port = self.values[:, end : end + 2].astype(np.int32)
        return {
            **self.address("to_addr", high, halves[:, -1], named=False),
            "to_port": self.pa.array(port[:, 0] << 8 | port[:, 1]),
        }

    def _word(self, at: int) -> Array:
        """A number of 64 bits of the values."""
        return np.ascontiguousarray(self.values[:, at : at + 8]).view("<u8")[:, 0]

    def _age(self, clock: Clock, now: int | None) -> Any:
        """Seconds that each is old, where that is known: a listing shows them, bytes have when it was made."""
        if self.ages is not None:
            return self.pa.array(self.ages)
        created = self._word(0)
        if now is None:
            return self.pa.nulls(self.count, self.pa.int64())
        if clock.hz is None and int(created.max(initial=0)) < _MOST:
            return self.pa.array(clock.seconds(now) - created.astype(np.int64), mask=created == 0)
        ages = [clock.seconds(now) - clock.seconds(one) if one else None for one in created.tolist()]
        # What somebody wrote may be no time at all.
        return self.pa.array([age if age is not None and abs(age) < _MOST else None for age in ages], self.pa.int64())
