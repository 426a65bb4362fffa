"""The records BTF consists of (Documentation/bpf/btf.rst of the kernel)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """BTF_KIND_*."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


class Member(NamedTuple):
    """A member of a struct or union, a variable of a data section, or a parameter.

    ``bit_offset`` counts from the start of its container; ``bit_size`` is 0 unless it is a bit field.
    ``size`` is set in data sections only.
    """

    name: str
    type_id: int
    bit_offset: int = 0
    bit_size: int = 0
    size: int = 0


class EnumValue(NamedTuple):
    name: str
    value: int


class BtfType(NamedTuple):
    """One type. ``size`` in bytes where the kind has one; ``type_id`` what it refers to, else 0.

    ``signed`` counts for INT and enums; ``count`` is an array's length; ``extra`` the linkage of a
    function or variable, or the component index of a DECL_TAG.
    """

    id: int
    kind: Kind
    name: str
    size: int = 0
    type_id: int = 0
    signed: bool = False
    count: int = 0  # type: ignore[assignment]  # tuple.count, which nobody asks
    extra: int = 0
    members: tuple[Member, ...] = ()
    values: tuple[EnumValue, ...] = ()
