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

from ctctl.config.allowance import allowance
from ctctl.config.budget import YAML_WORK, Budget, LimitError, yaml_work
from ctctl.errors import CtctlError, DecodeError
from ctctl.out.text import safe
from ctctl.tables.sources.agent_text import made_by_name
from ctctl.tables.sources.content import NoListingError, read_content
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.members import Dumps, Members, node_of
from ctctl.tables.sources.named import MAX_OWN, MAX_OWN_FILE, is_wanted
from ctctl.tables.sources.stream import EndedEarlyError, Prefixed, Reader
from ctctl.tables.sources.unpack import Packed, Unpacked, packed_form
from ctctl.tables.sources.zipped import directory, local_members, member, spooled

__all__ = ["MAX_DEPTH", "MAX_MEMBERS", "Walk", "is_archive", "node_of", "read_archive", "read_folder"]

MAX_MEMBERS = 50_000
MAX_DEPTH = 3
#: Partial data of one archive that is said in full; more is counted.
_MAX_SAID = 20
#: of a member's name
_LONGEST_NAME = 1000
#: What a file costs of the budget, be it empty: its headers, its dump. What a node costs beside that: every command
#: asks each of its tables and listings, a report a dozen times, and a lake gets files of it, however little is in them.
_MEMBER_WORK, _NODE_WORK = 600, 2000
#: And each folder on its way, which may say whose it is.
_FOLDER_WORK = 4
_CHUNK = 1 << 18


class Walk:
    """What is to be done with each file, and what is left of the limits; nested archives share both.

    ``visit`` is given each file that is no archive as a stream, with its path in whatever it was found in.
    ``partial``: what could not be read; ``ended`` is the limit that was met: of what follows nothing was read.
    """

    def __init__(self, visit: Callable[[Prefixed, PurePosixPath, Budget], None]) -> None:
        self.visit = visit
        self.budget = Budget()
        self.partial: list[str] = []
        #: where what is said there was found, if it is of one file
        self.places: dict[str, PurePosixPath] = {}
        self.ended = ""
        self.left = MAX_MEMBERS

    def member(self, inside: PurePosixPath, name: str) -> None:
        """Count a file of this name, inside of an archive or folder. Raises LimitError."""
        folders = len(inside.parts) + name.count("/", 0, _LONGEST_NAME)
        self.budget.spend(_MEMBER_WORK + _FOLDER_WORK * folders)
        self.left -= 1
        if self.left < 0:
            raise LimitError(f"the archive has more than {MAX_MEMBERS} files: not reading on")

    def file(self, stream: Reader, name: str, depth: int) -> None:
        """A file, or all files of an archive."""
        path = PurePosixPath(_in_one_line(PurePosixPath(name).name))
        try:
            _read_any(Prefixed(b"", Packed(stream, self.budget)), path, self, depth)
        except LimitError as error:
            self._end(error)

    def lose(self, path: PurePosixPath, text: str) -> None:
        """Say what of a file could not be read."""
        self.partial.append(text)
        self.places[text] = path

    def _end(self, error: LimitError) -> None:
        self.ended = str(error)
        self.partial.append(self.ended)

    def folder(self, path: Path, depth: int) -> None:
        """All files of a folder of files of any kind. Links are not followed."""
        try:
            for entry in sorted(path.rglob("*")):
                if not entry.is_symlink() and entry.is_file():
                    name = PurePosixPath(_in_one_line(str(entry.relative_to(path))))
                    self.member(PurePosixPath(), str(name))
                    try:
                        with entry.open("rb") as stream:
                            _read_any(Prefixed(b"", Packed(stream, self.budget)), name, self, depth)
                    except OSError as error:
                        self.lose(name, f"{name}: {error.strerror}")
        except LimitError as error:
            self._end(error)


