"""The row formatter (``native/rows.c``) through ctypes: its structures, its numbers, its one function."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ctctl.errors import UnsupportedError

LIBRARY = Path(__file__).parent.parent / "native" / "rows.so"
#: The enums, structures and functions of native/*.c as a number (INTERFACE of the Makefile): a library compiled from
#: others would write wrong bytes without a word. Who changes them there changes what mirrors them here, and this.
INTERFACE = 1_439_396_604


class OpKind(IntEnum):
    """``enum rows_op_kind``."""

    NOTHING = 0
    DECIMAL = 1
    SIGNED = 2
    HEX = 3
    BYTES = 4
    IPV4 = 5
    IPV6 = 6
    TEXT = 7
    DURATION = 8
    COPY = 9
    NUMBER = 10
    LITTLE = 11
    CELL = 12
    END = 13
    UNLESS = 14
    TEST = 15
    TAKE = 16
    GREATEST = 17
    SECONDS = 18
    FIND = 19


class OpFlags(IntFlag):
    """``enum rows_op_flags``."""

    NONE = 0
    BIG = 1 << 0
    NOT = 1 << 1
    RIGHT = 1 << 2
    MAPPED = 1 << 3
    DOTTED = 1 << 4
    BELOW = 1 << 5


#: Matrices of bytes that a run has, and numbers that a row has; the number of the matrix that they are.
MATRICES = 4
NUMBERS = 32
THE_NUMBERS = MATRICES

#: Bytes behind a literal or a text that a copy may read.
SLACK = 16

#: ``places`` of a text that is not there yet.
ABSENT = 0xFFFFFFFF


class Field(NamedTuple):
    """Where something lies in a row: in which matrix, at which byte, how many, whether in network order.

    ``picked``: at which byte in the rows that the program's chooser picks, where that differs.
    """

    matrix: int
    at: int
    width: int
    big: bool = False
    picked: int | None = None


class RowsOp(ctypes.Structure):
    """``struct rows_op``. Pointers are plain addresses: whoever fills them keeps the memory."""

    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("matrix", ctypes.c_uint32),
        ("at", ctypes.c_uint32 * 2),
        ("width", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("to", ctypes.c_uint32),
        ("mask", ctypes.c_uint64),
        ("want", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
        ("texts", ctypes.c_size_t),
        ("places", ctypes.c_size_t),
        ("before", ctypes.c_size_t),
        ("before_size", ctypes.c_uint64),
    ]


class RowsMatrix(ctypes.Structure):
    """``struct rows_matrix``."""

    _fields_ = [("base", ctypes.c_size_t), ("stride", ctypes.c_uint64)]


class RowsRun(ctypes.Structure):
    """``struct rows_run``."""

    _fields_ = [
        ("ops", ctypes.c_size_t),
        ("op_count", ctypes.c_uint64),
        ("matrices", RowsMatrix * MATRICES),
        ("matrix_rows", ctypes.c_uint64),
        ("chooser", ctypes.c_uint64),
        ("chooser_mask", ctypes.c_uint64),
        ("order", ctypes.c_size_t),
        ("rows", ctypes.c_uint64),
        ("row", ctypes.c_uint64),
        ("out", ctypes.c_size_t),
        ("out_size", ctypes.c_uint64),
        ("out_used", ctypes.c_uint64),
        ("missing", ctypes.c_uint64),
        ("missing_op", ctypes.c_int64),
        ("ends", ctypes.c_size_t),
    ]


#: Sums of a group: its rows, and the first three numbers of each added up.
SUMS = 4


class RowsGroups(ctypes.Structure):
    """``struct rows_groups``."""

    _fields_ = [
        ("keys", ctypes.c_size_t),
        ("sums", ctypes.c_size_t),
        ("slots", ctypes.c_size_t),
        ("key_size", ctypes.c_uint64),
        ("slot_count", ctypes.c_uint64),
        ("room", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
    ]


#: Operations beside each other.
Ops: TypeAlias = "ctypes.Array[RowsOp]"


def op_array(ops: Sequence[RowsOp]) -> Ops:
    """Operations beside each other, as the formatter wants them."""
    return (RowsOp * len(ops))(*ops)


def address_of(memory: Any) -> int:
    """Where an object's bytes are: a numpy array, or anything with a buffer. Whoever asks keeps the object."""
    known = getattr(memory, "__array_interface__", None)
    if known is not None:
        return int(known["data"][0])
    view = memoryview(memory)
    if not view.nbytes:
        return 0
    if view.readonly:
        return ctypes.cast(ctypes.c_char_p(memory if isinstance(memory, bytes) else None), ctypes.c_void_p).value or 0
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def zeros(size: int, before: Any = b"") -> Any:
    """So many bytes that are 0 and take memory when they are first written, with those of ``before`` at their head."""
    memory = (ctypes.c_uint8 * size)()
    if before:
        ctypes.memmove(memory, before, len(before))
    return memory


