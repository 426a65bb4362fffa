"""``ctctl metrics``: Prometheus metrics of a node's tables, and the datapath's own counters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.cli.groups import OutputArgs, TablesArgs, grouped
from ctctl.cli.options import NodeOpt
from ctctl.errors import UsageError

if TYPE_CHECKING:
    from ctctl.model.drops import DatapathCounter
    from ctctl.out.view import View

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Prometheus metrics, and the datapath's counters.",
    no_args_is_help=True,
)


@app.callback()
def metrics() -> None:
    """Prometheus metrics, and the datapath's counters."""


@app.command()
def serve(
    address: Annotated[
        str, typer.Argument(metavar="ADDR", help="HOST:PORT, :PORT for every address, or PORT.")
    ] = "127.0.0.1:9966",
    *,
    source: Annotated[str, typer.Option("--from", metavar="DIR", help="auto or a bpffs directory.")] = "auto",
    node: NodeOpt = None,
    once: Annotated[bool, typer.Option("--once", help="Print one scrape and exit.")] = False,
) -> None:
    """Serve map pressure, conntrack entries, packets and drops of a node; reads only.

    \b
    ctctl metrics serve
    ctctl metrics serve :9966 --node node-a
    ctctl metrics serve --once

    What GC did is counted by the process that collects: ctctl gc --interval auto --metrics ADDR.
    """
    from ctctl.kernel.stopping import stop_on_signals
    from ctctl.metrics.serve import scrape, serve_tables
    from ctctl.node.find import find_tables

    path = find_tables(node) if source == "auto" else Path(source)
    if once:
        typer.echo(scrape(path), nl=False)
        return
    with stop_on_signals() as stop:
        serve_tables(path, address, stop, on_listening=lambda at: typer.echo(f"http://{at}/metrics", err=True))


@app.command()
@grouped
def drops(
    everything: Annotated[bool, typer.Option("--all", help="What was forwarded too.")] = False,
    *,
    out: OutputArgs,
    where: TablesArgs,
) -> None:
    """Why packets were dropped: reason, direction, place in the datapath's code, most packets first.

    \b
    ctctl metrics drops
    ctctl metrics drops --all -o json

    Counted since the node's maps were made. ctctl's own nodes count in ctctl status.
    """
    from ctctl.cli.listed import is_live, listings_of, show_nodes
    from ctctl.cli.report import opened, say
    from ctctl.model.drops import files_of
    from ctctl.services.show_policy import counter_view

    with opened(where) as source:
        if not source.foreign and is_live(source, None):
            raise UsageError("this node is ctctl's own, whose counters are in ctctl status")

        def rows(node: str | None) -> list[DatapathCounter]:
            if not source.home_of(node)[0].foreign and is_live(source, node):
                say(f"{node}: ctctl's own, whose counters are in ctctl status")
                return []
            found = listings_of(source, node, "counters").counters
            chosen = [one for one in found if everything or one.dropped]
            return sorted(chosen, key=lambda one: (-one.packets, one.reason, one.line))

        def view(node: str | None) -> View[DatapathCounter]:
            version = source.version_of(node)
            minor = version.low if version is not None else None
            numbers = [one.file for one in source.some(node, "counters").counters]
            return counter_view(minor, files_of(minor, numbers))

        show_nodes(source, where.node, out, view, rows)
