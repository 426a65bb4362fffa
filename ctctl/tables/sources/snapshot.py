"""Reading ctctl's own snapshot (its form: snapshot_head)."""

from __future__ import annotations

import itertools
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from ctctl.decode.ct import KEY_SIZE, VALUE_SIZE
from ctctl.decode.nat import VALUE_SIZE as NAT_SIZE
from ctctl.decode.nat import decode_nat
from ctctl.errors import CtctlError, DecodeError
from ctctl.model.clock import parse_clock
from ctctl.model.entry import Layout
from ctctl.model.nat import NatEntry
from ctctl.tables.sources.base import CtTable, Source, SourceOptions
from ctctl.tables.sources.clocks import note_of_given
from ctctl.tables.sources.frames import Frame, Kind, exactly, read_frame
from ctctl.tables.sources.listings import KINDS, Listings
from ctctl.tables.sources.options import apply_options
from ctctl.tables.sources.records import record_of
from ctctl.tables.sources.snapshot_head import LISTED, MAGIC, PREFIX, TEXTS, VERSION, TableHead
from ctctl.tables.sources.stream import EndedEarlyError, Prefixed, Reader

if TYPE_CHECKING:
    from ctctl.decode.nat_rows import NatRows, NatTable
    from ctctl.tables.sources.base import Rows

_MAX_HEAD = 1 << 28
#: What a text of one may take.
_MAX_TEXT = 4096


def is_snapshot(head: bytes) -> bool:
    """Whether a file starts as a snapshot."""
    return head.startswith(MAGIC)


def open_snapshot(
    stream: Prefixed, name: str, options: SourceOptions, reopen: Callable[[], BinaryIO] | None = None
) -> Source:
    """A snapshot. A file is read anew for each table walk, so memory does not grow with it; stdin is kept.

    Raises DecodeError if the head is damaged or of a newer version.
    """
    head = _read_head(stream, name)
    try:
        source, numbered = _source_of(head, name, options)
    except (KeyError, TypeError, ValueError, CtctlError) as error:
        raise DecodeError(f"{name}: damaged snapshot head: {error}") from error
    tables = len(head["tables"])
    kept = None if reopen else list(_frames(stream, source, tables))

    def frames() -> Iterator[Frame]:
        if kept is not None:
            yield from kept
        elif reopen is not None:
            with reopen() as file:
                again = Prefixed(b"", file)
                _read_head(again, name)
                yield from _frames(again, source, tables)

    for number, table in numbered:
        table.read = _reader(frames, source, number, table.family)
    _offer_listings(source, head, frames)
    apply_options(source, options)
    return source


def _reader(
    frames: Callable[[], Iterator[Frame]], source: Source, number: int, family: int
) -> Callable[[], Iterator[Rows]]:
    def read() -> Iterator[Rows]:
        total = 0
        for frame in frames():
            if (frame.kind, frame.table) == (Kind.ROWS, number):
                try:
                    rows = frame.matrices(KEY_SIZE[family], VALUE_SIZE)
                except (ValueError, IndexError, zlib.error) as error:
                    _note_damage(source, total, error)
                    return
                total += frame.rows
                yield rows

    return read


def _offer_listings(source: Source, head: dict[str, Any], frames: Callable[[], Iterator[Frame]]) -> None:
    lists = head["listings"]

    def some(node: str | None, kinds: tuple[str, ...]) -> Listings:
        known = node or "" if (node or "") in lists else next(iter(lists), "")
        found = _listings_of(lists.get(known, {}))
        if "nat" in kinds and not _keep_bytes(found, snat(node) if _only_frames(head) else []):
            found.nat_entries.extend(entry for at, entry in _nat_entries(frames(), head) if at in (known, node or ""))
        return found

    def raw_nat() -> Iterator[tuple[str, bytes, bytes]]:
        nodes = {*(table.node or "" for table in source.tables), *source.node_names}
        in_head = (entry for node in sorted(nodes) for entry in some(node, ()).nat)
        in_frames = (entry for node, entry in _nat_entries(frames(), head) if node in nodes)
        for entry in itertools.chain(in_head, in_frames):
            if entry.map is not None and entry.key is not None and entry.value is not None:
                yield entry.map, entry.key, entry.value

    def snat(node: str | None) -> list[NatTable]:
        known = node or "" if (node or "") in lists else next(iter(lists), "")
        return _nat_tables(frames, head, (known, node or ""))

    source.partly, source.raw_nat = some, raw_nat
    if _only_frames(head):
        source.snat = snat
    source.listings = lambda node: some(node, ("nat",))


