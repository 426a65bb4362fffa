"""``ct list`` in every format. Whole tables go as bytes from numpy where that is the same text, only faster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from ctctl.model.row import CtRow
from ctctl.render.ct import SCHEMA, ct_view, row_record
from ctctl.render.ct_text import cilium_line
from ctctl.render.output import Format, OutputOptions, arrange, write_rows
from ctctl.source.base import CtTable, Source

if TYPE_CHECKING:
    from ctctl.decode.columns import CtColumns

Batches = Callable[[CtTable], Iterator["CtColumns"]]


def write_listing(
    source: Source,
    batches: Batches,
    rows: Callable[[], Iterable[CtRow]],
    options: OutputOptions,
    stream: TextIO,
    *,
    names: Mapping[str, str] | None = None,
    raw: bool = False,
    time_diff: bool = False,
) -> int:
    """Write what matches; returns how many entries.

    ``batches`` gives a table's matching entries, ``rows`` all of them as rows.
    Raises UsageError for an unknown field.
    """
    view = ct_view(raw=raw, nodes=len(source.nodes()) > 1, time_diff=time_diff)
    if options.format is Format.cilium and not options.fields:
        return _write_cilium(source.tables, batches, rows, options, stream, time_diff=time_diff)
    if options.format is Format.jsonl and not options.fields and options.sort is None and options.limit is None:
        return sum(_write_json_lines(table, batches(table), names or {}, stream, raw=raw) for table in source.tables)
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
    tables: Sequence[CtTable],
    batches: Batches,
    rows: Callable[[], Iterable[CtRow]],
    options: OutputOptions,
    stream: TextIO,
    *,
    time_diff: bool,
) -> int:
    """Each table's lines, then one empty line, as the original writes them."""
    count = 0
    if options.sort is None and options.limit is None:
        for table in tables:
            count += _write_table(table, batches(table), stream, time_diff=time_diff)
        return count
    chosen: dict[tuple[str | None, str | None], list[CtRow]] = {}
    for row in arrange(ct_view(), rows(), options):
        chosen.setdefault((row.node, row.entry.map), []).append(row)
    for table in tables:
        for row in chosen.get((table.node, table.name), ()):
            line = cilium_line(row.entry, row.layout, row.clock, row.now if time_diff else None)
            if line is not None:
                stream.write(line + "\n")
            count += 1
        stream.write("\n")
    return count


def _write_table(table: CtTable, batches: Iterator[CtColumns], stream: TextIO, *, time_diff: bool) -> int:
    from ctctl.render.ct_matrix import CiliumFormatter

    formatter = CiliumFormatter(table, table.now if time_diff else None)
    count = 0
    for columns in batches:
        _write_bytes(stream, formatter.format(columns))
        count += len(columns)
    stream.write("\n")
    return count


def _write_json_lines(
    table: CtTable, batches: Iterator[CtColumns], names: Mapping[str, str], stream: TextIO, *, raw: bool
) -> int:
    from ctctl.render.ct_matrix import JsonFormatter

    formatter = JsonFormatter(table, names, raw=raw)
    count = 0
    for columns in batches:
        if formatter.can(columns):
            _write_bytes(stream, formatter.format(columns))
        else:
            for index in range(len(columns)):
                entry = columns.entry(index, table.name, table.absent)
                row = CtRow(entry, table.layout, table.clock, table.now, table.node, table.raw, names)
                stream.write(json.dumps({"schema": SCHEMA, **row_record(row, raw=raw)}) + "\n")
        count += len(columns)
    return count


def _write_bytes(stream: TextIO, data: bytearray) -> None:
    """ASCII to a text stream, past its encoder where it has a binary layer."""
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(data.decode("ascii"))
        return
    stream.flush()
    binary.write(data)
