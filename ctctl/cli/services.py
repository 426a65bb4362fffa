"""``ctctl lb|nat|ipcache|endpoint list``: the tables beside conntrack, live or from a dump."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ctctl.cli.groups import OutputArgs, SourceArgs, grouped
from ctctl.errors import UsageError


def _app(text: str) -> typer.Typer:
    app = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, add_completion=False)
    app.callback()(lambda: None)
    return app


lb_app = _app("Load balancer tables: frontends, backends, reverse NAT, source ranges, Maglev.")
nat_app = _app("The SNAT table.")
ipcache_app = _app("The identity table.")
endpoint_app = _app("The endpoints of a node.")


@lb_app.command("list")
@grouped
def list_lb(
    backends: Annotated[bool, typer.Option("--backends", help="The backend table.")] = False,
    revnat: Annotated[bool, typer.Option("--revnat", help="The reverse NAT table.")] = False,
    source_ranges: Annotated[bool, typer.Option("--source-ranges", help="Source ranges.")] = False,
    maglev: Annotated[bool, typer.Option("--maglev", help="Maglev tables: slots by backend.")] = False,
    *,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """List frontends with their backends, or one of the other tables.

    \b
    ctctl lb list
    ctctl lb list --backends --from sysdump.zip
    """
    from ctctl.cli.report import opened, say_which_node
    from ctctl.out.output import write_rows
    from ctctl.services import show as views
    from ctctl.tables.names import names_of

    if backends + revnat + source_ranges + maglev > 1:
        raise UsageError("choose one of --backends, --revnat, --source-ranges and --maglev")
    options = out.options()
    with opened(where) as source:
        say_which_node(source, where.node)
        kinds = (
            ["backends"] * backends + ["rev_nats"] * revnat + ["source_ranges"] * source_ranges + ["maglev"] * maglev
        )
        found = source.some(where.node, *(kinds or ("services", "backends")))
        if backends:
            write_rows(views.backend_view(), sorted(found.backends, key=lambda b: b.backend_id), options, sys.stdout)
        elif revnat:
            write_rows(views.rev_nat_view(), sorted(found.rev_nats, key=lambda r: r.rev_nat), options, sys.stdout)
        elif source_ranges:
            write_rows(views.source_range_view(), found.source_ranges, options, sys.stdout)
        elif maglev:
            write_rows(views.maglev_view(), found.maglev, options, sys.stdout)
        else:
            grouped_slots = views.frontends(found.services, found.backends, names_of(source, where.node))
            write_rows(views.frontend_view(), grouped_slots, options, sys.stdout)


@nat_app.command("list")
@grouped
def list_nat(*, out: OutputArgs, where: SourceArgs) -> None:
    """List SNAT entries, in real packet order.

    \b
    ctctl nat list
    ctctl nat list --from nat-list.txt -o json
    """
    from ctctl.cli.report import opened, say_which_node
    from ctctl.out.output import write_rows
    from ctctl.services.show import nat_view

    with opened(where) as source:
        say_which_node(source, where.node)
        nows = {table.now for table in source.tables}
        now = nows.pop() if len(nows) == 1 else where.now
        write_rows(nat_view(now), source.some(where.node, "nat").nat, out.options(), sys.stdout)


@ipcache_app.command("list")
@grouped
def list_ipcache(*, out: OutputArgs, where: SourceArgs) -> None:
    """List identities by prefix.

    \b
    ctctl ipcache list
    """
    from ctctl.cli.report import opened, say_which_node
    from ctctl.out.output import write_rows
    from ctctl.services.show import ipcache_view

    with opened(where) as source:
        say_which_node(source, where.node)
        write_rows(ipcache_view(), source.some(where.node, "ipcache").ipcache, out.options(), sys.stdout)


@endpoint_app.command("list")
@grouped
def list_endpoints(*, out: OutputArgs, where: SourceArgs) -> None:
    """List local endpoints.

    \b
    ctctl endpoint list
    """
    from ctctl.cli.report import opened, say_which_node
    from ctctl.out.output import write_rows
    from ctctl.services.show import endpoint_view
    from ctctl.tables.names import names_of

    with opened(where) as source:
        say_which_node(source, where.node)
        found = source.some(where.node, "endpoints").endpoints
        write_rows(endpoint_view(names_of(source, where.node)), found, out.options(), sys.stdout)
