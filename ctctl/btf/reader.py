"""Parse BTF (Documentation/bpf/btf.rst): from an object file, from bytes, or from the kernel by id."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ctctl._ffi import CallError, Fd, libbpf
from ctctl._ffi.structs import KernelBtfInfo
from ctctl.btf.elf import btf_section
from ctctl.btf.types import BtfType, EnumValue, Kind, Member
from ctctl.errors import DecodeError, KernelError, NotFoundError

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_VOID: Final = BtfType(0, Kind.VOID, "void")
_WRAPPERS: Final = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG, Kind.VAR})
_POINTER_SIZE = 8


class Btf:
    """The types of one BTF blob. Type id 0 is void.

    ``raw`` is the blob as it stands in a ``.BTF`` section or comes from the kernel (little endian).
    Raises DecodeError for anything that is not well-formed.
    """

    def __init__(self, raw: bytes) -> None:
        try:
            self._types = [_VOID, *_parse(raw)]
        except (struct.error, IndexError, ValueError) as error:
            raise DecodeError(f"damaged BTF: {error}") from error
        self._by_name: dict[tuple[str, Kind], int] = {}
        for entry in self._types:
            if entry.name:
                self._by_name.setdefault((entry.name, entry.kind), entry.id)

    def __len__(self) -> int:
        return len(self._types)

    def __iter__(self) -> Iterator[BtfType]:
        return iter(self._types)

    def __getitem__(self, type_id: int) -> BtfType:
        """The type with this id. Raises DecodeError."""
        if not 0 <= type_id < len(self._types):
            raise DecodeError(f"BTF has no type {type_id}")
        return self._types[type_id]

    def find(self, name: str, *kinds: Kind) -> BtfType | None:
        """The first type of this name among ``kinds`` (default: struct, union, enum, typedef, int)."""
        for kind in kinds or (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.TYPEDEF, Kind.INT):
            if (found := self._by_name.get((name, kind))) is not None:
                return self._types[found]
        return None

    def resolve(self, type_id: int) -> BtfType:
        """The type behind typedefs, qualifiers, tags and variables."""
        entry = self[type_id]
        for _ in self._types:
            if entry.kind not in _WRAPPERS:
                return entry
            entry = self[entry.type_id]
        raise DecodeError(f"BTF type {type_id} refers to itself")

    def typedef_names(self, type_id: int) -> list[str]:
        """Names of the typedefs on the way to the type itself, outermost first: they tell __be16 from __u16."""
        names: list[str] = []
        entry = self[type_id]
        for _ in self._types:
            if entry.kind not in _WRAPPERS:
                return names
            if entry.kind is Kind.TYPEDEF:
                names.append(entry.name)
            entry = self[entry.type_id]
        raise DecodeError(f"BTF type {type_id} refers to itself")

    def size_of(self, type_id: int) -> int:
        """sizeof in bytes. Raises DecodeError for a type without a size."""
        entry, count = self.resolve(type_id), 1
        for _ in self._types:
            if entry.kind is not Kind.ARRAY:
                break
            count *= entry.count
            entry = self.resolve(entry.type_id)
        if entry.kind is Kind.PTR:
            return count * _POINTER_SIZE
        if entry.kind in (Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FLOAT, Kind.DATASEC):
            return count * entry.size
        raise DecodeError(f"BTF type {type_id} ({entry.kind.name.lower()} {entry.name}) has no size")


def read_object(path: str | Path) -> Btf:
    """The BTF of a compiled BPF object. Raises DecodeError, NotFoundError."""
    try:
        image = Path(path).read_bytes()
    except OSError as error:
        raise NotFoundError(f"cannot read {path}: {error.strerror}") from error
    return Btf(btf_section(image))


def load_kernel_btf(btf_id: int) -> Btf:
    """The BTF loaded under ``btf_id``, as map and program info name it. Raises KernelError."""
    try:
        fd = Fd(libbpf().bpf_btf_get_fd_by_id(btf_id), f"BTF {btf_id}")
        try:
            info = KernelBtfInfo()
            _query(fd.number, info)
            buffer = ctypes.create_string_buffer(max(info.btf_size, 1))
            info = KernelBtfInfo(btf=ctypes.addressof(buffer), btf_size=info.btf_size)
            _query(fd.number, info)
            return Btf(buffer.raw[: info.btf_size])
        finally:
            fd.close()
    except CallError as error:
        raise KernelError("read BTF", f"id {btf_id}", error.errno) from error


def _query(fd: int, info: KernelBtfInfo) -> None:
    size = ctypes.c_uint32(ctypes.sizeof(info))
    libbpf().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size))


def _parse(raw: bytes) -> Iterator[BtfType]:
    magic, version, _flags, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(raw)
    if magic != _MAGIC or version != 1:
        raise DecodeError("not little-endian BTF version 1")
    if header + type_off + type_len > len(raw) or header + str_off + str_len > len(raw):
        raise DecodeError("BTF is shorter than its header says")
    strings = raw[header + str_off : header + str_off + str_len]
    offset, end, type_id = header + type_off, header + type_off + type_len, 1
    while offset < end:
        entry, offset = _parse_type(raw, offset, strings, type_id)
        if offset > end:
            raise DecodeError("a BTF type reaches beyond the type section")
        yield entry
        type_id += 1


def _string(strings: bytes, offset: int) -> str:
    return strings[offset : strings.index(b"\0", offset)].decode(errors="replace")


def _parse_type(raw: bytes, offset: int, strings: bytes, type_id: int) -> tuple[BtfType, int]:
    name_off, info, size_or_type = struct.unpack_from("<III", raw, offset)
    offset += 12
    kind = Kind(info >> 24 & 0x1F)
    vlen, flag = info & 0xFFFF, bool(info >> 31)
    name = _string(strings, name_off)

    def rows(fmt: str, count: int) -> list[tuple[int, ...]]:
        step = struct.calcsize(fmt)
        return [struct.unpack_from(fmt, raw, offset + i * step) for i in range(count)]

    match kind:
        case Kind.INT:
            (bits,) = struct.unpack_from("<I", raw, offset)
            return BtfType(type_id, kind, name, size=size_or_type, signed=bool(bits >> 24 & 1)), offset + 4
        case Kind.ARRAY:
            element, _index, count = struct.unpack_from("<III", raw, offset)
            return BtfType(type_id, kind, name, type_id=element, count=count), offset + 12
        case Kind.STRUCT | Kind.UNION:
            members = tuple(
                Member(_string(strings, n), t, off & 0xFFFFFF if flag else off, off >> 24 if flag else 0)
                for n, t, off in rows("<III", vlen)
            )
            return BtfType(type_id, kind, name, size=size_or_type, members=members), offset + 12 * vlen
        case Kind.ENUM:
            fmt = "<Ii" if flag else "<II"
            values = tuple(EnumValue(_string(strings, n), v) for n, v in rows(fmt, vlen))
            return BtfType(type_id, kind, name, size=size_or_type, signed=flag, values=values), offset + 8 * vlen
        case Kind.ENUM64:
            values = tuple(
                EnumValue(_string(strings, n), _join64(low, high, signed=flag)) for n, low, high in rows("<III", vlen)
            )
            return BtfType(type_id, kind, name, size=size_or_type, signed=flag, values=values), offset + 12 * vlen
        case Kind.FUNC_PROTO:
            members = tuple(Member(_string(strings, n), t) for n, t in rows("<II", vlen))
            return BtfType(type_id, kind, name, type_id=size_or_type, members=members), offset + 8 * vlen
        case Kind.DATASEC:
            members = tuple(Member("", t, off * 8, 0, size) for t, off, size in rows("<III", vlen))
            return BtfType(type_id, kind, name, size=size_or_type, members=members), offset + 12 * vlen
        case Kind.VAR | Kind.DECL_TAG:
            (extra,) = struct.unpack_from("<i", raw, offset)
            return BtfType(type_id, kind, name, type_id=size_or_type, extra=extra), offset + 4
        case Kind.FLOAT:
            return BtfType(type_id, kind, name, size=size_or_type), offset
        case Kind.FWD:
            return BtfType(type_id, kind, name), offset
        case _:
            return BtfType(type_id, kind, name, type_id=size_or_type, extra=vlen), offset


def _join64(low: int, high: int, *, signed: bool) -> int:
    value = high << 32 | low
    return value - (1 << 64) if signed and value >> 63 else value
