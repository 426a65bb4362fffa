"""``ctctl lb|nat|ipcache|endpoint|tunnel|socknat``: the tables beside conntrack, live or from a dump."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ctctl.cli.complete import terms
from ctctl.cli.groups import NatFilterArgs, OutputArgs, SourceArgs, grouped
from ctctl.errors import UsageError

if TYPE_CHECKING:
    from ctctl.model.nat import NatEntry
    from ctctl.out.output import View
    from ctctl.tables.sources.base import Listings, Source

T = TypeVar("T")


def _app(text: str) -> typer.Typer:
    app = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, add_completion=False)
    app.callback()(lambda: None)
    return app


lb_app = _app("Load balancer tables: frontends, backends, reverse NAT, source ranges, Maglev.")
nat_app = _app("The SNAT table: its entries, and the use of its ports.")
ipcache_app = _app("The identity table.")
endpoint_app = _app("The endpoints of a node.")
tunnel_app = _app("The tunnel table of Cilium up to 1.16.")
socknat_app = _app("Sockets whose connections the socket load balancer turned to a backend.")


def listings_of(source: Source, node: str | None, *kinds: str) -> Listings:
    """These kinds of a node's tables; what could not be read is missing data of the source."""
    from ctctl.cli.report import say, say_which_node

    say_which_node(source, node)
    found = source.some(node, *kinds)
    source.partial += [problem for problem in found.problems if problem not in source.partial]
    source.partial += [_UNKNOWN[kind] for kind in kinds if kind in found.missing and kind in _UNKNOWN]
    if source.directory is None:
        unread = [kind for kind in kinds if kind in _LIVE_ONLY and not getattr(found, kind)]
        source.partial += [f"{source.description} does not show the {_LIVE_ONLY[kind]}" for kind in unread]
    for kind in kinds:
        if kind in found.missing and kind in _NO_TABLE:
            say(_NO_TABLE[kind])
    return found


#: Kinds whose absence is no empty answer but none, and those that not every node has.
_UNKNOWN = {
    "counters": "no table of Cilium's counters (cilium_metrics) is pinned here: what was dropped is unknown",
    "policy": "no policy map (cilium_policy_…) is pinned here: what is allowed is unknown",
}
#: Kinds that are read from pinned tables only.
_LIVE_ONLY = {
    "counters": "datapath's counters",
    "policy": "policy maps",
    "sockets": "sockets of the socket load balancer",
    "tunnels": "tunnel table",
}
_NO_TABLE = {
    "sockets": "no table of turned sockets is pinned here: there is no socket load balancer",
    "tunnels": "no tunnel table is pinned here: Cilium has it up to 1.16; see ctctl ipcache list",
}


def show(view: View[T], rows: Iterable[T], out: OutputArgs) -> None:
    """Write rows as asked for."""
    from ctctl.out.output import write_rows

    write_rows(view, rows, out.options(), sys.stdout)


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
    where: SourceArgs,
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
    with opened(where, pages=True) as source:
        if backends:
            found = listings_of(source, where.node, "backends")
            show(views.backend_view(), sorted(found.backends, key=lambda b: b.backend_id), out)
        elif revnat:
            found = listings_of(source, where.node, "rev_nats")
            show(views.rev_nat_view(), sorted(found.rev_nats, key=lambda r: r.rev_nat), out)
        elif source_ranges:
            show(views.source_range_view(), listings_of(source, where.node, "source_ranges").source_ranges, out)
        elif maglev:
            show(views.maglev_view(), listings_of(source, where.node, "maglev").maglev, out)
        elif frontends:
            show(views.slot_view(source.minor), listings_of(source, where.node, "services").services, out)
        else:
            found = listings_of(source, where.node, "services", "backends")
            grouped_slots = views.frontends(found.services, found.backends, names_of(source, where.node))
            show(views.frontend_view(source.minor), grouped_slots, out)


NatFilterArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILTER", help="e.g. 'tcp and nat_addr == 192.0.2.1 and dst_port == 443'", autocompletion=terms
    ),
]


def _nat_entries(
    source: Source, where: SourceArgs, wanted: NatFilterArgs, expression: list[str] | None
) -> list[NatEntry]:
    from ctctl.tables.names import SourceNames
    from ctctl.tables.query.nat import NatFilter

    node = where.node or next(iter(source.nodes()), None)
    chosen = NatFilter(wanted.filter(expression).node, SourceNames(source, where.node), node)
    found = listings_of(source, where.node, "nat").nat
    return [entry for entry in found if where.map in (None, entry.map) and chosen(entry)]


