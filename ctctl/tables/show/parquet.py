"""A small Parquet writer: flat tables of numbers and text, PLAIN encoding, no compression, one row group a batch.

Written from the format's specification (apache/parquet-format): pages and metadata are Thrift structs
in the compact protocol. Absent fields are left out as columns; nothing is null.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, BinaryIO

from ctctl.decode.ct import LAYOUT_LACKS
from ctctl.model.entry import STATE_BITS, STATES
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    from ctctl.decode.columns import CtColumns

_MAGIC = b"PAR1"


class _Type(IntEnum):
    """Physical types (Thrift ``Type``)."""

    INT32 = 1
    INT64 = 2
    BYTE_ARRAY = 6


#: ConvertedType UTF8, UINT_32, UINT_64.
_UTF8, _UINT_32, _UINT_64 = 0, 13, 14
# Thrift compact protocol: field types.
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12


class _Thrift:
    """Writes one struct in the compact protocol, fields in order of their ids."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._last = 0

    def _head(self, field: int, kind: int) -> None:
        self.data.append((field - self._last) << 4 | kind)
        self._last = field

    def number(self, field: int, value: int, kind: int = _I32) -> _Thrift:
        self._head(field, kind)
        self.data += _zigzag(value)
        return self

    def text(self, field: int, value: str) -> _Thrift:
        self._head(field, _BINARY)
        self.data += _text(value)
        return self

    def struct(self, field: int, value: _Thrift) -> _Thrift:
        self._head(field, _STRUCT)
        self.data += value.done()
        return self

    def list(self, field: int, kind: int, items: Sequence[bytes]) -> _Thrift:
        self._head(field, _LIST)
        self.data += bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([0xF0 | kind]) + _varint(len(items))
        self.data += b"".join(items)
        return self

    def done(self) -> bytes:
        return bytes(self.data) + b"\0"


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _zigzag(number: int) -> bytes:
    return _varint(number << 1 if number >= 0 else (-number << 1) - 1)


def _text(value: str) -> bytes:
    raw = value.encode()
    return _varint(len(raw)) + raw


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    type: _Type
    converted: int
    values: Callable[[CtTable, CtColumns], bytes]


def _numbers(slot: str, wide: bool) -> Callable[[CtTable, CtColumns], bytes]:
    def values(_table: CtTable, columns: CtColumns) -> bytes:
        from ctctl.decode.columns import Slot

        raw: bytes = columns.slot(Slot[slot]).astype("<u8" if wide else "<u4").tobytes()
        return raw

    return values


def _byte_arrays(texts: Sequence[str]) -> bytes:
    parts = []
    for text in texts:
        raw = text.encode()
        parts.append(struct.pack("<I", len(raw)) + raw)
    return b"".join(parts)


def _address(side: str) -> Callable[[CtTable, CtColumns], bytes]:
    def values(_table: CtTable, columns: CtColumns) -> bytes:
        from ctctl.decode.columns import Slot

        low = columns.slot(Slot[side]).tolist()
        if columns.family == 4:
            return _byte_arrays([str(IPv4Address(number)) for number in low])
        high = columns.slot(Slot[f"{side}_HI"]).tolist()
        return _byte_arrays([str(IPv6Address(h << 64 | number)) for h, number in zip(high, low, strict=True)])

    return values


def _backends(_table: CtTable, columns: CtColumns) -> bytes:
    from ctctl.decode.columns import Slot

    raw: bytes = (columns.slot(Slot.WORD8) * ~columns.translated).astype("<u8").tobytes()
    return raw


def _nat_addresses(_table: CtTable, columns: CtColumns) -> bytes:
    """The service's address of a DSR entry, empty for any other."""
    translated = columns.translated.tolist()
    return _byte_arrays([columns.entry(n).nat_addr or "" if nat else "" for n, nat in enumerate(translated)])


def _nat_ports(_table: CtTable, columns: CtColumns) -> bytes:
    from ctctl.decode.columns import Slot

    raw: bytes = (columns.slot(Slot.IFINDEX).byteswap() * columns.translated).astype("<u4").tobytes()
    return raw


def _words(pick: Callable[[Any], list[str]]) -> Callable[[CtTable, CtColumns], bytes]:
    return lambda _table, columns: _byte_arrays(pick(columns))


def _directions(columns: CtColumns) -> list[str]:
    from ctctl.decode.columns import Slot

    return ["SVC" if flags & 4 else "IN" if flags & 1 else "OUT" for flags in columns.slot(Slot.TUPLE_FLAGS).tolist()]


def _states(columns: CtColumns) -> list[str]:
    from ctctl.decode.columns import Slot

    return [str(STATES[flags & STATE_BITS]) for flags in columns.slot(Slot.FLAGS).tolist()]


