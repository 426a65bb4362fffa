"""Compare the BTF a table carries with a layout, at run time: another build's table is refused, not misread.

Fields are matched by name. What a live Cilium spells otherwise at the same place and with the same
meaning counts as equal: the flag bits of a conntrack entry as bit fields, members of anonymous
unions, padding under any name.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ctctl.abi import constants
from ctctl.abi.base import AbiStruct
from ctctl.btf import Btf, Kind
from ctctl.errors import LayoutError
from ctctl.model.entry import Layout

#: Room that nobody reads, whatever it is called.
_FILLER = re.compile(r"^_?(pad|reserved|unused|qcount)")
#: Fields that some versions have given up (docs/reference/abi.md): their room may be filler.
_OPTIONAL = frozenset({"ifindex"})

#: Bit number in ``ct_entry.flags`` of each bit field of the versions from 1.14 to 1.19.
_FLAG_BITS = {
    "rx_closing": 0,
    "tx_closing": 1,
    "nat46": 2,
    "nat64": 2,
    "lb_loopback": 3,
    "seen_non_syn": 4,
    "node_port": 5,
    "proxy_redirect": 6,
    "dsr": 7,
    "dsr_internal": 7,
    "from_l7lb": 8,
    "auth_required": 9,
    "from_tunnel": 10,
}

#: What the fields of abi.h's ct_entry (the 1.16 layout) are called in the other layouts.
ENTRY_NAMES: Mapping[Layout, Mapping[str, str]] = {
    Layout.V1_14: {"reserved0": "rx_packets", "packets": "tx_packets", "bytes": "tx_bytes"},
    Layout.V1_15: {"reserved0": "rx_packets", "packets": "tx_packets", "bytes": "tx_bytes"},
    Layout.V1_16: {},
    Layout.V1_18: {},
    Layout.V1_19: {},
}


class Field(NamedTuple):
    """A field of a BTF struct, anonymous structs and unions opened. Offsets and sizes in bits."""

    name: str
    offset: int
    size: int
    type_id: int
    bitfield: bool

    def __str__(self) -> str:
        return f"{self.name} ({_place(self.offset, self.size)})"


def fields(btf: Btf, type_id: int, base: int = 0) -> Iterator[Field]:
    """The fields of a struct or union in BTF order; nothing for any other type."""
    entry = btf.resolve(type_id)
    if entry.kind not in (Kind.STRUCT, Kind.UNION):
        return
    for member in entry.members:
        offset = base + member.bit_offset
        if not member.name:
            yield from fields(btf, member.type_id, offset)
        else:
            size = member.bit_size or btf.size_of(member.type_id) * 8
            yield Field(member.name, offset, size, member.type_id, bool(member.bit_size))


def field_names(btf: Btf, type_id: int) -> frozenset[str]:
    """Names of all fields, for telling layouts apart."""
    return frozenset(field.name for field in fields(btf, type_id))


def check_type(
    btf: Btf,
    type_id: int,
    layout: type[AbiStruct] | int,
    *,
    what: str,
    renamed: Mapping[str, str] | None = None,
    exact: bool = False,
) -> None:
    """Raise LayoutError naming the first field in which the BTF type differs from ``layout``.

    ``layout`` as an int: only the size in bytes counts. ``renamed`` maps layout names to the names
    the BTF should have. ``exact``: the BTF may have no field of its own, and padding has its name.
    """
    if isinstance(layout, int):
        if (size := btf.size_of(type_id)) != layout:
            raise LayoutError(f"{what}: {size} bytes by its type information, {layout} expected")
        return
    _check(btf, type_id, _shape_of(layout), what=what, renamed=renamed or {}, exact=exact)


class _Expected(NamedTuple):
    """A field of a layout. Offset and size in bits; ``struct`` where it is one."""

    name: str
    offset: int
    size: int
    struct: type[AbiStruct] | None = None


class _Shape(NamedTuple):
    """A layout: its name, its size in bytes, its fields."""

    name: str
    size: int
    fields: tuple[_Expected, ...]


def _shape_of(layout: type[AbiStruct]) -> _Shape:
    found = []
    for name, ctype in layout._fields_:
        struct = ctype if isinstance(ctype, type) and issubclass(ctype, AbiStruct) else None
        found.append(_Expected(name, getattr(layout, name).offset * 8, ctypes.sizeof(ctype) * 8, struct))
    return _Shape(layout.__name__, ctypes.sizeof(layout), tuple(found))


def _check(
    btf: Btf, type_id: int, shape: _Shape, *, what: str, renamed: Mapping[str, str], exact: bool = False
) -> None:
    entry = btf.resolve(type_id)
    if entry.kind not in (Kind.STRUCT, Kind.UNION):
        raise LayoutError(f"{what}: {entry.kind.name.lower()} {entry.name}, struct {shape.name} expected")
    _Comparison(btf, list(fields(btf, type_id)), shape, what, exact).run(renamed)
    if entry.size != shape.size:
        raise LayoutError(f"{what}: {entry.size} bytes by its type information, struct {shape.name} has {shape.size}")


class _Comparison(NamedTuple):
    """One struct of the table's BTF against one layout."""

    btf: Btf
    there: list[Field]
    shape: _Shape
    what: str
    exact: bool

    def run(self, renamed: Mapping[str, str]) -> None:
        by_name = {field.name: field for field in reversed(self.there)}
        expected = []
        for field in self.shape.fields:
            btf_name = renamed.get(field.name, field.name)
            expected.append(btf_name)
            if self.exact or not _FILLER.match(btf_name):
                self.field(by_name.get(btf_name), btf_name, field)
        for more in self.there if self.exact else ():
            if more.name not in expected:
                raise LayoutError(f"{self.what}: has a field {more} that struct {self.shape.name} lacks")

    def field(self, found: Field | None, name: str, wanted: _Expected) -> None:
        if found is None:
            self.missing(name, wanted.offset, wanted.size)
            return
        if (found.offset, found.size) != (wanted.offset, wanted.size) or found.bitfield:
            raise LayoutError(
                f"{self.what}: field {name} is {_place(found.offset, found.size)} in the table, "
                f"{_place(wanted.offset, wanted.size)} in the layout"
            )
        if wanted.struct is not None:
            check_type(self.btf, found.type_id, wanted.struct, what=f"{self.what}: {name}", exact=self.exact)

    def missing(self, name: str, offset: int, size: int) -> None:
        """Accept bit fields in place of flags, and room in place of an optional field."""
        there = [field for field in self.there if field.offset < offset + size and offset < field.offset + field.size]
        if not self.exact and name == "flags" and there and all(field.bitfield for field in there):
            for field in there:
                bit = _FLAG_BITS.get(field.name)
                if bit is not None and field.offset != offset + bit:
                    raise LayoutError(
                        f"{self.what}: flag {field.name} is bit {field.offset - offset} in the table, not {bit}"
                    )
            return
        if not self.exact and name in _OPTIONAL and all(_FILLER.match(field.name) or _is_nat(field) for field in there):
            return
        instead = f"; the table has {', '.join(map(str, there))}" if there else ""
        raise LayoutError(f"{self.what}: field {name} ({_place(offset, size)}) is missing{instead}")


