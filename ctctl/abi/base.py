"""What the generated layouts are made of: fixed-width fields and one structure base class."""

from __future__ import annotations

import ctypes
from typing import Any, ClassVar, Final

u8 = ctypes.c_uint8
s8 = ctypes.c_int8
u16: Final[Any] = ctypes.c_uint16.__ctype_le__
u32: Final[Any] = ctypes.c_uint32.__ctype_le__
u64: Final[Any] = ctypes.c_uint64.__ctype_le__
s16: Final[Any] = ctypes.c_int16.__ctype_le__
s32: Final[Any] = ctypes.c_int32.__ctype_le__
s64: Final[Any] = ctypes.c_int64.__ctype_le__
be16: Final[Any] = ctypes.c_uint16.__ctype_be__
be32: Final[Any] = ctypes.c_uint32.__ctype_be__
be64: Final[Any] = ctypes.c_uint64.__ctype_be__


class AbiStruct(ctypes.Structure):
    """A structure of abi.h. Fields are host-order ints whatever their order in memory.

    Made from keywords (byte arrays take bytes, shorter ones are padded with zeros) or from memory
    with ``from_buffer_copy``. ``bytes(x)`` is its memory.
    """

    _fields_: ClassVar[Any]

    def __init__(self, **values: object) -> None:
        for name, value in values.items():
            if isinstance(value, bytes | bytearray | memoryview):
                field = getattr(self, name)
                if len(value) > len(field):
                    raise ValueError(f"{type(self).__name__}.{name}: {len(value)} bytes, room for {len(field)}")
                values[name] = tuple(bytes(value).ljust(len(field), b"\0"))
        super().__init__(**values)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bytes(self) == bytes(other)

    def __hash__(self) -> int:
        return hash(bytes(self))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_plain(getattr(self, name))!r}" for name, _type in self._fields_)
        return f"{type(self).__name__}({shown})"


def _plain(value: object) -> object:
    if isinstance(value, ctypes.Array):
        return bytes(value) if value._type_ is ctypes.c_uint8 else list(value)
    return value
