"""Writing ctctl's own snapshot, as the tables come (its form: snapshot_head)."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ctctl.abi import pins
from ctctl.errors import UsageError
from ctctl.model.nat import NatEntry
from ctctl.tables.sources.base import CtTable, Source
from ctctl.tables.sources.frames import MAX_TABLES, Kind, Packer, write_frame
from ctctl.tables.sources.listings import Listings
from ctctl.tables.sources.snapshot_head import LISTED, MAGIC, PREFIX, TEXTS, VERSION, TableHead

if TYPE_CHECKING:
    from ctctl.tables.sources.base import Rows


def write_snapshot(
    source: Source,
    tables: list[CtTable],
    rows: Callable[[CtTable], Iterator[Rows]],
    stream: BinaryIO,
    *,
    compress: bool = False,
) -> int:
    """Write tables, their meta data and the source's listings; returns how many entries.

    Raises UsageError, with nothing written, where there are more tables than a snapshot tells apart.
    """
    if len(tables) > MAX_TABLES:
        raise UsageError(
            f"a snapshot holds up to {MAX_TABLES} tables, and these are {len(tables)}: export one node's with --node, "
            "all as rows (x.jsonl, x.parquet), or make a lake (ctctl fleet collect)"
        )
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
    stream.write(PREFIX.pack(MAGIC, VERSION if live or texts else 1, len(packed)))
    stream.write(packed)
    total, packer = 0, Packer()
    for number, table in enumerate(tables):
        for keys, values in rows(table):
            write_frame(stream, Kind.ROWS, number, len(keys), packer.pack(keys, values), compress=compress)
            total += len(keys)
    _write_nat(list(live.values()), texts, stream, compress=compress)
    write_frame(stream, Kind.END, 0, 0, [struct.pack("<I", total)])
    return total


def _listed(source: Source, node: str, live: Collection[CtTable]) -> Listings:
    """The listings of a node, without the SNAT entries of tables that can be read as they lie."""
    names = {table.nat.name for table in live if table.nat is not None}
    others = (name for name in pins.SNAT_TABLES.values() if name not in names)
    rest = source.directory is None or not names or any(Path(source.directory, name).exists() for name in others)
    found = source.some(node or None, *LISTED, *(["nat"] if rest else []))
    found.nat_entries, found.nat_text = [entry for entry in found.nat if entry.map not in names], None
    return found


def _nat_head(table: CtTable) -> dict[str, object]:
    assert table.nat is not None
    return {"name": table.nat.name, "node": table.node, "family": table.family}


def _write_nat(live: list[CtTable], texts: list[tuple[str, NatEntry]], stream: BinaryIO, *, compress: bool) -> None:
    packer = Packer()
    for number, table in enumerate(live):
        assert table.nat is not None
        for batch in table.nat.batches():
            write_frame(stream, Kind.NAT, number, len(batch), packer.pack(batch.keys, batch.values), compress=compress)
    for start in range(0, len(texts), TEXTS):
        part = [[node, _nat_text(entry)] for node, entry in texts[start : start + TEXTS]]
        write_frame(stream, Kind.NAT_TEXT, 0, len(part), [json.dumps(part).encode()], compress=True)


def _nat_text(entry: NatEntry) -> object:
    return _plain({**asdict(entry), "tuple": asdict(entry.tuple)})


def _table_head(table: CtTable) -> dict[str, object]:
    return asdict(
        TableHead(
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


def _listing_head(found: Listings) -> dict[str, object]:
    lists: dict[str, object] = {name: [_plain(asdict(item)) for item in getattr(found, name)] for name in LISTED}
    lists["nat"] = []  # in frames of their own
    there = {name: items for name, items in lists.items() if items or name not in found.missing}
    return {**there, "names": found.names}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if hasattr(value, "packed") else value
