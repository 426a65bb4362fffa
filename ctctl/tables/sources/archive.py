"""Sysdump and bugtool archives: zip, tar, tar.gz, nested, unpacked folders, cut-off ones too.

Members are found by content and read as streams: nothing is unpacked to disk, so paths in an archive
cannot reach out of it, and sizes that an archive claims are never believed: only bytes that arrive
are counted, against a limit.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from ctctl.errors import CtctlError, DecodeError
from ctctl.tables.sources.content import NoListingError, read_content
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.stream import EndedEarlyError, Prefixed, Reader

MAX_MEMBERS = 50_000
MAX_DEPTH = 3
#: Bytes that one archive may unpack to, all nested ones together.
MAX_UNPACKED = 4 << 30
#: A zip must be seekable; one from a stream is kept in a temporary file up to this size.
MAX_SPOOLED = 1 << 30
_CHUNK = 1 << 18

Dumps = dict[str | None, Dump]


class LimitError(CtctlError):
    """An archive is too big, too deep or of too many files: reading ends there."""


class _Walk:
    """What was found so far, and what is left of the limits; nested archives share both."""

    def __init__(self) -> None:
        self.dumps: Dumps = {}
        self.bytes = MAX_UNPACKED
        self.members = MAX_MEMBERS

    def take(self, count: int) -> None:
        self.bytes -= count
        if self.bytes < 0:
            raise LimitError(f"the archive unpacks to more than {MAX_UNPACKED >> 30} GiB: not reading on")

    def dump(self, path: PurePosixPath) -> Dump:
        """The dump of the node a member is of."""
        return self.dumps.setdefault(node_of(path), Dump())

    def member(self) -> None:
        self.members -= 1
        if self.members < 0:
            raise LimitError(f"the archive has more than {MAX_MEMBERS} files: not reading on")


class _Counted:
    """A stream whose bytes are taken from the budget."""

    def __init__(self, stream: Reader, walk: _Walk) -> None:
        self._stream = stream
        self._walk = walk

    def read(self, size: int = _CHUNK, /) -> bytes:
        data = self._stream.read(size)
        self._walk.take(len(data))
        return data


class Gunzip:
    """A gzip stream unpacked as it is read; several members are one after the other.

    Raises EndedEarlyError where it is cut off or damaged, after all good bytes were handed out.
    """

    def __init__(self, stream: Reader) -> None:
        self._stream = stream
        self._inflate = zlib.decompressobj(31)
        self._ready = b""
        self._ended = False

    def read(self, size: int = _CHUNK, /) -> bytes:
        while not self._ready and not self._ended:
            self._fill(size)
        part, self._ready = self._ready[:size], self._ready[size:]
        return part

    def _fill(self, size: int) -> None:
        raw = self._inflate.unconsumed_tail or self._inflate.unused_data
        if self._inflate.eof:
            raw = self._inflate.unused_data or self._stream.read(_CHUNK)
            if not raw.startswith(b"\x1f\x8b"):
                self._ended = True
                return
            self._inflate = zlib.decompressobj(31)
        elif not raw:
            raw = self._stream.read(_CHUNK)
            if not raw:
                self._ended = True
                raise EndedEarlyError("the gzip data is cut off")
        try:
            self._ready = self._inflate.decompress(raw, max(size, 1))
        except zlib.error as error:
            self._ended = True
            raise EndedEarlyError(f"the gzip data is damaged: {error}") from error


def is_archive(head: bytes) -> bool:
    """Whether the first 512 bytes are those of a gzip, zip or tar."""
    return head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06")) or _is_tar(head)


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def read_archive(stream: Reader, name: str) -> Dumps:
    """Everything known in an archive, by node. What is cut off or damaged is noted in the dump it is of."""
    walk = _Walk()
    path = PurePosixPath(Path(name).name)
    try:
        _read_any(Prefixed(b"", stream), path, walk, MAX_DEPTH)
    except LimitError as error:
        walk.dump(path).partial.append(str(error))
    return _without_empty(walk.dumps)


def read_folder(path: Path) -> Dumps:
    """The same for an unpacked archive. Links are not followed."""
    walk = _Walk()
    try:
        for entry in sorted(path.rglob("*")):
            if not entry.is_symlink() and entry.is_file():
                walk.member()
                _read_file(entry, PurePosixPath(entry.relative_to(path)), walk)
    except LimitError as error:
        walk.dump(PurePosixPath(path.name)).partial.append(str(error))
    return _without_empty(walk.dumps)


def _read_file(entry: Path, name: PurePosixPath, walk: _Walk) -> None:
    with entry.open("rb") as stream:
        _read_any(Prefixed(b"", _Counted(stream, walk)), name, walk, MAX_DEPTH)


def _without_empty(dumps: Dumps) -> Dumps:
    """Nodes of which something was found; notes of others go to the first."""
    full = {node: dump for node, dump in dumps.items() if dump.kind}
    lost = [
        f"{node}: {text}" if node else text for node, dump in dumps.items() if not dump.kind for text in dump.partial
    ]
    if full:
        next(iter(full.values())).partial += lost
    elif lost:
        raise DecodeError("; ".join(lost))
    if None in full and len(full) > 1:
        # Files outside the nodes' folders (a log, a list of pods) that happen to be listings: of no node.
        stray = full.pop(None)
        next(iter(full.values())).partial += stray.partial
    return full


def node_of(path: PurePosixPath) -> str | None:
    """The node a member is of: the pod in the name of its bugtool folder or archive, None if there is none."""
    for part in path.parts:
        match = re.match(r"cilium-bugtool-(?P<pod>[a-z0-9.-]*?[a-z][a-z0-9.-]*?)-\d{8}-\d{6}", part)
        if match is not None:
            return match["pod"]
    return None


def _read_any(stream: Prefixed, path: PurePosixPath, walk: _Walk, depth: int) -> None:
    head = stream.peek(512)
    dump = walk.dump(path)
    try:
        if is_archive(head):
            if depth == 0:
                raise LimitError(f"archives nested deeper than {MAX_DEPTH}")
            _read_packed(stream, head, path, walk, depth)
        else:
            _read_member(stream, path, dump)
    except EndedEarlyError as error:
        dump.partial.append(f"{path.name}: {error}")


def _read_packed(stream: Prefixed, head: bytes, path: PurePosixPath, walk: _Walk, depth: int) -> None:
    if head.startswith(b"\x1f\x8b"):
        inner = Prefixed(b"", _Counted(Gunzip(stream), walk))
        if _is_tar(inner.peek(512)):
            _read_tar(inner, path, walk, depth)
        else:
            _read_any(inner, path, walk, depth - 1)
    elif head.startswith(b"PK"):
        _read_zip(stream, path, walk, depth)
    else:
        _read_tar(stream, path, walk, depth)


def _read_member(stream: Prefixed, path: PurePosixPath, dump: Dump) -> None:
    """One file. Its records are merged once it is read, so that a table listed twice is one."""
    part = Dump()
    try:
        read_content(stream, part, path.name)
    except NoListingError:
        return
    except EndedEarlyError as error:
        part.partial.append(str(error))
    except DecodeError as error:
        if not part.tables and not part.kind.startswith(("Cilium", "ctctl")):
            return
        part.partial.append(str(error))
    finally:
        part.partial = [f"{path.name}: {text}" for text in part.partial]
        dump.kind = dump.kind or part.kind
        dump.merge(part)


def _read_tar(stream: Prefixed, path: PurePosixPath, walk: _Walk, depth: int) -> None:
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # a stream needs no index: keep memory flat
                walk.member()
                content = archive.extractfile(member) if member.isreg() else None
                if content is not None:
                    _read_any(Prefixed(b"", _Small(content)), path / member.name.lstrip("/"), walk, depth - 1)
    except tarfile.TarError as error:
        raise EndedEarlyError(f"the tar archive is cut off or damaged: {error}") from error


def _read_zip(stream: Prefixed, path: PurePosixPath, walk: _Walk, depth: int) -> None:
    with tempfile.SpooledTemporaryFile(max_size=1 << 24) as spool:
        limited = iter(lambda: stream.read(_CHUNK), b"")
        size = 0
        for chunk in limited:
            size += len(chunk)
            if size > MAX_SPOOLED:
                raise LimitError(f"a zip archive of more than {MAX_SPOOLED >> 30} GiB")
            spool.write(chunk)
        spool.seek(0)
        try:
            archive = zipfile.ZipFile(spool)
        except zipfile.BadZipFile:
            spool.seek(0)
            _read_cut_zip(spool, path, walk, depth)
            return
        with archive:
            for member in archive.infolist():
                walk.member()
                if not member.is_dir():
                    _read_zip_member(archive, member, path, walk, depth)


def _read_zip_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: PurePosixPath, walk: _Walk, depth: int
) -> None:
    inner = path / member.filename.lstrip("/")
    try:
        with archive.open(member) as content:
            _read_any(Prefixed(b"", _Counted(content, walk)), inner, walk, depth - 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        walk.dump(inner).partial.append(f"{inner.name}: {error}")


def _read_cut_zip(spool: IO[bytes], path: PurePosixPath, walk: _Walk, depth: int) -> None:
    """A zip without its directory (it stands at the end): the files one after the other, by their own headers."""
    for name, content in _local_files(spool):
        walk.member()
        if not name.endswith("/"):
            _read_any(Prefixed(b"", _Counted(content, walk)), path / name.lstrip("/"), walk, depth - 1)
        shutil.copyfileobj(cast("IO[bytes]", content), _Sink())
    raise EndedEarlyError("the zip archive is cut off: its directory is missing")


class _Small:
    """Reads in small pieces: where a tar is cut off, what was asked for in one piece is lost with the error."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content

    def read(self, size: int = _CHUNK, /) -> bytes:
        return self._content.read(min(size, 4096))