def run_rows(run: RowsRun, ops: Ops) -> None:
    """Write rows until all are done, the buffer is full, or a text is missing (``ctctl_rows``).

    Raises UnsupportedError where the package was installed without it, ValueError for operations or an
    order that go beyond the matrices.
    """
    run.ops, run.op_count = ctypes.addressof(ops), len(ops)
    if _library().ctctl_rows(ctypes.byref(run)):
        raise ValueError("a row program goes beyond its matrices")


def add_rows(run: RowsRun, ops: Ops, groups: RowsGroups) -> None:
    """Add rows to their groups until all are done or there is no room for another group (``ctctl_groups``).

    Raises as ``run_rows``, ValueError for a key of another size too.
    """
    run.ops, run.op_count = ctypes.addressof(ops), len(ops)
    if _library().ctctl_groups(ctypes.byref(run), ctypes.byref(groups)):
        raise ValueError("a row program goes beyond its matrices, or its keys differ in size")


def find_groups(run: RowsRun, ops: Ops, groups: RowsGroups, places: int) -> None:
    """Fill ``places`` (32 bits a row, 0 before) with the place of each row's group (``ctctl_groups_find``).

    Raises as ``add_rows``.
    """
    run.ops, run.op_count = ctypes.addressof(ops), len(ops)
    if _library().ctctl_groups_find(ctypes.byref(run), ctypes.byref(groups), places):
        raise ValueError("a row program goes beyond its matrices, or its keys differ in size")


def place_groups(groups: RowsGroups) -> None:
    """Find the places of all groups anew, in empty slots."""
    _library().ctctl_groups_place(ctypes.byref(groups))


def first_groups(groups: RowsGroups, limit: int) -> list[int]:
    """The numbers of the groups with the most rows, most first, alike ones in the order of their keys."""
    first = (ctypes.c_uint32 * min(limit, groups.used))()
    _library().ctctl_groups_first(ctypes.byref(groups), first, len(first))
    return list(first)


def loaded() -> Any:
    """The library of native code. Raises UnsupportedError where there is none, or one of another version of ctctl."""
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise UnsupportedError(
            f"cannot load {LIBRARY}: {error}; install ctctl from a wheel, or run 'make native' in its source"
        ) from error
    try:
        found = ctypes.c_uint32.in_dll(library, "ctctl_interface").value
    except ValueError:
        found = None
    if found != INTERFACE:
        raise UnsupportedError(
            f"{LIBRARY} is of another version of ctctl (interface {found}, this one has {INTERFACE}): install one wheel"
            " over all of it, or run 'make native' in its source"
        )
    return library


@functools.cache
def _library() -> Any:
    library = loaded()
    run, groups = ctypes.POINTER(RowsRun), ctypes.POINTER(RowsGroups)
    for name, result, arguments in (
        ("ctctl_rows", ctypes.c_int, [run]),
        ("ctctl_groups", ctypes.c_int, [run, groups]),
        ("ctctl_groups_find", ctypes.c_int, [run, groups, ctypes.c_void_p]),
        ("ctctl_groups_place", None, [groups]),
        ("ctctl_groups_first", None, [groups, ctypes.c_void_p, ctypes.c_uint64]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
