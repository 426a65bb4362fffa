"""One ring buffer, several readers: each keeps its own place, and none takes a record from another.

The kernel knows one consumer position. Here it is that of the reader who is farthest; the others read what
is still there behind it, which is as much as the buffer holds. Who falls back farther has lost records, and
is told how many bytes.

Layout of a ring buffer's file (kernel/bpf/ringbuf.c): a page with the consumer's position, a page with the
producer's, the data twice in a row, so that a record never breaks. A record: length with two flag bits, an
offset, the bytes; rounded up to 8.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from ctctl.kernel.failures import operation
from ctctl.kernel.map import Map

_BUSY: Final = 1 << 31
_DISCARDED: Final = 1 << 30
_HEADER: Final = 8
_PAGE: Final = mmap.PAGESIZE
_POSITION: Final = struct.Struct("<Q")
_LENGTH: Final = struct.Struct("<I")


class SharedRing:
    """A reader of a ring buffer map. ``callback`` gets each record's bytes; it is at the newest one at first.

    ``missed_bytes``: what was overwritten before it was read.
    """

    def __init__(self, ring: Map, callback: Callable[[bytes], None]) -> None:
        self._callback = callback
        self._map = ring.dup()
        self._size = ring.info.max_entries
        try:
            with operation("open ring buffer", ring.name):
                self._consumer = mmap.mmap(self._map.fd, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
                length = _PAGE + 2 * self._size
                self._produced = mmap.mmap(self._map.fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)
        except BaseException:
            self._map.close()
            raise
        self._at = self._producer()
        self.missed_bytes = 0

    @property
    def fileno(self) -> int:
        """A descriptor that polls readable when there are records that no reader has had yet."""
        return self._map.fd

    def consume(self) -> None:
        """Read everything that is complete."""
        records, start = [], self._at
        end = self._producer()
        if end - start > self._size:
            self._skip(end)
            return
        at = start
        while at < end:
            offset = _PAGE + at % self._size
            (word,) = _LENGTH.unpack_from(self._produced, offset)
            if word & _BUSY:
                break
            length = word & ~(_BUSY | _DISCARDED)
            if not word & _DISCARDED:
                records.append(self._produced[offset + _HEADER : offset + _HEADER + length])
            at += (length + _HEADER + 7) // 8 * 8
        # What a faster reader let go may have been overwritten under this one's eyes.
        now = self._producer()
        if now - start > self._size:
            self._skip(now)
            return
        self._at = at
        self._let_go()
        for record in records:
            self._callback(record)

    def skip(self) -> None:
        """Go to the newest record."""
        self._at = self._producer()
        self._let_go()

    def _skip(self, end: int) -> None:
        self.missed_bytes += end - self._at
        self._at = end
        self._let_go()

    def _producer(self) -> int:
        position: int = _POSITION.unpack_from(self._produced, 0)[0]
        return position

    def _let_go(self) -> None:
        """The producer may have the room of what the farthest reader has read."""
        if self._at > _POSITION.unpack_from(self._consumer, 0)[0]:
            _POSITION.pack_into(self._consumer, 0, self._at)

    def close(self) -> None:
        """Twice is fine."""
        self._produced.close()
        self._consumer.close()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