class _Sink:
    """Where bytes go that nobody wants."""

    def write(self, data: bytes, /) -> int:
        return len(data)


class _LocalFile:
    """The content of one file of a zip, deflated or stored; ``rest`` is what follows it."""

    def __init__(self, spool: IO[bytes], method: int, size: int) -> None:
        self._spool = spool
        self._inflate = zlib.decompressobj(-15) if method == 8 else None
        self._left = size
        self.done = False

    def read(self, size: int = _CHUNK, /) -> bytes:
        if self.done:
            return b""
        if self._inflate is None:
            data = self._spool.read(min(size, self._left))
            self._left -= len(data)
            self.done = not data or self._left == 0
            if not data and self._left:
                raise EndedEarlyError("cut off")
            return data
        while True:
            raw = self._inflate.unconsumed_tail or self._spool.read(_CHUNK)
            if not raw:
                self.done = True
                raise EndedEarlyError("cut off")
            try:
                data = self._inflate.decompress(raw, size)
            except zlib.error as error:
                self.done = True
                raise EndedEarlyError(f"damaged: {error}") from error
            if self._inflate.eof:
                self.done = True
                self._spool.seek(-len(self._inflate.unused_data), 1)
                return data
            if data:
                return data


def _local_files(spool: IO[bytes]) -> Iterator[tuple[str, _LocalFile]]:
    while True:
        header = spool.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            return
        flags, method = int.from_bytes(header[6:8], "little"), int.from_bytes(header[8:10], "little")
        size = int.from_bytes(header[18:22], "little")
        name = spool.read(int.from_bytes(header[26:28], "little")).decode("utf-8", "replace")
        spool.seek(int.from_bytes(header[28:30], "little"), 1)
        if method not in (0, 8) or flags & 1 or (method == 0 and flags & 8):
            return
        content = _LocalFile(spool, method, size)
        yield name, content
        if not content.done:
            return
        if flags & 8:  # sizes stand behind the data, with or without a signature
            descriptor = spool.read(16)
            spool.seek(0 if descriptor[:4] == b"PK\x07\x08" else -4, 1)