def _columns(tables: Sequence[CtTable]) -> list[_Column]:
    """Columns that every table has."""
    lacks = frozenset().union(*(LAYOUT_LACKS[table.layout] | table.absent for table in tables))

    def number(name: str, slot: str, *, wide: bool = False) -> _Column:
        kind = (_Type.INT64, _UINT_64) if wide else (_Type.INT32, _UINT_32)
        return _Column(name, *kind, _numbers(slot, wide))

    found = [
        _Column("node", _Type.BYTE_ARRAY, _UTF8, lambda table, c: _byte_arrays([table.node or ""] * len(c))),
        _Column("map", _Type.BYTE_ARRAY, _UTF8, lambda table, c: _byte_arrays([table.name] * len(c))),
        number("proto", "PROTO"),
        _Column("direction", _Type.BYTE_ARRAY, _UTF8, _words(_directions)),
        _Column("src", _Type.BYTE_ARRAY, _UTF8, _address("SRC")),
        number("src_port", "SRC_PORT"),
        _Column("dst", _Type.BYTE_ARRAY, _UTF8, _address("DST")),
        number("dst_port", "DST_PORT"),
        _Column("state", _Type.BYTE_ARRAY, _UTF8, _words(_states)),
        *(number(name, name.upper()) for name in ("tuple_flags", "lifetime", "flags", "rev_nat", "ifindex")),
        *(number(name, name.upper()) for name in ("tx_flags_seen", "rx_flags_seen", "src_sec_id")),
        *(number(name, name.upper()) for name in ("last_tx_report", "last_rx_report")),
    ]
    if all(not table.layout.split_counters for table in tables):
        words = {"backend_id": "WORD8", "packets": "WORD16", "bytes": "WORD24"}
    else:
        words = {"rx_packets": "WORD0", "tx_packets": "WORD16", "tx_bytes": "WORD24"}
    found += [number(name, slot, wide=True) for name, slot in words.items() if name != "backend_id"]
    if "backend_id" in words:
        found.append(_Column("backend_id", _Type.INT64, _UINT_64, _backends))
    found.append(_Column("nat_addr", _Type.BYTE_ARRAY, _UTF8, _nat_addresses))
    found.append(_Column("nat_port", _Type.INT32, _UINT_32, _nat_ports))
    return [column for column in found if column.name not in lacks]


def write_parquet(
    tables: Sequence[CtTable], batches: Callable[[CtTable], Iterator[CtColumns]], stream: BinaryIO
) -> int:
    """Write all batches; returns how many rows."""
    columns = _columns(tables) if tables else []
    stream.write(_MAGIC)
    offset, total = len(_MAGIC), 0
    groups: list[bytes] = []
    for table in tables:
        for batch in batches(table):
            group, size = _row_group(table, batch, columns, stream, offset)
            groups.append(group)
            offset += size
            total += len(batch)
    schema = [_Thrift().text(4, "conntrack").number(5, len(columns)).done()]
    for column in columns:
        schema.append(
            _Thrift().number(1, column.type).number(3, 0).text(4, column.name).number(6, column.converted).done()
        )
    footer = _Thrift().number(1, 1).list(2, _STRUCT, schema).number(3, total, _I64).list(4, _STRUCT, groups)
    raw = footer.text(6, "ctctl").done()
    stream.write(raw + struct.pack("<I", len(raw)) + _MAGIC)
    return total


def _row_group(
    table: CtTable, batch: CtColumns, columns: Sequence[_Column], stream: BinaryIO, offset: int
) -> tuple[bytes, int]:
    chunks: list[bytes] = []
    size = 0
    for column in columns:
        data = column.values(table, batch)
        # DataPageHeader: rows, PLAIN values, levels that do not exist for required flat columns (RLE).
        page = _Thrift().number(1, len(batch)).number(2, 0).number(3, 3).number(4, 3)
        head = _Thrift().number(1, 0).number(2, len(data)).number(3, len(data)).struct(5, page).done()
        start = offset + size
        stream.write(head + data)
        length = len(head) + len(data)
        meta = _Thrift().number(1, column.type).list(2, _I32, [_zigzag(0)]).list(3, _BINARY, [_text(column.name)])
        meta.number(4, 0).number(5, len(batch), _I64).number(6, length, _I64).number(7, length, _I64)
        meta.number(9, start, _I64)
        chunks.append(_Thrift().number(2, start, _I64).struct(3, meta).done())
        size += length
    group = _Thrift().list(1, _STRUCT, chunks).number(2, size, _I64).number(3, len(batch), _I64).done()
    return group, size
