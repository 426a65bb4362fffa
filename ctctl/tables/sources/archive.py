"""Sysdump and bugtool archives: zip, tar, packed ones, nested ones, unpacked folders, cut-off ones too.

Members are found by content and read as streams: nothing is unpacked to disk, so paths in an archive
cannot reach out of it, and sizes that an archive claims are never believed: only bytes that arrive
are counted, against a limit. One member that cannot be read is said, and hides no other.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, cast

from ctctl.errors import CtctlError, DecodeError
from ctctl.tables.sources.agent_text import made_by_name
from ctctl.tables.sources.content import NoListingError, read_content
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.members import Dumps, Members, node_of
from ctctl.tables.sources.named import MAX_OWN, MAX_OWN_FILE, is_wanted
from ctctl.tables.sources.stream import EndedEarlyError, Prefixed, Reader
from ctctl.tables.sources.unpack import Budget, LimitError, Packed, Unpacked, packed_form
from ctctl.tables.sources.zipped import directory, local_members, member, spooled

__all__ = ["MAX_DEPTH", "MAX_MEMBERS", "is_archive", "node_of", "read_archive", "read_folder"]

MAX_MEMBERS = 50_000
MAX_DEPTH = 3
#: Partial data of one archive that is said in full; more is counted.
_MAX_SAID = 20
_CHUNK = 1 << 18


class _Walk:
    """What was found so far, and what is left of the limits; nested archives share both."""

    def __init__(self, member: Callable[[Prefixed, PurePosixPath], None] | None = None) -> None:
        #: what to do with a file instead of reading its listings
        self.other_reader = member
        self.members = Members()
        self.budget = Budget()
        self.partial: list[str] = []
        self.left = MAX_MEMBERS
        #: bytes of files with names that may still be kept
        self.names_left = MAX_OWN

    def member(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise LimitError(f"the archive has more than {MAX_MEMBERS} files: not reading on")

    def finish(self) -> Dumps:
        self.partial = list(dict.fromkeys(self.partial))
        if len(self.partial) > _MAX_SAID:
            more = len(self.partial) - _MAX_SAID
            self.partial = [*self.partial[:_MAX_SAID], f"{more} more"]
        self.members.loose += self.partial
        return self.members.by_node()


def is_archive(head: bytes) -> bool:
    """Whether the first 512 bytes are those of a zip, a tar or anything packed."""
    return packed_form(head) is not None or head.startswith((b"PK\x03\x04", b"PK\x05\x06")) or _is_tar(head)


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def read_archive(stream: Reader, name: str) -> Dumps:
    """Everything known in an archive, by node. What is cut off or damaged is in the ``partial`` of its dump.

    Raises DecodeError where nothing could be read.
    """
    walk = _Walk()
    path = PurePosixPath(Path(name).name)
    try:
        _read_any(Prefixed(b"", Packed(stream, walk.budget)), path, walk, MAX_DEPTH)
    except LimitError as error:
        walk.partial.append(str(error))
    return walk.finish()


def walk_members(stream: Reader, name: str, member: Callable[[Prefixed, PurePosixPath], None]) -> list[str]:
    """Hand every file of an archive to ``member``; what could not be read is the answer."""
    walk = _Walk(member)
    try:
        _read_any(Prefixed(b"", Packed(stream, walk.budget)), PurePosixPath(Path(name).name), walk, MAX_DEPTH)
    except LimitError as error:
        walk.partial.append(str(error))
    return walk.partial


def read_folder(path: Path) -> Dumps:
    """The same for a folder of files of any kind. Links are not followed."""
    walk = _Walk()
    try:
        for entry in sorted(path.rglob("*")):
            if not entry.is_symlink() and entry.is_file():
                walk.member()
                _read_file(entry, PurePosixPath(entry.relative_to(path)), walk)
    except LimitError as error:
        walk.partial.append(str(error))
    return walk.finish()


def _read_file(entry: Path, name: PurePosixPath, walk: _Walk) -> None:
    try:
        with entry.open("rb") as stream:
            _read_any(Prefixed(b"", Packed(stream, walk.budget)), name, walk, MAX_DEPTH)
    except OSError as error:
        walk.partial.append(f"{name}: {error.strerror}")


def _read_any(stream: Prefixed, path: PurePosixPath, walk: _Walk, depth: int) -> None:
    try:
        head = stream.peek(512)
        if not is_archive(head):
            _read_member(stream, path, walk)
        elif depth == 0:
            walk.partial.append(f"{path.name}: archives nested deeper than {MAX_DEPTH}: not read")
        else:
            _read_packed(stream, head, path, walk, depth)
    except (EndedEarlyError, DecodeError) as error:
        walk.partial.append(f"{path.name}: {error}")


def _read_packed(stream: Prefixed, head: bytes, path: PurePosixPath, walk: _Walk, depth: int) -> None:
    form = packed_form(head)
    if form is not None:
        inner = Prefixed(b"", Unpacked(stream, form, walk.budget))
        if _is_tar(inner.peek(512)):
            _read_tar(inner, path, walk, depth)
        else:
            _read_any(inner, path, walk, depth - 1)
    elif head.startswith(b"PK"):
        _read_zip(stream, path, walk, depth)
    else:
        _read_tar(stream, path, walk, depth)


def _read_member(stream: Prefixed, path: PurePosixPath, walk: _Walk) -> None:
    """One file. Its records are merged once it is read, so that a table listed twice is one."""
    if walk.other_reader is not None:
        walk.other_reader(stream, path)
        return
    part = Dump()
    try:
        read_content(_kept(stream, path.name, part, walk), part, path.name)
    except NoListingError:
        part.partial = []
    except DecodeError as error:
        part.partial.append(str(error))
    finally:  # also of a file that goes beyond the limits what was read counts
        part.partial = [f"{path.name}: {text}" for text in part.partial] if part.kinds or part.broken else []
        part.skipped = 0
        part.facts.made_unix = made_by_name(str(path))
        walk.members.add(path, part)


def _kept(stream: Prefixed, name: str, part: Dump, walk: _Walk) -> Reader:
    """The file's stream; one that may hold names is read, and kept, as far as the limits go."""
    if not is_wanted(name):
        return stream
    limit = min(MAX_OWN_FILE, walk.names_left)
    head = stream.peek(limit + 1)
    if len(head) <= limit:
        part.documents.append(head)
        walk.names_left -= len(head)
    return stream


