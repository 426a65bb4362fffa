"""What ``ctctl gc`` does: explain, preview, run once, keep running, and the entries of a backend that is gone."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ctctl.cli.asking import ask
from ctctl.cli.groups import OutputArgs, SourceArgs
from ctctl.errors import EXIT_INTERRUPTED, UsageError
from ctctl.out.options import OutputOptions

if TYPE_CHECKING:
    from ctctl.gc.explain import Scrub
    from ctctl.gc.report import Report
    from ctctl.gc.run import GcOptions
    from ctctl.tables.sources.base import Source


def delete_backend(
    backend: str,
    where: SourceArgs,
    out: OutputOptions,
    *,
    yes: bool,
    dry_run: bool,
    allow_foreign: bool,
    undo: Path | None,
) -> None:
    """Delete the service entries of a backend, as ``ct delete`` with the filter that selects them would."""
    from ctctl.cli.deleting import delete_selected
    from ctctl.cli.report import opened, require_tables, say
    from ctctl.ct.listing import Listing
    from ctctl.ct.show_list import write_listing
    from ctctl.gc.backends import entries_of_backend
    from ctctl.tables.rows import matching
    from ctctl.tables.writer.targets import check_owner

    with opened(where) as tables:
        require_tables(tables)
        if not dry_run:
            check_owner(tables, allow_foreign=allow_foreign)  # what is refused is not even looked at
        selection, known = entries_of_backend(tables, backend)
        say(known)
        if dry_run:
            write_listing(tables, lambda table: matching(table, selection), Listing(out), sys.stdout)
            return
    args = OutputArgs(out.format, ",".join(out.fields) or None, out.sort, out.limit, out.no_headers, out.color)
    delete_selected(
        "gc --backend",
        selection,
        args,
        where,
        yes=yes,
        dry_run=False,
        allow_foreign=allow_foreign,
        undo_file=str(undo) if undo is not None else None,
    )


def explain(where: SourceArgs, endpoint: str | None, out: Any) -> None:
    from ctctl.cli.report import opened, require_tables, say
    from ctctl.gc import preview
    from ctctl.gc.show import write_explanations
    from ctctl.tables.writer.clock import settle_time

    with opened(where) as tables:
        require_tables(tables)
        if endpoint is None and all(table.live is not None for table in tables.tables):
            settle_time(tables, where.now, clock_given=where.clock is not None)
        found, notes = preview.explanations(tables, _scrub(tables, endpoint))
        write_explanations(found, out, sys.stdout, tables.nodes())
        for note in notes:
            say(note)
    if notes:
        raise typer.Exit(5)


def _tell(report: Report, out: Any) -> None:
    from ctctl.cli.report import said_anyway
    from ctctl.gc.show import summary, write_report

    with said_anyway(() if report.dry_run else summary(report)):
        write_report(report, out, sys.stdout, sys.stderr)


def run_once(where: SourceArgs, options: GcOptions, out: Any, *, yes: bool, keeps: bool) -> None:
    from ctctl.cli.report import require_tables
    from ctctl.tables.writer.targets import check_owner

    with where.open() as tables:
        require_tables(tables)
        is_live = bool(tables.tables) and all(table.live is not None for table in tables.tables)
        if options.dry_run and not is_live:
            _preview(tables, options, out)
            return
        if not options.dry_run:
            foreign = check_owner(tables, allow_foreign=options.allow_foreign)
            options = _asked(tables, options, foreign, yes)
            options = replace(options, keep=options.keep and keeps)
        report, interrupted = _collected(tables, options)
    _tell(report, out)
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if report.failure is not None:
        raise report.failure
    if not report.complete:
        raise typer.Exit(5)


def _preview(tables: Source, options: GcOptions, out: Any) -> None:
    """A dry run of what is no live table: a walk over what can be read."""
    from ctctl.cli.report import shown
    from ctctl.gc import preview
    from ctctl.gc.show import write_report

    if options.orphans:
        raise UsageError(f"{tables.description} is no live table: --orphans needs one")
    with shown(tables):
        report = preview.preview(tables, scrub=_scrub(tables, options.endpoint))
        write_report(report, out, sys.stdout, sys.stderr)
    if not report.complete:
        raise typer.Exit(5)


def _scrub(tables: Source, endpoint: str | None) -> Scrub | None:
    """What a scrub of ``endpoint`` would take. Raises what ``resolve_endpoint`` does."""
    from ctctl.gc.explain import Scrub
    from ctctl.gc.run import resolve_endpoint

    return None if endpoint is None else Scrub(endpoint, resolve_endpoint(endpoint, tables))


def _collected(tables: Source, options: GcOptions) -> tuple[Report, bool]:
    """The report, and whether a signal ended the run."""
    from ctctl.cli.counting import Counting
    from ctctl.gc import run as ops
    from ctctl.kernel.stopping import stop_on_signals

    with stop_on_signals() as stop, Counting(sys.stderr, "entries looked at") as progress:
        report = ops.run(tables, options, stop, progress)
    return report, stop.is_set()


def keep_collecting(
    where: SourceArgs, options: GcOptions, out: Any, *, interval: str, metrics: str | None, yes: bool
) -> None:
    from ctctl.cli.report import say
    from ctctl.gc.keep_running import keep_running
    from ctctl.gc.schedule import parse_interval
    from ctctl.kernel.stopping import stop_on_signals
    from ctctl.tables.writer.targets import check_owner

    schedule = parse_interval(interval)
    with where.open() as tables:
        if not options.dry_run:
            _asked(tables, options, check_owner(tables, allow_foreign=options.allow_foreign), yes)
    with stop_on_signals() as stop:
        keep_running(
            where.open,
            options,
            schedule,
            stop,
            on_report=lambda report: _tell(report, out),
            on_failure=say,
            metrics=metrics,
        )


def _asked(tables: Source, options: GcOptions, foreign: bool, yes: bool) -> GcOptions:
    """Ask a terminal. Without one, collecting ctctl's own expired entries needs no yes: it is what the tool is for."""
    from ctctl.gc.run import is_ahead

    ahead = options.endpoint is None and is_ahead(tables, options)
    what = "expired entries" if options.endpoint is None else f"every entry of {options.endpoint}"
    if ahead:
        what = f"what will have expired at {options.now}, which is a time to come,"
    needed = foreign or ahead or options.endpoint is not None
    ask(
        f"Delete {what} from {tables.description}{', which another program owns' if foreign else ''}?",
        yes=yes,
        needed_for=f"deleting {what} from {tables.description}" if needed else None,
    )
    return replace(options, keep=options.endpoint is not None or ahead)
