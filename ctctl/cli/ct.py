"""``ctctl ct``: the conntrack table, live or from a file."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ctctl.cli.groups import FilterArgs, OutputArgs, SourceArgs, grouped
from ctctl.cli.options import RawOpt

app = typer.Typer(
    add_completion=False,
    help="The conntrack table: list, get, stats, top, events, diff, delete.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

FilterArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILTER", help="e.g. 'proto == tcp and remaining < 30s and dst in 10.64.0.0/16'"),
]


@app.command("list")
@grouped
def list_entries(
    expression: FilterArgument = None,
    time_diff: Annotated[bool, typer.Option("--time-diff", help="With -o cilium: show the remaining time.")] = False,
    raw: RawOpt = False,
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
    from ctctl.cli.report import opened
    from ctctl.ops.ct_rows import matching, rows
    from ctctl.render.ct_list import write_listing

    options = out.options()
    selection = wanted.filter(expression)
    with opened(where) as source:
        write_listing(
            source,
            lambda table: matching(table, selection),
            lambda: rows(source, selection, sort=options.sort, limit=options.limit),
            options,
            sys.stdout,
            raw=raw,
            time_diff=time_diff,
        )
