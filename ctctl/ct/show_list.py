"""``ct list`` in every format. Whole tables go as bytes from numpy where that is the same text, only faster."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from ctctl.model.row import CtRow
from ctctl.out.output import Format, OutputOptions, arrange, write_rows
from ctctl.tables.show.cilium import cilium_line
from ctctl.tables.show.entry import SCHEMA, ct_view, row_record
from ctctl.tables.sources.base import CtTable, Source

if TYPE_CHECKING:
    from ctctl.decode.columns import CtColumns

#: Capacity from which two processes are worth starting the second one.
_BIG = 1 << 17


@dataclass(frozen=True, slots=True)
class Listing:
    """How to list. ``whole``: nothing is filtered out; ``names`` are those of addresses."""

    options: OutputOptions
    names: Mapping[str, str] = field(default_factory=dict)
    raw: bool = False
    time_diff: bool = False
    whole: bool = False


Batches = Callable[[CtTable], Iterator["CtColumns"]]


def write_listing(
    source: Source, batches: Batches, rows: Callable[[], Iterable[CtRow]], listing: Listing, stream: TextIO
) -> int:
    """Write what matches; returns how many entries.

    ``batches`` gives a table's matching entries, ``rows`` all of them as rows.
    Raises UsageError for an unknown field.
    """
    options = listing.options
    view = ct_view(raw=listing.raw, nodes=len(source.nodes()) > 1, time_diff=listing.time_diff)
    if options.format is Format.cilium and not options.fields:
        return _write_cilium(source.tables, batches, rows, listing, stream)
    if not options.fields and options.sort is None and options.limit is None:
        if options.format is Format.jsonl:
            return sum(_write_json_lines(table, batches(table), stream, listing) for table in source.tables)
        if options.format is Format.json:
            return _write_json(source, batches, stream, listing)
    return write_rows(view, rows(), options, stream, meta=meta_of(source))


def needs_names(options: OutputOptions) -> bool:
    """Whether the output shows names, so that reading the listings they come from is worth it."""
    if options.fields:
        return any(name in ("src_name", "dst_name", "backend", "source", "destination") for name in options.fields)
    return options.format not in (Format.cilium, Format.name, Format.csv)


def meta_of(source: Source) -> dict[str, object]:
    """What json and yaml say about the source beside the entries."""
    clocks = {(str(table.clock), table.clock.evidence) for table in source.tables}
    nows = {table.now for table in source.tables}
    return {
        "source": source.description,
        "clock": [{"clock": clock, "evidence": evidence} for clock, evidence in sorted(clocks)],
        "now": nows.pop() if len(nows) == 1 else None,
        "layout": sorted({f"{table.layout.value} ({table.layout_evidence})" for table in source.tables}),
        "partial": list(source.partial),
    }


def _write_cilium(
    tables: Sequence[CtTable], batches: Batches, rows: Callable[[], Iterable[CtRow]], listing: Listing, stream: TextIO
) -> int:
    """Each table's lines, then one empty line, as the original writes them."""
    options = listing.options
    if options.sort is None and options.limit is None:
        return sum(_write_table(table, batches(table), stream, listing) for table in tables)
    chosen: dict[tuple[str | None, str | None], list[CtRow]] = {}
    count = 0
    for row in arrange(ct_view(), rows(), options):
        chosen.setdefault((row.node, row.entry.map), []).append(row)
        count += 1
    for table in tables:
        for row in chosen.get((table.node, table.name), ()):
            line = cilium_line(row.entry, row.layout, row.clock, row.now if listing.time_diff else None)
            if line is not None:
                stream.write(line + "\n")
        stream.write("\n")
    return count


def _write_table(table: CtTable, batches: Iterator[CtColumns], stream: TextIO, listing: Listing) -> int:
    from ctctl.tables.show.matrix import CiliumFormatter

    formatter = CiliumFormatter(table, table.now if listing.time_diff else None)
    count = _write_formatted(table, batches, formatter.format, stream, whole=listing.whole)
    stream.write("\n")
    return count


def _write_json_lines(table: CtTable, batches: Iterator[CtColumns], stream: TextIO, listing: Listing) -> int:
    from ctctl.tables.show.matrix import JsonFormatter

    formatter = JsonFormatter(table, listing.names, raw=listing.raw)

    def lines(columns: CtColumns) -> bytes | bytearray:
        if formatter.can(columns):
            return formatter.format(columns)
        records = _records(table, columns, listing)
        return "".join(json.dumps({"schema": SCHEMA, **record}) + "\n" for record in records).encode()

    return _write_formatted(table, batches, lines, stream, whole=listing.whole)


def _records(table: CtTable, columns: CtColumns, listing: Listing) -> Iterator[dict[str, object]]:
    """The entries of a batch one by one."""
    for index in range(len(columns)):
        entry = columns.entry(index, table.name, table.absent)
        row = CtRow(entry, table.layout, table.clock, table.now, table.node, table.raw, listing.names)
        yield row_record(row, raw=listing.raw)


def _write_json(source: Source, batches: Batches, stream: TextIO, listing: Listing) -> int:
    """The document of ``-o json``, its list as it comes."""
    from ctctl.tables.show.matrix import JsonFormatter

    head = json.dumps({"schema": SCHEMA, **meta_of(source)})
    stream.write(head[:-1] + ', "entries": [')
    count = 0
    for table in source.tables:
        formatter = JsonFormatter(table, listing.names, raw=listing.raw, element=True)
        for columns in batches(table):
            if not len(columns):
                continue
            if formatter.can(columns):
                data: bytes | bytearray = formatter.format(columns)
            else:
                records = _records(table, columns, listing)
                data = "".join(",\n  " + json.dumps(record) for record in records).encode()
            _write_bytes(stream, data if count else data[1:])
            count += len(columns)
    stream.write("\n]}\n" if count else "]}\n")
    return count


def _write_formatted(
    table: CtTable,
    batches: Iterator[CtColumns],
    form: Callable[[CtColumns], bytes | bytearray],
    stream: TextIO,
    *,
    whole: bool,
) -> int:
    """Write every batch as ``form`` has it; a big live table with two processes."""
    output = _descriptor(stream)
    if whole and output is not None and _worth_two(table):
        from ctctl.tables.show.relay import Job, relay
        from ctctl.tables.sources.live import read_at

        stream.flush()
        return relay(Job(lambda cursor: read_at(table, cursor), form, output, table.seen))
    count = 0
    for columns in batches:
        _write_bytes(stream, form(columns))
        count += len(columns)
    return count


def _worth_two(table: CtTable) -> bool:
    """Whether the table is live and big, and there is a second CPU."""
    return table.live is not None and (table.max_entries or 0) >= _BIG and len(os.sched_getaffinity(0)) > 1


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, AttributeError):
        return None


def _write_bytes(stream: TextIO, data: bytes | bytearray) -> None:
    """ASCII to a text stream, past its encoder where it has a binary layer."""
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(data.decode("ascii"))
        return
    stream.flush()
    binary.write(data)