def _read_tar(stream: Prefixed, path: PurePosixPath, walk: _Walk, depth: int) -> None:
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as archive:
            for item in archive:
                archive.members = []  # type: ignore[attr-defined]  # a stream needs no index: keep memory flat
                walk.member()
                content = archive.extractfile(item) if item.isreg() else None
                if content is not None:
                    _read_any(Prefixed(b"", _Small(content)), path / item.name.lstrip("/"), walk, depth - 1)
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
        raise EndedEarlyError(f"the tar archive is cut off or damaged: {error}") from error


def _read_zip(stream: Prefixed, path: PurePosixPath, walk: _Walk, depth: int) -> None:
    with spooled(stream) as spool:
        listed = directory(spool)
        if listed is None:
            _read_cut_zip(spool, path, walk, depth)
            return
        for info in listed:
            walk.member()
            if not info.is_dir():
                _read_zip_member(spool, info, path, walk, depth)


def _read_zip_member(spool: IO[bytes], info: zipfile.ZipInfo, path: PurePosixPath, walk: _Walk, depth: int) -> None:
    inner = path / info.filename[:1000].lstrip("/")
    try:
        _read_any(Prefixed(b"", member(spool, info, walk.budget)), inner, walk, depth - 1)
    except LimitError:
        raise
    except CtctlError as error:
        walk.partial.append(f"{inner.name}: {error}")


def _read_cut_zip(spool: IO[bytes], path: PurePosixPath, walk: _Walk, depth: int) -> None:
    """A zip whose directory is missing or damaged: the files one after the other, by their own headers."""
    for name, content in local_members(spool, walk.budget):
        walk.member()
        if not name.endswith("/"):
            _read_any(Prefixed(b"", content), path / name[:1000].lstrip("/"), walk, depth - 1)
    raise EndedEarlyError("the zip archive is cut off or damaged: its directory is missing")


class _Small:
    """Reads in small pieces: where a tar is cut off, what was asked for in one piece is lost with the error."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content

    def read(self, size: int = _CHUNK, /) -> bytes:
        try:
            return self._content.read(min(size, 4096))
        except (tarfile.TarError, ValueError) as error:
            raise EndedEarlyError(f"the tar archive is cut off: {error}") from error
