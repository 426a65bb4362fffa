"""``ctctl ct``: the conntrack table, live or from a file. Looking is here, changing in ``ct_change``."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ctctl.cli import plain
from ctctl.cli.complete import terms, words
from ctctl.cli.groups import FilterArgs, OutputArgs, SourceArgs, grouped
from ctctl.cli.lazy import later
from ctctl.cli.numbers import seconds, whole
from ctctl.cli.options import TOP_ROWS, ColorOpt, LayoutOpt, OutputOpt, RawOpt
from ctctl.errors import UsageError
from ctctl.out.options import ColorMode, Format

if TYPE_CHECKING:
    from ctctl.ct.top import By
    from ctctl.out.options import OutputOptions

app = typer.Typer(
    help="The conntrack table: list, get, stats, top, events, diff, delete.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

FilterArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILTER",
        help="e.g. 'proto == tcp and remaining < 30s and dst in 10.64.0.0/16'",
        autocompletion=terms,
    ),
]
WatchOpt = Annotated[
    float | None,
    typer.Option(
        "-w",
        "--watch",
        metavar="[SECS]",
        parser=seconds(0.1),
        help="Again every SECS (default 1): only changes redraw.",
    ),
]


class WatchCommand(TyperCommand):
    """A command whose ``--watch`` may stand without a number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        for index, arg in enumerate(args):
            spread.append(arg)
            following = args[index + 1] if index + 1 < len(args) else ""
            if arg in ("-w", "--watch") and not re.fullmatch(r"\d+(\.\d+)?", following):
                spread.append("1")
        return super().parse_args(ctx, spread)


@app.command("list", cls=WatchCommand)
@grouped
def list_entries(
    expression: FilterArgument = None,
    time_diff: Annotated[bool, typer.Option("--time-diff", help="With -o cilium: show the remaining time.")] = False,
    raw: RawOpt = False,
    watch: WatchOpt = None,
    *,
    wanted: FilterArgs,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """List entries.

    \b
    ctctl ct list
    ctctl ct list 'tcp and state == closing' --sort remaining --limit 20
    ctctl ct list --ip 10.64.0.0/24 --to-port 80 -o jsonl
    ctctl ct list --from cilium-sysdump.zip -o wide
    """
    options = out.options()
    _check_raw(options, raw=raw)
    selection = wanted.filter(expression)
    if watch is None:
        plain.show(where, selection, options, raw=raw, time_diff=time_diff)
        return
    from ctctl.cli.report import opened, require_tables
    from ctctl.cli.watching import Watched, watch_list

    with opened(where) as source:
        require_tables(source, selection)
        watch_list(Watched(source, selection, " ".join(wanted.words(expression))), options, watch)


def _check_raw(options: OutputOptions, *, raw: bool) -> None:
    if raw and options.format not in (Format.json, Format.jsonl, Format.yaml):
        raise UsageError(f"--raw adds bytes to -o json, jsonl and yaml, not to {options.format}")


@app.command()
@grouped
def get(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="e.g. 'tcp 10.64.0.36:54260 > 10.64.0.64:8000'")],
    raw: RawOpt = False,
    *,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """Everything about one connection: its entries, service, backend and SNAT pair, and its state and why.

    \b
    ctctl ct get 'tcp 10.64.0.36:54260 > 10.64.0.64:8000'
    ctctl ct get 'tcp 10.64.0.36 > 10.64.0.64:8000'    each, whatever its port
    ctctl ct get 'TCP OUT 10.0.0.1:1 -> 10.0.0.2:80'   as ct list prints it
    ctctl ct get 'tcp default/client > web:80'         pods and services by name
    ctctl ct get 'tcp [fd00::1]:40000 > [fd00::2]:80' --from dump.txt -o json
    """
    _check_raw(out.options(), raw=raw)
    plain.show_connections(where, flow, out.options(), where.node, raw=raw)


@app.command()
@grouped
def stats(expression: FilterArgument = None, *, wanted: FilterArgs, out: OutputArgs, where: SourceArgs) -> None:
    """Count entries: by protocol, direction, state; pressure, expired backlog, half-open; -o wide: histograms.

    \b
    ctctl ct stats
    ctctl ct stats --from snapshot.ctsnap -o json
    """
    from ctctl.cli.report import opened, require_tables
    from ctctl.ct.show import write_stats
    from ctctl.ct.stats import stats as count

    selection = wanted.filter(expression)
    with opened(where) as source:
        require_tables(source, selection)
        write_stats(count(source, selection), out.options(), sys.stdout)


def by_of(word: str) -> By:
    """What ``--by`` names. Raises UsageError."""
    from ctctl.ct.top import By
    from ctctl.model.suggest import unknown_name

    if word not in list(By):
        raise UsageError("--by: " + unknown_name("field", word, [one.value for one in By]))
    return By(word)


