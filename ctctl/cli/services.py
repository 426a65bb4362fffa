"""``ctctl lb|nat|ipcache|endpoint|tunnel|socknat``: the tables beside conntrack, live or from a dump."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ctctl.cli.complete import terms
from ctctl.cli.groups import OutputArgs, SourceArgs, grouped
from ctctl.cli.nat_filter import NatFilterArgs
from ctctl.errors import UsageError

if TYPE_CHECKING:
    from ctctl.decode.nat_rows import NatRows, NatTable
    from ctctl.model.nat import NatEntry
    from ctctl.out.view import View
    from ctctl.tables.port_use import PortUse
    from ctctl.tables.query.nat import NatFilter
    from ctctl.tables.sources.base import Source
    from ctctl.tables.sources.listings import Listings

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
    """These kinds of a node's tables; what could not be read, and what is not there, is missing data of the source."""
    from ctctl.cli.report import say

    found = source.some(node, *kinds)
    whose = f"{node}: " if node is not None and len(source.nodes()) > 1 else ""
    absent = [kind for kind in kinds if kind in found.missing]
    if not is_live(source, node):
        missing = [f"{whose}the source does not show {_TITLES[kind]}: unknown" for kind in absent]
    else:
        missing = [f"{whose}{_UNKNOWN[kind]}" for kind in absent if kind in _UNKNOWN]
        for kind in absent:
            if kind not in _UNKNOWN:
                say(whose + _NO_TABLE.get(kind, f"{_TITLES[kind]} is not pinned here"))
    problems = [f"{whose}{problem}" for problem in found.problems]
    source.partial += [text for text in (*problems, *missing) if text not in source.partial]
    return found


def is_live(source: Source, node: str | None) -> bool:
    """Whether a node's tables are read where they are pinned, be it one of several nodes."""
    return source.home_of(node)[0].directory is not None or any(t.live is not None for t in source.tables_of(node))


#: What a kind of listing is called.
_TITLES = {
    "services": "the service table",
    "backends": "the backend table",
    "rev_nats": "the reverse NAT table",
    "source_ranges": "the source ranges",
    "maglev": "the Maglev tables",
    "nat": "the SNAT table",
    "ipcache": "the identity table (ipcache)",
    "endpoints": "the endpoint table",
    "sockets": "the sockets of the socket load balancer",
    "tunnels": "the tunnel table",
    "policy": "the policy maps",
    "counters": "the datapath's counters",
}
#: Kinds that every Cilium node has: where they are not pinned nothing is known.
_UNKNOWN = {
    "counters": "no table of Cilium's counters (cilium_metrics) is pinned here: what was dropped is unknown",
    "policy": "no policy map (cilium_policy_…) is pinned here: what is allowed is unknown",
}
_NO_TABLE = {
    "sockets": "no table of turned sockets is pinned here: there is no socket load balancer",
    "tunnels": "no tunnel table is pinned here: Cilium has it up to 1.16; see ctctl ipcache list",
}


def show(view: View[T], rows: Iterable[T], out: OutputArgs) -> None:
    """Write rows as asked for."""
    from ctctl.out.output import write_rows

    write_rows(view, rows, out.options(), sys.stdout)


def show_nodes(
    source: Source,
    node: str | None,
    out: OutputArgs,
    view: Callable[[str | None], View[T]],
    rows: Callable[[str | None], Iterable[T]],
) -> None:
    """The rows of each node of a source, with the node as a column where there are several and none was named."""
    from ctctl.out.view import by_node

    nodes = source.all_nodes(node)
    if len(nodes) == 1:
        show(view(nodes[0]), rows(nodes[0]), out)
        return
    found = [(one, row) for one in nodes for row in rows(one)]
    show(by_node({one: view(one) for one in nodes}), found, out)


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

        def found(node: str | None, *kinds: str) -> Listings:
            return listings_of(source, node, *kinds)

        if backends:
            show_nodes(
                source,
                where.node,
                out,
                lambda _node: views.backend_view(),
                lambda node: sorted(found(node, "backends").backends, key=lambda b: b.backend_id),
            )
        elif revnat:
            show_nodes(
                source,
                where.node,
                out,
                lambda _node: views.rev_nat_view(),
                lambda node: sorted(found(node, "rev_nats").rev_nats, key=lambda r: r.rev_nat),
            )
        elif source_ranges:
            show_nodes(
                source,
                where.node,
                out,
                lambda _node: views.source_range_view(),
                lambda node: found(node, "source_ranges").source_ranges,
            )
        elif maglev:
            show_nodes(
                source, where.node, out, lambda _node: views.maglev_view(), lambda node: found(node, "maglev").maglev
            )
        elif frontends:
            show_nodes(
                source,
                where.node,
                out,
                lambda node: views.slot_view(source.minor_of(node)),
                lambda node: found(node, "services").services,
            )
        else:

            def grouped_slots(node: str | None) -> list[views.Frontend]:
                tables = found(node, "services")
                backends_too = source.some(node, "backends").backends
                return views.frontends(tables.services, backends_too, names_of(source, node))

            show_nodes(source, where.node, out, lambda node: views.frontend_view(source.minor_of(node)), grouped_slots)


NatFilterArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILTER", help="e.g. 'tcp and nat_addr == 192.0.2.1 and dst_port == 443'", autocompletion=terms
    ),
]


def _nat_filter(
    source: Source, node: str | None, where: SourceArgs, wanted: NatFilterArgs, expression: list[str] | None
) -> NatFilter:
    from ctctl.tables.names import SourceNames
    from ctctl.tables.query.nat import NatFilter

    named = node or next(iter(source.nodes()), None)
    clock, now = source.time(node)
    return NatFilter(
        wanted.filter(expression).node, SourceNames(source, node), named, clock, where.now if now is None else now
    )


def _nat_entries(
    source: Source, node: str | None, where: SourceArgs, wanted: NatFilterArgs, expression: list[str] | None
) -> list[NatEntry]:
    chosen = _nat_filter(source, node, where, wanted, expression)
    found = listings_of(source, node, "nat").nat
    return [entry for entry in found if where.map in (None, entry.map) and chosen(entry)]


def _nat_tables(source: Source, node: str | None, where: SourceArgs) -> list[NatTable] | None:
    """The SNAT tables of a node whose bytes are there, or a listing's; None: entry by entry, as where one of them
    cannot be read."""
    if source.snat is None:
        tables = listings_of(source, node, "nat").nat_tables() or []
        return [table for table in tables if where.map in (None, table.name)] or None
    tables = source.snat(node)
    if source.directory is not None:
        from pathlib import Path

        from ctctl.abi.pins import SNAT_TABLES

        there = {name for name in SNAT_TABLES.values() if Path(source.directory, name).exists()}
        if where.map is None and there != {table.name for table in tables}:
            return None
    return [table for table in tables if where.map in (None, table.name)] or None


def _nat_reader(
    source: Source, node: str | None, where: SourceArgs, wanted: NatFilterArgs, expression: list[str] | None
) -> Callable[[], Iterator[NatRows]]:
    """The wanted SNAT entries, anew each time."""
    from ctctl.decode.nat_rows import rows_of
    from ctctl.services.nat_rows import matching

    tables = _nat_tables(source, node, where)
    if tables is None:
        entries = _nat_entries(source, node, where, wanted, expression)
        return lambda: rows_of(entries)
    chosen, found = _nat_filter(source, node, where, wanted, expression), tables
    return lambda: (rows for table in found for rows in matching(table, chosen))


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

        def view(node: str | None) -> View[NatEntry]:
            clock, now = source.time(node)
            return nat_view(names_of(source, node), clock, where.now if now is None else now)

        nodes = source.all_nodes(where.node)
        tables = _nat_tables(source, nodes[0], where) if len(nodes) == 1 else None
        if tables is not None:
            from ctctl.services.nat_form import NatForm
            from ctctl.services.nat_rows import listed, write_tables

            (node,) = nodes
            names, (clock, now) = names_of(source, node), source.time(node)
            now = where.now if now is None else now
            chosen = _nat_filter(source, node, where, wanted, expression)
            found = listed(tables, lambda t: NatForm(t.name, t.family, names, clock, now, absent=t.absent), chosen)
            write_tables(found, view(node), out.options(), sys.stdout)
            return
        show_nodes(source, where.node, out, view, lambda node: _nat_entries(source, node, where, wanted, expression))


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
    from ctctl.services.show_nat import port_use_view
    from ctctl.tables.names import names_of
    from ctctl.tables.port_use import port_use
    from ctctl.tables.snat_ports import LAST_PORT, PortRange, range_of

    with opened(where, pages=True) as source:
        told = PortRange(first_port, LAST_PORT, "--first-port", said=True) if first_port else None
        unsaid: dict[str, None] = {}

        def used(node: str | None) -> list[PortUse]:
            read = _nat_reader(source, node, where, wanted, expression)
            found = port_use(read, told or range_of(source, node), None if out.sort else out.limit)
            unsaid.update(dict.fromkeys(f"{u.range} ({u.range.evidence})" for u in found if not u.range.said))
            return found

        show_nodes(source, where.node, out, lambda node: port_use_view(names_of(source, node)), used)
        if unsaid:
            say(f"the range of SNAT's ports is taken for {', '.join(unsaid)}; else give --first-port")


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
        show_nodes(
            source,
            where.node,
            out,
            lambda node: ipcache_view(names_of(source, node), source.minor_of(node)),
            lambda node: listings_of(source, node, "ipcache").ipcache,
        )


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
        show_nodes(
            source,
            where.node,
            out,
            lambda node: endpoint_view(names_of(source, node), source.minor_of(node)),
            lambda node: listings_of(source, node, "endpoints").endpoints,
        )


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
        show_nodes(
            source,
            where.node,
            out,
            lambda _node: tunnel_view(),
            lambda node: listings_of(source, node, "tunnels").tunnels,
        )


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
        show_nodes(
            source,
            where.node,
            out,
            lambda node: socket_view(names_of(source, node)),
            lambda node: sorted(listings_of(source, node, "sockets").sockets, key=lambda s: s.cookie),
        )