def _only_frames(head: dict[str, Any]) -> bool:
    """Whether all SNAT entries are frames of bytes. Snapshots of before it was said may hold some that are text."""
    return bool(head.get("nat")) and head.get("nat_texts") is False


def _keep_bytes(found: Listings, tables: list[NatTable]) -> bool:
    """Put SNAT entries in as their bytes. False, with nothing done, where a table is not called as such are."""
    from ctctl.abi import pins

    if not tables or any(table.name != pins.SNAT_TABLES[table.family] for table in tables):
        return False
    for table in tables:
        for rows in table.read():
            found.listed_nat().add_memory(rows.family, rows.keys, rows.values)
    return True


def _nat_tables(frames: Callable[[], Iterator[Frame]], head: dict[str, Any], nodes: tuple[str, str]) -> list[NatTable]:
    """The SNAT tables of a node as they lay. Raises DecodeError where the head does not tell."""
    from ctctl.decode.nat_rows import NatTable

    try:
        return [
            NatTable(str(one["name"]), int(one["family"]), partial(_nat_rows, frames, number, one))
            for number, one in enumerate(head["nat"])
            if (one["node"] or "") in nodes and int(one["family"]) in KEY_SIZE
        ]
    except (TypeError, ValueError, KeyError) as error:
        raise DecodeError(f"damaged SNAT tables in the snapshot: {error}") from error


def _nat_rows(frames: Callable[[], Iterator[Frame]], number: int, about: dict[str, Any]) -> Iterator[NatRows]:
    """A table's entries. Raises DecodeError for a frame that holds something else."""
    from ctctl.decode.nat_rows import NatRows

    family = int(about["family"])
    for frame in frames():
        if (frame.kind, frame.table) == (Kind.NAT, number):
            try:
                keys, values = frame.matrices(KEY_SIZE[family], NAT_SIZE[family])
            except (ValueError, IndexError, zlib.error) as error:
                raise DecodeError(f"damaged SNAT entries in the snapshot: {error}") from error
            yield NatRows(family, keys.tobytes(), values.tobytes(), str(about["name"]))


def _nat_entries(frames: Iterator[Frame], head: dict[str, Any]) -> Iterator[tuple[str, NatEntry]]:
    """(node, entry) of every SNAT frame. Raises DecodeError for one that holds something else."""
    try:
        for frame in frames:
            if frame.kind is Kind.NAT:
                about = head["nat"][frame.table]
                family = int(about["family"])
                keys, values = frame.matrices(KEY_SIZE[family], NAT_SIZE[family])
                for key, value in zip(map(bytes, keys), map(bytes, values), strict=True):
                    yield about["node"] or "", decode_nat(key, value, str(about["name"]))
            elif frame.kind is Kind.NAT_TEXT:
                for node, item in json.loads(frame.inflated(TEXTS * _MAX_TEXT)):
                    yield str(node), record_of(NatEntry, item)
    except (TypeError, ValueError, KeyError, IndexError, zlib.error, RecursionError) as error:
        raise DecodeError(f"damaged SNAT entries in the snapshot: {error}") from error


