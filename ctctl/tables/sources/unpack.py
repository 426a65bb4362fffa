"""Packed streams unpacked as they are read: gzip, bzip2, xz, of several members; bounded by what came in.

Every byte that a layer hands out is taken from one budget (``config/budget.py``), which the bytes of the file itself
refill: a file of 4 KB cannot become gigabytes, nor minutes, however it is nested.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Protocol

from ctctl.config.budget import Budget
from ctctl.tables.sources.stream import EndedEarlyError, Reader

#: memory that xz may ask for
_XZ_MEMORY = 80 << 20
_CHUNK = 1 << 16


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
