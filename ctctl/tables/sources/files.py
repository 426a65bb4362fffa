"""Files, folders and stdin: told by content, read with bounded memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ctctl.errors import DecodeError, NotFoundError, PermissionDenied
from ctctl.model.suggest import unknown_name
from ctctl.tables.sources import archive, snapshot
from ctctl.tables.sources.base import CtTable, Listings, Source, SourceOptions
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.options import apply_options
from ctctl.tables.sources.stream import Prefixed

_HEAD = 512


def open_file(path: Path, options: SourceOptions) -> Source:
    """A file of any known form. Raises DecodeError if it is of none, PermissionDenied, NotFoundError."""
    try:
        stream = path.open("rb")
    except PermissionError:
        raise PermissionDenied(f"{path}: no permission to read it") from None
    except OSError as error:
        raise NotFoundError(f"{path}: {error.strerror}") from None
    with stream:
        return _open_stream(stream, str(path), options, reopen=lambda: path.open("rb"))


def open_stdin(options: SourceOptions) -> Source:
    """Whatever comes in on stdin."""
    return _open_stream(sys.stdin.buffer, "stdin", options)


def open_folder(path: Path, options: SourceOptions) -> Source:
    """An unpacked sysdump or bugtool folder. Raises DecodeError if nothing in it is known."""
    dumps = archive.read_folder(path)
    if not dumps:
        raise DecodeError(f"{path}: no file in it is a dump of any known form")
    return build(str(path), dumps, options)


def _open_stream(
    stream: BinaryIO, name: str, options: SourceOptions, reopen: Callable[[], BinaryIO] | None = None
) -> Source:
    source = Prefixed(b"", stream)
    head = source.peek(_HEAD)
    if snapshot.is_snapshot(head):
        return snapshot.open_snapshot(source, name, options, reopen)
    if archive.is_archive(head):
        dumps = archive.read_archive(source, name)
        if not dumps:
            raise DecodeError(f"{name}: nothing in the archive is a dump of any known form")
        return build(name, dumps, options)
    dump = Dump()
    try:
        known = read_content(source, dump, Path(name).name)
    except DecodeError as error:
        raise DecodeError(f"{name}: {error}") from error
    if not known:
        raise DecodeError(
            f"{name}: not a snapshot, archive, ct list or bpftool dump; it starts with {bytes(head[:24])!r}"
            if head
            else f"{name}: empty"
        )
    return build(name, {None: dump}, options)


def build(name: str, dumps: dict[str | None, Dump], options: SourceOptions) -> Source:
    """A source of what was read, by node. Raises NotFoundError for a node or table that is not there."""
    if options.node is not None:
        if options.node not in dumps:
            raise NotFoundError(unknown_name("node", options.node, [node for node in dumps if node]))
        dumps = {options.node: dumps[options.node]}
    source = Source(name)
    for node, dump in dumps.items():
        source.partial += [f"{node}: {text}" if node and len(dumps) > 1 else text for text in dump.partial]
        source.tables += _tables_of(source, node, dump, options)
    kinds = {dump.kind for dump in dumps.values()}
    source.has_ct = bool(source.tables) or any(
        "ct list" in kind or "bpftool" in kind or "empty" in kind for kind in kinds
    )
    apply_options(source, options)

    def listings(node: str | None) -> Listings:
        first = source.nodes()[0] if source.nodes() else None
        chosen = dumps.get(node) or dumps.get(first) or next(iter(dumps.values()))
        return chosen.listings

    source.listings = listings
    return source


def _tables_of(source: Source, node: str | None, dump: Dump, options: SourceOptions) -> list[CtTable]:
    """A node's tables. A table whose lines do not tell clock and time takes those of the node's other ones."""
    clock, now = options.clock or dump.clock, options.now if options.now is not None else _now_of(source, dump)
    tables = [collected.table(node, clock, now) for collected in dump.ordered()]
    told = next((table for table in tables if table.now is not None), None)
    for table in tables:
        if table.now is None and told is not None:
            table.clock, table.now = told.clock, told.now
    return tables


def _now_of(source: Source, dump: Dump) -> int | None:
    """The dump's time by the ages in a nat listing beside raw SNAT entries, where nothing else says it."""
    if dump.now is not None:
        return dump.now
    nows = [e.created + e.age_s for e in dump.listings.nat if e.created and e.age_s is not None and e.age_s >= 0]
    if not nows or any(table.pairs for table in dump.tables.values()):
        return None
    best = max(set(nows), key=nows.count)
    source.notes.append(f"now {best} by the ages in the nat list ({nows.count(best)} of {len(nows)} entries agree)")
    return best
