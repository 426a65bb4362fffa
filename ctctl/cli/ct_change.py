"""``ctctl ct export|import|delete|flush``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ctctl.cli.complete import terms, words
from ctctl.cli.groups import FilterArgs, OutputArgs, SourceArgs, grouped
from ctctl.cli.options import DryRunOpt, ForeignOpt, YesOpt
from ctctl.errors import UsageError
from ctctl.model.suggest import unknown_name

_PREVIEW = 20

FilterArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILTER", help="e.g. 'proto == tcp and dst in 10.64.0.0/16'", autocompletion=terms),
]
UndoOpt = Annotated[
    str | None,
    typer.Option("--undo-file", metavar="FILE", help="Where to keep what is deleted, for ct import; - for nowhere."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``ctctl ct``."""
    app.command("export")(export)
    app.command("import")(import_)
    app.command("delete")(delete)
    app.command("flush")(flush)


@grouped
def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - for stdout.")],
    expression: FilterArgument = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORM",
            help="snapshot, jsonl, csv or parquet; else by FILE.",
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
    from ctctl.tables.sources.snapshot import write_snapshot

    if form is not None and form not in list(ExportFormat):
        raise UsageError("--format: " + unknown_name("format", form, [f.value for f in ExportFormat]))
    chosen = format_of(file, ExportFormat(form) if form is not None else None)
    selection = wanted.filter(expression)
    with opened(where) as source:
        require_tables(source)
        if chosen is not ExportFormat.snapshot:
            from ctctl.cli.export_rows import export_rows

            count = export_rows(source, selection, chosen, file)
        elif file == "-":
            rows = matching_rows(selection)
            count = write_snapshot(source, source.tables, rows, sys.stdout.buffer, compress=compress)
        else:
            count = export_snapshot(source, Path(file), selection, compress=compress)
        say(f"{count} entries written to {'stdout' if file == '-' else file}")


@grouped
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A snapshot or undo file.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also replace entries that are there.")] = False,
    yes: YesOpt = False,
    dry_run: DryRunOpt = False,
    allow_foreign: ForeignOpt = False,
    *,
    where: SourceArgs,
) -> None:
    """Write a snapshot's entries into the live tables. Entries that are there stay as they are.

    \b
    ctctl ct import ctctl-undo-20260101T120000.ctsnap
    """
    from ctctl.cli.report import opened, say
    from ctctl.ct.change import check_owner, import_entries
    from ctctl.tables.open import open_source
    from ctctl.tables.sources.base import SourceOptions

    with opened(where) as target, open_source(file, SourceOptions()) as snapshot:
        check_owner(target, allow_foreign)
        planned = import_entries(snapshot, target, overwrite=overwrite, dry_run=True)
        say(
            f"{planned.written} entries and {planned.nat_written} SNAT records to write into {target.description};"
            f" {planned.kept} are there and stay"
        )
        if dry_run:
            return
        if not yes:
            typer.confirm("Write them?", abort=True, err=True)
        done = import_entries(snapshot, target, overwrite=overwrite)
        for text in done.skipped:
            say(f"left out {text}")
        say(f"{done.written} entries and {done.nat_written} SNAT records written")


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
    """
    selection = wanted.filter(expression)
    if selection.node is None:
        raise UsageError("ct delete needs a filter; to delete everything use ct flush")
    _delete(selection, out, where, yes=yes, dry_run=dry_run, allow_foreign=allow_foreign, undo_file=undo_file)


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
    from ctctl.tables.query import Filter

    _delete(Filter(), out, where, yes=yes, dry_run=dry_run, allow_foreign=allow_foreign, undo_file=undo_file)


def _delete(
    selection: object,
    out: OutputArgs,
    where: SourceArgs,
    *,
    yes: bool,
    dry_run: bool,
    allow_foreign: bool,
    undo_file: str | None,
) -> None:
    from ctctl.cli.report import opened, say
    from ctctl.ct.change import check_owner, default_undo_file, plan_delete
    from ctctl.ct.change import delete as run
    from ctctl.out.output import write_rows
    from ctctl.tables.query import Filter
    from ctctl.tables.show.entry import ct_view

    assert isinstance(selection, Filter)
    with opened(where) as source:
        check_owner(source, allow_foreign or dry_run)
        plan = plan_delete(source, selection)
        options = out.options()
        limited = options if options.limit is not None or not sys.stdout.isatty() else out.limited(_PREVIEW)
        if len(plan) and (dry_run or not yes or options.limit is not None):
            shown = write_rows(ct_view(), plan.rows(), limited, sys.stdout)
            if shown < len(plan):
                say(f"and {len(plan) - shown} more")
        for entry in plan.nat_entries()[:_PREVIEW]:
            say(f"with its SNAT record: {entry}")
        nat = sum(map(len, plan.nat.values()))
        say(f"{len(plan)} entries and {nat} SNAT records would be deleted from {source.description}")
        if dry_run or not len(plan):
            return
        if not yes:
            sys.stdout.flush()
            typer.confirm("Delete them?", abort=True, err=True)
        path = None if undo_file == "-" else Path(undo_file) if undo_file else default_undo_file()
        done = run(plan, path)
        gone = f", {done.gone} were gone already" if done.gone else ""
        say(f"{done.deleted} entries and {done.nat_deleted} SNAT records deleted{gone}")
        if done.undo_file:
            say(f"undo with: ctctl ct import {done.undo_file}")


#: ``gc --backend`` goes the same way.
delete_selected = _delete
