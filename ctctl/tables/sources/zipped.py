"""Zip archives member by member, unpacked within the budget; those cut off by their members' own headers."""

from __future__ import annotations

import bz2
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from ctctl.config.budget import Budget, LimitError
from ctctl.errors import DecodeError
from ctctl.tables.sources.stream import EndedEarlyError, Reader
from ctctl.tables.sources.unpack import Packed, Unpacked

#: A zip must be seekable; one from a stream is kept in a temporary file up to this size.
MAX_SPOOLED = 1 << 30
#: A zip's directory is read whole: about 600 bytes of memory a member.
MAX_DIRECTORY = 16 << 20
_CHUNK = 1 << 18
#: compression methods by what unpacks them; None: stored
_METHODS: dict[int, str | None] = {0: None, 8: "deflate", 12: "bzip2"}
_LOCAL = struct.Struct("<4sHHHHHIIIHH")


@contextmanager
def spooled(stream: Reader) -> Iterator[IO[bytes]]:
    """A stream as a seekable file. Raises LimitError for one that is too large."""
    with tempfile.SpooledTemporaryFile(max_size=1 << 24) as spool:
        size = 0
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > MAX_SPOOLED:
                raise LimitError(f"a zip archive of more than {MAX_SPOOLED >> 30} GiB")
            spool.write(chunk)
        spool.seek(0)
        yield spool


def directory(spool: IO[bytes]) -> list[zipfile.ZipInfo] | None:
    """The members by the zip's directory, None where it is missing, damaged or of names that are none."""
    try:
        # The end record says how large the directory is; a lie there cannot make zipfile read more than the file.
        spool.seek(0, 2)
        end = spool.tell()
        spool.seek(max(0, end - (1 << 16) - 22))
        tail = spool.read()
        at = tail.rfind(b"PK\x05\x06")
        if at >= 0 and len(tail) >= at + 16 and struct.unpack_from("<I", tail, at + 12)[0] > MAX_DIRECTORY:
            raise LimitError(f"a zip directory of more than {MAX_DIRECTORY >> 20} MiB: not reading on")
        spool.seek(0)
        with zipfile.ZipFile(spool) as archive:
            return archive.infolist()
    except (
        zipfile.BadZipFile,
        UnicodeDecodeError,
        ValueError,
        OSError,
        struct.error,
        NotImplementedError,
        OverflowError,
    ):
        return None


class _Part:
    """Bytes of the spool from a place on, so many; reading elsewhere between reads does no harm."""

    def __init__(self, spool: IO[bytes], at: int, size: int) -> None:
        self._spool = spool
        self._at = at
        self._left = size

    def read(self, size: int = _CHUNK, /) -> bytes:
        self._spool.seek(self._at)
        data = self._spool.read(min(size, self._left))
        self._at += len(data)
        self._left -= len(data)
        return data


class _Checked:
    """A member's content, its checksum compared at the end."""

    def __init__(self, content: Reader, crc: int) -> None:
        self._content = content
        self._wanted = crc
        self._crc = 0
        self._done = False

    def read(self, size: int = _CHUNK, /) -> bytes:
        data = b"" if self._done else self._content.read(size)
        self._crc = zlib.crc32(data, self._crc)
        if not data and not self._done:
            self._done = True
            if self._crc != self._wanted:
                raise EndedEarlyError("its checksum is wrong: it is damaged")
        return data


def member(spool: IO[bytes], info: zipfile.ZipInfo, budget: Budget) -> Reader:
    """The content of a member as it is unpacked. Raises DecodeError for one that cannot be read."""
    if info.flag_bits & 1:
        raise DecodeError("it is encrypted")
    if info.header_offset < 0 or info.compress_size < 0:
        raise DecodeError("its place in the archive is none")
    if info.compress_type not in _METHODS:
        raise DecodeError(f"compression method {info.compress_type} is not read here")
    spool.seek(info.header_offset)
    header = spool.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise DecodeError("its header is missing")
    fields = _LOCAL.unpack(header)
    part = _Part(spool, info.header_offset + _LOCAL.size + fields[9] + fields[10], info.compress_size)
    form = _METHODS[info.compress_type]
    return _Checked(part if form is None else Unpacked(part, form, budget), info.CRC)


def local_members(spool: IO[bytes], budget: Budget, *, pays: bool) -> Iterator[tuple[str, Reader]]:
    """The members of a zip without its directory (which stands at the end), by their own headers.

    Each is to be read to its end before the next is asked for. It ends where no header follows. ``pays``: their bytes
    refill the budget as they are read.
    """
    at = 0
    while True:
        spool.seek(at)
        header = spool.read(_LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
            return
        _, _, flags, method, _, _, _, packed, _, name_size, extra_size = _LOCAL.unpack(header)
        name = spool.read(name_size).decode("utf-8", "replace")
        start = at + _LOCAL.size + name_size + extra_size
        if method not in _METHODS or flags & 1 or (method == 0 and flags & 8):
            return
        if not flags & 8:
            form = _METHODS[method]
            part: Reader = _Part(spool, start, packed)
            part = Packed(part, budget) if pays else part
            yield name, part if form is None else Unpacked(part, form, budget)
            at = start + packed
            continue
        counted = _Counting(spool, start, bz2=method == 12, budget=budget, pays=pays)
        yield name, counted
        while counted.read(_CHUNK):
            pass
        # Sizes stand behind the data, with or without a signature.
        spool.seek(counted.end)
        at = counted.end + (16 if spool.read(4) == b"PK\x07\x08" else 12)


class _Counting:
    """A packed member whose size is not known before it is unpacked; ``end`` is where what follows starts."""

    def __init__(self, spool: IO[bytes], at: int, *, bz2: bool, budget: Budget, pays: bool) -> None:
        self._spool = spool
        self._inflate = _bz2() if bz2 else zlib.decompressobj(-15)
        self._budget = budget
        self._pays = pays
        self._waiting = b""
        self.end = at
        self._at = at
        self._done = False

    def read(self, size: int = _CHUNK, /) -> bytes:
        while not self._done:
            hungry = self._inflate.needs_input if isinstance(self._inflate, bz2.BZ2Decompressor) else not self._waiting
            raw = self._waiting
            if hungry:
                self._spool.seek(self._at)
                raw = self._spool.read(1 << 16)
                self._at += len(raw)
                self._budget.packed += len(raw) if self._pays else 0
                if not raw:
                    self._done = True
                    raise EndedEarlyError("cut off")
            try:
                data = self._inflate.decompress(raw, min(max(size, 1), _CHUNK))
            except (zlib.error, OSError, ValueError) as error:
                self._done = True
                raise EndedEarlyError(f"damaged: {error}") from error
            self._waiting = b"" if isinstance(self._inflate, bz2.BZ2Decompressor) else self._inflate.unconsumed_tail
            if self._inflate.eof:
                self._done = True
                self.end = self._at - len(self._inflate.unused_data)
                self._budget.unpaid(len(self._inflate.unused_data) if self._pays else 0)
            self._budget.take(len(data))
            if data or self._done:
                return data
        return b""


def _bz2() -> bz2.BZ2Decompressor:
    return bz2.BZ2Decompressor()
