"""Frames of ctctl's snapshot: batches of a table's bytes, packed, every one checked.

u8 kind (1 rows of a conntrack table, 2 end, 3 rows of an SNAT table, 4 SNAT entries that are text), u8 table,
u16 flags (1: zlib), u32 rows, u32 length, u32 CRC-32
rows: a bit for each byte of key and value that is the same in all rows, those bytes once,
      then the bytes that differ, column by column
text: a JSON list
end: u32 rows of conntrack tables in all
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from ctctl.errors import DecodeError
from ctctl.tables.sources.stream import EndedEarlyError, Reader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.tables.sources.base import Rows

#: Of a payload.
Part: TypeAlias = bytes | memoryview
_FRAME = struct.Struct("<BBHIII")
_ZLIB = 1
#: Tables of a kind that frames can tell apart.
MAX_TABLES = 1 << 8
_MAX_ROWS = 1 << 20
#: of a payload: more than the widest table's keys and values take
_MAX_ROW = 256


class Kind(IntEnum):
    """What a frame holds."""

    ROWS = 1
    END = 2
    NAT = 3
    NAT_TEXT = 4


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it was read, its checksum right."""

    kind: Kind
    table: int
    rows: int
    zipped: bool
    payload: bytes

    def matrices(self, key_size: int, value_size: int) -> Rows:
        """Keys and values. Raises ValueError, zlib.error where the payload is not of so many rows."""
        width = key_size + value_size
        return _unpack(self.inflated(self.rows * width + 2 * width), self.rows, key_size, value_size)

    def inflated(self, at_most: int) -> bytes:
        """The payload as it was before it was compressed."""
        return zlib.decompressobj().decompress(self.payload, at_most) if self.zipped else self.payload


def write_frame(
    stream: BinaryIO, kind: Kind, table: int, rows: int, payload: Sequence[Part], *, compress: bool = False
) -> None:
    """Write a frame of the parts of its payload."""
    if compress:
        payload = [zlib.compress(b"".join(payload), 1)]
    crc, length = 0, 0
    for part in payload:
        crc, length = zlib.crc32(part, crc), length + len(part)
    stream.write(_FRAME.pack(kind, table, _ZLIB if compress else 0, rows, length, crc))
    for part in payload:
        stream.write(part)


def read_frame(stream: Reader) -> Frame:
    """The next frame. Raises EndedEarlyError at the end of the file, DecodeError for one that is damaged."""
    kind, table, flags, rows, length, crc = _FRAME.unpack(exactly(stream, _FRAME.size))
    if rows > _MAX_ROWS or length > _MAX_ROWS * _MAX_ROW or kind not in list(Kind):
        raise DecodeError("a frame's head is damaged")
    payload = exactly(stream, length)
    if zlib.crc32(payload) != crc:
        raise DecodeError("a frame's checksum is wrong")
    return Frame(Kind(kind), table, rows, bool(flags & _ZLIB), payload)


def exactly(stream: Reader, size: int) -> bytes:
    """So many bytes. Raises EndedEarlyError."""
    parts, left = [], size
    while left:
        part = stream.read(min(left, 1 << 20))
        if not part:
            raise EndedEarlyError("the snapshot is cut off")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


class Packer:
    """Rows as a frame holds them, batch after batch in the same memory: fresh pages cost more than the packing."""

    def __init__(self) -> None:
        self._differing, self._scratch = bytearray(), bytearray()

    def pack(self, keys: NDArray[np.uint8], values: NDArray[np.uint8]) -> list[Part]:
        """The parts of a payload, valid until the next batch."""
        import numpy as np

        width, rows = keys.shape[1] + values.shape[1], len(keys)
        if len(self._differing) < width * rows:
            self._differing, self._scratch = bytearray(width * rows), bytearray(width * rows)
        columns = np.frombuffer(self._differing, np.uint8, width * rows).reshape(width, rows)
        masks, constants, used = [], [], 0
        for matrix in (keys, values):
            unlike = self._unlike(matrix)
            masks.append(~unlike)
            constants.append(matrix[0, ~unlike])
            for column in np.flatnonzero(unlike).tolist():
                columns[used] = matrix[:, column]
                used += 1
        mask = np.packbits(np.concatenate(masks), bitorder="little").tobytes()
        return [mask, np.concatenate(constants).tobytes(), memoryview(self._differing)[: used * rows]]

    def _unlike(self, matrix: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which columns are not the same in all rows: in long runs of bytes, whatever the width of a row."""
        import numpy as np

        rows, width = matrix.shape
        if rows < 2:
            return np.zeros(width, np.bool_)
        flat = np.ascontiguousarray(matrix).reshape(-1)
        left = np.frombuffer(self._scratch, np.uint8, (rows - 1) * width)
        np.bitwise_xor(flat[width:], flat[:-width], out=left)
        count = rows - 1
        while count > 1:  # of both halves one, until one row is left
            half = count // 2 * width
            np.bitwise_or(left[:half], left[half : 2 * half], out=left[:half])
            if count % 2:
                left[:width] |= left[2 * half : 2 * half + width]
            count //= 2
        unlike: NDArray[np.bool_] = left[:width] != 0
        return unlike


def _unpack(payload: bytes, rows: int, key_size: int, value_size: int) -> Rows:
    import numpy as np

    width = key_size + value_size
    data = np.frombuffer(payload, np.uint8)
    mask_size = (width + 7) // 8
    same = np.unpackbits(data[:mask_size], bitorder="little", count=width).astype(np.bool_)
    constants = int(same.sum())
    columns = data[mask_size + constants :].reshape(width - constants, rows)
    keys, values = np.empty((rows, key_size), np.uint8), np.empty((rows, value_size), np.uint8)
    used = 0
    for number, constant in enumerate(same.tolist()):
        # Byte by byte into rows that lie in the processor's cache: a transposed copy takes four times as long.
        column = keys[:, number] if number < key_size else values[:, number - key_size]
        column[:] = data[mask_size + number - used] if constant else columns[used]
        used += not constant
    return keys, values
