"""``ctctl lb|ipcache|endpoint|tunnel|socknat``: services and what is known of addresses, live or from a dump."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctctl.cli.groups import OutputArgs, TablesArgs, grouped
from ctctl.cli.listed import listings_of, show_nodes
from ctctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctctl.out.view import View
    from ctctl.tables.sources.base import Source


def _app(text: str) -> typer.Typer:
    app = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, add_completion=False)
    app.callback()(lambda: None)
    return app


lb_app = _app("Load balancer tables: frontends, backends, reverse NAT, source ranges, Maglev.")
ipcache_app = _app("The identity table.")
endpoint_app = _app("The endpoints of a node.")
tunnel_app = _app("The tunnel table of Cilium up to 1.16.")
socknat_app = _app("Sockets whose connections the socket load balancer turned to a backend.")


@lb_app.command("list")
@grouped
def list_lb(
    frontends: Annotated[bool, typer.Option("--frontends", help="The service tables' records as they stand.")] = False,
    backends: Annotated[bool, typer.Option("--backends", help="The backend table.")] = False,
    revnat: Annotated[bool, typer.Option("--revnat", help="The reverse NAT table.")] = False,
    source_ranges: Annotated[bool, typer.Option("--source-ranges", help="Source ranges.")] = False,
    maglev: Annotated[bool, typer.Option("--maglev", help="Maglev tables: slots by backend.")] = False,
    *,
    out: OutputArgs,
    where: TablesArgs,
) -> None:
    """List frontends with their backends, or one of the other tables.

    \b
    ctctl lb list
    ctctl lb list --backends --from sysdump.zip
    ctctl lb list -o cilium
    """
    from ctctl.cli.report import opened
    from ctctl.services import show_lb as views
    from ctctl.tables.names import names_of

    if frontends + backends + revnat + source_ranges + maglev > 1:
        raise UsageError("choose one of --frontends, --backends, --revnat, --source-ranges and --maglev")
    asked = {"backends": backends, "rev_nats": revnat, "source_ranges": source_ranges, "maglev": maglev}
    asked["services"] = frontends
    kind = next((kind for kind, chosen in asked.items() if chosen), None)
    with opened(where, pages=True) as source:
        if kind is not None:
            view, order = _lb_tables(source)[kind]
            show_nodes(
                source,
                where.node,
                out,
                view,
                lambda node: sorted(getattr(listings_of(source, node, kind), kind), key=order),
            )
            return

        @cache
        def grouped_slots(node: str | None) -> list[views.Frontend]:
            tables = listings_of(source, node, "services")
            more = source.some(node, "backends")
            backends_too = None if "backends" in more.missing else more.backends
            return views.frontends(tables.services, backends_too, names_of(source, node))

        def view_of(node: str | None) -> View[views.Frontend]:
            # The same columns of every node.
            scopes = any(views.has_scopes(grouped_slots(one)) for one in source.all_nodes(where.node))
            return views.frontend_view(source.minor_of(node), scopes=scopes)

        show_nodes(source, where.node, out, view_of, grouped_slots)


def _lb_tables(source: Source) -> dict[str, tuple[Callable[[str | None], View[Any]], Callable[[Any], int]]]:
    """Of each kind of record how a node's are shown, and by what they are sorted (0: as they lie)."""
    from ctctl.services import show_lb as views

    return {
        "backends": (lambda _node: views.backend_view(), lambda backend: backend.backend_id),
        "rev_nats": (lambda _node: views.rev_nat_view(), lambda service: service.rev_nat),
        "source_ranges": (lambda _node: views.source_range_view(), lambda _range: 0),
        "maglev": (lambda _node: views.maglev_view(), lambda _table: 0),
        "services": (lambda node: views.slot_view(source.minor_of(node)), lambda _slot: 0),
    }


@ipcache_app.command("list")
@grouped
def list_ipcache(*, out: OutputArgs, where: TablesArgs) -> None:
    """List identities by prefix.

    \b
    ctctl ipcache list
    """
    from ctctl.cli.report import opened
    from ctctl.services.show_identity import ipcache_view
    from ctctl.tables.names import names_of

    with opened(where, pages=True) as source:
        show_nodes(
            source,
            where.node,
            out,
            lambda node: ipcache_view(names_of(source, node), source.minor_of(node)),
            lambda node: listings_of(source, node, "ipcache").ipcache,
        )


@endpoint_app.command("list")
@grouped
def list_endpoints(*, out: OutputArgs, where: TablesArgs) -> None:
    """List local endpoints.

    \b
    ctctl endpoint list
    """
    from ctctl.cli.report import opened
    from ctctl.services.show_identity import endpoint_view
    from ctctl.tables.names import names_of

    with opened(where, pages=True) as source:
        show_nodes(
            source,
            where.node,
            out,
            lambda node: endpoint_view(names_of(source, node), source.minor_of(node)),
            lambda node: listings_of(source, node, "endpoints").endpoints,
        )


@tunnel_app.command("list")
@grouped
def list_tunnels(*, out: OutputArgs, where: TablesArgs) -> None:
    """List which node the pods of a prefix are behind (Cilium up to 1.16; later: ctctl ipcache list).

    \b
    ctctl tunnel list
    """
    from ctctl.cli.report import opened
    from ctctl.services.show_identity import tunnel_view

    with opened(where, pages=True) as source:
        show_nodes(
            source,
            where.node,
            out,
            lambda _node: tunnel_view(),
            lambda node: listings_of(source, node, "tunnels").tunnels,
        )


@socknat_app.command("list")
@grouped
def list_sockets(*, out: OutputArgs, where: TablesArgs) -> None:
    """List sockets by cookie: the frontend they connected to, and the backend their packets go to.

    \b
    ctctl socknat list
    """
    from ctctl.cli.report import opened
    from ctctl.services.show_identity import socket_view
    from ctctl.tables.names import names_of

    with opened(where, pages=True) as source:
        show_nodes(
            source,
            where.node,
            out,
            lambda node: socket_view(names_of(source, node)),
            lambda node: sorted(listings_of(source, node, "sockets").sockets, key=lambda s: s.cookie),
        )
