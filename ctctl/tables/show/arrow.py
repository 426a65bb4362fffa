"""Conntrack entries as Arrow columns: what Parquet files, lakes and SQL have, one schema for all of them.

Every column is there in every file, null where the layout or the source does not have it. Numbers are signed,
because not every engine has others, but for counters, which have 64 bits in the table. Addresses are two numbers
that join, ``*_hi`` and ``*_lo`` (an IPv4 address is its number in ``_lo``; IPv6 halves keep their bits), and a
text for people. pyarrow is the optional dependency ``ctctl[fleet]``, imported when rows are made.
"""

from __future__ import annotations

import functools
import importlib
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from ctctl.decode.columns import CtColumns, Slot
from ctctl.decode.ct import LAYOUT_LACKS, TUPLE_IN, TUPLE_RELATED, TUPLE_SERVICE
from ctctl.errors import MissingLibraryError
from ctctl.model.entry import STATE_BITS, STATES, Layout
from ctctl.tables.show.entry_facts import NUMBERS
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

#: Entries that are sorted at once, and rows that are made at once, of a group that a reader may pass over: both are
#: what memory is taken for, 70 bytes for an entry that is sorted. A usual node's table is sorted as a whole.
CHUNK: Final = 1 << 19
ROW_GROUP: Final = 1 << 16
#: Rows that are not worth compressing.
_FEW_ROWS: Final = 256
_TIME = "timestamp"