class _Dumps:
    """The dumps in the files of a walk."""

    def __init__(self) -> None:
        self.members = Members()
        self.walk = Walk(self._add)
        #: bytes of files with names that may still be kept
        self.names_left = MAX_OWN
        self._dumps = self._nodes = 0

    def finish(self) -> Dumps:
        partial = list(dict.fromkeys(self.walk.partial))
        if len(partial) > _MAX_SAID:
            partial = [*partial[:_MAX_SAID], f"{len(partial) - _MAX_SAID} more"]
        for text in partial:
            self.members.unread(self.walk.places.get(text), text)
        return self.members.by_node()

    def _add(self, stream: Prefixed, path: PurePosixPath, budget: Budget) -> None:
        """One file. Its records are merged once it is read, so that a table listed twice is one."""
        part = Dump()
        try:
            read_content(self._kept(stream, path.name, part, budget), part, path.name, budget.spend)
        except NoListingError:
            part.partial = []
        except DecodeError as error:
            part.partial.append(str(error))
        finally:  # also of a file that goes beyond the limits what was read counts
            part.partial = [f"{path.name}: {text}" for text in part.partial] if part.kinds or part.broken else []
            part.skipped = 0
            part.facts.made_unix = made_by_name(str(path))
            for host, one in part.by_host(None).items():
                self.members.add(path, one, host)
            dumps, nodes = self.members.count - self._dumps, self.members.nodes - self._nodes
            self._dumps, self._nodes = self.members.count, self.members.nodes
            budget.spend(_NODE_WORK * (dumps > 0) + allowance().a_node * nodes)

    def _kept(self, stream: Prefixed, name: str, part: Dump, budget: Budget) -> Reader:
        """The file's stream; one that may hold names is read, and kept, as far as the limits go."""
        if not is_wanted(name):
            return stream
        json = stream.peek(64).lstrip()[:1] in (b"{", b"[")
        limit = min(MAX_OWN_FILE, self.names_left, budget.room << 3 if json else budget.room // YAML_WORK)
        head = stream.peek(limit + 1)
        if len(head) > limit:
            return stream
        work = len(head) >> 3 if json else yaml_work(head.decode("utf-8", "replace"))
        if work <= budget.room:
            budget.spend(work)
            part.documents.append(head)
            self.names_left -= len(head)
        return stream


def _in_one_line(name: str) -> str:
    """A name from an archive as it can be said: nothing in it breaks a line or moves the cursor."""
    return safe(name[:_LONGEST_NAME])


def is_archive(head: bytes) -> bool:
    """Whether the first 512 bytes are those of a zip, a tar or anything packed."""
    return packed_form(head) is not None or head.startswith((b"PK\x03\x04", b"PK\x05\x06")) or _is_tar(head)


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def read_archive(stream: Reader, name: str) -> Dumps:
    """Everything known in an archive, by node. What is cut off or damaged is in the ``partial`` of its dump.

    Raises DecodeError where nothing could be read.
    """
    found = _Dumps()
    found.walk.file(stream, name, MAX_DEPTH)
    return found.finish()


def walk_members(stream: Reader, name: str, member: Callable[[Prefixed, PurePosixPath], None]) -> list[str]:
    """Hand every file of an archive to ``member``; what could not be read is the answer."""
    walk = Walk(lambda content, path, _budget: member(content, path))
    walk.file(stream, name, MAX_DEPTH)
    return walk.partial


def read_folder(path: Path) -> Dumps:
    """The same for a folder of files of any kind. Links are not followed."""
    found = _Dumps()
    found.walk.folder(path, MAX_DEPTH)
    return found.finish()


def _read_any(stream: Prefixed, path: PurePosixPath, walk: Walk, depth: int) -> None:
    try:
        head = stream.peek(512)
        if not is_archive(head):
            walk.visit(stream, path, walk.budget)
        elif depth == 0:
            walk.lose(path, f"{path.name}: archives nested deeper than {MAX_DEPTH}: not read")
        else:
            _read_packed(stream, head, path, walk, depth)
    except (EndedEarlyError, DecodeError) as error:
        walk.lose(path, f"{path.name}: {error}")


def _read_packed(stream: Prefixed, head: bytes, path: PurePosixPath, walk: Walk, depth: int) -> None:
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
        _read_tar(stream, path, walk, depth, written=depth == MAX_DEPTH)


def _read_tar(stream: Prefixed, path: PurePosixPath, walk: Walk, depth: int, *, written: bool = False) -> None:
    """``written``: what stands in it are bytes of the file itself, not unpacked ones."""
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as archive:
            for item in archive:
                archive.members = []  # type: ignore[attr-defined]  # a stream needs no index: keep memory flat
                walk.member(path, item.name)
                inner = path / _in_one_line(item.name.lstrip("/"))
                if item.issparse():
                    # A header that promises any number of zeros; no listing has holes.
                    walk.lose(inner, f"{inner}: a sparse file, which is no listing: left out")
                    continue
                content = archive.extractfile(item) if item.isreg() else None
                if written:
                    walk.budget.unpaid(tarfile.BLOCKSIZE + -item.size % tarfile.BLOCKSIZE)
                if content is not None:
                    _read_any(Prefixed(b"", _Small(content)), inner, walk, depth - 1)
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
        raise EndedEarlyError(f"the tar archive is cut off or damaged: {error}") from error


def _read_zip(stream: Prefixed, path: PurePosixPath, walk: Walk, depth: int) -> None:
    with spooled(stream) as spool:
        size = spool.seek(0, 2)
        listed = directory(spool)
        if listed is None:
            _read_cut_zip(spool, path, walk, depth)
            return
        if depth == MAX_DEPTH:  # elsewhere they are no bytes of the file itself
            walk.budget.unpaid(size - min(size, sum(max(info.compress_size, 0) for info in listed)))
        for info in listed:
            walk.member(path, info.filename)
            if not info.filename.endswith("/"):
                _read_zip_member(spool, info, path, walk, depth)


def _read_zip_member(spool: IO[bytes], info: zipfile.ZipInfo, path: PurePosixPath, walk: Walk, depth: int) -> None:
    inner = path / _in_one_line(info.filename.lstrip("/"))
    try:
        _read_any(Prefixed(b"", member(spool, info, walk.budget)), inner, walk, depth - 1)
    except LimitError:
        raise
    except CtctlError as error:
        walk.lose(inner, f"{inner.name}: {error}")


def _read_cut_zip(spool: IO[bytes], path: PurePosixPath, walk: Walk, depth: int) -> None:
    """A zip whose directory is missing or damaged: the files one after the other, by their own headers."""
    pays = depth == MAX_DEPTH
    walk.budget.unpaid(spool.seek(0, 2) if pays else 0)
    for name, content in local_members(spool, walk.budget, pays=pays):
        walk.member(path, name)
        if not name.endswith("/"):
            _read_any(Prefixed(b"", content), path / _in_one_line(name.lstrip("/")), walk, depth - 1)
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
