"""Maglev consistent hashing: the look-up table that maps a flow's hash to a backend.

Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section
3.4: each backend has a permutation of the slots from two hashes of its name, and backends take
turns in claiming the next free slot of theirs. A backend of weight w takes w turns a round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: slots looked at in one numpy step: small first, since early turns find a free slot at once
_FIRST_STEP, _LARGEST_STEP = 32, 4096


def build_table(backends: Mapping[int, tuple[str, int]], size: int) -> NDArray[np.uint32]:
    """The table of ``size`` slots (prime), each a backend id (uint32), for {id: (name, weight)}.

    Slots are shared in proportion to the weights, to within one slot; the same backends give the
    same table whatever their order. A weight of 0 takes no slot. Raises ValueError without a
    backend of positive weight.
    """
    import numpy as np

    chosen = sorted((name, number, weight) for number, (name, weight) in backends.items() if weight > 0)
    if not chosen:
        raise ValueError("a Maglev table needs a backend of positive weight")
    taken = np.zeros(size, dtype=bool)
    claimed = taken.data
    walks = [_free_slots(*_permutation(name, size), taken) for name, _, _ in chosen]
    table = np.zeros(size, dtype=np.uint32)
    entries = table.data
    for turn in _turns([weight for _, _, weight in chosen], size):
        # Slots seen as free may have been claimed since: ask again when their turn comes.
        for slot in walks[turn]:
            if not claimed[slot]:
                claimed[slot] = True
                entries[slot] = chosen[turn][1]
                break
    return table


def shares(table: NDArray[np.uint32]) -> dict[int, float]:
    """The part of the slots that each backend id holds."""
    import numpy as np

    ids, counts = np.unique(table, return_counts=True)
    return {int(number): int(count) / len(table) for number, count in zip(ids, counts, strict=True)}


def _permutation(name: str, size: int) -> tuple[int, int]:
    """(offset, skip) of a backend's walk over the slots, from two hashes of its name."""
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    offset = int.from_bytes(digest[:8], "little") % size
    return offset, int.from_bytes(digest[8:], "little") % (size - 1) + 1


def _free_slots(offset: int, skip: int, taken: NDArray[np.bool_]) -> Iterator[int]:
    """The slots of a walk that were free when last looked at, in its order."""
    import numpy as np

    size, start, step = len(taken), 0, _FIRST_STEP
    while start < size:
        slots = (offset + np.arange(start, min(start + step, size), dtype=np.int64) * skip) % size
        yield from slots[~taken[slots]].tolist()
        start += step
        step = min(step * 2, _LARGEST_STEP)


def _turns(weights: list[int], size: int) -> list[int]:
    """Whose turn it is, ``size`` times: backend i has its k-th turn at time k / weight[i]."""
    import numpy as np

    total = sum(weights)
    counts = [min(size, size * weight // total + 1) for weight in weights]
    times = np.concatenate([np.arange(1, n + 1) / weight for n, weight in zip(counts, weights, strict=True)])
    owners = np.repeat(np.arange(len(weights)), counts)
    turns: list[int] = owners[np.argsort(times, kind="stable")[:size]].tolist()
    return turns
