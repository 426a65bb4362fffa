"""Files, folders and stdin: told by content, read with bounded memory."""

from __future__ import annotations

import errno
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ctctl.config.budget import Budget, LimitError
from ctctl.errors import DecodeError, NotFoundError, NothingReadError, PermissionDenied
from ctctl.model.suggest import unknown_name
from ctctl.tables.sources import archive, moments, snapshot
from ctctl.tables.sources.base import Source, SourceOptions
from ctctl.tables.sources.content import NoListingError, read_content
from ctctl.tables.sources.ct_text import settle_dsr
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.facts import NodeFacts
from ctctl.tables.sources.listing_text import turned_sockets
from ctctl.tables.sources.listings import KINDS, Listings, complete_backends
from ctctl.tables.sources.members import Dumps, node_of
from ctctl.tables.sources.options import apply_options
from ctctl.tables.sources.packet_log import INSTEAD, is_packet_log
from ctctl.tables.sources.stream import Prefixed
from ctctl.tables.sources.timing import few, tables_of
from ctctl.tables.sources.unpack import Packed

_HEAD = 512
#: How a table of ``ct list`` starts.
_TABLE = re.compile(rb"(?:NODE[ ,]+)?(?:PROTO +DIR +SOURCE|proto,direction,source|ROLE +PROTO)", re.IGNORECASE)
_CAPTURES = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x0a\x0d\x0d\x0a")


def open_file(path: Path, options: SourceOptions) -> Source:
    """A file of any known form. Raises DecodeError if it is of none, PermissionDenied, NotFoundError."""
    try:
        stream = path.open("rb")
    except PermissionError:
        raise PermissionDenied(f"{path}: no permission to read it") from None
    except OSError as error:
        raise NotFoundError(f"{path}: {error.strerror}") from None
    with stream:
        # A pipe (process substitution) cannot be read a second time.
        again = (lambda: path.open("rb")) if stat.S_ISREG(path.stat().st_mode) else None
        return _open_stream(stream, str(path), options, reopen=again)


def open_stdin(options: SourceOptions) -> Source:
    """Whatever comes in on stdin."""
    return _open_stream(sys.stdin.buffer, "stdin", options)


def open_folder(path: Path, options: SourceOptions) -> Source:
    """A folder of anything: a sysdump, files of several nodes. Raises DecodeError if nothing in it is known."""
    return build(str(path), read_folder(path), options)


def read_folder(path: Path) -> Dumps:
    """What is in a folder, by node. Raises DecodeError if nothing in it is known."""
    dumps = archive.read_folder(path)
    if not dumps:
        raise DecodeError(f"{path}: no file in it is a dump of any known form")
    return dumps


def read_archive(stream: BinaryIO | Prefixed, name: str) -> Dumps:
    """The same of an archive, whose errors name it."""
    try:
        dumps = archive.read_archive(stream, name)
    except DecodeError as error:
        raise DecodeError(f"{name}: {error}") from error
    if not dumps:
        raise DecodeError(f"{name}: nothing in the archive is a dump of any known form")
    return dumps


def _open_stream(
    stream: BinaryIO, name: str, options: SourceOptions, reopen: Callable[[], BinaryIO] | None = None
) -> Source:
    source = Prefixed(b"", stream)
    try:
        head = source.peek(_HEAD)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise  # a closed stdin: the command line has the words for it
        raise NotFoundError(f"{name}: {error.strerror}") from None
    if snapshot.is_snapshot(head):
        return snapshot.open_snapshot(source, name, options, reopen)
    if archive.is_archive(head):
        return build(name, read_archive(source, name), options)
    return build(name, read_text(source, name).by_host(node_of(PurePosixPath(Path(name).name))), options)


