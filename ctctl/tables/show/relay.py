"""One table formatted by two processes that take turns, in the table's order.

Reading goes batch by batch from a cursor that the two hand to each other; so does the right to write.
While one formats, the other reads or formats its own batch. Each holds one batch, so memory stays flat.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctctl.errors import CtctlError

if TYPE_CHECKING:
    from ctctl.decode.columns import CtColumns


@dataclass(frozen=True, slots=True)
class Job:
    """What to do. ``read`` gives the batch at a cursor (None: the first), None at the end, and the next cursor.

    ``seen`` is told, in the first process, how many more entries both have read.
    """

    read: Callable[[int | None], tuple[CtColumns | None, int]]
    form: Callable[[CtColumns], bytes | bytearray]
    output: int
    seen: Callable[[int], None] | None = None


#: Whether there is more, where, and how many entries were read up to there.
_CURSOR = struct.Struct("<?qq")
_RESULT = struct.Struct("<Bq")
_DONE, _BROKEN_PIPE, _INTERRUPTED, _FAILED = 0, 1, 2, 3


class _Turn:
    """One side's ends of the four pipes."""

    def __init__(self, read_in: int, read_out: int, write_in: int, write_out: int) -> None:
        self._read_in, self._read_out = read_in, read_out
        self._write_in, self._write_out = write_in, write_out

    def cursor(self) -> tuple[int, int] | None:
        """Wait for the turn to read: cursor and entries read so far; None at the end or when the other is gone."""
        message = os.read(self._read_in, _CURSOR.size)
        if len(message) < _CURSOR.size:
            return None
        more, cursor, count = _CURSOR.unpack(message)
        return (cursor, count) if more else None

    def pass_cursor(self, cursor: int | None, count: int) -> None:
        """Give the other side the turn to read; None: there is nothing more."""
        _send(self._read_out, _CURSOR.pack(cursor is not None, cursor or 0, count))

    def wait_to_write(self) -> None:
        """Wait for the turn to write. Raises BrokenPipeError if the other side has gone."""
        if not os.read(self._write_in, 1):
            raise BrokenPipeError

    def pass_writing(self) -> None:
        _send(self._write_out, b"w")

    def close(self) -> None:
        for end in (self._read_in, self._read_out, self._write_in, self._write_out):
            os.close(end)


def _send(pipe: int, message: bytes) -> None:
    try:
        os.write(pipe, message)
    except BrokenPipeError:
        return  # the other side is done: it needs no more turns


def relay(job: Job) -> int:
    """Format a whole table to the descriptor ``job.output``; returns how many entries.

    Raises BrokenPipeError if nobody reads the output, CtctlError if a side failed.
    """
    pipes = [os.pipe() for _ in range(4)]
    result_in, result_out = os.pipe()
    (read_a, to_a), (read_b, to_b), (write_a, let_a), (write_b, let_b) = pipes
    child = os.fork()
    if child == 0:
        for end in (read_a, to_b, write_a, let_b, result_in):
            os.close(end)
        _be_child(_Turn(read_b, to_a, write_b, let_a), result_out, job)
    for end in (read_b, to_a, write_b, let_a, result_out):
        os.close(end)
    turn = _Turn(read_a, to_b, write_a, let_b)
    try:
        total = _work(turn, job, opening=True)
    finally:
        turn.close()
        status, theirs = _result(result_in)
        os.close(result_in)
        os.waitpid(child, 0)
    if status == _BROKEN_PIPE:
        raise BrokenPipeError
    if status == _INTERRUPTED:
        raise KeyboardInterrupt
    if status == _FAILED:
        raise CtctlError("reading the table failed in the second process; try again with --limit to see the cause")
    return total + theirs


def _work(turn: _Turn, job: Job, *, opening: bool) -> int:
    total = told = 0
    at: tuple[int | None, int] | None = (None, 0) if opening else turn.cursor()
    seen = job.seen if opening else None
    first = opening
    while at is not None:
        cursor, count = at
        batch, following = job.read(cursor)
        count += len(batch) if batch is not None else 0
        turn.pass_cursor(following if batch is not None else None, count)
        if seen is not None:
            seen(count - told)
            told = count
        if batch is None:
            return total
        data = memoryview(job.form(batch))
        total += len(batch)
        if not first:
            turn.wait_to_write()
        first = False
        while data:
            data = data[os.write(job.output, data) :]
        turn.pass_writing()
        at = turn.cursor()
    return total


def _be_child(turn: _Turn, result: int, job: Job) -> None:
    """The second process: never returns, never runs the parent's cleanups."""
    status, total = _FAILED, 0
    try:
        total = _work(turn, job, opening=False)
        status = _DONE
    except BrokenPipeError:
        status = _BROKEN_PIPE
    except KeyboardInterrupt:
        status = _INTERRUPTED
    finally:
        _send(result, _RESULT.pack(status, total))
        os._exit(0)


def _result(pipe: int) -> tuple[int, int]:
    message = os.read(pipe, _RESULT.size)
    if len(message) < _RESULT.size:
        return _FAILED, 0
    status, total = _RESULT.unpack(message)
    return status, total
