"""What the nodes of a source are, be it a dump: version, mode, tables with their fill, drop counters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ctctl.node.foreign import cilium_status, counters_of, socket_words
from ctctl.node.paths import NodePaths
from ctctl.node.status import MapStatus, NodeStatus, node_status
from ctctl.tables.sources.base import Source
from ctctl.tables.sources.facts import NodeFacts
from ctctl.tables.sources.listings import KINDS, Listings

#: Settings of a node by the topics of a live one's status (``node.foreign``), in its order.
_TOPICS = {
    "routing": "routing",
    "tunnel": "tunnel",
    "lb.mode": "services",
    "lb.algorithm": "backend choice",
    "lb.socket": "socket LB",
    "accounting": "accounting",
    "pod-cidr": "pods",
    "pod-cidr6": "pods",
    "node.ip": "address",
    "node.ip6": "address",
    "masquerade.bpf": "masquerading by BPF",
}


def source_statuses(source: Source, node: str | None = None) -> list[NodeStatus]:
    """Every node of a source, or the one that was named. Raises what reading the tables does."""
    return [_status(*source.home_of(one), one) for one in source.all_nodes(node)]


def _status(source: Source, node: str | None, name: str | None) -> NodeStatus:
    if source.directory is not None:
        directory = Path(source.directory)
        ours = None if source.foreign else NodePaths.at(directory)
        return cilium_status(directory) if ours is None else node_status(ours)
    facts, listings = source.facts(node), source.listings(node)
    version = source.versions_of(node)
    found = {"version by": version.evidence} if version is not None else {}
    for key, topic in _TOPICS.items():
        if (fact := facts.modes.get(key)) is not None:
            word = {"true": "on", "false": "off"}.get(fact.value, fact.value)
            found[topic] = f"{found[topic]} {word}" if topic in found else word
    if found.get("socket LB") == "on" and (host_only := facts.modes.get("lb.socket-host-only")) is not None:
        found["socket LB"] = socket_words(host_only=host_only.value == "true")
    found |= _times(source, node, facts)
    if others := _others(listings):
        found["listings"] = others
    counters = counters_of(listings.counters)
    problems = list(listings.problems)
    if not counters and not listings.has("counters"):
        problems.append("it has no drop counters: what was dropped is unknown")
    return NodeStatus(
        name=name or (facts.node.value if facts.node is not None else "of unknown name"),
        path=source.description,
        netns=None,
        device=None,
        attach=None,
        tunnel=found.get("tunnel"),
        file=None,
        version=str(version) if version is not None else None,
        changing=False,
        maps=tuple(_tables(source, node, facts, listings)),
        counters=counters,
        problems=tuple(problems),
        owner=_owner(source, node),
        facts=found,
        live=False,
    )


def _owner(source: Source, node: str | None) -> str:
    """Whose tables they are: no map of Cilium's carries BTF, and nf_conntrack is no map."""
    for evidence, owner in (("BTF", "ctctl"), ("nf_conntrack", "netfilter")):
        tables = source.own_tables(node)
        if tables and all(table.layout_evidence == evidence for table in tables):
            return owner
    return "cilium"


def _times(source: Source, node: str | None, facts: NodeFacts) -> dict[str, str]:
    """Clock, time and timeouts, each where something tells it."""
    found: dict[str, str] = {}
    clock, now = source.time(node)
    if source.own_tables(node) and clock.evidence:
        said = "assumed" in clock.evidence or clock.evidence.startswith(f"{clock} ")
        found["clock"] = clock.evidence if said else f"{clock}, {clock.evidence}"
    if now is not None:
        found["now"] = str(now)
    if facts.timeouts_s:
        found["timeouts"] = ", ".join(f"{what} {fact.value}s" for what, fact in facts.timeouts_s.items())
    return found


def _others(listings: Listings) -> str:
    """How many records of each kind there are beside conntrack and SNAT."""
    kinds = (kind for kind in KINDS if kind != "nat" and listings.has(kind))
    return ", ".join(f"{listings.count(kind)} {kind.replace('_', ' ')}" for kind in kinds)


def _tables(source: Source, node: str | None, facts: NodeFacts, listings: Listings) -> Iterator[MapStatus]:
    for table in source.own_tables(node):
        entries = table.count if table.count is not None else sum(map(len, table.columns()))
        yield MapStatus(table.name, None, None, entries, table.max_entries)
    for name, entries in sorted(listings.nat_counts().items()):
        capacity = facts.capacity.get(name)
        yield MapStatus(name, None, None, entries, capacity.value if capacity is not None else None)
