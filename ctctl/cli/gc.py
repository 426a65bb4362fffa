"""``ctctl gc``: preview, run, keep running, undo."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctctl.cli.asking import ask
from ctctl.cli.complete import endpoints
from ctctl.cli.gc_simulate import simulate
from ctctl.cli.groups import OutputArgs, SourceArgs
from ctctl.cli.numbers import number, table_time
from ctctl.cli.options import (
    ClockOpt,
    ColorOpt,
    DryRunOpt,
    FieldsOpt,
    ForeignOpt,
    LimitOpt,
    MapOpt,
    NamesOpt,
    NodeOpt,
    NoHeadersOpt,
    OutputOpt,
    SameBootOpt,
    SortOpt,
    YesOpt,
    output_options,
)
from ctctl.errors import EXIT_INTERRUPTED, UsageError
from ctctl.out.options import ColorMode, Format, OutputOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctctl.gc.explain import Scrub
    from ctctl.gc.report import Report
    from ctctl.gc.run import GcOptions
    from ctctl.tables.sources.base import Source

app = typer.Typer(add_completion=False, rich_markup_mode=None)


#: ``--undo -``: nothing is kept
_NOWHERE = Path("-")
#: What an option leaves unheeded, and why.
_APART = {
    "--backend": (
        ("--endpoint", "--interval", "--orphans", "--engine", "--rate", "--audit"),
        "it deletes what a filter selects, as ct delete does",
    ),
    "--explain": (("--interval", "--orphans"), "it says why, of conntrack entries, and once"),
    "--interval": (("--endpoint", "--undo", "--now"), "they are for a single run"),
}


class Engine(StrEnum):
    """Values of ``--engine``; the report's ``EngineName`` without importing what it needs."""

    batch = "batch"
    kernel = "kernel"
    per_key = "per-key"


TablesOpt = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="SRC",
        help="auto, a bpffs directory or a pinned map; a dry run takes any source.",
        rich_help_panel="Source",
    ),
]
NowOption = Annotated[
    int | None,
    typer.Option(
        "--now",
        metavar="T",
        parser=table_time,
        help="Expire as of this time of the tables' clock.",
        rich_help_panel="Source",
    ),
]


@app.callback(invoke_without_command=True)
def gc(
    context: typer.Context,
    *,
    dry_run: DryRunOpt = False,
    engine: Annotated[
        Engine, typer.Option(help="batch; kernel: one BPF walk, least race; per-key: as Cilium up to 1.17.")
    ] = Engine.batch,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            metavar="IP|NAME",
            help="Delete everything of a departed pod instead.",
            autocompletion=endpoints,
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", metavar="IP|ID", help="Delete the service entries of a gone backend instead."),
    ] = None,
    orphans: Annotated[bool, typer.Option("--orphans", help="Also SNAT entries without a conntrack entry.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say for each class why it would go or stay.")] = False,
    interval: Annotated[
        str | None, typer.Option("--interval", metavar="auto|30s", help="Keep running at this interval.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="ADDR", help="With --interval: Prometheus on this address.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="N", parser=number(0.001), help="At most N deletions a second.")
    ] = None,
    audit: Annotated[
        Path | None, typer.Option("--audit", metavar="FILE", help="Append a JSON line for every deletion.")
    ] = None,
    undo: Annotated[
        Path | None,
        typer.Option(
            "--undo", metavar="FILE", help="Write there first what goes, for 'ctctl gc undo FILE'; - for nowhere."
        ),
    ] = None,
    source: TablesOpt = "auto",
    node: NodeOpt = None,
    only: MapOpt = None,
    now: NowOption = None,
    clock: ClockOpt = None,
    names: NamesOpt = None,
    yes: YesOpt = False,
    allow_foreign: ForeignOpt = False,
    output: OutputOpt = Format.table,
    fields: FieldsOpt = None,
    sort: SortOpt = None,
    limit: LimitOpt = None,
    no_headers: NoHeadersOpt = False,
    color: ColorOpt = ColorMode.auto,
) -> None:
    """Collect expired entries, or say what would be collected.

    \b
    ctctl gc --dry-run                    what a run would do; reads only
    ctctl gc --dry-run --explain          and why
    ctctl gc --yes --undo gone.jsonl      run; 'ctctl gc undo gone.jsonl' puts it back
    ctctl gc --endpoint 10.64.0.36        everything of a departed pod, and nothing else; its name will do
    ctctl gc --backend 10.64.0.64         the service entries of a backend that is gone
    ctctl gc --interval auto --metrics 127.0.0.1:9966

    A terminal is asked before anything is deleted. Another program's tables (a live Cilium) are
    changed only with --allow-foreign, and scrubs and foreign tables need --yes without a terminal.
    A scrub always writes a journal (--undo; - for none), as entries go that are alive.
    """
    if context.invoked_subcommand is not None:
        return
    from ctctl.gc import run as ops
    from ctctl.gc.report import EngineName

    out = output_options(output, fields, sort, limit, no_headers, color=color)
    _check_together(
        {
            "--backend": backend,
            "--explain": explain,
            "--interval": interval,
            "--metrics": metrics,
            "--endpoint": endpoint,
            "--orphans": orphans,
            "--engine": engine if engine is not Engine.batch else None,
            "--rate": rate,
            "--audit": audit,
            "--undo": undo,
            "--now": now,
        }
    )
    where = SourceArgs([source], [node] if node else None, only, now, clock, names=names)
    if backend is not None:
        _backend(backend, where, out, yes=yes, dry_run=dry_run or explain, allow_foreign=allow_foreign, undo=undo)
        return
    options = ops.GcOptions(
        engine=EngineName(engine.value),
        dry_run=dry_run or explain,
        now=now,
        clock_given=clock is not None,
        rate=rate,
        endpoint=endpoint,
        orphans=orphans,
        audit=audit,
        undo=undo if undo != _NOWHERE else None,
        allow_foreign=allow_foreign,
    )
    if explain:
        _explain(where, endpoint, out)
    elif interval is not None:
        _keep_running(where, options, out, interval=interval, metrics=metrics, yes=yes)
    else:
        _run_once(where, options, out, yes=yes, keeps=undo != _NOWHERE)