def read_text(stream: BinaryIO | Prefixed, name: str) -> Dump:
    """A file that is no archive. Raises DecodeError where nothing of it is known."""
    dump = Dump()
    budget = Budget()
    source = Prefixed(b"", Packed(stream, budget))
    head = source.peek(_HEAD)
    if head.startswith(_CAPTURES):
        raise DecodeError(f"{name}: a packet capture, no dump of tables; ctctl trace --pcap reads it")
    try:
        known = read_content(source, dump, Path(name).name, budget.spend)
    except (DecodeError, LimitError) as error:
        if isinstance(error, NoListingError) and dump.kinds:
            known = True
        elif isinstance(error, LimitError) and dump.kinds:
            known = True
            dump.partial.append(str(error))
        elif is_packet_log(head):
            raise DecodeError(f"{name}: {INSTEAD}") from error
        else:
            raise DecodeError(f"{name}: {error}") from error
    if not known and is_packet_log(head):
        raise DecodeError(f"{name}: {INSTEAD}")
    if not known and dump.partial:
        raise DecodeError(f"{name}: nothing could be read: {'; '.join(dump.partial)}")
    if not known and _TABLE.match(head):
        raise DecodeError(f"{name}: a table for people, as ctctl prints it; -o jsonl or ct export keep all of it")
    if not known:
        raise DecodeError(
            f"{name}: not a snapshot, archive, ct list or bpftool dump; it starts with {_beginning(head)}"
            if head
            else f"{name}: empty"
        )
    if dump.partial and not dump.tables and not _any_listing(dump.listings) and not dump.facts.said():
        raise NothingReadError(f"{name}: nothing could be read: {'; '.join(dump.partial)}")
    return dump


def _beginning(head: bytes) -> str:
    """The first words of a file, quoted."""
    lines = head.lstrip()[:24].decode("utf-8", "backslashreplace").splitlines()
    return repr(lines[0] if lines else "")


def _any_listing(found: Listings) -> bool:
    return any(found.has(kind) for kind in KINDS)


def _may_be_empty_ct(dump: Dump) -> bool:
    """Whether a dump without conntrack entries is of a table of them all the same: nothing in it is another's."""
    of_a_map = not dump.unknown_map and not any(map(dump.listings.count, KINDS))
    words = ("ct list", "empty", "conntrack", *(["bpftool"] if of_a_map else []))
    return any(word in kind for kind in dump.kinds for word in words)


def _partial(dumps: Dumps) -> list[str]:
    """What is missing, each sentence once: with the nodes that it is said of, where there are several."""
    said: dict[str, list[str]] = {}
    for node, dump in dumps.items():
        for text in dict.fromkeys(dump.partial):
            said.setdefault(text, []).extend([node] if node and len(dumps) > 1 else [])
    return [f"{few(nodes)}: {text}" if nodes else text for text, nodes in said.items()]


def build(name: str, dumps: Dumps, options: SourceOptions) -> Source:
    """A source of what was read, by node. Raises NotFoundError for a node or table that is not there."""
    if options.node is not None:
        if options.node not in dumps:
            raise NotFoundError(unknown_name("node", options.node, [node for node in dumps if node]))
        dumps = {options.node: dumps[options.node]}
    source = Source(name)
    for node, dump in dumps.items():
        settle(dump)
        source.tables += tables_of(source, node, dump, options)
        if dump.skipped:
            text = f"{dump.skipped} line(s) of no listing skipped, the first: {dump.skipped_first[:60]!r}"
            (source.notes if dump.skipped and _worth_saying(dump) else source.details).append(text)
    source.partial += _partial(dumps)
    source.has_ct = bool(source.tables) or any(map(_may_be_empty_ct, dumps.values()))
    apply_options(source, options)

    first = dumps.get(min((node for node in dumps if node), default=None)) or next(iter(dumps.values()))

    def of(node: str | None) -> Dump:
        return dumps.get(node) or first

    def listings(node: str | None) -> Listings:
        return of(node).listings

    def facts(node: str | None) -> NodeFacts:
        return of(node).facts

    source.notes += moments.said_of(dumps)
    source.listings, source.facts = listings, facts
    source.documents = lambda node: of(node).documents
    source.node_names = sorted(node for node in dumps if node)
    return source


def settle(dump: Dump) -> None:
    """What only all files of a node tell: ports of backends, the byte order of sockets' ports, DSR entries.

    And which kinds no file shows.
    """
    found = dump.listings
    complete_backends(found)
    turned_sockets(found)
    settle_dsr(dump)
    found.missing = {kind for kind in KINDS if not found.has(kind)}


def _worth_saying(dump: Dump) -> bool:
    """Whether skipped lines are more than what people's terminals put around listings."""
    return dump.skipped > 20
