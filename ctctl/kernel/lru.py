"""How full an LRU table can be made without it throwing entries out (docs/reference/kernel.md, "LRU tables")."""

from __future__ import annotations

import functools

from ctctl.errors import KernelError
from ctctl.kernel.cpus import one_cpu, possible_cpus
from ctctl.kernel.map import Map, MapFlag, MapType

#: LOCAL_FREE_TARGET of kernel/bpf/bpf_lru_list.c: what a CPU takes from the common list at a time.
_TAKES = 128
#: A table and a number of entries that one CPU creates in it: more than it takes at a time, and more than 128 before
#: the end. Where it takes 128 whatever the size, the second time finds fewer, and throws out.
_TRIED_SIZE, _TRIED_ENTRIES = 200, 130


def room(table: Map) -> int:
    """How many entries can be created in ``table`` without one that is there being thrown out for them.

    Of a table that is no LRU: without it being full. Raises KernelError.
    """
    info = table.info
    used = sum(len(batch) for batch in table.batches())
    if info.type not in (MapType.LRU_HASH, MapType.LRU_PERCPU_HASH):
        return info.max_entries - used
    if info.map_flags & MapFlag.NO_COMMON_LRU:
        # Each CPU has places of its own, and throws out where it has none left: the used ones may all be one CPU's.
        return max(info.max_entries // possible_cpus() - used, 0)
    return max(info.max_entries - used - kept_free(info.max_entries), 0)


def kept_free(max_entries: int) -> int:
    """How many places have to stay free in a table with a common LRU list.

    A CPU that has no free place takes some from the common list, and throws entries out where that has fewer, though
    other CPUs may still hold as many each.
    """
    cpus = possible_cpus()
    share = max(1, max_entries // cpus // 2) if takes_by_size() else _TAKES
    return cpus * min(_TAKES, share)


@functools.cache
def takes_by_size() -> bool:
    """Whether this kernel lets a CPU take no more than half its share of a small table, tried on one.

    False where it cannot be tried: then more stays free than has to.
    """
    try:
        # Free places of other CPUs must not help.
        with one_cpu(), Map.create("ctctl_try_lru", MapType.LRU_HASH, 4, 4, _TRIED_SIZE) as tried:
            keys = b"".join(number.to_bytes(4, "little") for number in range(_TRIED_ENTRIES))
            tried.update_batch(keys, bytes(len(keys)))
            return tried.lookup(keys[:4]) is not None and sum(map(len, tried.batches())) == _TRIED_ENTRIES
    except (KernelError, OSError):
        return False
