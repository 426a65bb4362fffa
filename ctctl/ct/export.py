"""``ct export``: a source into a file: a snapshot of ours, JSON lines, CSV or Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ctctl.errors import UsageError
from ctctl.out.files import replacing
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.rows import matching
from ctctl.tables.sources.base import CtTable, Source
from ctctl.tables.sources.snapshot_write import write_snapshot

if TYPE_CHECKING:
    from ctctl.tables.sources.base import Rows


class ExportFormat(StrEnum):
    """Forms a table can be exported in."""

    snapshot = "snapshot"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"

    @property
    def words(self) -> str:
        """What a file of it is called."""
        return {"snapshot": "a snapshot", "jsonl": "JSON lines", "csv": "CSV", "parquet": "Parquet"}[self.value]


#: Entries a frame.
_BATCH = 16384
_SUFFIXES = {
    ".ctsnap": ExportFormat.snapshot,
    ".jsonl": ExportFormat.jsonl,
    ".ndjson": ExportFormat.jsonl,
    ".csv": ExportFormat.csv,
    ".parquet": ExportFormat.parquet,
}
#: Who writes one of these expects what no export is.
_OTHER_FORMS = frozenset(
    {".txt", ".log", ".json", ".yaml", ".yml", ".tsv", ".xls", ".xlsx", ".html", ".md", ".zip", ".gz", ".tgz", ".pcap"}
)


def format_of(path: str, asked: ExportFormat | None) -> ExportFormat:
    """What was asked for, else by the file's ending, else a snapshot. Raises UsageError for another form's ending."""
    if asked is not None:
        return asked
    ending = Path(path).suffix.lower()
    if ending in _OTHER_FORMS:
        raise UsageError(
            f"{path}: no export is written as {ending}: give the form with --format ({', '.join(ExportFormat)}),"
            f" or an ending ({', '.join(_SUFFIXES)})"
        )
    return _SUFFIXES.get(ending, ExportFormat.snapshot)


def matching_rows(wanted: Filter) -> Callable[[CtTable], Iterator[Rows]]:
    """A reader of a table's matching records as matrices, each valid until the next."""

    def read(table: CtTable) -> Iterator[Rows]:
        if wanted.node is None and table.live is not None:
            for batch in table.live.batches(_BATCH):
                yield batch.keys, batch.values
            return
        for columns in matching(table, wanted):
            yield columns.keys, columns.values

    return read


def export_snapshot(source: Source, path: Path, wanted: Filter = EVERYTHING, *, compress: bool = False) -> int:
    """Write a snapshot and put it in place whole; returns how many entries. Raises WriteError."""
    with replacing(path) as stream:
        return write_snapshot(source, source.tables, matching_rows(wanted), stream, compress=compress)
