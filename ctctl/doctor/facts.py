"""Everything the checks look at, read once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctctl.abi import pins
from ctctl.decode.columns import CtColumns, Slot
from ctctl.decode.ct import TUPLE_IN, TUPLE_RELATED
from ctctl.decode.nat import encode_nat_key
from ctctl.kernel.map import Map
from ctctl.model.entry import CtFlags
from ctctl.model.nat import NatEntry
from ctctl.model.tuples import Direction
from ctctl.node.counters import create_errnos, hook_counters, stats
from ctctl.tables.sources.base import CtTable, Listings, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

TCP = 6
_CLOSING = int(CtFlags.RxClosing | CtFlags.TxClosing)


class TableFacts:
    """One conntrack table in memory, with the masks that several checks share; a bool an entry each."""

    def __init__(self, table: CtTable) -> None:
        self.name = table.name
        self.family = table.family
        self.now = table.now
        self.max_entries = table.max_entries
        self.layout = table.layout
        self.live = table.live
        parts = [columns.copy() for columns in table.columns()]
        size, width = (14, 56) if table.family == 4 else (38, 56)
        keys = np.concatenate([p.keys for p in parts]) if parts else np.zeros((0, size), np.uint8)
        values = np.concatenate([p.values for p in parts]) if parts else np.zeros((0, width), np.uint8)
        self.columns = CtColumns(keys, values, table.layout)

    def __len__(self) -> int:
        return len(self.columns)

    def slot(self, slot: Slot) -> NDArray[Any]:
        """A column in host order."""
        return self.columns.slot(slot)

    def flag(self, mask: int) -> Mask:
        """Entries with any of these flag bits."""
        found: Mask = (self.slot(Slot.FLAGS) & np.uint16(mask)) != 0
        return found

    @cached_property
    def left(self) -> NDArray[np.int64]:
        """Clock units until expiry, negative after it. Only where ``now`` is known."""
        assert self.now is not None
        return self.slot(Slot.LIFETIME).astype(np.int64) - self.now

    @cached_property
    def alive(self) -> Mask:
        """Not expired; all of them where the time of the dump is unknown."""
        return self.left >= 0 if self.now is not None else np.ones(len(self), bool)

    @cached_property
    def service(self) -> Mask:
        return self.columns.service

    @cached_property
    def related(self) -> Mask:
        found: Mask = (self.slot(Slot.TUPLE_FLAGS) & np.uint8(TUPLE_RELATED)) != 0
        return found

    @cached_property
    def flow(self) -> Mask:
        """OUT and IN entries of connections, neither SERVICE nor related."""
        return ~self.service & ~self.related

    @cached_property
    def out(self) -> Mask:
        found: Mask = self.slot(Slot.TUPLE_FLAGS) == 0
        return found

    @cached_property
    def inbound(self) -> Mask:
        found: Mask = self.slot(Slot.TUPLE_FLAGS) == TUPLE_IN
        return found

    @cached_property
    def tcp(self) -> Mask:
        found: Mask = self.slot(Slot.PROTO) == TCP
        return found

    @cached_property
    def closing(self) -> NDArray[np.uint16]:
        """The two closing bits."""
        found: NDArray[np.uint16] = self.slot(Slot.FLAGS) & np.uint16(_CLOSING)
        return found

    @cached_property
    def closed(self) -> Mask:
        found: Mask = self.closing == _CLOSING
        return found

    @cached_property
    def half_closed(self) -> Mask:
        found: Mask = (self.closing != 0) & ~self.closed
        return found

    @cached_property
    def seen_non_syn(self) -> Mask:
        return self.flag(int(CtFlags.SeenNonSyn))

    def keys_where(self, mask: Mask) -> list[bytes]:
        """Raw keys of the chosen entries."""
        return [row.tobytes() for row in self.columns.keys[mask]]

    def examples(self, mask: Mask, count: int = 3) -> list[str]:
        """The first chosen entries in words."""
        chosen = [self.columns.entry(int(index)) for index in np.flatnonzero(mask)[:count]]
        return [f"{entry.direction} {entry.tuple}" for entry in chosen]


@dataclass(slots=True)
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
    stats: dict[str, int] = field(default_factory=dict)
    drops: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    create_errnos: list[int] = field(default_factory=list)
    growth: dict[str, float] = field(default_factory=dict)
    table_bytes: dict[str, int] = field(default_factory=dict)
    memory_bytes: int | None = None

    @property
    def has_now(self) -> bool:
        return all(table.now is not None for table in self.tables)

    def of_family(self, family: int) -> list[TableFacts]:
        return [table for table in self.tables if table.family == family]

    def nat_keys(self) -> dict[bytes, NatEntry]:
        """SNAT entries by raw key."""
        return {entry.key or _nat_key(entry): entry for entry in self.listings.nat}


def _nat_key(entry: NatEntry) -> bytes:
    flags = (TUPLE_IN if entry.direction is Direction.IN else 0) | (TUPLE_RELATED if entry.related else 0)
    return encode_nat_key(entry.tuple, flags)


def gather(source: Source, *, node: str | None, gc_interval_s: float, sample_s: float = 0.0) -> Facts:
    """Read what the checks need. ``sample_s``: wait that long between two counts of live tables."""
    before = _counts(source) if sample_s > 0 else {}
    started = time.monotonic()
    listings = source.listings(node)
    tables = [TableFacts(table) for table in source.tables if node is None or table.node in (node, None)]
    directory = Path(source.directory) if source.directory is not None else None
    pinned = {path.name for path in directory.iterdir()} if directory is not None else set()
    facts = Facts(
        source=source.description,
        tables=tables,
        listings=listings,
        has_backends=bool(listings.backends) or bool(pinned & {pins.LB4_BACKENDS, pins.LB6_BACKENDS}),
        has_nat=bool(listings.nat) or bool(pinned & {pins.SNAT4, pins.SNAT6}),
        gc_interval_s=gc_interval_s,
    )
    if directory is not None:
        facts.stats, facts.drops = stats(directory), hook_counters(directory)
        facts.create_errnos = create_errnos(directory)
        facts.table_bytes = {path.name: size for path in sorted(directory.iterdir()) if (size := _memory(path))}
        facts.memory_bytes = machine_memory()
    if before:
        time.sleep(max(0.0, sample_s - (time.monotonic() - started)))
        elapsed = time.monotonic() - started
        facts.growth = {name: (count - before[name]) / elapsed for name, count in _counts(source).items()}
    return facts


def _counts(source: Source) -> dict[str, int]:
    return {table.name: sum(len(keys) for keys, _ in table.read()) for table in source.tables if table.live is not None}


def _memory(path: Path) -> int:
    """Bytes the kernel accounts to a pinned map (fdinfo), 0 where it does not say."""
    from ctctl.errors import CtctlError

    if not path.is_file():
        return 0
    with contextlib.suppress(CtctlError, OSError), Map.open_pinned(path, read_only=True) as table:
        return map_memory(table)
    return 0


def map_memory(table: Map) -> int:
    """Bytes of memory of a map as the kernel accounts it; 0 where it does not say."""
    for line in _lines(Path(f"/proc/self/fdinfo/{table.fd}")):
        if line.startswith("memlock:"):
            return int(line.split()[1])
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
