"""What the commands of the tables beside conntrack share: their records, what is missing of them, rows by node."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from ctctl.cli.groups import OutputArgs

if TYPE_CHECKING:
    from ctctl.out.view import View
    from ctctl.tables.sources.base import Source
    from ctctl.tables.sources.listings import Listings


T = TypeVar("T")


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