@app.command(cls=WatchCommand)
@grouped
def top(
    expression: FilterArgument = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="FIELD",
            help="src, dst, pair, service, backend, identity or port.",
            autocompletion=words("src", "dst", "pair", "service", "backend", "identity", "port"),
        ),
    ] = "src",
    watch: WatchOpt = None,
    *,
    wanted: FilterArgs,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """Who has the most entries.

    \b
    ctctl ct top --by dst --limit 5
    ctctl ct top --by service 'state == new'
    ctctl ct top --by src --watch 2
    """
    from ctctl.cli.report import opened, require_tables
    from ctctl.ct.show import top_view
    from ctctl.ct.top import top as group
    from ctctl.out.output import write_rows
    from ctctl.tables.names import NodeNames

    field = by_of(by)
    options, selection = out.options(), wanted.filter(expression)
    limit = options.limit if options.limit is not None else TOP_ROWS
    with opened(where) as source:
        require_tables(source, selection)
        if watch is not None:
            from ctctl.cli.watching import Watched, watch_top

            watch_top(Watched(source, selection, " ".join(wanted.words(expression))), field, options, watch)
            return
        talkers = group(source, field, selection, limit=None if options.sort else limit, names=NodeNames(source))
        write_rows(top_view(field, talkers), talkers, options, sys.stdout)


@app.command()
@grouped
def events(
    expression: FilterArgument = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Until interrupted (else one interval).")] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECS", parser=seconds(0.05), help="Time between looks.")
    ] = 1.0,
    hooks: Annotated[
        bool | None,
        typer.Option(
            "--hooks/--no-hooks", help="Told by the hooks of a node of ours (default there), or by comparing."
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", parser=whole(1), help="Stop after N events.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--for", metavar="TIME", parser=seconds(0), help="Stop after this time: 10s, 2m.")
    ] = None,
    *,
    wanted: FilterArgs,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """What happens to entries: NEW, UPDATE, CLOSING, DESTROY.

    \b
    ctctl ct events -f
    ctctl ct events -f --to-port 80 -o jsonl
    """
    from itertools import islice

    from ctctl.cli.report import opened, require_tables
    from ctctl.ct.events import events as watch_events
    from ctctl.ct.hook_events import has_hooks, hook_events
    from ctctl.ct.show import event_view
    from ctctl.kernel.stopping import hear_interrupts
    from ctctl.out.output import write_rows

    options = out.options(follow=True)
    if options.format not in (Format.table, Format.wide, Format.jsonl, Format.csv, Format.name) or options.sort:
        raise UsageError("ct events streams: use -o table, wide, jsonl, csv or name, and no --sort")
    limit_s = duration if duration is not None else None if follow else interval
    hear_interrupts()
    with opened(where) as source:
        require_tables(source)
        selection = wanted.filter(expression)
        if hooks and not has_hooks(source):
            raise UsageError("--hooks needs a node that ctctl loaded; without it tables are compared with themselves")
        if hooks or (hooks is None and has_hooks(source)):
            found = hook_events(source, selection, interval_s=interval, duration_s=limit_s)
        else:
            rounds = None if limit_s is None else max(round(limit_s / interval), 1)
            found = watch_events(source, selection, interval_s=interval, rounds=rounds, wait=time.sleep)
        write_rows(event_view(), islice(found, count), options, sys.stdout)


@app.command()
@grouped
def diff(
    first: Annotated[str, typer.Argument(metavar="SRC", help="A source, as --from takes it.")],
    second: Annotated[str, typer.Argument(metavar="SRC", help="Another one.")],
    expression: FilterArgument = None,
    *,
    wanted: FilterArgs,
    out: OutputArgs,
) -> None:
    """What differs from A to B. Exit code 3 if anything does.

    \b
    ctctl ct diff before.ctsnap after.ctsnap
    ctctl ct diff sysdump.zip auto
    """
    from contextlib import ExitStack

    from ctctl.cli.report import opened
    from ctctl.ct.differing import differing
    from ctctl.ct.show_diff import write_differences

    with opened(SourceArgs(source=[first])) as one, ExitStack() as second_one:
        other = one if _is_same(first, second) else second_one.enter_context(opened(SourceArgs(source=[second])))
        found = write_differences(differing(one, other, wanted.filter(expression)), out.options(), sys.stdout)
    if found:
        raise typer.Exit(3)


def _is_same(first: str, second: str) -> bool:
    """Whether two sources are one file, which is read once."""
    from pathlib import Path

    paths = Path(first), Path(second)
    return all(path.is_file() for path in paths) and paths[0].samefile(paths[1])


@app.command()
def decode(
    data: Annotated[
        list[str], typer.Argument(metavar="HEX|0x0413|KEYHEX:VALUEHEX|LINE", help="Bytes, a flag word, a line.")
    ],
    layout: LayoutOpt = None,
    output: OutputOpt = Format.table,
    color: ColorOpt = ColorMode.auto,
) -> None:
    """Say what a flag word, a key, a value or an entry in hex means, or a line of a listing.

    \b
    ctctl ct decode 0x0413         an entry's flags; up to 0xff as TCP's too
    ctctl ct decode RxFlagsSeen=0x1b
    ctctl ct decode 'TCP OUT 10.0.0.1:1 -> 10.0.0.2:80 …'    a line
    ctctl ct decode 0a4000240a4000401f40d3f40600
    """
    from ctctl.cli.options import output_options
    from ctctl.ct.decode import decode as explain
    from ctctl.ct.show_decode import write_decoded
    from ctctl.model.entry import Layout

    version = SourceArgs(layout=layout).options().layout or Layout.V1_16
    found = explain(" ".join(data), version)
    write_decoded(found, version, output_options(output, color=color), sys.stdout)


for _name, _function in (("export", "export"), ("import", "import_"), ("delete", "delete"), ("flush", "flush")):
    app.command(_name)(later("ctctl.cli.ct_change", _function))
app.command("sql")(later("ctctl.cli.fleet", "sql_of_source"))
