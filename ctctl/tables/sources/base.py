"""What every source of records offers: tables to stream, what they lack, and what to tell the user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import field
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

from ctctl.errors import CtctlError
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.model.light import light, light_value
from ctctl.tables.query.context import Resolver, TableContext

# Records of listings are named for types only: most commands read none, and the models take long to import.
if TYPE_CHECKING:
    from ctctl.decode.columns import CtColumns, Matrix
    from ctctl.decode.nat_rows import NatRows, NatTable
    from ctctl.kernel.map import Batch, Map
    from ctctl.model.nat import NatEntry
    from ctctl.model.tuples import FlowTuple
    from ctctl.model.version import CiliumVersion
    from ctctl.tables.pairs import KeyLayout
    from ctctl.tables.sources.facts import NodeFacts
    from ctctl.tables.sources.listings import Listings

    #: keys and values; of a live map as they came
    Rows: TypeAlias = tuple[Matrix, Matrix] | Batch


@light
class CtTable:
    """One conntrack table. ``read`` streams it as (keys, values) byte matrices, each valid until the next.

    ``raw``: the bytes are the table's own, not rebuilt from a listing. ``absent``: fields that the
    source does not show. ``now`` in units of ``clock``, None where nothing says when the dump was made.
    ``live`` is the map behind a live table, open read-only. ``seen`` wants to know how many more
    entries were read, of who reads the map past ``read``. ``nat`` is the SNAT table beside a live one, open
    read-only. ``capacity_evidence`` names who says ``max_entries``, where it is not the table; ``now_at_least``
    is its newest report: it was read then or later.
    """

    name: str
    family: int
    layout: Layout
    read: Callable[[], Iterator[Rows]]
    layout_evidence: str = "assumed"
    node: str | None = None
    absent: frozenset[str] = frozenset()
    raw: bool = True
    max_entries: int | None = None
    capacity_evidence: str | None = None
    count: int | None = None
    clock: Clock = field(default_factory=Clock)
    now: int | None = None
    now_at_least: int | None = None
    #: it was read between these, by what the node's other files say
    now_between: tuple[int, int] | None = None
    live: Map | None = None
    nat: Map | None = None
    seen: Callable[[int], None] | None = None
    #: who knows what a name in a filter stands for
    names: Resolver | None = None
    #: what ``read`` gives is little and stays as it is: columns are made of it once
    stays: bool = False
    _kept: tuple[object, list[CtColumns]] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def keys(self) -> KeyLayout:
        """Where the fields of its keys are."""
        from ctctl.tables.pairs import KEY_LAYOUTS

        return KEY_LAYOUTS[self.family]

    @property
    def protocol(self) -> str:
        """The protocol label of the metrics: ``TCP`` or ``non-TCP`` (docs/reference/abi.md)."""
        return "non-TCP" if "_any" in self.name else "TCP"

    @property
    def family_label(self) -> str:
        """The family label of the metrics."""
        return f"ipv{self.family}"

    def context(self) -> TableContext:
        """What a filter must know about this table."""
        return TableContext(
            self.family, self.layout, self.clock, self.now, self.name, self.node, self.absent, self.names
        )

    def columns(self) -> Iterator[CtColumns]:
        """The table batch by batch, none empty; each batch is valid until the next, or for ever where it ``stays``."""
        if not self.stays:
            return self._columns()
        made_of = self.read, self.layout
        if self._kept is None or self._kept[0] != made_of:
            self._kept = made_of, [*self._columns()]
        return iter(self._kept[1])

    def _columns(self) -> Iterator[CtColumns]:
        from ctctl.decode.columns import CtColumns

        for rows in self.read():
            if isinstance(rows, tuple):
                found = CtColumns(*rows, self.layout)
            else:
                found = CtColumns.of_bytes(self.family, rows.key_bytes, rows.value_bytes, self.layout)
            if len(found):
                yield found


#: Evidence for the layout of rows that are the same for all versions.
ROWS_EVIDENCE = "the rows' columns"


def no_listings() -> Listings:
    """Of a source that shows none. Their module is imported by who reads some."""
    from ctctl.tables.sources.listings import Listings

    return Listings()


def _no_facts() -> NodeFacts:
    from ctctl.tables.sources.facts import NodeFacts

    return NodeFacts()


@light
class Source:
    """Tables from one place. A context manager: live maps are closed with it.

    ``notes`` are things the user should know (a time that is unknown); ``partial`` says what is
    missing: not empty means exit code 5 after what was good has been shown. ``foreign``: another
    program owns the tables.
    """

    description: str
    tables: list[CtTable] = field(default_factory=list)
    listings: Callable[[str | None], Listings] = lambda _node: no_listings()
    #: what the node's own files say about it: capacity, timeouts, clock, version
    facts: Callable[[str | None], NodeFacts] = lambda _node: _no_facts()
    #: its own files that may hold names of a node's pods, services and peers
    documents: Callable[[str | None], list[bytes]] = lambda _node: []
    notes: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    #: what it was read by (layout, clock): for who asks (``-v``), not for every command
    details: list[str] = field(default_factory=list)
    foreign: bool = False
    directory: str | None = None
    #: the Cilium that owns the tables, where that is known
    version: CiliumVersion | None = None
    #: files that the user named for names (``--names``), and what was read of them, by node (``tables.names``)
    name_files: tuple[str, ...] = ()
    books: dict[str | None, object] = field(default_factory=dict)
    #: of a live source: the clock of all its tables, and its now
    clock: Clock = field(default_factory=Clock)
    now: int | None = None
    #: when the tables were read (seconds since 1970) and in which boot of the node, where the source says
    collected_at: float | None = None
    boot_id: str | None = None
    #: only some kinds of listings, and the SNAT entries of given packets, where that is cheaper than all
    partly: Callable[[str | None, tuple[str, ...]], Listings] | None = None
    nat_of: Callable[[Iterable[FlowTuple]], list[NatEntry]] | None = None
    #: a node's SNAT tables, whose entries can be read as they lay; None: its listing has them
    snat: Callable[[str | None], list[NatTable]] | None = None
    #: table, key and value of every SNAT entry as it lay, one by one: where there can be too many for a listing
    raw_nat: Callable[[], Iterator[tuple[str, bytes, bytes]]] | None = None
    #: of several sources as one: the one that a node is of, and its name there
    homes: Mapping[str | None, tuple[Source, str | None]] = field(default_factory=dict)
    #: it holds conntrack tables, be they empty (a list of services does not)
    has_ct: bool = True
    #: the one table that the user named (``--map``): ``tables`` has no other, of listings whoever shows them leaves out
    only: str | None = None
    #: nodes that it shows anything of, be it no conntrack table
    node_names: list[str] = field(default_factory=list)
    resources: ExitStack = field(default_factory=ExitStack)
    _grouped: tuple[list[CtTable], int, dict[str | None, list[CtTable]]] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    #: what ``nodes`` found, and of what: nodes may be thousands, and each asks for their names
    _named: tuple[dict[str | None, list[CtTable]], list[str], list[str]] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def tables_of(self, node: str | None) -> list[CtTable]:
        """The tables of a node, all of them where it is None. Nodes may be thousands: they are found in one pass."""
        return self.tables if node is None else self._by_node().get(node, [])

    def own_tables(self, node: str | None) -> list[CtTable]:
        """The same, but for None those of which nothing says whose they are, where there are such."""
        return (node is None and self.tables_without_node()) or self.tables_of(node)

    def tables_without_node(self) -> list[CtTable]:
        """The tables of which nothing says whose they are."""
        return self._by_node().get(None, [])

    def _by_node(self) -> dict[str | None, list[CtTable]]:
        # Asked for each of thousands of nodes: it must not look at all tables to see that they are the same.
        known = self._grouped
        if known is None or known[0] is not self.tables or known[1] != len(self.tables):
            found: dict[str | None, list[CtTable]] = {}
            for table in self.tables:
                found.setdefault(table.node, []).append(table)
            known = self._grouped = self.tables, len(self.tables), found
        return known[2]

    def nodes(self) -> list[str]:
        """Names of the nodes it is of, where the source has names."""
        grouped = self._by_node()
        if self._named is None or self._named[0] is not grouped or self._named[1] != self.node_names:
            found = sorted({*self.node_names, *(node for node in grouped if node is not None)})
            self._named = grouped, [*self.node_names], found
        return [*self._named[2]]

    def all_nodes(self, node: str | None = None) -> list[str | None]:
        """The nodes that a listing is of: the one that was named, else every one; [None] where it has no names."""
        if node is not None:
            return [node]
        named: list[str | None] = [*self.nodes()]
        unnamed = not named or any(table.node is None for table in self.tables)
        return [*named, None] if unnamed else named

    def home_of(self, node: str | None) -> tuple[Source, str | None]:
        """The source that a node's tables are read from, itself but for several as one, and the node's name there."""
        return self.homes.get(node) or (next(iter(self.homes.values())) if self.homes else (self, node))

    def version_of(self, node: str | None = None) -> CiliumVersion | None:
        """The Cilium of a node, where something says it."""
        from ctctl.model.version import version_in

        fact = self.facts(node).version
        known = self.home_of(node)[0].version
        return known or (version_in(fact.value, fact.evidence) if fact is not None else None)

    @property
    def minor(self) -> int:
        """The Cilium 1.x whose forms its listings have: by evidence, else by the layout of its tables."""
        return self.minor_of(None)

    def minor_of(self, node: str | None) -> int:
        """The same of one node."""
        version = self.versions_of(node)
        return version.low if version is not None else 16

    def versions_of(self, node: str | None = None) -> CiliumVersion | None:
        """The Cilium of a node, or those that it may be by the forms of its tables; None where nothing tells."""
        version = self.version_of(node)
        return version if version is not None else self._versions_by_form(node)

    def _versions_by_form(self, node: str | None) -> CiliumVersion | None:
        from ctctl.model.version import FIRST_MINOR, LAST_MINOR, CiliumVersion, versions_of_layout

        # No map of Cilium's carries BTF: tables that do are of a datapath of our own.
        others = ("assumed", "BTF", "nf_conntrack", ROWS_EVIDENCE)
        tables = [table for table in self.own_tables(node) if table.layout_evidence not in others]
        layouts = {table.layout for table in tables}
        low, high, told = FIRST_MINOR, LAST_MINOR, ["the form of conntrack entries"] if layouts else []
        if layouts:
            oldest = versions_of_layout(min(layouts, key=list(Layout).index), "")
            low, high = oldest.low, oldest.high
            if low == 15 and any(table.raw for table in tables):  # bytes of 1.14 are the same
                low = FIRST_MINOR
        if not layouts or (low, high) == (16, 17):
            found = self.some(node, "services", "sockets", "tunnels")
            # Protocols of frontends came with 1.17; before, a listing has none.
            protocols = {slot.proto for slot in found.services}
            if any(protocols) or found.has("sockets"):
                low = max(low, 17)
                told.append("its services' protocols" if any(protocols) else "its listing of sockets")
            elif protocols == {None} or found.has("tunnels"):
                high = min(high, 16)
                told.append("its services without protocols" if protocols else "its tunnel listing")
        return CiliumVersion(low, max(low, high), " and ".join(told)) if told else None

    def time(self, node: str | None = None) -> tuple[Clock, int | None]:
        """Clock and now of a node's tables; now is None where they do not agree or it is unknown."""
        if self.now is not None:
            return self.clock, self.now
        times = {(table.clock, table.now) for table in self.own_tables(node)}
        return times.pop() if len(times) == 1 else (self.clock, None)

    def some(self, node: str | None, *kinds: str) -> Listings:
        """At least these kinds of listings (attributes of ``Listings``) of a node."""
        return self.listings(node) if self.partly is None else self.partly(node, kinds)

    def nat_rows(self, node: str | None) -> Iterator[NatRows]:
        """A node's SNAT entries batch by batch, each valid until the next: as they lie, else from its listing."""
        if self.snat is not None:
            return (rows for table in self.snat(node) for rows in table.read())
        return self.some(node, "nat").nat_rows()

    def close(self) -> None:
        """Close live maps and temporary files."""
        self.resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


@light_value
class SourceOptions:
    """What the user said about a source: node, table, layout, clock and time."""

    node: str | None = None
    map: str | None = None
    layout: Layout | None = None
    clock: Clock | None = None
    now: int | None = None
    #: files with names: Kubernetes objects, a sysdump
    names: tuple[str, ...] = ()


class NoTableError(CtctlError):
    """A source has no conntrack table at all."""
