"""Many lines at once: a byte matrix with a row a line, padded with NULs, which are dropped at the end.

Every piece is a whole number of 32-bit words wide, so that all writes are aligned columns of words.
Numbers are written four digits at a time by table look-up; texts that repeat come from a table too.
The width of a number's column follows the greatest number of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.uint32]

_GROUP = 10_000


def _padded(text: bytes) -> bytes:
    return text + b"\0" * (-len(text) % 4)


def words_of(text: bytes) -> Words:
    """A text as words, NULs at the end."""
    return np.frombuffer(_padded(text), np.uint32)


@cache
def _digits() -> tuple[Words, Words]:
    """Four digits by ``group + 10000 * (there are digits before)``; the second table is for the last group."""
    leading, full = [], []
    for group in range(_GROUP):
        leading.append((str(group).encode() if group else b"").rjust(4, b"\0"))
        full.append(b"%04d" % group)
    middle = np.frombuffer(b"".join(leading + full), np.uint32)
    leading[0] = b"\0\0\x000"
    return middle, np.frombuffer(b"".join(leading + full), np.uint32)


def number(numbers: NDArray[Any]) -> Words | bytes:
    """Unsigned numbers in decimal; one literal where all are the same, as counters without accounting are."""
    if len(numbers) and numbers[0] == numbers[-1] and (numbers == numbers[0]).all():
        return b"%d" % int(numbers[0])
    return decimals(numbers)


def decimals(numbers: NDArray[Any]) -> Words:
    """Unsigned numbers in decimal: words (n, k), k by the greatest."""
    middle, last = _digits()
    greatest = int(numbers.max()) if len(numbers) else 0
    if greatest < _GROUP:
        return last[numbers.astype(np.intp)][:, None]
    groups: list[NDArray[Any]] = []
    rest: Any = numbers.astype(np.uint64 if greatest >> 32 else np.uint32)
    size = rest.dtype.type(_GROUP)
    while greatest:
        quotient = rest // size
        groups.append(rest - quotient * size)
        rest, greatest = quotient, greatest // _GROUP
    groups.reverse()
    result = np.empty((len(numbers), len(groups)), np.uint32)
    before: NDArray[Any] | None = None
    for index, group in enumerate(groups):
        at = group.astype(np.intp)
        if before is not None:
            at += before * _GROUP
        result[:, index] = (last if index == len(groups) - 1 else middle)[at]
        nonzero = group != 0
        before = nonzero if before is None else before | nonzero
    return result


def signed_decimals(numbers: NDArray[np.int64]) -> Words:
    """Signed numbers in decimal, a column for the sign where one is negative."""
    magnitude = decimals(np.abs(numbers))
    negative = numbers < 0
    if not negative.any():
        return magnitude
    sign = np.where(negative, words_of(b"-")[0], np.uint32(0))[:, None]
    return np.concatenate([sign, magnitude], axis=1)


@cache
def _hex_bytes() -> Words:
    return np.frombuffer(b"".join(b"0x%02x" % byte for byte in range(256)), np.uint32)


def hex_bytes(numbers: NDArray[np.uint8]) -> Words:
    """``0x1b``: one word each."""
    return _hex_bytes()[numbers][:, None]


@cache
def _octets(end: bytes) -> Words:
    return np.frombuffer(b"".join(str(byte).encode().rjust(3, b"\0") + end for byte in range(256)), np.uint32)


def ipv4(octets: NDArray[np.uint8], end: bytes) -> Words:
    """Addresses (n, 4) with one byte after each, e.g. ``:``: four words each."""
    result = np.empty((len(octets), 4), np.uint32)
    result[:, :3] = _octets(b".")[octets[:, :3]]
    result[:, 3] = _octets(end)[octets[:, 3]]
    return result


class TextTable:
    """Texts by a number below ``limit``, each made once, when it is first needed."""

    def __init__(self, make: Callable[[int], bytes], limit: int) -> None:
        self._make = make
        self._place = np.full(limit, -1, np.int32)
        self._rows: Words = np.zeros((0, 1), np.uint32)
        self._texts: list[bytes] = []

    def __call__(self, numbers: NDArray[Any]) -> Words:
        """Words (n, k) of the texts, k by the longest text so far."""
        places = self._place[numbers]
        if len(places) and places.min() < 0:
            for number in np.unique(numbers[places < 0]).tolist():
                self._place[number] = len(self._texts)
                self._texts.append(self._make(number))
            self._rows = text_rows(self._texts)
            places = self._place[numbers]
        rows: Words = self._rows[places]
        return rows


def text_rows(texts: Sequence[bytes]) -> Words:
    """Texts as rows of words, NULs at the end."""
    width = max((len(_padded(text)) for text in texts), default=4) or 4
    joined = b"".join(text.ljust(width, b"\0") for text in texts)
    return np.frombuffer(joined, np.uint32).reshape(len(texts), width // 4)


def texts_by_value(values: NDArray[Any], make: Callable[[Any], bytes]) -> Words:
    """Words of a text per value, made once for each distinct value of the batch."""
    unique, inverse = np.unique(values, return_inverse=True)
    rows: Words = text_rows([make(value) for value in unique.tolist()])[inverse.reshape(-1)]
    return rows


class Lines:
    """Pieces of ``count`` lines, in order: literals, and words of each line."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pieces: list[bytes | Words] = []

    def add(self, *pieces: bytes | Words) -> Lines:
        """Add literals (bytes) and columns of words (n, k)."""
        for piece in pieces:
            if isinstance(piece, bytes) and self._pieces and isinstance(self._pieces[-1], bytes):
                self._pieces[-1] += piece
            else:
                self._pieces.append(piece)
        return self

    def bytes(self) -> bytearray:
        """All lines, without the padding. No lines at all are no bytes: a table may have no match."""
        if not self._count:
            return bytearray()
        columns = [words_of(piece) if isinstance(piece, bytes) else piece for piece in self._pieces]
        widths = [column.shape[-1] for column in columns]
        # bytearray.translate drops NULs faster than a mask does; the memory is used again and again,
        # because fresh pages would cost as much as the formatting.
        store = _sized(self._count * sum(widths) * 4)
        matrix = np.frombuffer(store, np.uint32).reshape(self._count, -1)
        at = 0
        for column, width in zip(columns, widths, strict=True):
            matrix[:, at : at + width] = column
            at += width
        del matrix
        return store.translate(None, b"\0")


_store = bytearray()


def _sized(size: int) -> bytearray:
    """The one buffer of this module, resized. Only one formatter uses it at a time."""
    if len(_store) > size:
        del _store[size:]
    elif len(_store) < size:
        _store.extend(bytes(size - len(_store)))
    return _store
