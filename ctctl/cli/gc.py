"""``ctctl gc``: what is typed. What is done then is in ``collecting``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.cli import collecting
from ctctl.cli.complete import endpoints
from ctctl.cli.gc_simulate import simulate
from ctctl.cli.groups import SourceArgs
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
from ctctl.errors import UsageError
from ctctl.out.options import ColorMode, Format

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        typer.Option("--backend", metavar="IP|NAME|ID", help="Delete the service entries of a gone backend instead."),
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
    ctctl gc --dry-run                what a run would do; reads only
    ctctl gc --dry-run --explain      and why
    ctctl gc --yes --undo gone.jsonl  run, so that ctctl gc undo puts it back
    ctctl gc --endpoint 10.64.0.36    only what a departed pod left; or its name
    ctctl gc --backend 10.64.0.64     service entries of a backend that is gone
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
    where = SourceArgs([source], [node] if node else None, only, now=now, clock=clock, names=names)
    if backend is not None:
        collecting.delete_backend(
            backend, where, out, yes=yes, dry_run=dry_run or explain, allow_foreign=allow_foreign, undo=undo
        )
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
        collecting.explain(where, endpoint, out)
    elif interval is not None:
        collecting.keep_collecting(where, options, out, interval=interval, metrics=metrics, yes=yes)
    else:
        collecting.run_once(where, options, out, yes=yes, keeps=undo != _NOWHERE)


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
