"""Exports that are rows of text or columns: JSON lines, CSV and Parquet."""

from __future__ import annotations

import io
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ctctl.ct.export import ExportFormat
from ctctl.ct.listing import Listing
from ctctl.ct.show_list import write_listing
from ctctl.out.files import replacing
from ctctl.out.options import Format, OutputOptions
from ctctl.tables.rows import matching

if TYPE_CHECKING:
    from ctctl.tables.query.filter import Filter
    from ctctl.tables.sources.base import Source


def export_rows(source: Source, selection: Filter, form: ExportFormat, file: str) -> int:
    """Write the matching rows; returns how many. Raises WriteError if the file cannot be written."""
    if form is ExportFormat.parquet:
        from ctctl.tables.show.arrow import write_parquet

        with nullcontext(sys.stdout.buffer) if file == "-" else replacing(Path(file)) as stream:
            return write_parquet(source.tables, lambda table: matching(table, selection), stream)
    if file == "-":
        return _write(source, selection, form, sys.stdout)
    with replacing(Path(file)) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8")
        count = _write(source, selection, form, text)
        text.flush()
        text.detach()  # the stream is not this one's to close
        return count


def _write(source: Source, selection: Filter, form: ExportFormat, stream: TextIO) -> int:
    options = OutputOptions(format=Format.jsonl if form is ExportFormat.jsonl else Format.csv)
    return write_listing(
        source,
        lambda table: matching(table, selection),
        Listing(options),
        stream,
    )
