"""``ctctl metrics``: Prometheus metrics of a node's tables."""

from __future__ import annotations

from typing import Annotated

import typer

from ctctl.cli.options import NodeOpt

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="Prometheus metrics.", no_args_is_help=True)


@app.callback()
def metrics() -> None:
    """Prometheus metrics."""


@app.command()
def serve(
    address: Annotated[
        str, typer.Argument(metavar="[ADDR]", help="HOST:PORT, :PORT for every address, or PORT.")
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
    from ctctl.gc.tables import locate
    from ctctl.kernel.stopping import stop_on_signals
    from ctctl.metrics.serve import scrape, serve_tables

    path = locate(source, node)
    if once:
        typer.echo(scrape(path), nl=False)
        return
    with stop_on_signals() as stop:
        serve_tables(path, address, stop, on_listening=lambda at: typer.echo(f"http://{at}/metrics", err=True))