def _is_nat(field: Field) -> bool:
    return field.name in ("nat_port", "nat_addr")


def check_entry(btf: Btf, type_id: int, layout: Layout, *, what: str) -> None:
    """``check_type`` of a conntrack entry in one of its layouts."""
    _check(btf, type_id, entry_shape(), what=what, renamed=ENTRY_NAMES[layout])


@functools.cache
def entry_shape() -> _Shape:
    """``struct ct_entry`` by its offsets in ``abi.constants``: it has no padding, and layouts are slow to import."""
    offsets = {
        name.removeprefix("CT_ENTRY_").lower(): value
        for name, value in vars(constants).items()
        if name.startswith("CT_ENTRY_") and name != "CT_ENTRY_SIZE"
    }
    ends = [*list(offsets.values())[1:], constants.CT_ENTRY_SIZE]
    found = [_Expected(name, at * 8, (end - at) * 8) for (name, at), end in zip(offsets.items(), ends, strict=True)]
    return _Shape("ct_entry", constants.CT_ENTRY_SIZE, tuple(found))


def _place(offset: int, size: int) -> str:
    if offset % 8 or size % 8:
        return f"bit {offset}, {size} bit{'s' if size != 1 else ''}"
    return f"byte {offset // 8}, {size // 8} bytes"
