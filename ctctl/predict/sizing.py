"""How large the tables should be for a workload, and what that costs in memory, measured on this kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ctctl.abi import pins
from ctctl.decode.ct import KEY_SIZE
from ctctl.kernel.map import Map, MapType
from ctctl.predict.course import Plan
from ctctl.predict.flows import TableFlows
from ctctl.predict.fluid import course_of, loads, peak_of_size, plan_of
from ctctl.predict.model import Size, Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Fill to stay below: an LRU table starts to evict a little before it is full, and workloads swing.
HEADROOM = 0.75
#: Tables up to this many entries are made to be measured; greater ones cost in proportion.
_MEASURED = 1 << 21
_UNLIMITED = 1 << 40
#: Sizes are powers of two: a coarse look is enough.
_STEPS = 4000


def sizes(workload: Workload, duration_s: float) -> list[Size]:
    """The recommended size of each table.

    The peak is that of the fullest node, of entries that are alive or not yet collected; never less than what
    is alive in the table that the workload was learned from.
    """
    unlimited = replace(workload, tcp_max=_UNLIMITED, any_max=_UNLIMITED)
    plan = plan_of(unlimited, duration_s, step_s=max(1.0, duration_s / _STEPS))
    load = loads(workload.nodes, workload.spread)
    free = course_of(plan, load)
    found = []
    for table, flows in zip(free.tables, plan.flows, strict=True):
        default = workload.any_max if "any" in table.name else workload.tcp_max
        configured = workload.sizes.get(table.name) if workload.sizes else default
        alive = workload.alive.get(table.name, 0)
        # GC runs by the share it deletes: in a smaller table it would run more often, so this is the safe side.
        fitted = _fitted(plan, load, flows, table.worst_peak)
        # A forecast may err; what is there now is certain.
        recommended = max(fitted.entries, rounded(alive / HEADROOM))
        key_size = KEY_SIZE[pins.CT_FAMILY[table.name]]
        found.append(
            Size(
                table.name,
                max(fitted.peak, float(alive)),
                recommended,
                configured,
                memory_of(recommended, key_size),
                memory_of(configured, key_size) if configured else None,
                workload.alive.get(table.name),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class _Fitted:
    peak: float
    entries: int


def _fitted(plan: Plan, load: NDArray[np.float64], flows: TableFlows, free_peak: float) -> _Fitted:
    """The least power-of-two step in which the table, its GC running by its own size, stays below the headroom."""
    upper = rounded(free_peak / HEADROOM)
    best = _Fitted(free_peak, upper)
    entries = upper // 2
    while entries >= 1024:
        peak = peak_of_size(plan, load, flows, entries, HEADROOM * entries)
        if peak > HEADROOM * entries:
            break
        best = _Fitted(peak, entries)
        entries //= 2
    return best


def rounded(entries: float) -> int:
    """The next power of two, at least 1024."""
    return 1 << max(10, math.ceil(math.log2(max(entries, 1))))


def memory_of(entries: int, key_size: int) -> int:
    """Bytes of a conntrack table of that size, as the kernel accounts one it just made. Raises KernelError."""
    made = min(entries, _MEASURED)
    with Map.create("ctctl_sizing", MapType.LRU_HASH, key_size, 56, made) as table:
        return table.memory_bytes * entries // made
