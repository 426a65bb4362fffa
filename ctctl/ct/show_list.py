"""``ct list`` in every format: which rows, in which order, written batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from ctctl.ct.listing import Batches, Document, Listing, Out, Run, limited
from ctctl.errors import UsageError
from ctctl.out.fetched import says_node
from ctctl.out.options import Format, OutputOptions
from ctctl.out.view import View
from ctctl.tables.show.entry import SCHEMA, ct_view
from ctctl.tables.sources.base import CtTable, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.model.row import CtRow
    from ctctl.tables.show.lines import Builder
    from ctctl.tables.show.rowform import EntryForm

    Order = NDArray[np.int64]

#: Rows that are sorted are written so many at a time.
_CHUNK = 1 << 14
#: Fields that have a column of their own in CSV alone.
_CSV_ALSO = ("related", "other_bits", "last_tx_report", "last_rx_report")


def write_listing(source: Source, batches: Batches, listing: Listing, stream: TextIO) -> int:
    """Write what matches; returns how many entries. ``batches`` gives a table's matching entries.

    Raises UsageError for an unknown field.
    """
    options = listing.options
    view = ct_view(raw=listing.raw, nodes=says_node(source.nodes()), time_diff=listing.time_diff)
    chosen = [view.column(name).name for name in options.fields]
    if options.sort is not None:
        view.column(options.sort.removeprefix("-"), "sort field")
    out = Out(stream)
    if options.format is Format.cilium and not chosen:
        return _write_cilium(source, batches, listing, out)
    chunks = _chunks(source, batches, listing)
    if options.format in (Format.table, Format.wide):
        from ctctl.ct.show_table import write_table

        return write_table(view, chosen, chunks, options, out)
    builder = _builder(view, chosen, options.format, raw=listing.raw)
    if options.format is Format.csv and not options.no_headers:
        out.write((",".join(chosen or _csv_columns(view)) + "\n").encode())
    if options.format in (Format.json, Format.yaml):
        return _document(source, options.format).write(builder, chunks, out)
    return sum(out.emit(builder, chunk) for chunk in chunks)


#: Fields that show names.
_NAMED = frozenset(
    {"src_name", "dst_name", "backend", "source", "destination", "src_identity", "src_sec_id", "backend_id", "rev_nat"}
)


def needs_names(options: OutputOptions) -> bool:
    """Whether the output shows names, so that reading the listings they come from is worth it."""
    if options.fields:
        return any(name in _NAMED for name in options.fields)
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


def _chunks(source: Source, batches: Batches, listing: Listing) -> Iterator[list[Run]]:
    """What is to be written, a piece at a time."""
    options = listing.options
    forms = [_form(table, listing) for table in source.tables]
    if options.sort is not None:
        from ctctl.ct.arrange import Arranger

        arranger = Arranger(options.sort, options.limit)
        for form in forms:
            for columns in batches(form.table):
                arranger.add(form, columns)
        yield from ([Run(*piece) for piece in chunk] for chunk in arranger.chunks(_CHUNK))
        return
    yield from limited((Run(form, columns) for form in forms for columns in batches(form.table)), options.limit)


def _form(table: CtTable, listing: Listing) -> EntryForm:
    from ctctl.tables.show.rowform import EntryForm

    return EntryForm(table, listing.names(table.node), time_diff=listing.time_diff)


def _builder(view: View[CtRow], chosen: list[str], output: Format, *, raw: bool) -> Builder:
    from ctctl.tables.show import lines

    if output is Format.csv:
        return lines.csv_lines(chosen or _csv_columns(view))
    if output is Format.name:
        return lines.name_lines()
    if output is Format.yaml:
        return lines.yaml_elements(chosen, raw=raw)
    if output is Format.cilium:
        raise UsageError("-o cilium is a line of its own: it has no --fields")
    element = output is Format.json
    if chosen:
        return lines.json_fields(chosen, element=element)
    return lines.json_elements(raw=raw) if element else lines.json_lines(raw=raw)


def _csv_columns(view: View[CtRow]) -> list[str]:
    """As for people, then what they see in other columns or not at all."""
    return [*(column.name for column in view.columns), *_CSV_ALSO]


def _document(source: Source, output: Format) -> Document:
    """What stands around the entries in json or yaml."""
    head = {"schema": SCHEMA, **meta_of(source)}
    if output is Format.yaml:
        import yaml

        text = yaml.safe_dump(head, sort_keys=False)
        return Document(f"{text}entries:\n", "", f"{text}entries: []\n", commas=False)
    import json

    text = json.dumps(head)[:-1]
    return Document(f'{text}, "entries": [', "\n]}\n", f'{text}, "entries": []}}\n', commas=True)


def _write_cilium(source: Source, batches: Batches, listing: Listing, out: Out) -> int:
    """Each table's lines, then one empty line, as the original writes them. Protocol 0 has no line."""
    from ctctl.tables.show.lines import cilium_lines

    builder, count = cilium_lines(), 0
    shown: dict[int, list[Run]] = {id(table): [] for table in source.tables}
    direct = listing.options.sort is None and listing.options.limit is None
    if direct:
        for table in source.tables:
            form = _form(table, listing)
            for columns in batches(table):
                count += len(columns)
                out.emit(builder, [Run(form, columns)])
            out.write(b"\n")
        return count
    for chunk in _chunks(source, batches, listing):
        for run in chunk:
            shown[id(run.form.table)].append(run)
            count += len(run)
    for runs in shown.values():
        for run in runs:
            columns = run.columns if run.order is None else run.columns.select(run.order)
            out.emit(builder, [Run(run.form, columns)])
        out.write(b"\n")
    return count
