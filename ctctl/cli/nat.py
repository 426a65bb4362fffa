"""``ctctl nat``: the SNAT table, live or from a dump."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.cli.complete import terms
from ctctl.cli.groups import OutputArgs, SourceArgs, grouped
from ctctl.cli.listed import check_table, listings_of, show_nodes
from ctctl.cli.nat_filter import NatFilterArgs

if TYPE_CHECKING:
    from ctctl.decode.nat_rows import NatRows, NatTable
    from ctctl.model.nat import NatEntry
    from ctctl.out.view import View
    from ctctl.tables.port_use import PortUse
    from ctctl.tables.query.nat import NatFilter
    from ctctl.tables.sources.base import Source


app = typer.Typer(
    help="The SNAT table: its entries, and the use of its ports.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)
app.callback()(lambda: None)


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
    check_table(source, "nat")
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


@app.command("list")
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
    from ctctl.out.fetched import says_node
    from ctctl.services.show_nat import nat_view
    from ctctl.tables.names import names_of

    with opened(where, pages=True) as source:

        def view(node: str | None) -> View[NatEntry]:
            clock, now = source.time(node)
            return nat_view(names_of(source, node), clock, where.now if now is None else now)

        nodes = source.all_nodes(where.node)
        tables = _nat_tables(source, nodes[0], where) if not says_node(nodes) else None
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


@app.command("stats")
@grouped
def nat_stats(
    expression: NatFilterArgument = None,
    first_port: Annotated[
        int | None,
        typer.Option(
            "--first-port",
            metavar="N",
            min=1,
            max=65535,
            help="First port that SNAT gives out; else as the node says, or 32768.",
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
