"""Everything the checks look at, read once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctctl.abi import pins
from ctctl.decode.nat_rows import NatRows
from ctctl.doctor.finding import HERE, Where
from ctctl.doctor.table import TableFacts
from ctctl.errors import CtctlError
from ctctl.kernel.clock import monotonic_offset_ns
from ctctl.kernel.map import Map
from ctctl.model.identity import HOST as HOST_IDENTITY
from ctctl.model.tuples import Address
from ctctl.node.counters import create_errnos, hook_counters, stats
from ctctl.node.paths import NodePaths
from ctctl.node.status import ProgramStatus, node_status
from ctctl.out.text import shell_word
from ctctl.tables.snat_ports import PortRange, range_of
from ctctl.tables.snat_use import SnatUse
from ctctl.tables.sources.base import CtTable, Source
from ctctl.tables.sources.facts import NodeFacts
from ctctl.tables.sources.listings import Listings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

#: Listings that the checks look at, beside the SNAT entries.
_LISTED = ("services", "backends", "ipcache", "endpoints")
#: How often GC runs where nobody says.
GC_INTERVAL_S = 300.0

#: A build-up: at least so many, and this share of the table's TCP entries.
BUILD_UP = 100
BUILD_UP_SHARE = 0.1


@dataclass
class Facts:
    """What one node's tables show. ``stats`` and ``drops`` are empty where the datapath is not ours.

    ``growth``: entries a second by table, measured live; ``table_bytes``: memory by table, as the
    kernel accounts it; ``memory_bytes``: of the machine. None or empty: unknown.
    """

    source: str
    tables: list[TableFacts]
    listings: Listings
    has_backends: bool
    has_nat: bool
    gc_interval_s: float
    #: the SNAT entries, where they are not in ``listings``
    read_nat: Callable[[], Iterator[NatRows]] | None = None
    #: entries and capacity of the SNAT tables that the source shows, by name; capacity None: unknown
    nat_sizes: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    #: conntrack tables that a node of its IP versions has, and the source does not
    absent: tuple[str, ...] = ()
    #: how full tables are (0 to 1), where the node itself says so
    told_pressure: dict[str, float] = field(default_factory=dict)
    #: who says how large a table is, by name
    capacity_evidence: dict[str, str] = field(default_factory=dict)
    #: seconds by which this process's monotonic clock is set apart (time namespace); None: no live tables
    clock_offset_s: int | None = None
    #: ports that SNAT gives out, where the node says so
    snat_range: PortRange | None = None
    #: the Cilium 1.x of the node, where something says it
    minor: int | None = None
    #: what a command needs to look at the same source, and to change what another program owns
    where: Where = HERE
    target: str = ""
    foreign: bool = False
    live: bool = False
    #: the hooks of a node that ctctl loaded; none where it is none
    programs: tuple[ProgramStatus, ...] = ()
    stats: dict[str, int] = field(default_factory=dict)
    drops: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    create_errnos: list[int] = field(default_factory=list)
    growth: dict[str, float] = field(default_factory=dict)
    table_bytes: dict[str, int] = field(default_factory=dict)
    memory_bytes: int | None = None

    @property
    def has_now(self) -> bool:
        return bool(self.tables) and all(table.now is not None for table in self.tables)

    @cached_property
    def host_addresses(self) -> frozenset[Address]:
        """The node's own addresses, as far as its tables tell: identity 1, or an endpoint that is the host."""
        found: set[Address] = {endpoint.addr for endpoint in self.listings.endpoints if endpoint.is_host}
        for record in self.listings.ipcache:
            network = _network(record.prefix)
            if record.identity == HOST_IDENTITY and network is not None and network.num_addresses == 1:
                found.add(network.network_address)
        return frozenset(found)

    @cached_property
    def pod_addresses(self) -> frozenset[Address]:
        """Addresses of the pods of this node."""
        return frozenset(endpoint.addr for endpoint in self.listings.endpoints if not endpoint.is_host)

    def look(self, command: str) -> str:
        """A command that looks at entries of this source."""
        return f"{self.show(command)}{self.where.time}"

    def show(self, command: str) -> str:
        """A command that shows tables of this source that know no time."""
        return f"{self.where.by}{command.removeprefix('ctctl')}{self.where.place}"

    def change(self, command: str) -> str:
        """A command that changes the node's tables, these where they are live; it asks first."""
        return f"{command}{self.target}{' --allow-foreign' * self.foreign}"

    def delete(self, table: TableFacts, mask: Mask, count: int = 3) -> tuple[str, ...]:
        """Commands that delete the first of the chosen entries, one by one: no other may go with them."""
        chosen = [table.columns.entry(int(index)) for index in np.flatnonzero(mask)[:count]]
        return tuple(
            self.change(
                f"ctctl ct delete --direction {entry.direction.lower()} --protocol {flow.proto} "
                f"--from-ip {flow.src} --from-port {flow.src_port} --to-ip {flow.dst} --to-port {flow.dst_port}"
            )
            for entry in chosen
            for flow in (entry.tuple,)
        )

    @property
    def large_tables(self) -> list[TableFacts]:
        """Tables in which entries can build up: none of the thousands of nodes of an archive may have one."""
        return [table for table in self.tables if len(table) >= BUILD_UP]

    def of_family(self, family: int) -> list[TableFacts]:
        return [table for table in self.tables if table.family == family]

    def nat_rows(self) -> Iterator[NatRows]:
        """The SNAT entries batch by batch, each valid until the next."""
        return self.listings.nat_rows() if self.read_nat is None else self.read_nat()

    @cached_property
    def snat_use(self) -> SnatUse:
        """Who uses how many of SNAT's entries."""
        return SnatUse(self.nat_rows)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _target(where: Where, directory: Path | None) -> str:
    """The option by which a command that changes tables finds the live ones in ``directory`` and no others."""
    if directory is None or where.by != HERE.by or not where.place:
        return ""
    return where.target or f" --from {shell_word(str(directory))}"


