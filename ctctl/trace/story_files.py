"""Where a packet story comes from: files, folders and archives of what a monitor or Hubble printed, several at once.

What an archive holds is copied to a temporary file before it is read: a tar can be read but once. Files that
are no such output are passed over, where there are others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import SEEK_END
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Protocol

from ctctl.config.budget import Budget, LimitError
from ctctl.errors import DecodeError, NotFoundError, PermissionDenied
from ctctl.tables.sources import archive
from ctctl.tables.sources.members import folder_of, node_of, word_of
from ctctl.tables.sources.packet_log import is_packet_log
from ctctl.tables.sources.stream import EndedEarlyError, Prefixed, Reader
from ctctl.tables.sources.unpack import Packed, Unpacked, packed_form
from ctctl.trace.story_text import NO_EVENT

#: What reading a line costs (see ``Budget``): less than it does, so that a log that packs thirty to one is read whole.
_WORK_A_LINE = 45
#: Bytes of an archive's members that are copied, and how many of a file's first bytes tell what it is.
MAX_COPIED = 1 << 30
_HEAD = 4096
_CHUNK = 1 << 18


class Opener(Protocol):
    """Opens a file from its beginning; closed with the stack."""

    def __call__(self, stack: ExitStack, /) -> Reader: ...


@dataclass(frozen=True, slots=True)
class StorySource:
    """One file of a story. ``node`` is what its name and folder say of whose it is."""

    name: str
    node: str | None
    open: Opener


@dataclass(slots=True)
class StorySources:
    """All files of a story; ``partial`` is what could not be read. ``again``: each can be read more than once."""

    files: list[StorySource]
    partial: list[str]
    again: bool = True


def story_sources(paths: Sequence[str], stdin: BinaryIO, stack: ExitStack) -> StorySources:
    """The files of all paths ("-" is stdin). Raises DecodeError for none, NotFoundError, PermissionDenied."""
    found = StorySources([], [])
    for text in paths:
        path = Path(text)
        if text == "-":
            found.files.append(StorySource("stdin", None, lambda _stack: _unpacked(stdin)))
            found.again = False
        elif path.is_dir():
            members = sorted(one for one in path.rglob("*") if one.is_file() and not one.is_symlink())
            named = [(one, PurePosixPath(one.relative_to(path))) for one in members]
            for one, name in named:
                _add(found, one, name, stack, asked=False)
        else:
            _add(found, path, PurePosixPath(path.name), stack, asked=True)
    if not found.files:
        unread = f"; not read: {found.partial[0]}" if found.partial else ""
        raise DecodeError(f"{', '.join(paths)}: {NO_EVENT}{unread}")
    return found


def _add(found: StorySources, path: Path, name: PurePosixPath, stack: ExitStack, *, asked: bool) -> None:
    try:
        if asked and not path.is_file():  # a pipe can be read once: it is taken as it is
            path.stat()
            found.files.append(StorySource(str(name), None, _opener(path)))
            found.again = False
            return
        with path.open("rb") as stream:
            head = _head_of(stream)
            if archive.is_archive(head):
                stream.seek(0)
                _copy_members(found, stream, name, stack)
            elif asked or is_packet_log(head):
                found.files.append(StorySource(str(name), _node(name), _opener(path)))
    except OSError as error:
        if not asked:  # one member of a folder hides no other
            found.partial.append(f"{name}: {error.strerror}")
        elif isinstance(error, PermissionError):
            raise PermissionDenied(f"{path}: no permission to read it") from None
        else:
            from ctctl.kernel.build import is_an_example

            raise NotFoundError(f"{path}: {error.strerror}{is_an_example(path)}") from None
    except (DecodeError, LimitError) as error:
        if asked:
            raise type(error)(f"{path}: {error}") from error
        found.partial.append(f"{name}: {error}")


def _head_of(stream: IO[bytes]) -> bytes:
    """The first bytes of what a file holds, unpacked; fewer where it is cut off."""
    inside = Prefixed(b"", _unpacked(stream))
    head = b""
    with suppress(EndedEarlyError):
        while len(head) < _HEAD and (part := inside.read(_HEAD - len(head))):
            head += part
    return head


def _opener(path: Path) -> Opener:
    def opened(stack: ExitStack) -> Reader:
        return _unpacked(stack.enter_context(path.open("rb")))

    return opened


def _unpacked(raw: IO[bytes]) -> Reader:
    budget = Budget()
    stream = Prefixed(b"", Packed(raw, budget))
    form = packed_form(stream.peek(8))
    return stream if form is None else _Paid(Unpacked(stream, form, budget), budget)


class _Paid:
    """What a packed file holds, as long as the file's own bytes pay for its lines."""

    def __init__(self, stream: Reader, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget

    def read(self, size: int = _CHUNK, /) -> bytes:
        """As ``Reader`` has it. Raises EndedEarlyError where the budget ends."""
        data = self._stream.read(min(size, _CHUNK))
        try:
            self._budget.spend(data.count(b"\n") * _WORK_A_LINE)
        except LimitError as error:
            raise EndedEarlyError(str(error)) from error
        return data


def _copy_members(found: StorySources, stream: IO[bytes], name: PurePosixPath, stack: ExitStack) -> None:
    left = MAX_COPIED
    budget = Budget()
    budget.packed = stream.seek(0, SEEK_END)
    stream.seek(0)

    def member(content: Prefixed, path: PurePosixPath) -> None:
        nonlocal left
        if not is_packet_log(content.peek(_HEAD)):
            return
        copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed with the story
        while (chunk := content.read(_CHUNK)) and left > 0:
            left -= len(chunk)
            copy.write(chunk)
        if left <= 0:
            found.partial.append(f"{path.name}: more than {MAX_COPIED >> 20} MiB of the archive: not read on")

        def opened(_stack: ExitStack) -> Reader:
            copy.seek(0)
            return _Paid(copy, budget)

        found.files.append(StorySource(path.name, _node(path), opened))

    found.partial += archive.walk_members(stream, str(name), member)


def _node(path: PurePosixPath) -> str | None:
    return node_of(path) or folder_of(path) or word_of(path) or None
