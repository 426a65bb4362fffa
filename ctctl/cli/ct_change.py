"""``ctctl ct export|import|delete|flush``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.cli.asking import ask
from ctctl.cli.complete import terms, words
from ctctl.cli.groups import FilterArgs, OutputArgs, SourceArgs, grouped
from ctctl.cli.options import DryRunOpt, ForeignOpt, SameBootOpt, YesOpt
from ctctl.errors import EXIT_INTERRUPTED, UsageError
from ctctl.model.suggest import unknown_name
from ctctl.model.units import counted

if TYPE_CHECKING:
    from ctctl.ct.change import Outcome, Plan
    from ctctl.tables.query.filter import Filter
    from ctctl.tables.writer.journal import Journal

_PREVIEW = 20

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
    from ctctl.tables.sources.snapshot_write import write_snapshot

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
        say(f"{counted(count, 'entry', 'entries')} written to {'stdout' if file == '-' else file}")


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
    _delete(
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

    _delete(
        "ct flush",
        Filter(),
        out,
        where,
        yes=yes,
        dry_run=dry_run,
        allow_foreign=allow_foreign,
        undo_file=undo_file,
    )


def _delete(
    command: str,
    selection: Filter,
    out: OutputArgs,
    where: SourceArgs,
    *,
    yes: bool,
    dry_run: bool,
    allow_foreign: bool,
    undo_file: str | None,
) -> None:
    from ctctl.cli.report import opened, say
    from ctctl.ct.change import plan_delete
    from ctctl.tables.writer.clock import settle_time
    from ctctl.tables.writer.targets import check_owner, require_live

    with opened(where) as source:
        # Before anything is read for it: whose the tables are, and what time it is.
        if dry_run:
            require_live(source)
        else:
            check_owner(source, allow_foreign=allow_foreign)
        if selection.needs_now:
            settle_time(source, where.now, clock_given=where.clock is not None)
        plan = plan_delete(source, selection)
        _show(plan, out, dry_run=dry_run, yes=yes)
        records = counted(len(plan.nat), "SNAT record")
        if not plan.nat_counted:
            records = f"more than {records}" if plan.nat else "their SNAT records, which were not counted,"
        say(f"{counted(len(plan), 'entry', 'entries')} and {records} would be deleted from {source.description}")
        if dry_run or not len(plan):
            return
        sys.stdout.flush()
        ask("Delete them?", yes=yes, needed_for=f"deleting entries from {source.description}")
        shown = not yes and selection.node is not None
        _carry_out(command, plan, undo_file, allow_foreign=allow_foreign, shown=shown)


def _show(plan: Plan, out: OutputArgs, *, dry_run: bool, yes: bool) -> None:
    from ctctl.cli.report import say
    from ctctl.out.output import write_rows
    from ctctl.tables.show.entry import ct_view

    options = out.options()
    limited = options if options.limit is not None or not sys.stdout.isatty() else out.limited(_PREVIEW)
    if len(plan) and (dry_run or not yes or options.limit is not None):
        shown = write_rows(ct_view(), plan.rows(), limited, sys.stdout)
        if shown < len(plan):
            say(f"and {len(plan) - shown} more")
    for entry in plan.nat_entries()[:_PREVIEW]:
        say(f"with its SNAT record: {entry}")


def _carry_out(command: str, plan: Plan, undo_file: str | None, *, allow_foreign: bool, shown: bool) -> None:
    """Delete, and say what was deleted however it ends."""
    from contextlib import ExitStack

    from ctctl.ct.change import Outcome, delete
    from ctctl.kernel.stopping import stop_on_signals
    from ctctl.tables.writer.journal import Journal
    from ctctl.tables.writer.targets import ids_of, open_targets

    outcome = Outcome()
    journal: Journal | None = None
    targets = None
    try:
        with ExitStack() as stack:
            targets = stack.enter_context(open_targets(plan.source, allow_foreign=allow_foreign))
            if undo_file != "-":
                path = Path(undo_file) if undo_file else None
                node = next(iter(plan.source.nodes()), None)
                made = Journal.create(
                    path, command=command, source=plan.source.description, node=node, maps=ids_of(plan.source)
                )
                journal = stack.enter_context(made)
            stop = stack.enter_context(stop_on_signals())
            delete(plan, targets, journal, outcome, shown=shown, stopped=stop.is_set)
    finally:
        if targets is not None:
            _say_outcome(outcome, plan, journal, targets.foreign)
    if not outcome.complete:
        raise typer.Exit(EXIT_INTERRUPTED)


def _say_outcome(outcome: Outcome, plan: Plan, journal: Journal | None, foreign: bool) -> None:
    from ctctl.cli.report import say
    from ctctl.tables.writer.undo import undo_command

    for note in outcome.notes:
        say(note)
    text = f"{outcome.deleted} entries and {outcome.nat_deleted} SNAT records deleted"
    if outcome.changed:
        text += f", {outcome.changed} skipped: a packet refreshed them meanwhile"
    if outcome.gone:
        text += f", {outcome.gone} were gone already"
    say(text if outcome.complete else f"{text}; stopped before the end")
    if journal is not None and journal.kept:
        say(undo_command(journal.path, plan.source.description, foreign=foreign))


#: ``gc --backend`` goes the same way.
delete_selected = _delete
