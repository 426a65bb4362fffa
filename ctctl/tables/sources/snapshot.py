"""ctctl's own snapshot: the raw bytes of tables, compact, streamed both ways, every frame checked.

    magic "CTCTLSNP", u16 version, u32 length and zlib JSON head: tables, clock, now, node, listings
    frames: u8 kind (1 rows, 2 end), u8 table, u16 flags (1: zlib), u32 rows, u32 length, u32 CRC-32
    rows frame: a bit for each byte of key and value that is the same in all rows, those bytes once,
                then the bytes that differ, column by column
    end frame: u32 rows in all

Numbers of the format are little-endian; keys and values are as they lie in the map. Most of an
entry's bytes are the same in a whole batch (reserved, counters without accounting, high bytes of
times), so a snapshot has about half the table's size before any compression.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, BinaryIO

from ctctl.decode.ct import KEY_SIZE, VALUE_SIZE
from ctctl.errors import CtctlError, DecodeError
from ctctl.model.clock import Clock, parse_clock
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
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.tables.sources.base import KINDS, CtTable, Listings, Source, SourceOptions
from ctctl.tables.sources.options import apply_options
from ctctl.tables.sources.stream import EndedEarlyError, Prefixed, Reader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.tables.sources.base import Rows

MAGIC = b"CTCTLSNP"
VERSION = 1
_PREFIX = struct.Struct("<8sHI")
_FRAME = struct.Struct("<BBHIII")
_ROWS, _END = 1, 2
_ZLIB = 1
_MAX_HEAD = 1 << 28
_MAX_ROWS = 1 << 20
#: SNAT entries stand in the head, which is read whole.
MAX_NAT = 200_000


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
    nodes = {*(table.node or "" for table in tables), *source.node_names} or {""}
    listings = {node: source.some(node or None, *KINDS) for node in sorted(nodes)}
    for found in listings.values():
        if len(found.nat) > MAX_NAT:
            source.notes.append(f"the snapshot is without the SNAT table: {len(found.nat)} entries, at most {MAX_NAT}")
            found.nat, found.missing = [], found.missing | {"nat"}
    head = {
        "schema": "ctctl/snapshot/v1",
        "source": source.description,
        "collected_at": source.collected_at,
        "boot_id": source.boot_id,
        "tables": [_table_head(table) for table in tables],
        "listings": {node: _listing_head(found) for node, found in listings.items()},
        "notes": source.notes,
        "partial": source.partial,
    }
    packed = zlib.compress(json.dumps(head).encode(), 1)
    stream.write(_PREFIX.pack(MAGIC, VERSION, len(packed)))
    stream.write(packed)
    total = 0
    for number, table in enumerate(tables):
        for keys, values in rows(table):
            payload = _pack(keys, values)
            if compress:
                payload = zlib.compress(payload, 1)
            stream.write(
                _FRAME.pack(_ROWS, number, _ZLIB if compress else 0, len(keys), len(payload), zlib.crc32(payload))
            )
            stream.write(payload)
            total += len(keys)
    payload = struct.pack("<I", total)
    stream.write(_FRAME.pack(_END, 0, 0, 0, len(payload), zlib.crc32(payload)) + payload)
    return total


def _table_head(table: CtTable) -> dict[str, object]:
    return {
        "name": table.name,
        "family": table.family,
        "layout": table.layout.value,
        "layout_evidence": table.layout_evidence,
        "node": table.node,
        "absent": sorted(table.absent),
        "raw": table.raw,
        "max_entries": table.max_entries,
        "clock": str(table.clock),
        "clock_evidence": table.clock.evidence,
        "now": table.now,
    }


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
#: Their fields that are addresses.
_ADDRESSES = {"sockets": ("backend", "frontend"), "tunnels": ("prefix", "endpoint")}


def _listing_head(found: Listings) -> dict[str, object]:
    lists: dict[str, object] = {name: [_plain(asdict(item)) for item in getattr(found, name)] for name in _KINDS}
    lists["nat"] = [_plain({**asdict(item), "tuple": asdict(item.tuple)}) for item in found.nat]
    there = {name: items for name, items in lists.items() if items or name not in found.missing}
    return {**there, "names": found.names}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if hasattr(value, "packed") else value


def _pack(keys: NDArray[np.uint8], values: NDArray[np.uint8]) -> bytes:
    import numpy as np

    columns = np.empty((keys.shape[1] + VALUE_SIZE, len(keys)), np.uint8)
    columns[: keys.shape[1]] = keys.T
    columns[keys.shape[1] :] = values.T
    same = columns.min(axis=1) == columns.max(axis=1)
    mask = np.packbits(same, bitorder="little").tobytes()
    parts: tuple[bytes, ...] = (mask, columns[same, 0].tobytes(), columns[~same].tobytes())
    return b"".join(parts)


# ---- reading


def open_snapshot(
    stream: Prefixed, name: str, options: SourceOptions, reopen: Callable[[], BinaryIO] | None = None
) -> Source:
    """A snapshot. A file is read anew for each table walk, so memory does not grow with it; stdin is kept.

    Raises DecodeError if the head is damaged or of a newer version.
    """
    head = _read_head(stream, name)
    try:
        source = _source_of(head, name, options)
    except (KeyError, TypeError, ValueError, CtctlError) as error:
        raise DecodeError(f"{name}: damaged snapshot head: {error}") from error
    kept = None if reopen else list(_frames(stream, source, head))

    def frames() -> Iterator[tuple[int, Rows]]:
        if kept is not None:
            yield from kept
        elif reopen is not None:
            with reopen() as file:
                again = Prefixed(b"", file)
                _read_head(again, name)
                yield from _frames(again, source, head)

    for number, table in enumerate(source.tables):
        table.read = _reader(frames, number)
    apply_options(source, options)
    return source


def _reader(frames: Callable[[], Iterator[tuple[int, Rows]]], number: int) -> Callable[[], Iterator[Rows]]:
    return lambda: (rows for table, rows in frames() if table == number)


def _read_head(stream: Prefixed, name: str) -> dict[str, Any]:
    try:
        _, version, length = _PREFIX.unpack(_exactly(stream, _PREFIX.size))
        if version > VERSION:
            raise DecodeError(f"{name}: snapshot format {version}; this ctctl reads up to {VERSION}: use a newer one")
        if length > _MAX_HEAD:
            raise DecodeError(f"{name}: damaged snapshot: a head of {length} bytes")
        inflate = zlib.decompressobj()
        head = json.loads(inflate.decompress(_exactly(stream, length), _MAX_HEAD))
    except EndedEarlyError:
        raise DecodeError(f"{name}: the snapshot is cut off in its head: nothing can be read") from None
    except (zlib.error, ValueError, RecursionError) as error:
        raise DecodeError(f"{name}: damaged snapshot head: {error}") from error
    if not isinstance(head, dict):
        raise DecodeError(f"{name}: damaged snapshot head")
    return head


def _source_of(head: dict[str, Any], name: str, options: SourceOptions) -> Source:
    source = Source(f"{name} (of {head['source']})", partial=[*head["partial"]])
    moment, boot = head.get("collected_at"), head.get("boot_id")  # snapshots of before they were kept have neither
    source.collected_at = float(moment) if moment is not None else None
    source.boot_id = str(boot) if boot is not None else None
    for about in head["tables"]:
        clock = options.clock or parse_clock(about["clock"], about["clock_evidence"])
        source.tables.append(
            CtTable(
                name=about["name"],
                family=about["family"],
                layout=Layout(about["layout"]),
                read=lambda: iter(()),
                layout_evidence=about["layout_evidence"],
                node=about["node"],
                absent=frozenset(about["absent"]),
                raw=about["raw"],
                max_entries=about["max_entries"],
                clock=Clock(clock.hz, clock.evidence),
                now=options.now if options.now is not None else about["now"],
            )
        )
    if options.node is not None:
        source.tables = [table for table in source.tables if table.node == options.node]
    listings = head["listings"]
    source.node_names = sorted(node for node in listings if node and options.node in (None, node))

    def listing(node: str | None) -> Listings:
        return _listings_of(listings.get(node or "") or next(iter(listings.values()), {}))

    source.listings = listing
    return source


def _listings_of(lists: dict[str, Any]) -> Listings:
    found = Listings(names=dict(lists.get("names", {})), missing={kind for kind in KINDS if kind not in lists})
    try:
        for name, kind in _KINDS.items():
            for item in lists.get(name, ()):
                fields: dict[str, Any] = {
                    k: tuple(part) if isinstance(part, list) else part for k, part in item.items()
                }
                for part in _ADDRESSES.get(name, ("addr",)):
                    if part in fields:
                        fields[part] = ip_address(fields[part])
                getattr(found, name).append(kind(**fields))
        found.nat.extend(_nat_of(item) for item in lists.get("nat", ()))
    except (TypeError, ValueError, KeyError) as error:
        raise DecodeError(f"damaged listing in the snapshot: {error}") from error
    return found


def _nat_of(item: dict[str, Any]) -> NatEntry:
    flow = item["tuple"]
    fields = {
        **item,
        "tuple": FlowTuple(
            flow["proto"], ip_address(flow["src"]), flow["src_port"], ip_address(flow["dst"]), flow["dst_port"]
        ),
        "direction": Direction(item["direction"]),
        "to_addr": ip_address(item["to_addr"]),
        "key": bytes.fromhex(item["key"]) if item["key"] else None,
        "value": bytes.fromhex(item["value"]) if item["value"] else None,
    }
    return NatEntry(**fields)


def _exactly(stream: Reader, size: int) -> bytes:
    parts, left = [], size
    while left:
        part = stream.read(min(left, 1 << 20))
        if not part:
            raise EndedEarlyError("the snapshot is cut off")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _frames(stream: Reader, source: Source, head: dict[str, Any]) -> Iterator[tuple[int, Rows]]:
    """(table, rows) of each frame; what is wrong ends the walk and is noted as missing."""
    total = 0
    try:
        while True:
            kind, number, flags, rows, length, crc = _FRAME.unpack(_exactly(stream, _FRAME.size))
            if rows > _MAX_ROWS or length > _MAX_ROWS * (KEY_SIZE[6] + VALUE_SIZE + 1) or kind not in (_ROWS, _END):
                raise DecodeError("a frame's head is damaged")
            payload = _exactly(stream, length)
            if zlib.crc32(payload) != crc:
                raise DecodeError("a frame's checksum is wrong")
            if kind == _END:
                if struct.unpack("<I", payload)[0] != total:
                    raise DecodeError(f"{total} entries instead of {struct.unpack('<I', payload)[0]}")
                return
            if number >= len(head["tables"]):
                raise DecodeError("a frame of no table")
            total += rows
            yield number, _unpack(payload, rows, KEY_SIZE[head["tables"][number]["family"]], flags)
    except (DecodeError, struct.error, zlib.error, ValueError) as error:
        text = f"the snapshot is damaged or cut off after {total} entries: {error}"
        if text not in source.partial:
            source.partial.append(text)


def _unpack(payload: bytes, rows: int, key_size: int, flags: int) -> Rows:
    import numpy as np

    width = key_size + VALUE_SIZE
    if flags & _ZLIB:
        payload = zlib.decompressobj().decompress(payload, rows * width + 2 * width)
    data = np.frombuffer(payload, np.uint8)
    mask_size = (width + 7) // 8
    same = np.unpackbits(data[:mask_size], bitorder="little", count=width).astype(np.bool_)
    constants = int(same.sum())
    columns = np.empty((width, rows), np.uint8)
    columns[same] = data[mask_size : mask_size + constants, None]
    columns[~same] = data[mask_size + constants :].reshape(width - constants, rows)
    matrix = np.ascontiguousarray(columns.T)
    return matrix[:, :key_size].copy(), matrix[:, key_size:].copy()
