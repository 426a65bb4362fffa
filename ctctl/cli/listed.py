"""What the commands of the tables beside conntrack share: their records, what is missing of them, rows by node."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, TypeVar

from ctctl.abi import pins
from ctctl.cli.groups import OutputArgs
from ctctl.errors import UsageError

if TYPE_CHECKING:
    from ctctl.out.view import View
    from ctctl.tables.sources.base import Source
    from ctctl.tables.sources.listings import Listings


T = TypeVar("T")


def listings_of(source: Source, node: str | None, *kinds: str) -> Listings:
    """These kinds of a node's tables; what could not be read, and what is not there, is missing data of the source."""
    from ctctl.cli.report import say

    check_table(source, *kinds)
    found = _only(source.some(node, *kinds), source.only)
    whose = f"{node}: " if node is not None and len(source.nodes()) > 1 else ""
    absent = [kind for kind in kinds if kind in found.missing]
    if not is_live(source, node):
        missing = [f"{whose}the source does not show {_TITLES[kind]}: unknown" for kind in absent]
    else:
        missing = [f"{whose}{_UNKNOWN[kind]}" for kind in absent if kind in _UNKNOWN]
        for kind in absent:
            if kind not in _UNKNOWN:
                say(whose + _NO_TABLE.get(kind, f"not pinned here: {_TITLES[kind]}"))
    problems = [f"{whose}{problem}" for problem in found.problems]
    source.partial += [text for text in (*problems, *missing) if text not in source.partial]
    return found


def check_table(source: Source, *kinds: str) -> None:
    """Raise UsageError for a ``--map`` that names none of the tables that these kinds of records lie in."""
    from ctctl.tables.sources.pinned import TABLES, policy_endpoint

    tables = [name for kind in kinds for name in TABLES[kind]]
    if source.only is None or source.only in tables:
        return
    if "policy" not in kinds or policy_endpoint(source.only) is None:
        *more, last = (f"{name}…" if name == pins.CILIUM_POLICY else name for name in tables)
        raise UsageError(f"--map {source.only}: what is shown here is of {', '.join(more)}{' or ' * bool(more)}{last}")


def _only(found: Listings, table: str | None) -> Listings:
    """The listings with only those records, of the kind that lies in ``table``, that are of that one."""
    from ctctl.tables.sources.pinned import TABLES, policy_endpoint

    if table is None:
        return found
    endpoint = policy_endpoint(table)
    if endpoint is not None:
        return replace(found, policy=[rule for rule in found.policy if rule.endpoint_id == endpoint])
    kind, names = next((kind, names) for kind, names in TABLES.items() if table in names)
    version = {0: 4, 1: 6}[names.index(table)]
    family_of = _FAMILY.get(kind)
    if family_of is None:  # both families are in one table
        return found
    of_table: dict[str, Any] = {kind: [record for record in getattr(found, kind) if family_of(record) == version]}
    return replace(found, **of_table)


#: The IP version of a record, of the kinds whose first table is of IPv4 and whose second is of IPv6.
_FAMILY: dict[str, Callable[[Any], int]] = {
    "services": lambda slot: slot.addr.version,
    "backends": lambda backend: backend.addr.version,
    "rev_nats": lambda rev_nat: rev_nat.addr.version,
    "source_ranges": lambda one: ip_network(one.cidr).version,
    "maglev": lambda table: table.family,
    "sockets": lambda socket: socket.backend.version,
}


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


def title(kind: str) -> str:
    """What a table is called in a sentence: a kind of listing, or ``ct``."""
    return _TITLES.get(kind, "the conntrack table")


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
    from ctctl.out.fetched import says_node
    from ctctl.out.view import by_node

    nodes = source.all_nodes(node)
    if not says_node(nodes):
        show(view(nodes[0]), rows(nodes[0]), out)
        return
    found = [(one, row) for one in nodes for row in rows(one)]
    show(by_node({one: view(one) for one in nodes}), found, out)