def _check_together(given: Mapping[str, object]) -> None:
    """Refuse options that would not be heeded beside another. Raises UsageError."""
    asked = [name for name, value in given.items() if value not in (None, False)]
    if "--metrics" in asked and "--interval" not in asked:
        raise UsageError("--metrics goes with --interval; 'ctctl metrics serve' works by itself")
    if given["--engine"] == Engine.kernel and "--endpoint" in asked:
        raise UsageError("--endpoint goes not with --engine kernel, which collects expired entries only")
    for name, (others, why) in _APART.items():
        if name in asked and (unheeded := [other for other in asked if other in others]):
            raise UsageError(f"{', '.join(unheeded)} {'goes' if len(unheeded) == 1 else 'go'} not with {name}: {why}")


def _backend(
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


def _explain(where: SourceArgs, endpoint: str | None, out: Any) -> None:
    from ctctl.cli.report import opened, require_tables, say
    from ctctl.gc import preview
    from ctctl.gc.show import write_explanations
    from ctctl.tables.writer.clock import settle_time

    with opened(where) as tables:
        require_tables(tables)
        if endpoint is None and all(table.live is not None for table in tables.tables):
            settle_time(tables, where.now, clock_given=where.clock is not None)
        found, notes = preview.explanations(tables, _scrub(tables, endpoint))
        write_explanations(found, out, sys.stdout)
        for note in notes:
            say(note)
    if notes:
        raise typer.Exit(5)


def _tell(report: Report, out: Any) -> None:
    from ctctl.cli.report import said_anyway
    from ctctl.gc.show import summary, write_report

    with said_anyway(() if report.dry_run else summary(report)):
        write_report(report, out, sys.stdout, sys.stderr)


def _run_once(where: SourceArgs, options: GcOptions, out: Any, *, yes: bool, keeps: bool) -> None:
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


def _keep_running(
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


@app.command()
def undo(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The journal of gc --undo, ct delete or ct flush.")],
    *,
    source: TablesOpt = "auto",
    node: NodeOpt = None,
    dry_run: DryRunOpt = False,
    yes: YesOpt = False,
    allow_foreign: ForeignOpt = False,
    same_boot: SameBootOpt = False,
    output: OutputOpt = Format.table,
) -> None:
    """Put back what a run deleted, never over an entry that is there again.

    \b
    ctctl gc --yes --undo gone.jsonl
    ctctl gc undo gone.jsonl

    A journal is complete also after kill -9 or a full disk. What cannot be restored is said, with exit code 5.
    """
    from ctctl.cli.restoring import undo_journal

    undo_journal(
        file,
        SourceArgs([source], [node] if node else None),
        yes=yes,
        dry_run=dry_run,
        allow_foreign=allow_foreign,
        same_boot=same_boot,
        options=output_options(output),
    )


app.command()(simulate)
