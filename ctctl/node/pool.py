"""The maps a load works with: those that hold connections are kept, those that hold settings are made anew.

A reload fills fresh settings maps and swaps them in together with the programs, so that nothing
half-written is ever read and a failure has nothing to undo. Connections, counters and listeners
stay in the maps they are in.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ctctl.abi import pins
from ctctl.abi.constants import CT_ENTRY_LIFETIME
from ctctl.abi.layouts import CtctlHook, CtctlReason, CtctlStat
from ctctl.errors import KernelError, LayoutError, UsageError
from ctctl.kernel.map import Map, MapType, UpdateMode
from ctctl.kernel.map_types import check_known_map
from ctctl.node.paths import NodePaths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Maps whose content outlives a reload. Every other map is settings, written from the node file.
STATE_MAPS = frozenset(
    {
        *pins.OWN_CT_TABLES,
        *pins.OWN_CT6_TABLES,
        *pins.SNAT_TABLES.values(),
        pins.LB4_AFFINITY,
        pins.LB6_AFFINITY,
        pins.LB4_SOCKETS,
        pins.LB6_SOCKETS,
        pins.FRAGMENTS,
        pins.EVENTS,
        pins.TRACE_CTL,
        pins.TRACE_FOLLOW,
        pins.TRACE_FOLLOW6,
        pins.TUNNEL_IN,
        pins.METRICS,
        pins.STATS,
    }
)
#: Of these, what only a node with both families has.
OF_IPV6 = frozenset({*pins.OWN_CT6_TABLES, pins.SNAT6, pins.LB6_AFFINITY, pins.LB6_SOCKETS, pins.TRACE_FOLLOW6})
#: And what only one that balances sockets has.
OF_SOCKETS = frozenset({pins.LB4_SOCKETS, pins.LB6_SOCKETS})
#: And what holds nothing that a connection needs: of another version of ctctl it is made anew.
REMADE = frozenset(
    {pins.TRACE_CTL, pins.TRACE_FOLLOW, pins.TRACE_FOLLOW6, pins.TUNNEL_IN, pins.METRICS, pins.STATS, pins.EVENTS}
)
#: Entries of tables whose number this version of ctctl decides.
_OWN_SIZES = {
    pins.METRICS: int(CtctlHook.HOOK_MAX) * int(CtctlReason.REASON_MAX),
    pins.STATS: int(CtctlStat.STAT_MAX),
}
#: Maps that are nobody else's business: one per load, never pinned.
PRIVATE_MAPS = frozenset({pins.SIM, pins.SCRATCH, pins.ROOM6})

_COPY_BATCH = 4096


class MapPool:
    """Open maps by name; owns them. ``kept`` are pinned already, ``fresh`` made by this load."""

    def __init__(self, kept: dict[str, Map]) -> None:
        self.kept = kept
        self.fresh: dict[str, Map] = {}
        #: maps that a fresh one takes the place of, with their content
        self.replaced: dict[str, Map] = {}

    def get(self, name: str) -> Map | None:
        """The map that new programs shall use."""
        return self.kept.get(name) or self.fresh.get(name)

    def __getitem__(self, name: str) -> Map:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def all(self) -> dict[str, Map]:
        return self.kept | self.fresh

    def ids(self) -> dict[str, int]:
        """Kernel ids by name: what the record says is the node's."""
        return {name: table.info.id for name, table in self.all().items()}

    def resize(self, name: str) -> None:
        """Let ``name`` be made anew; ``carry_over`` copies what it held."""
        self.replaced[name] = self.kept.pop(name)

    def carry_over(self, *, mode: UpdateMode = UpdateMode.ANY) -> None:
        """Copy the entries of replaced maps into the fresh ones."""
        for name, old in self.replaced.items():
            if name in self.fresh and old.info.type != MapType.RINGBUF:
                copy_entries(old, self.fresh[name], mode)

    def pin_fresh(self, directory: Path) -> None:
        for name, table in self.fresh.items():
            table.pin(directory / name)

    def close(self) -> None:
        for table in (*self.kept.values(), *self.fresh.values(), *self.replaced.values()):
            table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def open_pins(paths: NodePaths, *, only: Collection[str], remade: Collection[str] = ()) -> dict[str, Map]:
    """Those of the node's pinned maps by name, layouts checked. Raises LayoutError, KernelError.

    Of another layout those in ``remade`` are left out.
    """
    opened: dict[str, Map] = {}
    with contextlib.ExitStack() as undo:
        for name, path in paths.map_pins().items():
            if name not in only:
                continue
            table = undo.enter_context(Map.open_pinned(path))
            try:
                _check_layout(table, name)
            except LayoutError:
                if name not in remade:
                    raise
                table.close()
                continue
            opened[name] = table
        undo.pop_all()
    return opened