@nat_app.command("list")
@grouped
def list_nat(
    expression: NatFilterArgument = None,
    *,
    wanted: NatFilterArgs,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """List SNAT entries, in real packet order.

    \b
    ctctl nat list
    ctctl nat list --ip default/web-1 --protocol udp
    ctctl nat list 'nat_port in 40000..40100' -o json
    """
    from ctctl.cli.report import opened
    from ctctl.services.show_nat import nat_view
    from ctctl.tables.names import names_of

    with opened(where, pages=True) as source:
        entries = _nat_entries(source, where, wanted, expression)
        clock, now = source.time(where.node)
        show(nat_view(names_of(source, where.node), clock, where.now if now is None else now), entries, out)


@nat_app.command("stats")
@grouped
def nat_stats(
    expression: NatFilterArgument = None,
    first_port: Annotated[
        int | None,
        typer.Option(
            "--first-port", min=1, max=65535, help="First port that SNAT gives out; else as the node says, or 32768."
        ),
    ] = None,
    *,
    wanted: NatFilterArgs,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """Port use by egress address and remote end, the fullest first: what runs out where SNAT fails.

    \b
    ctctl nat stats
    ctctl nat stats 'nat_addr == 192.0.2.1' --limit 10
    """
    from ctctl.cli.report import opened, say
    from ctctl.services.nat import port_use
    from ctctl.services.show_nat import port_use_view
    from ctctl.tables.names import names_of
    from ctctl.tables.snat_ports import LAST_PORT, PortRange, range_of

    with opened(where, pages=True) as source:
        entries = _nat_entries(source, where, wanted, expression)
        told = PortRange(first_port, LAST_PORT, "--first-port", said=True) if first_port else None
        found = port_use(entries, told or range_of(source, where.node))
        if unsaid := dict.fromkeys(f"{one.range} ({one.range.evidence})" for one in found if not one.range.said):
            say(f"the range of SNAT's ports is taken for {', '.join(unsaid)}; else give --first-port")
        show(port_use_view(names_of(source, where.node)), found, out)


@ipcache_app.command("list")
@grouped
def list_ipcache(*, out: OutputArgs, where: SourceArgs) -> None:
    """List identities by prefix.

    \b
    ctctl ipcache list
    """
    from ctctl.cli.report import opened
    from ctctl.services.show_identity import ipcache_view
    from ctctl.tables.names import names_of

    with opened(where, pages=True) as source:
        found = listings_of(source, where.node, "ipcache").ipcache
        show(ipcache_view(names_of(source, where.node), source.minor), found, out)


@endpoint_app.command("list")
@grouped
def list_endpoints(*, out: OutputArgs, where: SourceArgs) -> None:
    """List local endpoints.

    \b
    ctctl endpoint list
    """
    from ctctl.cli.report import opened
    from ctctl.services.show_identity import endpoint_view
    from ctctl.tables.names import names_of

    with opened(where, pages=True) as source:
        found = listings_of(source, where.node, "endpoints").endpoints
        show(endpoint_view(names_of(source, where.node), source.minor), found, out)


@tunnel_app.command("list")
@grouped
def list_tunnels(*, out: OutputArgs, where: SourceArgs) -> None:
    """List which node the pods of a prefix are behind (Cilium up to 1.16; later: ctctl ipcache list).

    \b
    ctctl tunnel list
    """
    from ctctl.cli.report import opened
    from ctctl.services.show_identity import tunnel_view

    with opened(where, pages=True) as source:
        show(tunnel_view(), listings_of(source, where.node, "tunnels").tunnels, out)


@socknat_app.command("list")
@grouped
def list_sockets(*, out: OutputArgs, where: SourceArgs) -> None:
    """List sockets by cookie: the frontend they connected to, and the backend their packets go to.

    \b
    ctctl socknat list
    """
    from ctctl.cli.report import opened
    from ctctl.services.show_identity import socket_view
    from ctctl.tables.names import names_of

    with opened(where, pages=True) as source:
        found = listings_of(source, where.node, "sockets").sockets
        show(socket_view(names_of(source, where.node)), sorted(found, key=lambda s: s.cookie), out)
