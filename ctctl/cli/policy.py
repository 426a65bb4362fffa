"""``ctctl policy``: the policy maps of a node's endpoints."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.cli.complete import endpoints
from ctctl.cli.groups import OutputArgs, TablesArgs, grouped
from ctctl.errors import UsageError

if TYPE_CHECKING:
    from ctctl.model.policy import PolicyEntry
    from ctctl.model.tuples import FlowTuple
    from ctctl.services.policy import Verdict
    from ctctl.tables.sources.base import Source

app = typer.Typer(
    help="Who may talk to whom: the policy maps of a node's endpoints.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@app.callback()
def policy() -> None:
    """Who may talk to whom: the policy maps of a node's endpoints."""


@app.command("list")
@grouped
def list_rules(
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="NAME|IP|ID", help="Only this endpoint.", autocompletion=endpoints),
    ] = None,
    *,
    out: OutputArgs,
    where: TablesArgs,
) -> None:
    """List the rules of every endpoint as the datapath has them, with what each let through.

    \b
    ctctl policy list
    ctctl policy list --endpoint default/web-1
    """
    from ctctl.cli.listed import listings_of, show_nodes
    from ctctl.cli.report import opened
    from ctctl.services.show_policy import policy_view
    from ctctl.tables.names import names_of

    with opened(where, pages=True) as source:

        def rules(node: str | None) -> list[PolicyEntry]:
            found = listings_of(source, node, "policy").policy
            numbers = None if endpoint is None else _endpoint_ids(source, node, endpoint)
            return sorted((rule for rule in found if numbers is None or rule.endpoint_id in numbers), key=_order)

        if endpoint is not None:
            _check_endpoint(source, where.node, endpoint)
        show_nodes(
            source, where.node, out, lambda node: policy_view(names_of(source, node), source.minor_of(node)), rules
        )


def _order(rule: PolicyEntry) -> tuple[int | str, ...]:
    number = -1 if rule.identity is None else rule.identity
    return (
        rule.endpoint_id or 0,
        rule.egress,
        -(rule.precedence or 0),
        -rule.prefix_bits,
        number,
        " ".join(rule.labels),
    )


def _check_endpoint(source: Source, node: str | None, text: str) -> None:
    """Raise UsageError for an endpoint that no node has, and what the names of each say of it."""
    errors: list[UsageError] = []
    for one in source.all_nodes(node):
        try:
            if _endpoint_ids(source, one, text):
                return
        except UsageError as error:
            errors.append(error)
    if errors and len(errors) == len(source.all_nodes(node)):
        raise errors[0]
    raise UsageError(f"--endpoint {text}: no endpoint of this node; see ctctl endpoint list")


def _endpoint_ids(source: Source, node: str | None, text: str) -> set[int]:
    """Numbers of a node's endpoints with that name, address or number. Raises UsageError for an unknown name."""
    from ctctl.model.units import decimal
    from ctctl.tables.names import book_of
    from ctctl.tables.query.values import network

    if (number := decimal(text)) is not None:
        return {number}
    book = book_of(source, node)
    try:
        wanted = [network(text)]
    except ValueError:
        wanted = list(book.networks(text))
    return {
        record.endpoint_id
        for record in book.listings.endpoints
        if not record.is_host and any(record.addr.version == n.version and record.addr in n for n in wanted)
    }


@app.command("get")
@grouped
def get_verdict(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="e.g. 'tcp default/client > default/web:8000'")],
    *,
    out: OutputArgs,
    where: TablesArgs,
) -> None:
    """Say whether a connection is allowed, and which rule decided, at each end that is an endpoint here.

    \b
    ctctl policy get 'tcp 10.64.0.36 > 10.64.0.64:8000'
    ctctl policy get 'udp default/client > kube-system/dns:53'

    Of a service's address policy is asked for each backend that it sends to.
    """
    from ctctl.cli.listed import listings_of, show_nodes
    from ctctl.cli.report import opened, say
    from ctctl.services.policy import judge
    from ctctl.services.show_policy import verdict_view
    from ctctl.tables.flow_text import connection_of
    from ctctl.tables.names import book_of

    with opened(where, pages=True) as source:
        found: dict[str | None, list[Verdict]] = {}
        asked, unseen = 0, False
        for node in source.all_nodes(where.node):
            connection = connection_of(flow, book_of(source, node))
            tables = listings_of(source, node, "policy", "endpoints", "ipcache")
            unseen |= "endpoints" in tables.missing
            ways = _ways(source, node, connection)
            asked += len(ways)
            verdicts = [
                verdict for way in ways for verdict in judge(way, tables.policy, tables.endpoints, tables.ipcache)
            ]
            found[node] = [_with_policies(verdict, source) for verdict in dict.fromkeys(verdicts)]
        if asked and unseen and not any(found.values()):
            source.partial.append(
                f"without the endpoint table nothing tells who decides about {connection.src} and {connection.dst}"
            )
        elif asked and not any(found.values()):
            say(f"neither {connection.src} nor {connection.dst} is an endpoint of this node: nothing here decides")
        show_nodes(
            source, where.node, out, lambda node: verdict_view(book_of(source, node).shown()), lambda node: found[node]
        )


def _ways(source: Source, node: str | None, connection: FlowTuple) -> list[FlowTuple]:
    """What policy is asked for on a node, with a word where that is not the connection itself."""
    from ctctl.cli.report import say
    from ctctl.services.policy import behind_service

    listings = source.some(node, "services", "backends")
    whose = f"{node}: " if node is not None and len(source.nodes()) > 1 else ""
    problems = [f"{whose}{problem}" for problem in listings.problems]
    source.partial += [text for text in problems if text not in source.partial]
    ways, said = behind_service(connection, listings.services, listings.backends)
    if said:
        say(said)
    return ways


def _with_policies(verdict: Verdict, source: Source) -> Verdict:
    """With the policies behind the rule, where the agent can be asked."""
    from pathlib import Path

    from ctctl.node import agent
    from ctctl.node.cilium import is_this_nodes
    from ctctl.services.policy import derived_from

    rule: PolicyEntry | None = verdict.rule
    if rule is None or source.directory is None or not is_this_nodes(Path(source.directory)):
        return verdict
    return replace(verdict, derived_from=derived_from(agent.ask(f"/endpoint/{verdict.endpoint_id}"), rule))