def _check_layout(table: Map, name: str) -> None:
    try:
        check_known_map(table, name, exact=True)
        entries = table.info.max_entries
        if entries != _OWN_SIZES.get(name, entries):
            raise LayoutError(f"{name} has {entries} entries, {_OWN_SIZES[name]} expected")
    except LayoutError as error:
        raise LayoutError(f"{error}: it was not made by this ctctl; ctctl unload removes it") from None


_COUNTED_BY_KEY = frozenset({MapType.LPM_TRIE, MapType.HASH_OF_MAPS, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH})


def count_entries(table: Map) -> int | None:
    """How many entries a map holds. None where counting means nothing (arrays, ring buffers)."""
    kind = table.info.type
    if kind in (MapType.HASH, MapType.LRU_HASH):
        return sum(len(batch) for batch in table.batches())
    if kind in _COUNTED_BY_KEY:
        return sum(1 for _ in table.every_key())
    return None


def check_sizes(kept: Mapping[str, Map], wanted: Mapping[str, int], *, resize: bool) -> list[str]:
    """Names of state maps whose size changes. Raises UsageError with the cost unless ``resize``."""
    changed = [
        (name, table.info.max_entries, wanted[name])
        for name, table in sorted(kept.items())
        if name in STATE_MAPS and wanted.get(name, table.info.max_entries) != table.info.max_entries
    ]
    if changed and not resize:
        costs = "; ".join(resize_cost(name, kept[name], size) for name, _, size in changed)
        raise UsageError(f"map sizes change: {costs}. Say --resize to do it; nothing was changed")
    return [name for name, _, _ in changed]


def resize_cost(name: str, table: Map, size: int) -> str:
    """What making ``name`` anew with ``size`` entries would lose, in words."""
    held = count_entries(table) or 0
    lost = max(0, held - size)
    what = f"{name} from {table.info.max_entries} to {size} entries"
    if not lost:
        return f"{what} keeps all {held} it holds"
    return f"{what} loses {lost} of the {held} it holds"


def copy_entries(old: Map, new: Map, mode: UpdateMode = UpdateMode.ANY) -> int:
    """Copy ``old``'s entries into ``new``; of more conntrack entries than fit, those that live longest.

    Returns how many were copied. With NOEXIST entries that ``new`` has stay as they are.
    """
    import numpy as np

    batches = [(batch.keys.copy(), batch.values.copy()) for batch in old.batches()]
    if not batches:
        return 0
    keys = np.concatenate([keys for keys, _ in batches])
    values = np.concatenate([values for _, values in batches])
    keys, values = _longest_living(keys, values, new.info.max_entries, old.name in pins.OWN_CT_TABLES)
    if mode is UpdateMode.ANY:
        for start in range(0, len(keys), _COPY_BATCH):
            new.update_batch(keys[start : start + _COPY_BATCH], values[start : start + _COPY_BATCH])
        return len(keys)
    return sum(_insert(new, key.tobytes(), value.tobytes()) for key, value in zip(keys, values, strict=True))


def _insert(table: Map, key: bytes, value: bytes) -> bool:
    """Write an entry unless there is one. False: there is."""
    if table.lookup(key) is not None:
        return False
    try:
        table.update(key, value, mode=UpdateMode.NOEXIST)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        return False
    return True


def _longest_living(
    keys: NDArray[np.uint8], values: NDArray[np.uint8], room: int, conntrack: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    import numpy as np

    if len(keys) <= room:
        return keys, values
    if not conntrack:
        return keys[-room:], values[-room:]
    lifetimes = np.ascontiguousarray(values[:, CT_ENTRY_LIFETIME : CT_ENTRY_LIFETIME + 4]).view("<u4").ravel()
    chosen = np.argsort(lifetimes, kind="stable")[-room:]
    return keys[chosen], values[chosen]
