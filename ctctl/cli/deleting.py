"""Deleting what a filter selects: ``ct delete``, ``ct flush``, ``gc --backend``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ctctl.cli.asking import ask
from ctctl.errors import EXIT_INTERRUPTED, PartialDataError
from ctctl.model.units import counted

if TYPE_CHECKING:
    from ctctl.cli.groups import OutputArgs, SourceArgs
    from ctctl.ct.change import Outcome, Plan
    from ctctl.tables.query.filter import Filter
    from ctctl.tables.writer.journal import Journal

_PREVIEW = 20


def delete_selected(
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
    if outcome.refused:
        raise typer.Exit(PartialDataError.exit_code)


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
    if outcome.refused:
        text += f", {outcome.refused} stayed: the kernel refused to delete them"
    say(text if outcome.complete else f"{text}; stopped before the end")
    if journal is not None and journal.kept:
        say(undo_command(journal.path, plan.source.description, foreign=foreign))