#: Column name to kind, in the order of the file. ``word``: text with few values.
CT_COLUMNS: Final[Mapping[str, str]] = {
    "cluster": "word",
    "node": "word",
    "collected_at": _TIME,
    "collection": "word",
    "boot_id": "word",
    "map": "word",
    "family": "int32",
    "proto": "int32",
    "direction": "word",
    "related": "bool",
    "state": "word",
    "src": "word",
    "src_hi": "int64",
    "src_lo": "int64",
    "src_port": "int32",
    "src_name": "word",
    "dst": "word",
    "dst_hi": "int64",
    "dst_lo": "int64",
    "dst_port": "int32",
    "dst_name": "word",
    "flow": "int64",
    "lifetime": "int64",
    "expires_at": _TIME,
    "remaining_s": "int64",
    "expired": "bool",
    "last_seen_at": _TIME,
    "flags": "int32",
    "tuple_flags": "int32",
    "rev_nat": "int32",
    "service": "word",
    "backend_id": "uint64",
    **dict.fromkeys(("packets", "bytes", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes"), "uint64"),
    "ifindex": "int32",
    "tx_flags_seen": "int32",
    "rx_flags_seen": "int32",
    "src_sec_id": "int64",
    "last_tx_report": "int64",
    "last_rx_report": "int64",
    "nat_addr": "word",
    "nat_port": "int32",
}
#: What is different in nearly every row: a dictionary would only cost, and so would to compress what looks like chance.
_DIVERSE = frozenset({"flow"})
#: Numbers of many values in a narrow range: bits of their differences are fewer than a dictionary's and quicker made.
_NARROW = frozenset(
    {"src_port", "lifetime", "remaining_s", "last_tx_report", "last_rx_report"}
    | {f"{way}{what}" for way in ("", "rx_", "tx_") for what in ("packets", "bytes")}
)
_DIRECTIONS = ("OUT", "IN", "SVC")


def pyarrow(*modules: str) -> ModuleType:
    """The library (with these modules of it loaded). Raises UnsupportedError that says how to get it."""
    # Read as it is loaded, and the only way to tell its writer too: its own memory keeps 30 MB that were given back.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        for name in modules:
            importlib.import_module(f"pyarrow.{name}")
        return importlib.import_module("pyarrow")
    except ImportError:
        raise MissingLibraryError("Parquet and lakes need pyarrow", "fleet") from None


def schema_of(columns: Mapping[str, str]) -> Any:
    """The Arrow schema of columns as ``CT_COLUMNS`` has them. Raises UnsupportedError."""
    return _schema_of(tuple(columns.items()))


@functools.cache
def _schema_of(columns: tuple[tuple[str, str], ...]) -> Any:
    pa = pyarrow()
    types = {
        "word": pa.dictionary(pa.int32(), pa.string()),
        "text": pa.string(),
        "bool": pa.bool_(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "uint64": pa.uint64(),
        _TIME: pa.timestamp("us", "UTC"),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns])


@dataclass(frozen=True, slots=True)
class Stamp:
    """What all rows of a collection say of themselves; None where it is unknown. ``names`` as ``NameBook.shown``."""

    cluster: str | None = None
    node: str | None = None
    collected_at: datetime | None = None
    collection: str | None = None
    boot_id: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)


def row_groups(batches: Iterator[CtColumns]) -> Iterator[CtColumns]:
    """The entries of one table, at most ``ROW_GROUP`` at a time, in memory of their own, each group of one direction.

    ``CHUNK`` are sorted at once by direction and addresses, which makes files small and lets a question to one
    direction or one address pass over most groups.
    """
    held = _Held()
    for batch in batches:
        at = 0
        while at < len(batch):
            at += held.take(batch, at)
            if held.count == CHUNK:
                yield from held.groups()
    yield from held.groups()


class _Held:
    """Entries until they are sorted, in the same memory chunk after chunk: fresh pages cost more than the copy."""

    def __init__(self) -> None:
        self.count = 0
        self._keys = self._values = np.empty((0, 0), np.uint8)
        self._layout = Layout.V1_16

    def take(self, batch: CtColumns, at: int) -> int:
        """Copy the entries of a batch from ``at`` on as far as there is room; returns how many."""
        if not len(self._keys):
            self._keys, self._values = (
                np.empty((CHUNK, each.shape[1]), np.uint8) for each in (batch.keys, batch.values)
            )
            self._layout = batch.layout
        taken = min(len(batch) - at, CHUNK - self.count)
        for memory, rows in ((self._keys, batch.keys), (self._values, batch.values)):
            memory[self.count : self.count + taken] = rows[at : at + taken]
        self.count += taken
        return taken

    def groups(self) -> Iterator[CtColumns]:
        """The entries in order, which are held no longer."""
        if self.count:
            columns = CtColumns(self._keys[: self.count], self._values[: self.count], self._layout)
            self.count = 0
            for order in sorted_order(columns):
                for start in range(0, len(order), ROW_GROUP):
                    yield columns.select(order[start : start + ROW_GROUP])


def arrow_rows(table: CtTable, columns: CtColumns, stamp: Stamp) -> Any:
    """The entries of a batch as an Arrow table."""
    return _Rows(table, columns, stamp).table()


def sorted_order(columns: CtColumns) -> list[NDArray[np.intp]]:
    """Where each entry goes: those of OUT, of IN and of SVC, each by the end that is elsewhere, then by the other.

    An entry's own end is one of the node's few pods, so that order by it would tell groups apart by nothing.
    """
    direction = _directions(columns)
    dst, src = (columns.slot(slot).astype(np.uint64) for slot in (Slot.DST, Slot.SRC))
    found = []
    # Each direction by itself: one 64-bit key sorts several times faster than a pair.
    for number, word in enumerate(_DIRECTIONS):
        part = np.flatnonzero(direction == number)
        far, near = (src[part], dst[part]) if word == "IN" else (dst[part], src[part])
        key = far << np.uint64(32) | near if columns.family == 4 else far
        found.append(part[np.argsort(key)])
    return found


def _directions(columns: CtColumns) -> NDArray[np.uint8]:
    """Index into ``_DIRECTIONS``: SVC before IN before OUT, as ``direction_of`` has it."""
    flags = columns.slot(Slot.TUPLE_FLAGS)
    return np.where(flags & TUPLE_SERVICE, 2, np.where(flags & TUPLE_IN, 1, 0)).astype(np.uint8)


def flow_number(parts: list[Array]) -> NDArray[np.int64]:
    """A 64-bit mix of columns: the same for the same values on every node, so that connections join by one number."""
    mixed = np.full(len(parts[0]), 0x9E3779B97F4A7C15, np.uint64)
    for part in parts:
        mixed ^= part.astype(np.uint64)
        # The finaliser of SplitMix64: every bit of what went in changes half of what comes out.
        mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed.view(np.int64)


@functools.lru_cache(1 << 16)
def _text_of_ipv4(number: int) -> str:
    """The same addresses come in every group of rows."""
    return str(IPv4Address(number))


def text_of_ipv6(octets: bytes) -> str:
    """As ``str`` of an address has it, in a tenth of the time. What IPv4 may be written in is left to that."""
    return socket.inet_ntop(socket.AF_INET6, octets) if any(octets[:10]) else str(IPv6Address(octets))


class StampedRows:
    """The columns of one batch of records of one family, each by its name, where it is no null."""

    def __init__(self, stamp: Stamp, count: int, family: int) -> None:
        self.pa = pyarrow()
        self.stamp, self.count, self.family = stamp, count, family

    def whole(self, columns: Mapping[str, str], made: Mapping[str, Any]) -> Any:
        """As a table of these columns, null where none was made."""
        schema = schema_of(columns)
        nulls = {entry.name: self.pa.nulls(self.count, entry.type) for entry in schema if entry.name not in made}
        arrays = [made[entry.name] if entry.name in made else nulls[entry.name] for entry in schema]
        return self.pa.Table.from_arrays(arrays, schema=schema)

    def about(self, name: str, node: str | None = None) -> dict[str, Any]:
        """What all of them say alike: the stamp, family and table; ``node`` where the stamp has none."""
        stamp = self.stamp
        words = {
            "cluster": stamp.cluster,
            "node": stamp.node or node,
            "collection": stamp.collection,
            "boot_id": stamp.boot_id,
            "map": name,
        }
        return {
            **{column: self.word(value) for column, value in words.items()},
            "collected_at": self._same(stamp.collected_at, self.pa.timestamp("us", "UTC")),
            "family": self._same(self.family, self.pa.int32()),
        }

    def address(self, name: str, high: Array, low: Array, *, named: bool = True) -> dict[str, Any]:
        """The columns of an address from its two numbers, with what it is called."""
        high, low = high.astype(np.uint64, copy=False), low.astype(np.uint64, copy=False)
        codes, found = self._dictionary(high, low)
        texts = [_text_of_ipv4(one) if isinstance(one, int) else text_of_ipv6(one) for one in found]
        made = {
            f"{name}_lo": self.pa.array(low.view(np.int64)),
            f"{name}_hi": self.pa.array(high.view(np.int64)),
            name: self.coded(codes, texts),
        }
        if named:
            made[f"{name}_name"] = self.named(codes, [self.stamp.names.get(text) for text in texts])
        return made

    def _dictionary(self, high: Array, low: Array) -> tuple[Array, list[Any]]:
        """The address of each as a place in a list of all of them: IPv4 as a number, IPv6 as octets."""
        octets = None if self.family == 4 else np.stack([high, low], axis=1).astype(">u8").tobytes()
        if self.count <= _FEW_ROWS:
            # The library's own way would load all of its functions first, for as long as a small file takes in all.
            ends = low.tolist() if octets is None else [octets[at : at + 16] for at in range(0, len(octets), 16)]
            places = {end: at for at, end in enumerate(dict.fromkeys(ends))}
            return np.array([places[end] for end in ends], np.int32), list(places)
        if octets is None:
            coded = self.pa.array(low).dictionary_encode()
        else:
            buffers = [None, self.pa.py_buffer(octets)]
            coded = self.pa.FixedSizeBinaryArray.from_buffers(
                self.pa.binary(16), self.count, buffers
            ).dictionary_encode()
        return coded.indices.to_numpy(), coded.dictionary.to_pylist()

    # ---- kinds of columns

    def _same(self, value: object, kind: Any) -> Any:
        if value is None:
            return self.pa.nulls(self.count, kind)
        return self.pa.repeat(self.pa.scalar(value, kind), self.count)

    def word(self, value: str | None) -> Any:
        """The same word in each."""
        kind = self.pa.dictionary(self.pa.int32(), self.pa.string())
        return self.pa.nulls(self.count, kind) if value is None else self.coded(np.zeros(self.count, np.int32), [value])

    def coded(self, codes: Array, words: list[str], absent: Array | None = None) -> Any:
        """Words by their places in a list."""
        index = self.pa.array(codes.astype(np.int32, copy=False), mask=absent)
        return self.pa.DictionaryArray.from_arrays(index, self.pa.array(words, self.pa.string()))

    def number(self, values: Array, kind: str, absent: Array | None = None) -> Any:
        """Numbers of a type that numpy has by this name too."""
        return self.pa.array(values.astype(kind), mask=absent)

    def named(self, codes: Array, known: list[str | None]) -> Any:
        """Words by their places in a list of those that are known."""
        words = sorted({word for word in known if word is not None})
        if not words:
            return self.word(None)
        place = {word: at for at, word in enumerate(words)}
        index = np.array([-1 if word is None else place[word] for word in known], np.int32)[codes]
        return self.coded(index, words, index < 0)


class _Rows(StampedRows):
    """The columns of one batch of conntrack entries."""

    def __init__(self, table: CtTable, columns: CtColumns, stamp: Stamp) -> None:
        super().__init__(stamp, len(columns), columns.family)
        self.of, self.columns = table, columns
        self.lacks = LAYOUT_LACKS[table.layout] | table.absent

    def table(self) -> Any:
        made = self.about(self.of.name, self.of.node)
        self._tuple(made)
        self._times(made)
        self._values(made)
        return self.whole(CT_COLUMNS, made)

    def _tuple(self, made: dict[str, Any]) -> None:
        columns = self.columns
        made["direction"] = self.coded(_directions(columns), list(_DIRECTIONS))
        made["related"] = self.pa.array((columns.slot(Slot.TUPLE_FLAGS) & TUPLE_RELATED) != 0)
        words = sorted({str(word) for word in STATES.values()})
        state = np.array([words.index(str(STATES[n & STATE_BITS])) for n in range(STATE_BITS + 1)], np.int32)
        made["state"] = self.coded(state[columns.slot(Slot.FLAGS) & STATE_BITS], words)
        for side in ("src", "dst"):
            made |= self.address(side, columns.slot(Slot[f"{side.upper()}_HI"]), columns.slot(Slot[side.upper()]))
        ends = [Slot.PROTO, Slot.SRC_HI, Slot.SRC, Slot.SRC_PORT, Slot.DST_HI, Slot.DST, Slot.DST_PORT]
        family = np.full(self.count, columns.family, np.uint64)
        made["flow"] = self.pa.array(flow_number([family, *(columns.slot(slot) for slot in ends)]))

    def _times(self, made: dict[str, Any]) -> None:
        columns, table = self.columns, self.of
        if table.now is None:
            return
        lifetime = columns.slot(Slot.LIFETIME).astype(np.int64)
        remaining = self._seconds(lifetime) - table.clock.seconds(table.now)
        made["remaining_s"] = self.pa.array(remaining)
        made["expired"] = self.pa.array(lifetime < table.now)
        if self.stamp.collected_at is None:
            return
        now_us = round(self.stamp.collected_at.timestamp() * 1e6)
        made["expires_at"] = self._moment(now_us + remaining * 1_000_000)
        last = np.maximum(columns.slot(Slot.LAST_TX_REPORT), columns.slot(Slot.LAST_RX_REPORT)).astype(np.int64)
        idle = table.clock.seconds(table.now) - self._seconds(last)
        made["last_seen_at"] = self._moment(now_us - idle * 1_000_000, last == 0)

    def _seconds(self, times: Array) -> Array:
        """Times of the table's clock in seconds, as ``Clock.seconds`` has one."""
        hz = self.of.clock.hz
        return times if hz is None else (times << 8) // hz

    def _has_word(self, name: str) -> Array:
        """Rows with the word that is a backend, up to 1.15 only in SERVICE entries, else received bytes."""
        if self.of.layout.split_counters:
            return self.columns.service if name == "backend_id" else ~self.columns.service
        return ~self.columns.translated

    def _moment(self, microseconds: Array, absent: Array | None = None) -> Any:
        return self.pa.array(microseconds.astype("datetime64[us]"), self.pa.timestamp("us", "UTC"), mask=absent)

    def _values(self, made: dict[str, Any]) -> None:
        columns, lacks = self.columns, self.lacks
        for name, place in NUMBERS.items():
            if name in made or name in lacks or name not in CT_COLUMNS:
                continue
            there = self._has_word(name) if name in ("backend_id", "rx_bytes") else None
            absent = None if there is None else ~there
            made[name] = self.number(columns.slot(Slot[place.upper()]), CT_COLUMNS[name], absent)
        rev_nat = columns.slot(Slot.REV_NAT)
        names = [self.stamp.names.get(f"rev-nat {n}") for n in range(int(rev_nat.max(initial=0)) + 1)]
        made["service"] = self.named(rev_nat, names)
        translated = columns.translated
        if "nat_port" not in lacks and translated.any():
            made["nat_port"] = self.number(columns.slot(Slot.IFINDEX).byteswap(), "int32", ~translated)
            words: dict[str, int] = {}
            codes = np.zeros(self.count, np.int32)
            for at in np.flatnonzero(translated).tolist():
                text = columns.entry(at).nat_addr or ""
                codes[at] = words.setdefault(text, len(words))
            made["nat_addr"] = self.coded(codes, list(words), ~translated)


class ParquetFile:
    """A Parquet file of these columns, written a table at a time: zstd, dictionaries, groups of rows.

    Of few rows it is one group, of plain values: all that makes a large file small would take longer than all else of
    such a file, one of each of a thousand small nodes.
    """

    def __init__(self, columns: Mapping[str, str], stream: BinaryIO | Any) -> None:
        self._columns = columns
        self._stream = stream
        self._writer: Any = None
        #: until there are more than a few rows
        self._held: list[Any] = []
        self.rows = 0

    def add(self, table: Any) -> None:
        """Write the rows of an Arrow table, or keep them while they are few."""
        self.rows += table.num_rows
        self._held.append(table)
        if self._writer is None and self.rows > _FEW_ROWS:
            self._writer = self._large()
        if self._writer is not None:
            self._write_held()

    def close(self) -> None:
        """Write the end; before it the file is none."""
        if self._writer is None:
            self._writer = self._small()
            self._held = [pyarrow().concat_tables(self._held)] if self._held else []
            self._write_held()
        self._writer.close()

    def give_up(self) -> None:
        """Leave the file without an end: the library else writes one when the object goes, wherever that fails."""
        if self._writer is not None:
            self._writer.is_open = False

    def _write_held(self) -> None:
        for table in self._held:
            self._writer.write_table(table, ROW_GROUP)
        self._held = []

    def _small(self) -> Any:
        return self._made(compression="none", use_dictionary=False, write_statistics=False)

    def _large(self) -> Any:
        coded = [name for name in self._columns if name not in _DIVERSE | _NARROW]
        return self._made(
            compression={name: "zstd" if name in coded else "none" for name in self._columns},
            compression_level=dict.fromkeys(coded, 1) or None,
            use_dictionary=coded,
            column_encoding={name: "DELTA_BINARY_PACKED" for name in self._columns if name in _NARROW},
            write_statistics=True,
            # A group's column is a page, made at once: each page and each step costs as much as thousands of rows.
            write_batch_size=ROW_GROUP,
        )

    def _made(self, **how: Any) -> Any:
        writer = pyarrow("parquet").parquet.ParquetWriter
        return writer(self._stream, schema_of(self._columns), store_schema=False, **how)


def write_parquet(tables: list[CtTable], batches: Any, stream: BinaryIO, stamp: Stamp | None = None) -> int:
    """All entries of ``batches(table)`` of each table as one file; returns how many. Raises UnsupportedError."""
    file = ParquetFile(CT_COLUMNS, stream)
    try:
        for table in tables:
            for part in row_groups(batches(table)):
                file.add(arrow_rows(table, part, stamp or Stamp()))
        file.close()
    except BaseException:
        file.give_up()
        raise
    return file.rows