def _read_head(stream: Prefixed, name: str) -> dict[str, Any]:
    try:
        _, version, length = PREFIX.unpack(exactly(stream, PREFIX.size))
        if version > VERSION:
            raise DecodeError(f"{name}: snapshot format {version}; this ctctl reads up to {VERSION}: use a newer one")
        if length > _MAX_HEAD:
            raise DecodeError(f"{name}: damaged snapshot: a head of {length} bytes")
        inflate = zlib.decompressobj()
        head = json.loads(inflate.decompress(exactly(stream, length), _MAX_HEAD))
    except EndedEarlyError:
        raise DecodeError(f"{name}: the snapshot is cut off in its head: nothing can be read") from None
    except (zlib.error, ValueError, RecursionError) as error:
        raise DecodeError(f"{name}: damaged snapshot head: {error}") from error
    if not isinstance(head, dict):
        raise DecodeError(f"{name}: damaged snapshot head")
    return head


def _source_of(head: dict[str, Any], name: str, options: SourceOptions) -> tuple[Source, list[tuple[int, CtTable]]]:
    """The source, and its tables by the number that their frames have."""
    source = Source(f"{name} (of {head['source']})", partial=[str(text) for text in head["partial"]])
    moment, boot = head.get("collected_at"), head.get("boot_id")  # snapshots of before they were kept have neither
    source.collected_at = float(moment) if moment is not None else None
    source.boot_id = str(boot) if boot is not None else None
    for item in head["tables"]:
        about = record_of(TableHead, item)
        if about.family not in KEY_SIZE:
            raise ValueError(f"{about.name} is of no family")
        own = parse_clock(about.clock, about.clock_evidence)
        source.notes += [note for note in note_of_given(options.clock, own) if note not in source.notes]
        source.tables.append(
            CtTable(
                name=about.name,
                family=about.family,
                layout=Layout(about.layout),
                read=lambda: iter(()),
                layout_evidence=about.layout_evidence,
                node=about.node,
                absent=frozenset(about.absent),
                raw=about.raw,
                max_entries=about.max_entries,
                clock=options.clock or own,
                now=options.now if options.now is not None else about.now,
            )
        )
    numbered = [(n, table) for n, table in enumerate(source.tables) if options.node in (None, table.node)]
    source.tables = [table for _, table in numbered]
    if not isinstance(head["listings"], dict) or not all(isinstance(one, dict) for one in head["listings"].values()):
        raise TypeError("its listings are none")
    if not isinstance(head.get("nat", []), list):
        raise TypeError("its SNAT tables are none")
    source.node_names = sorted(node for node in head["listings"] if node and options.node in (None, node))
    return source, numbered


def _listings_of(lists: dict[str, Any]) -> Listings:
    found = Listings(missing={kind for kind in KINDS if kind not in lists})
    try:
        found.names.update({str(address): str(name) for address, name in dict(lists.get("names", {})).items()})
        for name, kind in LISTED.items():
            for item in lists.get(name, ()):
                getattr(found, name).append(record_of(kind, item))
        found.nat_entries.extend(record_of(NatEntry, item) for item in lists.get("nat", ()))
    except (TypeError, ValueError, KeyError) as error:
        raise DecodeError(f"damaged listing in the snapshot: {error}") from error
    return found


def _frames(stream: Reader, source: Source, tables: int) -> Iterator[Frame]:
    """Every frame but the end; what is wrong ends the walk and is noted as missing."""
    total = 0
    try:
        while True:
            frame = read_frame(stream)
            if frame.kind is Kind.END:
                (announced,) = struct.unpack("<I", frame.payload)
                if announced != total:
                    raise DecodeError(f"{total} entries instead of {announced}")
                return
            if frame.kind is Kind.ROWS:
                if frame.table >= tables:
                    raise DecodeError("a frame of no table")
                total += frame.rows
            yield frame
    except (DecodeError, struct.error) as error:
        _note_damage(source, total, error)


def _note_damage(source: Source, total: int, error: Exception) -> None:
    text = f"the snapshot is damaged or cut off after {total} entries: {error}"
    if text not in source.partial:
        source.partial.append(text)
