"""``ctctl policy``: the policy maps of a node's endpoints."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.cli.complete import endpoints
from ctctl.cli.groups import OutputArgs, SourceArgs, grouped
from ctctl.errors import UsageError

if TYPE_CHECKING:
    from ctctl.model.policy import PolicyEntry
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
    where: SourceArgs,
) -> None:
    """List the rules of every endpoint as the datapath has them, with what each let through.

    \b
    ctctl policy list
    ctctl policy list --endpoint default/web-1
    """
    from ctctl.cli.report import opened
    from ctctl.cli.services import listings_of, show
    from ctctl.services.show_policy import policy_view
    from ctctl.tables.names import names_of

    with opened(where, pages=True) as source:
        rules = listings_of(source, where.node, "policy").policy
        if endpoint is not None:
            number = _endpoint_id(source, where.node, endpoint)
            rules = [rule for rule in rules if rule.endpoint_id == number]
        rules.sort(key=lambda r: (r.endpoint_id, r.egress, -(r.precedence or 0), -r.prefix_bits, r.identity))
        show(policy_view(names_of(source, where.node), source.minor), rules, out)


def _endpoint_id(source: Source, node: str | None, text: str) -> int:
    """The number of an endpoint. Raises UsageError for one that is not here."""
    from ctctl.model.units import decimal
    from ctctl.tables.names import book_of
    from ctctl.tables.query.values import network

    if (number := decimal(text)) is not None:
        return number
    book = book_of(source, node)
    try:
        wanted = [network(text)]
    except ValueError:
        wanted = list(book.networks(text))
    for record in book.listings.endpoints:
        if not record.flags & 1 and any(record.addr.version == n.version and record.addr in n for n in wanted):
            return record.endpoint_id
    raise UsageError(f"--endpoint {text}: no endpoint of this node; see ctctl endpoint list")


@app.command("get")
@grouped
def get_verdict(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="e.g. 'tcp default/client > default/web:8000'")],
    *,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """Say whether a connection is allowed, and which rule decided, at each end that is an endpoint here.

    \b
    ctctl policy get 'tcp 10.64.0.36 > 10.64.0.64:8000'
    ctctl policy get 'udp default/client > kube-system/dns:53'

    A service's address stands for no backend: name the pod it sends to.
    """
    from ctctl.cli.report import opened, say
    from ctctl.cli.services import listings_of
    from ctctl.out.output import write_rows
    from ctctl.services.policy import judge
    from ctctl.services.show_policy import verdict_view
    from ctctl.tables.flow_text import connection_of
    from ctctl.tables.names import book_of

    with opened(where, pages=True) as source:
        book = book_of(source, where.node)
        connection = connection_of(flow, book)
        found = listings_of(source, where.node, "policy", "endpoints", "ipcache")
        verdicts = judge(connection, found.policy, found.endpoints, found.ipcache)
        if not verdicts:
            say(f"neither {connection.src} nor {connection.dst} is an endpoint of this node: nothing here decides")
        named = [_with_policies(verdict, source) for verdict in verdicts]
        write_rows(verdict_view(book.shown()), named, out.options(), sys.stdout)


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
