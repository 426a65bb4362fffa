"""The reader of regular text (``native/lines.c``) through ctypes: its structures, its numbers, its two functions."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import Any, TypeAlias

from ctctl._ffi.rows import address_of, loaded


class LineKind(IntEnum):
    """``enum lines_op_kind``."""

    LITERAL = 0
    BLANKS = 1
    DECIMAL = 2
    HEX = 3
    BYTES = 4
    ADDRESS = 5
    WORD = 6
    NAMES = 7
    TEXT = 8
    VALUE = 9
    TOKEN = 10
    ITEMS = 11
    NEXT = 12
    MAYBE = 13
    CHECK = 14
    SAME = 15
    END = 16


class LineFlags(IntFlag):
    """``enum lines_op_flags``."""

    NONE = 0
    BIG = 1 << 0
    MINUS = 1 << 1
    NOT = 1 << 2
    PORT = 1 << 3
    STRICT = 1 << 4


class LinesOp(ctypes.Structure):
    """``struct lines_op``. ``text`` is a plain address: whoever fills it keeps the memory."""

    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("at", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
        ("limit", ctypes.c_uint64),
        ("text", ctypes.c_size_t),
        ("size", ctypes.c_uint64),
    ]


class LinesRun(ctypes.Structure):
    """``struct lines_run``."""

    _fields_ = [
        ("ops", ctypes.c_size_t),
        ("op_count", ctypes.c_uint64),
        ("data", ctypes.c_size_t),
        ("size", ctypes.c_uint64),
        ("at", ctypes.c_uint64),
        ("rows", ctypes.c_size_t),
        ("row_size", ctypes.c_uint64),
        ("room", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
        ("other_length", ctypes.c_uint64),
        ("work", ctypes.c_uint64),
        ("padded", ctypes.c_uint64),
        ("blanks", ctypes.c_uint64),
    ]


class _LinesKeys(ctypes.Structure):
    """``struct lines_keys``."""

    _fields_ = [
        ("keys", ctypes.c_size_t),
        ("size", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("slots", ctypes.c_size_t),
        ("slot_count", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("keep", ctypes.c_size_t),
        ("like", ctypes.c_size_t),
    ]


#: Operations beside each other.
LineOps: TypeAlias = "ctypes.Array[LinesOp]"


def line_ops(ops: Sequence[LinesOp]) -> LineOps:
    """Operations beside each other, as the reader wants them."""
    return (LinesOp * len(ops))(*ops)


def read_lines(run: LinesRun, ops: LineOps) -> None:
    """Fill rows until there is no room, or text that is not of the form (``ctctl_lines_read``).

    Raises UnsupportedError where the package was installed without it, ValueError for operations that go beyond
    the row.
    """
    run.ops, run.op_count = ctypes.addressof(ops), len(ops)
    if _library().ctctl_lines_read(ctypes.byref(run)):
        raise ValueError("a form goes beyond its row")


def kept_keys(keys: bytes | bytearray, size: int, *, last: bool) -> tuple[bytearray, int]:
    """Which of keys of ``size`` bytes beside each other stay, a byte each, and how many: each first, or ``last``.

    Raises UnsupportedError where the package was installed without it.
    """
    keep = bytearray(len(keys) // size)
    return keep, _find(keys, size, keep, 0, last=last)


def first_alike(keys: bytes | bytearray, size: int) -> Any:
    """Of each of keys of ``size`` bytes beside each other the number of the first one like it: 32 bits each.

    Raises UnsupportedError where the package was installed without it.
    """
    count = len(keys) // size
    numbers = (ctypes.c_uint32 * count)()
    _find(keys, size, bytearray(count), ctypes.addressof(numbers), last=False)
    return numbers


def _find(keys: bytes | bytearray, size: int, keep: bytearray, like: int, *, last: bool) -> int:
    if not keep:
        return 0
    slot_count = 1 << (2 * len(keep)).bit_length()
    slots = (ctypes.c_uint32 * slot_count)()
    seed = int.from_bytes(os.urandom(8), "little") | 1  # a file may have been made so that its keys meet
    found = _LinesKeys(
        address_of(keys), size, len(keep), ctypes.addressof(slots), slot_count, seed, address_of(keep), like
    )
    return int(_library().ctctl_lines_keep(ctypes.byref(found), int(last)))


@functools.cache
def _library() -> Any:
    library = loaded()
    for name, result, arguments in (
        ("ctctl_lines_read", ctypes.c_int, [ctypes.POINTER(LinesRun)]),
        ("ctctl_lines_keep", ctypes.c_uint64, [ctypes.POINTER(_LinesKeys), ctypes.c_int]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
