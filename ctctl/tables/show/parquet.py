"""A small Parquet writer: flat tables of numbers and text, PLAIN encoding, no compression, one row group a batch.

Written from the format's specification (apache/parquet-format): pages and metadata are Thrift structs
in the compact protocol. Absent fields are left out as columns; nothing is null.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, BinaryIO

from ctctl.decode.ct import LAYOUT_LACKS
from ctctl.out.rowtext import RowProgram
from ctctl.tables.show.encode import Style
from ctctl.tables.show.rowform import EntryForm
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
        self.data += _string(value)
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


def _string(value: str) -> bytes:
    raw = value.encode()
    return _varint(len(raw)) + raw


#: adds a column's value to the program of a table's rows
_Put = Callable[[EntryForm, RowProgram], object]


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    type: _Type
    converted: int
    put: _Put

    def program(self, form: EntryForm) -> RowProgram:
        """The values of a column, PLAIN: numbers as they are, texts with their size before them."""
        program = form.program()
        with program.sized() if self.type is _Type.BYTE_ARRAY else nullcontext():
            self.put(form, program)
        return program


def _number(name: str, field: str, *, wide: bool = False, translated: bool | None = None) -> _Column:
    """A number, wherever it is one: ``translated`` says of which entries (1.19, DSR) alone, the others have 0."""
    size = 8 if wide else 4

    def put(form: EntryForm, program: RowProgram) -> None:
        if translated is None:
            program.little(form.fields[field], size)
            return
        condition = form.translated(program)
        with program.where(*condition, other=not translated):
            program.little(form.fields[field], size)
        with program.where(*condition, other=translated):
            program.literal(bytes(size))

    return _Column(name, *((_Type.INT64, _UINT_64) if wide else (_Type.INT32, _UINT_32)), put)


def _text(name: str, put: _Put) -> _Column:
    return _Column(name, _Type.BYTE_ARRAY, _UTF8, put)


def _field(name: str) -> _Column:
    """A text that needs no quotes anywhere."""
    return _text(name, lambda form, program: form.put(program, name, Style.CSV))


def _columns(tables: Sequence[CtTable]) -> list[_Column]:
    """Columns that every table has."""
    lacks = frozenset().union(*(LAYOUT_LACKS[table.layout] | table.absent for table in tables))
    found = [
        _text("node", lambda form, program: program.literal((form.table.node or "").encode())),
        _text("map", lambda form, program: program.literal(form.table.name.encode())),
        _number("proto", "proto"),
        _field("direction"),
        _field("src"),
        _number("src_port", "src_port"),
        _field("dst"),
        _number("dst_port", "dst_port"),
        _field("state"),
        *(_number(name, name) for name in ("tuple_flags", "lifetime", "flags", "rev_nat", "ifindex")),
        *(_number(name, name) for name in ("tx_flags_seen", "rx_flags_seen", "src_sec_id")),
        *(_number(name, name) for name in ("last_tx_report", "last_rx_report")),
    ]
    if all(not table.layout.split_counters for table in tables):
        found += [_number("packets", "word16", wide=True), _number("bytes", "word24", wide=True)]
        found.append(_number("backend_id", "word8", wide=True, translated=False))
    else:
        found += [_number("rx_packets", "word0", wide=True), _number("tx_packets", "word16", wide=True)]
        found.append(_number("tx_bytes", "word24", wide=True))
    found += [_field("nat_addr"), _number("nat_port", "nat_port", translated=True)]
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
        form = EntryForm(table)
        programs = [column.program(form) for column in columns]
        for batch in batches(table):
            group, size = _row_group(batch, list(zip(columns, programs, strict=True)), stream, offset)
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
    batch: CtColumns, columns: Sequence[tuple[_Column, RowProgram]], stream: BinaryIO, offset: int
) -> tuple[bytes, int]:
    chunks: list[bytes] = []
    size = 0
    for column, program in columns:
        data = bytearray()
        program.run(batch, data.extend)
        # DataPageHeader: rows, PLAIN values, levels that do not exist for required flat columns (RLE).
        page = _Thrift().number(1, len(batch)).number(2, 0).number(3, 3).number(4, 3)
        head = _Thrift().number(1, 0).number(2, len(data)).number(3, len(data)).struct(5, page).done()
        start = offset + size
        stream.write(head + data)
        length = len(head) + len(data)
        meta = _Thrift().number(1, column.type).list(2, _I32, [_zigzag(0)]).list(3, _BINARY, [_string(column.name)])
        meta.number(4, 0).number(5, len(batch), _I64).number(6, length, _I64).number(7, length, _I64)
        meta.number(9, start, _I64)
        chunks.append(_Thrift().number(2, start, _I64).struct(3, meta).done())
        size += length
    group = _Thrift().list(1, _STRUCT, chunks).number(2, size, _I64).number(3, len(batch), _I64).done()
    return group, size