def gather(
    source: Source, *, node: str | None, gc_interval_s: float | None, sample_s: float = 0.0, where: Where = HERE
) -> Facts:
    """Read what the checks need. ``sample_s``: wait that long between two counts of live tables.

    ``gc_interval_s`` None: what the node says, else ``GC_INTERVAL_S``. ``where`` are the options that name the
    source, for the commands of findings.
    """
    before = _counts(source) if sample_s > 0 else {}
    started = time.monotonic()
    listings = source.some(node, *_LISTED, *(["nat"] if source.snat is None else []))
    shared = source.tables_of(None) if node is None else [*source.tables_of(node), *source.tables_without_node()]
    tables = [TableFacts(table) for table in shared]
    home, _ = source.home_of(node)
    directory = Path(home.directory) if home.directory is not None else None
    pinned = {path.name for path in directory.iterdir()} if directory is not None else set()
    told = source.facts(node)
    if gc_interval_s is None:
        gc_interval_s = told.gc_interval_s.value if told.gc_interval_s is not None else GC_INTERVAL_S
    facts = Facts(
        source=source.description,
        tables=tables,
        listings=listings,
        has_backends=bool(listings.backends) or bool(pinned & {pins.LB4_BACKENDS, pins.LB6_BACKENDS}),
        has_nat=directory is not None and source.snat is not None and bool(source.snat(node)),
        read_nat=None if source.snat is None else partial(source.nat_rows, node),
        gc_interval_s=gc_interval_s,
        told_pressure={name: fact.value for name, fact in told.pressure.items()},
        capacity_evidence={table.name: table.capacity_evidence for table in shared if table.capacity_evidence},
        where=where,
        target=_target(where, directory),
        foreign=home.foreign,
        live=directory is not None or any(table.live is not None for table in tables),
        snat_range=range_of(source, node),
        minor=None if (version := source.version_of(node)) is None else version.low,
    )
    facts.has_nat |= bool(facts.snat_use.entries)
    facts.nat_sizes = _nat_sizes(facts.snat_use.entries, shared, told)
    if source.only is None and _shows_empty_ones(shared):
        there = {table.name for table in shared}
        versions = _versions(facts, pinned, told)
        wanted = (name for name in pins.CT_TABLES if pins.CT_FAMILY[name] in versions)
        facts.absent = tuple(name for name in wanted if name not in there)
    for table in tables:
        if not table.max_entries and table.name in told.capacity:
            table.max_entries = told.capacity[table.name].value
            facts.capacity_evidence[table.name] = told.capacity[table.name].evidence
    if facts.live:
        # What the kernel's programs know nothing of: entries are in the machine's own clock.
        facts.clock_offset_s = monotonic_offset_ns() // 1_000_000_000
    if directory is not None:
        paths = NodePaths.at(directory)
        if paths is not None and not home.foreign:
            facts.programs = node_status(paths).programs
        facts.stats, facts.drops = stats(directory), hook_counters(directory)
        facts.create_errnos = create_errnos(directory)
        facts.table_bytes = {path.name: size for path in sorted(directory.iterdir()) if (size := _memory(path))}
        facts.memory_bytes = machine_memory()
    if before:
        time.sleep(max(0.0, sample_s - (time.monotonic() - started)))
        elapsed = time.monotonic() - started
        facts.growth = {name: (count - before[name]) / elapsed for name, count in _counts(source).items()}
    return facts


