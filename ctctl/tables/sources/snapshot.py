"""ctctl's own snapshot: the raw bytes of tables, compact, streamed both ways, every frame checked.

    magic "CTCTLSNP", u16 version, u32 length and zlib JSON head: tables, clock, now, node, listings
    frames (``frames``): the conntrack tables' rows, the SNAT tables', the end

Numbers of the format are little-endian; keys and values are as they lie in the map. Most of an
entry's bytes are the same in a whole batch (reserved, counters without accounting, high bytes of
times), so a snapshot has about half the table's size before any compression.
"""

from __future__ import annotations

import itertools
import json
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ctctl.abi import pins
from ctctl.decode.ct import KEY_SIZE, VALUE_SIZE
from ctctl.decode.nat import VALUE_SIZE as NAT_SIZE
from ctctl.decode.nat import decode_nat
from ctctl.errors import CtctlError, DecodeError
from ctctl.model.clock import parse_clock
from ctctl.model.drops import DatapathCounter
from ctctl.model.entry import Layout
from ctctl.model.nat import NatEntry
from ctctl.model.policy import PolicyEntry
from ctctl.model.service import (
    Backend,
    EndpointRecord,
    IpcacheRecord,
    MaglevTable,
    RevNat,
    ServiceSlot,
    SocketNat,
    SourceRange,
    TunnelRecord,
)
from ctctl.tables.sources.base import CtTable, Source, SourceOptions
from ctctl.tables.sources.clocks import note_of_given
from ctctl.tables.sources.frames import Frame, Kind, exactly, pack, read_frame, write_frame
from ctctl.tables.sources.listings import KINDS, Listings
from ctctl.tables.sources.options import apply_options
from ctctl.tables.sources.records import record_of
from ctctl.tables.sources.stream import EndedEarlyError, Prefixed, Reader

if TYPE_CHECKING:
    from ctctl.decode.nat_rows import NatRows, NatTable
    from ctctl.tables.sources.base import Rows

MAGIC = b"CTCTLSNP"
#: 2 has SNAT tables in frames; 1, still written where there are none, has SNAT entries in the head.
VERSION = 2
_PREFIX = struct.Struct("<8sHI")
_MAX_HEAD = 1 << 28
#: SNAT entries that are text, a frame.
_TEXTS = 4096
#: What a text of one may take.
_MAX_TEXT = 4096


def is_snapshot(head: bytes) -> bool:
    """Whether a file starts as a snapshot."""
    return head.startswith(MAGIC)


# ---- writing


def write_snapshot(
    source: Source,
    tables: list[CtTable],
    rows: Callable[[CtTable], Iterator[Rows]],
    stream: BinaryIO,
    *,
    compress: bool = False,
) -> int:
    """Write tables, their meta data and the source's listings; returns how many entries."""
    live = {table.nat.info.id: table for table in tables if table.nat is not None}
    nodes = {*(table.node or "" for table in tables), *source.node_names} or {""}
    listings = {node: _listed(source, node, live.values()) for node in sorted(nodes)}
    texts = [(node, entry) for node, found in listings.items() for entry in found.nat]
    head = {
        "schema": "ctctl/snapshot/v1",
        "source": source.description,
        "collected_at": source.collected_at,
        "boot_id": source.boot_id,
        "tables": [_table_head(table) for table in tables],
        "nat": [_nat_head(table) for table in live.values()],
        "nat_texts": bool(texts),
        "listings": {node: _listing_head(found) for node, found in listings.items()},
        "notes": source.notes,
        "partial": source.partial,
    }
    packed = zlib.compress(json.dumps(head).encode(), 1)
    stream.write(_PREFIX.pack(MAGIC, VERSION if live or texts else 1, len(packed)))
    stream.write(packed)
    total = 0
    for number, table in enumerate(tables):
        for keys, values in rows(table):
            write_frame(stream, Kind.ROWS, number, len(keys), pack(keys, values), compress=compress)
            total += len(keys)
    _write_nat(list(live.values()), texts, stream, compress=compress)
    write_frame(stream, Kind.END, 0, 0, struct.pack("<I", total))
    return total


