"""The per-key engine: next-key and lookup for every entry, as the original did up to 1.17.

What it finds goes, a few at a time, through the writer's remover: as everywhere a program in the kernel
compares and deletes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ctctl.abi.constants import CT_ENTRY_LIFETIME
from ctctl.gc.deleters import Deleter, deleter
from ctctl.gc.job import Job
from ctctl.gc.tally import Tally
from ctctl.tables import pairs as _keys
from ctctl.tables.sources.base import CtTable
from ctctl.tables.writer.targets import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: A walk that restarts again and again under churn must end: after this many times the table's size.
_MAX_ROUNDS = 4
_TELL_EVERY = 1024
#: Found entries wait for so many others at most.
_AT_ONCE = 64


def lifetime_of(value: bytes) -> int:
    """Lifetime of one entry's value."""
    return int(struct.unpack_from("<I", value, CT_ENTRY_LIFETIME)[0])


def class_number(key: bytes) -> int:
    """Class number of one key (``classes.class_numbers``)."""
    return key[-2] << 3 | key[-1] & 7


def collect(table: CtTable, target: Target | None, job: Job, tally: Tally) -> None:
    """Collect by single look-ups.

    Under churn an entry can be met twice: ``resets`` counts the restarts that cause it.
    """
    if target is None:
        _walk(table, job, tally, None)
        return
    with deleter(target, job, tally, _AT_ONCE) as delete:
        _walk(table, job, tally, delete)


def _walk(table: CtTable, job: Job, tally: Tally, delete: Deleter | None) -> None:
    assert table.live is not None
    live = table.live
    found: dict[bytes, bytes] = {}
    visits = _MAX_ROUNDS * live.info.max_entries
    key = live.next_key(None)
    while key is not None:
        if job.stop.is_set() or visits == 0:
            tally.complete = False
            break
        visits -= 1
        if job.progress is not None and visits % _TELL_EVERY == 0:
            job.progress(_TELL_EVERY)
        # Before anything is deleted: a walk that stands on a key that is gone starts again.
        following = live.next_key(key)
        value = live.lookup(key)
        if value is None:
            tally.resets += 1
        elif not is_victim(job, key, value):
            tally.alive[class_number(key)] += 1
        elif delete is None:
            tally.expired[class_number(key)] += 1
        else:
            found[key] = value
        if delete is not None and len(found) >= _AT_ONCE and not _delete(delete, found, tally, keep=following):
            return
        key = following
    if delete is not None and tally.complete:
        _delete(delete, found, tally)


def _delete(delete: Deleter, found: dict[bytes, bytes], tally: Tally, keep: bytes | None = None) -> bool:
    """Delete what was found and forget it, but for the key that the walk is about to stand on."""
    waiting = {keep: found.pop(keep)} if keep in found else {}
    if found and not delete(_matrix(list(found)), _matrix(list(found.values()))):
        tally.complete = False
        return False
    found.clear()
    found.update(waiting)
    return True


def _matrix(rows: list[bytes]) -> NDArray[np.uint8]:
    import numpy as np

    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)


def is_victim(job: Job, key: bytes, value: bytes) -> bool:
    """Whether this entry goes: expired, or of the address to scrub."""
    if job.addresses:
        return any(_keys.has_address(key, address) for address in job.addresses)
    return lifetime_of(value) < job.now
