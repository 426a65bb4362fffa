"""Many lines at once: a row program over tables of bytes, run by ``native/rows.c``.

A format is built once from a few operations (literals, numbers, addresses, texts by number, cells) and
then run over any number of batches, each some matrices of bytes as they lie: nothing is copied, and memory
does not grow with the table. Without numpy, which takes longer to import than a short list to print.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Protocol

from ctctl._ffi.rows import (
    MATRICES,
    NUMBERS,
    SLACK,
    THE_NUMBERS,
    Field,
    OpFlags,
    OpKind,
    Ops,
    RowsOp,
    RowsRun,
    add_rows,
    address_of,
    find_groups,
    op_array,
    run_rows,
)
from ctctl.out.rowtables import Groups, KeyTable, TextTable

#: Bytes that are formatted before they are written.
BUFFER_SIZE = 1 << 19
#: What a row takes at most, but for rare ones.
_ROW_SIZE = 1 << 9
_SMALL_SIZE, _LINES_SIZE = 1 << 12, 1 << 16
ALL = (1 << 64) - 1


class Batch(Protocol):
    """Rows to run over."""

    def __len__(self) -> int: ...

    @property
    def matrices(self) -> Sequence[tuple[Any, int]]:
        """The memory of each matrix, and the bytes of a row in it."""


class RowProgram:
    """The text of a row. The rows in which ``chooser`` has a bit of ``mask`` have some fields elsewhere.

    Build it with one call an operation, in the order of the line, then ``run`` it over batches.
    """

    def __init__(self, chooser: Field | None = None, mask: int = 0) -> None:
        self._ops: list[RowsOp] = []
        self._making: list[RowsOp] = []
        self._before = b""
        self._numbers: dict[object, Field] = {}
        self._tables: dict[int, TextTable] = {}
        self._kept: list[object] = []
        self._built: Ops | None = None
        self._bound: list[tuple[int, TextTable]] = []
        #: used again and again: fresh pages cost as much as formatting
        self._buffer: bytearray | None = None
        self._run = RowsRun(missing_op=-1)
        if chooser is not None:
            self._run.chooser, self._run.chooser_mask = chooser.at, mask

    # ---- what stands in the line

    def literal(self, text: bytes) -> RowProgram:
        """The same text in every row."""
        self._before += text
        return self

    def decimal(self, field: Field) -> RowProgram:
        """An unsigned number."""
        return self._put(OpKind.DECIMAL, field)

    def signed(self, field: Field) -> RowProgram:
        """A signed number of 64 bits."""
        return self._put(OpKind.SIGNED, field)

    def hexadecimal(self, field: Field, digits: int) -> RowProgram:
        """An unsigned number in hex, ``digits`` at the least."""
        return self._put(OpKind.HEX, field, count=digits)

    def raw(self, field: Field) -> RowProgram:
        """The bytes of a field, in hex."""
        return self._put(OpKind.BYTES, field)

    def address(self, field: Field, flags: OpFlags = OpFlags.NONE) -> RowProgram:
        """An address from its 4 or 16 bytes in network order."""
        return self._put(OpKind.IPV4 if field.width == 4 else OpKind.IPV6, field, flags)

    def duration(self, field: Field, units: int) -> RowProgram:
        """Seconds (64 bits, the sign left out) as ``2h13m20s``: so many of the largest units."""
        return self._put(OpKind.DURATION, field, count=units)

    def text(self, field: Field, table: TextTable) -> RowProgram:
        """The table's text of a number."""
        self._put(OpKind.TEXT, field)
        self._tables[id(self._ops[-1])] = table
        return self

    def copy(self, field: Field) -> RowProgram:
        """A field's bytes as they lie: for keys of groups."""
        return self._put(OpKind.COPY, field)

    def ordered(self, field: Field) -> RowProgram:
        """An unsigned number as eight bytes in network order: for keys of groups, which then sort as the numbers."""
        return self._put(OpKind.NUMBER, field)

    def little(self, field: Field, size: int) -> RowProgram:
        """An unsigned number as so many bytes, the lowest first."""
        return self._put(OpKind.LITTLE, field, count=size)

    @contextmanager
    def cell(self, width: int, *, right: bool = False) -> Iterator[None]:
        """What is added inside is one cell of at least ``width`` characters."""
        self._add(RowsOp(kind=OpKind.CELL, count=width))
        yield
        self._add(RowsOp(kind=OpKind.END, flags=OpFlags.RIGHT if right else OpFlags.NONE))

    @contextmanager
    def where(self, field: Field, mask: int, want: int, *, other: bool = False) -> Iterator[None]:
        """What is added inside stands only in rows where ``field & mask == want`` (``other``: where it is not)."""
        at = len(self._ops)
        self._put(OpKind.UNLESS, field, OpFlags.NOT if other else OpFlags.NONE)
        op = self._ops[at]
        yield
        self._flush()
        op.mask, op.want, op.count = mask, want, len(self._ops) - at - 1

    # ---- numbers of a row, made before its text

    def number(self, name: object, make: Callable[[Field], object]) -> Field:
        """The number of that name; ``make`` says what makes it, once a program, with the calls below."""
        known = self._numbers.get(name)
        if known is None:
            if len(self._numbers) == NUMBERS:
                raise ValueError(f"a row has {NUMBERS} numbers")
            known = self._numbers[name] = Field(THE_NUMBERS, 8 * len(self._numbers), 8)
            make(known)
        return known

    def test(self, to: Field, field: Field, mask: int, want: int, *, bit: int = 0, other: bool = False) -> None:
        """A bit of a number: ``field & mask == want`` (``other``: is not)."""
        self._make(OpKind.TEST, to, field, OpFlags.NOT if other else OpFlags.NONE, mask=mask, want=want, count=bit)

    def below(self, to: Field, field: Field, limit: int, *, bit: int = 0) -> None:
        """A bit of a number: ``field < limit``."""
        self._make(OpKind.TEST, to, field, OpFlags.BELOW, want=limit, count=bit)

    def take(self, to: Field, field: Field, mask: int = ALL, *, shift: int = 0) -> None:
        """Bits of a number: ``(field & mask) << shift``."""
        self._make(OpKind.TAKE, to, field, mask=mask, count=shift)

    def greatest(self, to: Field, field: Field) -> None:
        """At least the field."""
        self._make(OpKind.GREATEST, to, field)

    def seconds(self, to: Field, field: Field, hz: int | None, now_s: int, *, passed: bool = False) -> None:
        """Seconds from ``now_s`` to a time (``passed``: since it) of the clock: ``hz`` of jiffies, None: seconds."""
        flags = OpFlags.NOT if passed else OpFlags.NONE
        self._make(OpKind.SECONDS, to, field, flags, mask=hz or 0, want=now_s & ALL)

    def find(self, to: Field, field: Field, keys: KeyTable) -> None:
        """The place of the field's bytes among the keys, from 1; 0: none of them."""
        if field.width != keys.width:
            raise ValueError(f"keys of {keys.width} bytes for a field of {field.width}")
        self._kept.append(keys)
        self._make(OpKind.FIND, to, field, limit=keys.slots, texts=address_of(keys.keys), places=_place(keys.places))

    # ---- running

    def run(self, batch: Batch, write: Callable[[memoryview], object], order: Any = None, *, size: int = 0) -> None:
        """Give the text to ``write`` piece by piece, rows whole. ``order`` (int64): these rows, so arranged."""
        for piece in self._pieces(batch, order, size or BUFFER_SIZE):
            write(piece)

    def lines(self, batch: Batch, order: Any = None) -> list[bytes]:
        """The text of each row by itself."""
        found: list[bytes] = []
        ends = array("Q", [0]) * max(len(batch) if order is None else len(order), 1)
        for piece in self._pieces(batch, order, _LINES_SIZE, _place(ends)):
            places = [0, *ends[len(found) : int(self._run.row)]]
            found += [bytes(piece[start:end]) for start, end in pairwise(places)]
        return found + [b""] * (int(self._run.rows) - len(found))

    def group(self, batch: Batch, groups: Groups) -> None:
        """Add each row to the group whose key the program writes; the first three numbers made are added up."""
        run, ops = self._run, self._ready()
        self._point_at(batch)
        run.rows, run.row, run.order, run.ends = len(batch), 0, 0, 0
        if self._buffer is None:
            self._buffer = bytearray(_SMALL_SIZE)
        run.out, run.out_size = address_of(self._buffer), len(self._buffer)
        while run.row < run.rows:
            add_rows(run, ops, groups.memory)
            if run.row < run.rows:
                groups.grow()

    def find_in(self, batch: Batch, groups: Groups) -> array[int]:
        """The place of each row's group from 1, 0: the row has none, or none that is there."""
        places = array("I", [0]) * len(batch)
        run, ops = self._run, self._ready()
        self._point_at(batch)
        run.rows, run.row, run.order, run.ends = len(batch), 0, 0, 0
        if self._buffer is None:
            self._buffer = bytearray(_SMALL_SIZE)
        run.out, run.out_size = address_of(self._buffer), len(self._buffer)
        find_groups(run, ops, groups.memory, _place(places))
        return places

    def _point_at(self, batch: Batch) -> None:
        for at, (memory, stride) in enumerate(batch.matrices):
            self._run.matrices[at].base, self._run.matrices[at].stride = address_of(memory), stride
        self._run.matrix_rows = len(batch)

    def _pieces(self, batch: Batch, order: Any, size: int, ends: int = 0) -> Iterator[memoryview]:
        """Text, whole rows at a time. A piece is valid until the next one is asked for."""
        run, ops = self._run, self._ready()
        self._point_at(batch)
        rows = len(batch) if order is None else len(order)
        run.rows, run.row = rows, 0
        run.order, run.ends = 0 if order is None else address_of(order), ends
        # A listing of thousands of tables has a program, and a buffer, for each: of a few rows a small one.
        size = min(size, max(_SMALL_SIZE, rows * _ROW_SIZE))
        if self._buffer is None or len(self._buffer) < size:
            self._buffer = bytearray(size)
        buffer = self._buffer
        view = memoryview(buffer)
        while run.row < rows:
            run.out, run.out_size = address_of(buffer), size
            first = int(run.row)
            run_rows(run, ops)
            if run.out_used:
                yield view[: run.out_used]
                self._bind(ops)
            if run.missing_op >= 0:
                table = dict(self._bound)[run.missing_op]
                table.add(run.missing)
                self._bind(ops)
            elif run.row == first:  # a row longer than the buffer
                size *= 2
                buffer = self._buffer = bytearray(size)
                view = memoryview(buffer)

    def _ready(self) -> Ops:
        if self._built is None:
            self._flush()
            ops = [*self._making, *self._ops]
            self._built = op_array(ops)
            self._bound = [(at, self._tables[id(op)]) for at, op in enumerate(ops) if id(op) in self._tables]
        self._bind(self._built)
        return self._built

    def _bind(self, ops: Ops) -> None:
        """Where the texts are now: other programs may have added some."""
        for at, table in self._bound:
            op = ops[at]
            op.texts, op.places, op.limit = address_of(table.texts), _place(table.places), table.limit
            op.count = table.longest

    def _make(self, kind: OpKind, to: Field, field: Field, flags: OpFlags = OpFlags.NONE, **more: int) -> None:
        op = _op(kind, field, flags, **more)
        op.to = to.at // 8
        self._making.append(op)

    def _put(self, kind: OpKind, field: Field, flags: OpFlags = OpFlags.NONE, count: int = 0) -> RowProgram:
        self._add(_op(kind, field, flags, count=count))
        return self

    def _add(self, op: RowsOp) -> None:
        if self._before:
            memory = self._before + bytes(SLACK)
            op.before, op.before_size = address_of(memory), len(self._before)
            self._kept.append(memory)
            self._before = b""
        self._ops.append(op)
        self._built = None

    def _flush(self) -> None:
        """A literal that nothing follows has an operation of its own."""
        if self._before:
            self._add(RowsOp(kind=OpKind.NOTHING))


def _op(kind: OpKind, field: Field, flags: OpFlags, **more: int) -> RowsOp:
    picked = field.at if field.picked is None else field.picked
    if field.big:
        flags |= OpFlags.BIG
    if field.matrix > MATRICES:
        raise ValueError(f"no matrix has the number {field.matrix}")
    return RowsOp(kind=kind, flags=flags, matrix=field.matrix, at=(field.at, picked), width=field.width, **more)


def _place(numbers: array[int]) -> int:
    return numbers.buffer_info()[0]
