"""Packed streams unpacked as they are read: gzip, bzip2, xz, of several members; bounded by what came in.

Every byte that a layer hands out is taken from one budget, and so is the work of reading lines and
documents; the bytes of the file itself refill it: a file of 4 KB cannot become gigabytes, nor minutes,
however it is nested.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Protocol

from ctctl.errors import CtctlError
from ctctl.tables.sources.allowance import allowance
from ctctl.tables.sources.stream import EndedEarlyError, Reader

#: Bytes that a file may unpack to: so many in any case, so many for each of its own, so many at most.
FREE_BYTES = 8 << 20
MAX_RATIO = 250
MAX_UNPACKED = 4 << 30
#: Work, in units of about a microsecond: so much for all files of one answer together, so much for any of them whatever
#: the others took, and so much more for each byte of its own, and for each beyond those of a small file. A listing that
#: is read in passes takes less than 1 a byte however it is packed, one that is read line by line 3 to 6, one that is
#: not packed less than 2: only what repeats itself over and over takes more. Of a small file it is less than two
#: seconds in all; a large one has more to read, and what repeats itself in it is the smaller part.
FREE_WORK = 900_000
OWN_FREE_WORK = 40_000
WORK_A_BYTE, SMALL, WORK_A_BYTE_BEYOND = 4, 256 << 10, 8
#: memory that xz may ask for
_XZ_MEMORY = 80 << 20
_CHUNK = 1 << 16


class LimitError(CtctlError):
    """A file is too big, too deep or of too many parts: reading ends there."""


class Budget:
    """What may still be unpacked and read. ``packed`` and ``unpacked`` are bytes so far, ``spent`` is work.

    Work that its bytes do not pay for is taken from the allowance of all that is read for one answer.
    """

    def __init__(self) -> None:
        self.packed = 0
        self.unpacked = 0
        self.spent = 0
        self._allowance = allowance()
        #: what was taken from the allowance
        self._taken = 0

    @property
    def _free(self) -> int:
        """Work beyond what its bytes pay for that it may take in all."""
        return max(FREE_WORK - self._allowance.used + self._taken, min(OWN_FREE_WORK, FREE_WORK))

    @property
    def _paid(self) -> int:
        """Work that its bytes pay for."""
        small = min(self.packed, SMALL)
        return WORK_A_BYTE * small + WORK_A_BYTE_BEYOND * (self.packed - small)

    def unpaid(self, count: int) -> None:
        """Of the bytes of the file so many are what an archive writes around its members: they pay for nothing."""
        self.packed = max(self.packed - count, 0)

    @property
    def room(self) -> int:
        """Work that may still be spent."""
        return max(self._free + self._paid - self.spent, 0)

    def spend(self, work: int) -> None:
        """Count work. Raises LimitError."""
        self.spent += work
        beyond, free = max(self.spent - self._paid, 0), self._free
        if beyond != self._taken:
            self._allowance.used += min(beyond, free) - self._taken
            self._taken = min(beyond, free)
        if beyond > free:
            raise LimitError("it repeats itself far beyond its own size: not reading on")

    def take(self, count: int) -> None:
        """Count unpacked bytes. Raises LimitError."""
        self.unpacked += count
        if self.unpacked > min(FREE_BYTES + MAX_RATIO * self.packed, MAX_UNPACKED):
            raise LimitError(
                f"it unpacks to more than {MAX_RATIO} times its size: not reading on"
                if self.unpacked < MAX_UNPACKED
                else f"it unpacks to more than {MAX_UNPACKED >> 30} GiB: not reading on"
            )


class Packed:
    """The file itself: its bytes refill the budget."""

    def __init__(self, stream: Reader, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget

    def read(self, size: int = _CHUNK, /) -> bytes:
        data = self._stream.read(size)
        self._budget.packed += len(data)
        return data


class _Inflater(Protocol):
    """What zlib, bz2 and lzma have in common: bounded steps."""

    def step(self, data: bytes, limit: int) -> bytes: ...
    @property
    def hungry(self) -> bool: ...
    @property
    def eof(self) -> bool: ...
    @property
    def rest(self) -> bytes: ...


class _Zlib:
    def __init__(self, bits: int) -> None:
        self._inflate = zlib.decompressobj(bits)

    def step(self, data: bytes, limit: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, limit)

    @property
    def hungry(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def rest(self) -> bytes:
        return self._inflate.unused_data


class _Other:
    """bz2 and lzma objects are alike."""

    def __init__(self, inflate: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._inflate = inflate

    def step(self, data: bytes, limit: int) -> bytes:
        return self._inflate.decompress(data, limit)

    @property
    def hungry(self) -> bool:
        return self._inflate.needs_input

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def rest(self) -> bytes:
        return self._inflate.unused_data


#: a form's first bytes
MAGIC = {"gzip": b"\x1f\x8b", "bzip2": b"BZh", "xz": b"\xfd7zXZ\0"}


def packed_form(head: bytes) -> str | None:
    """The name of the form a file is packed in by its first bytes, None for any other."""
    return next((form for form, magic in MAGIC.items() if head.startswith(magic)), None)


def _inflater(form: str) -> _Inflater:
    if form == "deflate":
        return _Zlib(-15)
    if form == "gzip":
        return _Zlib(31)
    if form == "bzip2":
        return _Other(bz2.BZ2Decompressor())
    return _Other(lzma.LZMADecompressor(memlimit=_XZ_MEMORY))


class Unpacked:
    """A packed stream as it is unpacked; several members are one after the other, zeros between them pass.

    ``form``: gzip, bzip2, xz, or deflate (one member, without a frame). ``crc`` is zlib's CRC-32 of what
    was handed out. Raises EndedEarlyError where it is cut off or damaged, after all good bytes were
    handed out, LimitError past the budget.
    """

    def __init__(self, stream: Reader, form: str, budget: Budget) -> None:
        self._stream = stream
        self._form = form
        self._budget = budget
        self._inflate = _inflater(form)
        self._raw = memoryview(b"")
        self._started = False
        self._ended = False
        self.crc = 0

    def read(self, size: int = _CHUNK, /) -> bytes:
        while not self._ended:
            data = self._step(min(max(size, 1), 1 << 18))
            if data:
                self.crc = zlib.crc32(data, self.crc)
                self._budget.take(len(data))
                return data
        return b""

    def _step(self, limit: int) -> bytes:
        if self._inflate.eof and not self._next_member():
            return b""
        raw = b""
        if self._inflate.hungry:
            raw = self._take()
            if not raw:
                self._ended = True
                raise EndedEarlyError(f"the {self._form} data is cut off")
        try:
            data = self._inflate.step(raw, limit)
        except (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError) as error:
            self._ended = True
            raise EndedEarlyError(f"the {self._form} data is damaged: {error}") from error
        if self._inflate.eof and self._inflate.rest:
            # What is left of the piece stands in front of what was not looked at yet: only a view moves.
            self._raw = (
                memoryview(bytes(self._inflate.rest) + bytes(self._raw))
                if self._raw
                else memoryview(self._inflate.rest)
            )
        return data

    def _take(self, size: int = 1 << 12) -> bytes:
        """A small piece: what a member leaves of it is put back, for every member."""
        if not self._raw:
            self._raw = memoryview(self._stream.read(1 << 13))
        part, self._raw = bytes(self._raw[:size]), self._raw[size:]
        return part

    def _next_member(self) -> bool:
        """Whether another member follows. Raises EndedEarlyError for anything else but zeros."""
        if self._form == "deflate":
            self._ended = True
            return False
        magic = MAGIC[self._form]
        head = bytes(self._raw[: len(magic)])
        while len(head) < len(magic) or not head.strip(b"\0"):
            more = self._stream.read(_CHUNK)
            if not more and not head.strip(b"\0"):
                self._ended = True
                return False
            if not more:
                break
            kept = bytes(self._raw).lstrip(b"\0")
            self._raw = memoryview(kept + more)
            head = bytes(self._raw[: len(magic)])
        if head[:1] == b"\0":
            self._raw = memoryview(bytes(self._raw).lstrip(b"\0"))
            head = bytes(self._raw[: len(magic)])
        if head != magic:
            self._ended = True
            raise EndedEarlyError(f"what follows the {self._form} data is none: not read")
        self._inflate = _inflater(self._form)
        return True
