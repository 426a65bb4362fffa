"""``ctctl ct export|import|delete|flush``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ctctl.cli.complete import terms, words
from ctctl.cli.deleting import delete_selected
from ctctl.cli.groups import FilterArgs, OutputArgs, SourceArgs, grouped
from ctctl.cli.options import DryRunOpt, ForeignOpt, SameBootOpt, YesOpt
from ctctl.errors import UsageError
from ctctl.model.suggest import unknown_name
from ctctl.model.units import counted

FilterArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILTER", help="e.g. 'proto == tcp and dst in 10.64.0.0/16'", autocompletion=terms),
]
UndoOpt = Annotated[
    str | None,
    typer.Option(
        "--undo", "--undo-file", metavar="FILE", help="Where to keep what is deleted, for gc undo; - for nowhere."
    ),
]


@grouped
def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - for stdout.")],
    expression: FilterArgument = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORM",
            help="snapshot, jsonl, csv or parquet; else by FILE's ending, a snapshot without one.",
            autocompletion=words("snapshot", "jsonl", "csv", "parquet"),
        ),
    ] = None,
    compress: Annotated[bool, typer.Option("--compress", help="Compress the snapshot (zlib).")] = False,
    *,
    wanted: FilterArgs,
    where: SourceArgs,
) -> None:
    """Write the table to a file: ctctl's snapshot (read it with --from), JSON lines, CSV or Parquet.

    \b
    ctctl ct export before.ctsnap
    ctctl ct export table.parquet --from sysdump.zip
    """
    from ctctl.cli.report import opened, require_tables, say
    from ctctl.ct.export import ExportFormat, export_snapshot, format_of, matching_rows
    from ctctl.tables.sources.snapshot_write import write_snapshot

    if form is not None and form not in list(ExportFormat):
        raise UsageError("--format: " + unknown_name("format", form, [f.value for f in ExportFormat]))
    chosen = format_of(file, ExportFormat(form) if form is not None else None)
    if compress and chosen is not ExportFormat.snapshot:
        raise UsageError("--compress is for snapshots")
    selection = wanted.filter(expression)
    if chosen is ExportFormat.parquet:
        from ctctl.tables.show.arrow import pyarrow

        pyarrow()  # what is missing is said before a large source is read
    with opened(where) as source:
        require_tables(source, selection)
        if chosen is not ExportFormat.snapshot:
            from ctctl.cli.export_rows import export_rows

            count = export_rows(source, selection, chosen, file)
        elif file == "-":
            rows = matching_rows(selection)
            count = write_snapshot(source, source.tables, rows, sys.stdout.buffer, compress=compress)
        else:
            count = export_snapshot(source, Path(file), selection, compress=compress)
        where_to = "stdout" if file == "-" else file
        say(f"{counted(count, 'entry', 'entries')} written to {where_to} as {chosen.words}")


@grouped
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A snapshot, or the journal of ct delete or gc.")],
    yes: YesOpt = False,
    dry_run: DryRunOpt = False,
    allow_foreign: ForeignOpt = False,
    same_boot: SameBootOpt = False,
    *,
    where: SourceArgs,
) -> None:
    """Create a file's entries in the live tables. Entries that are there stay as they are.

    \b
    ctctl ct import before.ctsnap
    ctctl ct import ctctl-undo-20260101T120000-4711.jsonl
    """
    from ctctl.cli.restoring import import_snapshot, undo_journal
    from ctctl.tables.writer.journal import is_journal

    if is_journal(_head(file)):
        undo_journal(Path(file), where, yes=yes, dry_run=dry_run, allow_foreign=allow_foreign, same_boot=same_boot)
    else:
        import_snapshot(file, where, yes=yes, dry_run=dry_run, allow_foreign=allow_foreign, same_boot=same_boot)


def _head(file: str) -> bytes:
    """How a file begins; empty for what is no plain file, which is read once and by its reader."""
    try:
        if not Path(file).is_file():
            return b""
        with Path(file).open("rb") as stream:
            return stream.read(512)
    except OSError:
        return b""


@grouped
def delete(
    expression: FilterArgument = None,
    yes: YesOpt = False,
    dry_run: DryRunOpt = False,
    allow_foreign: ForeignOpt = False,
    undo_file: UndoOpt = None,
    *,
    wanted: FilterArgs,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """Delete the entries that match, and the SNAT pairs of OUT entries. Shows them first and asks.

    \b
    ctctl ct delete --ip 10.64.0.36 --dry-run
    ctctl ct delete 'tcp and state == closed and expired' --yes

    What is deleted is written to a file first, and 'ctctl gc undo FILE' brings it back. An entry that a
    packet refreshed between being shown and being deleted stays.
    """
    selection = wanted.filter(expression)
    if selection.node is None:
        raise UsageError("ct delete needs a filter; to delete everything use ct flush")
    delete_selected(
        "ct delete",
        selection,
        out,
        where,
        yes=yes,
        dry_run=dry_run,
        allow_foreign=allow_foreign,
        undo_file=undo_file,
    )


@grouped
def flush(
    yes: YesOpt = False,
    dry_run: DryRunOpt = False,
    allow_foreign: ForeignOpt = False,
    undo_file: UndoOpt = None,
    *,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """Delete every entry of the tables, and the SNAT pairs. Shows what goes and asks.

    \b
    ctctl ct flush --dry-run
    ctctl ct flush --map cilium_ct_any4_global --yes
    """
    from ctctl.tables.query.filter import Filter

    delete_selected(
        "ct flush",
        Filter(),
        out,
        where,
        yes=yes,
        dry_run=dry_run,
        allow_foreign=allow_foreign,
        undo_file=undo_file,
    )
