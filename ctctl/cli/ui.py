"""``ctctl ui``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ctctl.cli.ct import FilterArgument
from ctctl.cli.groups import SourceArgs, grouped
from ctctl.cli.numbers import seconds
from ctctl.cli.options import SortOpt

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@grouped
def ui(
    expression: FilterArgument = None,
    sort: SortOpt = None,
    interval: Annotated[
        float,
        typer.Option(
            "--interval", metavar="SECS", parser=seconds(0.2), help="Time between looks; longer if one is costly."
        ),
    ] = 1.0,
    *,
    where: SourceArgs,
) -> None:
    """The tables on a full screen, kept up to date: rows, states over time, top talkers, findings. Never writes.

    \b
    ctctl ui
    ctctl ui 'proto == tcp and state == closing' --sort remaining
    ctctl ui --node node1
    ctctl ui --from node-a.ctsnap --from node-b.ctsnap
    ctctl ui --from cilium-sysdump.zip

    / filters as you type, s and < > sort, r reverses, Enter opens a connection, from there t traces it live,
    Esc goes back, 1 to 5 are the pages, q quits. Needs textual, which comes with the extra ctctl[ui].
    """
    from ctctl.cli.report import opened, require_tables, source_words
    from ctctl.errors import MissingLibraryError, UsageError
    from ctctl.tables.query.filter import Filter
    from ctctl.tables.show.entry import ct_view

    text = " ".join(expression or ())
    Filter.parse(text)
    if sort is not None:
        ct_view().column(sort.removeprefix("-"), "sort field")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("ctctl ui needs a terminal for its keys and its screen; ctctl ct list prints the same rows")
    try:
        from ctctl.ui.app import Screenful
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise MissingLibraryError("ctctl ui needs textual", "ui") from error
    with opened(where) as source:
        require_tables(source)
        screen = Screenful(source, text, sort, interval, source_words(where))
        screen.run()
        if screen.fault is not None:
            raise screen.fault