def _listed(source: Source, node: str, live: Collection[CtTable]) -> Listings:
    """The listings of a node, without the SNAT entries of tables that can be read as they lie."""
    names = {table.nat.name for table in live if table.nat is not None}
    others = (name for name in pins.SNAT_TABLES.values() if name not in names)
    rest = source.directory is None or not names or any(Path(source.directory, name).exists() for name in others)
    found = source.some(node or None, *_KINDS, *(["nat"] if rest else []))
    found.nat_entries, found.nat_text = [entry for entry in found.nat if entry.map not in names], None
    return found


def _nat_head(table: CtTable) -> dict[str, object]:
    assert table.nat is not None
    return {"name": table.nat.name, "node": table.node, "family": table.family}


def _write_nat(live: list[CtTable], texts: list[tuple[str, NatEntry]], stream: BinaryIO, *, compress: bool) -> None:
    for number, table in enumerate(live):
        assert table.nat is not None
        for batch in table.nat.batches():
            write_frame(stream, Kind.NAT, number, len(batch), pack(batch.keys, batch.values), compress=compress)
    for start in range(0, len(texts), _TEXTS):
        part = [[node, _nat_text(entry)] for node, entry in texts[start : start + _TEXTS]]
        write_frame(stream, Kind.NAT_TEXT, 0, len(part), json.dumps(part).encode(), compress=True)


def _nat_text(entry: NatEntry) -> object:
    return _plain({**asdict(entry), "tuple": asdict(entry.tuple)})


@dataclass(frozen=True, slots=True)
class _TableHead:
    """What the head says of a conntrack table."""

    name: str
    family: int
    layout: str
    layout_evidence: str
    node: str | None
    absent: tuple[str, ...]
    raw: bool
    max_entries: int | None
    clock: str
    clock_evidence: str
    now: int | None


def _table_head(table: CtTable) -> dict[str, object]:
    return asdict(
        _TableHead(
            name=table.name,
            family=table.family,
            layout=table.layout.value,
            layout_evidence=table.layout_evidence,
            node=table.node,
            absent=tuple(sorted(table.absent)),
            raw=table.raw,
            max_entries=table.max_entries,
            clock=str(table.clock),
            clock_evidence=table.clock.evidence,
            now=table.now,
        )
    )


_KINDS: dict[str, type] = {
    "services": ServiceSlot,
    "backends": Backend,
    "rev_nats": RevNat,
    "source_ranges": SourceRange,
    "maglev": MaglevTable,
    "ipcache": IpcacheRecord,
    "endpoints": EndpointRecord,
    "sockets": SocketNat,
    "tunnels": TunnelRecord,
    "policy": PolicyEntry,
    "counters": DatapathCounter,
}


def _listing_head(found: Listings) -> dict[str, object]:
    lists: dict[str, object] = {name: [_plain(asdict(item)) for item in getattr(found, name)] for name in _KINDS}
    lists["nat"] = []  # in frames of their own
    there = {name: items for name, items in lists.items() if items or name not in found.missing}
    return {**there, "names": found.names}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if hasattr(value, "packed") else value


# ---- reading


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
        if "nat" in kinds:
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
                for node, item in json.loads(frame.inflated(_TEXTS * _MAX_TEXT)):
                    yield str(node), record_of(NatEntry, item)
    except (TypeError, ValueError, KeyError, IndexError, zlib.error, RecursionError) as error:
        raise DecodeError(f"damaged SNAT entries in the snapshot: {error}") from error


def _read_head(stream: Prefixed, name: str) -> dict[str, Any]:
    try:
        _, version, length = _PREFIX.unpack(exactly(stream, _PREFIX.size))
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
        about = record_of(_TableHead, item)
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
        for name, kind in _KINDS.items():
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