def _shows_empty_ones(tables: Sequence[CtTable]) -> bool:
    """Whether a table without entries would be among these: of maps it is, a listing has only those with lines."""
    return any(table.max_entries and not table.capacity_evidence for table in tables) and all(
        table.raw for table in tables
    )


def _versions(facts: Facts, pinned: Collection[str], told: NodeFacts) -> set[int]:
    """The IP versions of a node, by what it says, its other tables and its pods."""
    said = {version for version in (4, 6) if _mode(told, version) == "true"}
    tables = {table.family for table in facts.tables}
    snat = {version for version, name in pins.SNAT_TABLES.items() if name in pinned or name in facts.nat_sizes}
    without = {version for version in (4, 6) if _mode(told, version) == "false"}
    return (said | tables | snat | {endpoint.addr.version for endpoint in facts.listings.endpoints}) - without


def _mode(told: NodeFacts, version: int) -> str | None:
    fact = told.modes.get(f"ipv{version}")
    return None if fact is None else fact.value


def _nat_sizes(
    counts: Mapping[int, int], tables: Iterable[CtTable], told: NodeFacts
) -> dict[str, tuple[int, int | None]]:
    """Entries and capacity of the SNAT tables."""
    found: dict[str, tuple[int, int | None]] = {}
    live = {table.nat.name: table.nat.info.max_entries for table in tables if table.nat is not None}
    for family, name in pins.SNAT_TABLES.items():
        entries = counts.get(family, 0)
        capacity = live.get(name, told.capacity[name].value if name in told.capacity else None)
        if entries or capacity:
            found[name] = (entries, capacity)
    return found


def _counts(source: Source) -> dict[str, int]:
    return {table.name: sum(len(keys) for keys, _ in table.read()) for table in source.tables if table.live is not None}


def _memory(path: Path) -> int:
    """Bytes the kernel accounts to a pinned map (fdinfo), 0 where it does not say."""
    if not path.is_file():
        return 0
    with contextlib.suppress(CtctlError, OSError), Map.open_pinned(path, read_only=True) as table:
        return table.memory_bytes
    return 0


def machine_memory() -> int | None:
    """Bytes of memory of this machine, or of this control group if that is less."""
    total = next(
        (int(line.split()[1]) * 1024 for line in _lines(Path("/proc/meminfo")) if line.startswith("MemT")), None
    )
    for line in _lines(Path("/sys/fs/cgroup/memory.max")):
        if line.strip().isdigit():
            total = min(total or int(line), int(line))
    return total


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
