"""The row formatter (``native/rows.c``) through ctypes: its structures, its numbers, its one function."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

from ctctl.errors import UnsupportedError

LIBRARY = Path(__file__).parent.parent / "native" / "rows.so"


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
    CELL = 8
    END = 9
    UNLESS = 10


class OpFlags(IntFlag):
    """``enum rows_op_flags``."""

    NONE = 0
    BIG = 1 << 0
    SWAPPED = 1 << 1
    RIGHT = 1 << 2
    MAPPED = 1 << 3
    DOTTED = 1 << 4


#: Bytes behind a literal or a text that a copy may read.
SLACK = 16

#: ``places`` of a text that is not there yet.
ABSENT = 0xFFFFFFFF


class RowsOp(ctypes.Structure):
    """``struct rows_op``. Pointers are plain addresses: whoever fills them keeps the memory."""

    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("stride", ctypes.c_uint64),
        ("mask", ctypes.c_uint64),
        ("want", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
        ("base", ctypes.c_size_t),
        ("alt", ctypes.c_size_t),
        ("texts", ctypes.c_size_t),
        ("places", ctypes.c_size_t),
        ("before", ctypes.c_size_t),
        ("before_size", ctypes.c_uint64),
    ]


class RowsRun(ctypes.Structure):
    """``struct rows_run``."""

    _fields_ = [
        ("ops", ctypes.c_size_t),
        ("op_count", ctypes.c_uint64),
        ("chooser", ctypes.c_size_t),
        ("chooser_stride", ctypes.c_uint64),
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


def op_array(ops: Sequence[RowsOp]) -> ctypes.Array[RowsOp]:
    """Operations beside each other, as the formatter wants them."""
    return (RowsOp * len(ops))(*ops)


def run_rows(run: RowsRun, ops: ctypes.Array[RowsOp]) -> None:
    """Write rows until all are done, the buffer is full, or a text is missing (``ctctl_rows``).

    Raises UnsupportedError where the package was installed without it.
    """
    run.ops, run.op_count = ctypes.addressof(ops), len(ops)
    _function()(ctypes.byref(run))


@functools.cache
def _function() -> Any:
    try:
        function = ctypes.CDLL(str(LIBRARY)).ctctl_rows
    except OSError as error:
        raise UnsupportedError(
            f"cannot load {LIBRARY}: {error}; install ctctl from a wheel, or run 'make native' in its source"
        ) from error
    function.restype = None
    function.argtypes = [ctypes.POINTER(RowsRun)]
    return function
