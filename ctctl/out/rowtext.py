"""Many lines at once: a row program over columns in memory, run by ``native/rows.c``.

A format is built from a few operations (literals, numbers, addresses, texts by number, cells). The
columns are numpy arrays as they lie, strided views of table bytes included: nothing is copied, and
memory does not grow with the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ctctl._ffi.rows import ABSENT, SLACK, OpFlags, OpKind, RowsOp, RowsRun, op_array, run_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Array = NDArray[Any]
    #: a column, or where it lies in most rows and where in those the chooser picks
    Column = Array | tuple[Array, Array]

#: Bytes that are formatted before they are written.
BUFFER_SIZE = 1 << 20


class TextTable:
    """Texts by number, each made once, when a row first needs it. Numbers are below ``limit``."""

    def __init__(self, make: Callable[[int], bytes], limit: int) -> None:
        self._make = make
        self.places = np.full((limit, 2), ABSENT, np.uint32)
        self.texts = np.zeros(1 << 12, np.uint8)
        self._used = 0
        self.longest = 0

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> TextTable:
        """A table of texts that are known."""
        table = cls(lambda number: texts[number], max(len(texts), 1))
        for number in range(len(texts)):
            table.add(number)
        return table

    def grow(self, limit: int) -> None:
        """Room for more numbers: all below ``limit``."""
        if limit > len(self.places):
            more = np.full((max(limit, 2 * len(self.places)) - len(self.places), 2), ABSENT, np.uint32)
            self.places = np.concatenate([self.places, more])

    def add(self, number: int) -> None:
        """Make the text of a number."""
        text = self._make(number)
        if self._used + len(text) + SLACK > len(self.texts):
            self.texts = np.concatenate([self.texts, np.zeros(len(self.texts) + len(text) + SLACK, np.uint8)])
        self.texts[self._used : self._used + len(text)] = np.frombuffer(text, np.uint8)
        self.places[number] = (self._used, len(text))
        self._used += len(text)
        self.longest = max(self.longest, len(text))


class RowProgram:
    """The text of ``rows`` rows. ``chooser`` (a byte a row) and its mask say in which a pair of columns
    is the second.

    Build it with one call an operation, in the order of the line, then ``run``.
    """

    def __init__(self, rows: int, chooser: NDArray[np.uint8] | None = None, mask: int = 0) -> None:
        self._rows = rows
        self._ops: list[RowsOp] = []
        self._before = b""
        self._tables: dict[int, TextTable] = {}
        self._kept: list[object] = [chooser]
        self._run = RowsRun(rows=rows, missing_op=-1)
        if chooser is not None:
            self._run.chooser = _address(chooser)
            self._run.chooser_stride = chooser.strides[0]
            self._run.chooser_mask = mask

    def literal(self, text: bytes) -> RowProgram:
        """The same text in every row."""
        self._before += text
        return self

    def decimal(self, column: Column) -> RowProgram:
        """An unsigned number."""
        return self._number(OpKind.DECIMAL, column)

    def signed(self, column: NDArray[np.int64]) -> RowProgram:
        """A signed number."""
        return self._number(OpKind.SIGNED, column)

    def hexadecimal(self, column: Column, digits: int) -> RowProgram:
        """An unsigned number in hex, ``digits`` at the least."""
        return self._number(OpKind.HEX, column, count=digits)

    def raw(self, matrix: NDArray[np.uint8]) -> RowProgram:
        """The bytes of each row of a matrix, in hex."""
        return self._number(OpKind.BYTES, matrix, count=matrix.shape[1])

    def address(self, octets: Column, flags: OpFlags = OpFlags.NONE) -> RowProgram:
        """An address from its bytes in network order, (n, 4) or (n, 16)."""
        usual = octets[0] if isinstance(octets, tuple) else octets
        return self._number(OpKind.IPV4 if usual.shape[1] == 4 else OpKind.IPV6, octets, flags)

    def text(self, column: Column, table: TextTable) -> RowProgram:
        """The table's text of a number."""
        self._tables[len(self._ops)] = table
        self._number(OpKind.TEXT, column)
        self._bind(len(self._ops) - 1)
        return self

    @contextmanager
    def cell(self, width: int, *, right: bool = False) -> Iterator[None]:
        """What is added inside is one cell of at least ``width`` characters."""
        self._add(RowsOp(kind=OpKind.CELL, count=width))
        yield
        self._add(RowsOp(kind=OpKind.END, flags=OpFlags.RIGHT if right else OpFlags.NONE))

    @contextmanager
    def where(self, column: Array, mask: int, want: int) -> Iterator[None]:
        """What is added inside stands only in rows where ``column & mask == want``."""
        at = len(self._ops)
        self._number(OpKind.UNLESS, column)
        yield
        self._flush()
        op = self._ops[at]
        op.mask, op.want, op.count = mask, want, len(self._ops) - at - 1

    def run(
        self, write: Callable[[memoryview], object], order: NDArray[np.int64] | None = None, *, size: int = BUFFER_SIZE
    ) -> None:
        """Give the text to ``write`` piece by piece, rows whole. ``order``: these rows, so arranged."""
        for piece, _ends in self._pieces(order, size):
            write(piece)

    def lines(self, order: NDArray[np.int64] | None = None) -> list[bytes]:
        """The text of each row by itself."""
        found: list[bytes] = []
        for piece, ends in self._pieces(order, BUFFER_SIZE):
            places = [0, *ends.tolist()]
            found += [bytes(piece[start:end]) for start, end in pairwise(places)]
        return found

    def _pieces(self, order: NDArray[np.int64] | None, size: int) -> Iterator[tuple[memoryview, NDArray[np.uint64]]]:
        """Text and where each of its rows ends. A piece is valid until the next one is asked for."""
        self._flush()
        run, ops = self._run, op_array(self._ops)
        rows = self._rows if order is None else len(order)
        ends = np.zeros(max(rows, 1), np.uint64)
        run.rows, run.row, run.order = rows, 0, 0 if order is None else _address(order)
        run.ends = _address(ends)
        buffer = bytearray(size)
        memory = np.frombuffer(buffer, np.uint8)
        while run.row < rows:
            run.out, run.out_size = _address(memory), len(memory)
            first = int(run.row)
            run_rows(run, ops)
            if run.out_used:
                yield memory.data[: run.out_used], ends[first : int(run.row)]
            if run.missing_op >= 0:
                self._tables[run.missing_op].add(run.missing)
                self._rebind(ops, self._tables[run.missing_op])
            elif run.row == first:  # a row longer than the buffer
                memory = np.zeros(2 * len(memory), np.uint8)

    def _rebind(self, ops: Any, table: TextTable) -> None:
        for at, other in self._tables.items():
            if other is table:
                ops[at].texts, ops[at].count = _address(table.texts), table.longest

    def _bind(self, at: int) -> None:
        table, op = self._tables[at], self._ops[at]
        op.texts, op.places, op.limit = _address(table.texts), _address(table.places), len(table.places)
        op.count = table.longest

    def _number(self, kind: OpKind, column: Column, flags: OpFlags = OpFlags.NONE, count: int = 0) -> RowProgram:
        usual, alt = column if isinstance(column, tuple) else (column, None)
        if alt is not None:
            flags |= OpFlags.SWAPPED
        if usual.dtype.byteorder == ">":
            flags |= OpFlags.BIG
        stride, width = usual.strides[0], usual.dtype.itemsize
        op = RowsOp(kind=kind, flags=flags, width=width, count=count, stride=stride, base=_address(usual))
        op.alt = _address(alt) if alt is not None else 0
        self._add(op, column)
        return self

    def _add(self, op: RowsOp, *keep: object) -> None:
        if self._before:
            memory = np.frombuffer(self._before + bytes(SLACK), np.uint8)
            op.before, op.before_size = _address(memory), len(self._before)
            self._kept.append(memory)
            self._before = b""
        self._ops.append(op)
        self._kept.extend(keep)

    def _flush(self) -> None:
        """A literal that nothing follows has an operation of its own."""
        if self._before:
            self._add(RowsOp(kind=OpKind.NOTHING))


def _address(array: Array) -> int:
    return cast("int", array.__array_interface__["data"][0])
