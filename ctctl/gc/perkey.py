"""The per-key engine: next-key, lookup, delete, as the original did up to 1.17. No BPF program, no batches."""

from __future__ import annotations

import struct

from ctctl.abi.constants import CT_ENTRY_FLAGS, CT_ENTRY_LIFETIME
from ctctl.gc.job import Job
from ctctl.gc.tables import Table
from ctctl.gc.tally import Tally
from ctctl.model.entry import CtFlags
from ctctl.tables import pairs as _keys

#: A walk that restarts again and again under churn must end: after this many times the table's size.
_MAX_ROUNDS = 4
_TELL_EVERY = 1024


def lifetime_of(value: bytes) -> int:
    """Lifetime of one entry's value."""
    return int(struct.unpack_from("<I", value, CT_ENTRY_LIFETIME)[0])


def flags_of(value: bytes) -> int:
    """Flag bits of one entry's value."""
    return int(struct.unpack_from("<H", value, CT_ENTRY_FLAGS)[0])


def class_number(key: bytes) -> int:
    """Class number of one key (``classes.class_numbers``)."""
    return key[-2] << 3 | key[-1] & 7


def collect(table: Table, job: Job) -> Tally:
    """Collect by single system calls, each entry looked up again immediately before its deletion.

    Under churn an entry can be met twice: ``resets`` counts the restarts that cause it.
    """
    tally = Tally()
    visits = _MAX_ROUNDS * table.map.info.max_entries
    key = table.map.next_key(None)
    while key is not None:
        if job.stop.is_set() or visits == 0:
            tally.complete = False
            break
        visits -= 1
        if job.progress is not None and visits % _TELL_EVERY == 0:
            job.progress(_TELL_EVERY)
        following = table.map.next_key(key)
        value = table.map.lookup(key)
        if value is None:
            tally.resets += 1
        elif not is_victim(job, key, value):
            tally.alive[class_number(key)] += 1
        elif job.dry_run:
            tally.expired[class_number(key)] += 1
        elif not delete_one(table, job, tally, key):
            tally.complete = False
            break
        key = following
    return tally


def is_victim(job: Job, key: bytes, value: bytes) -> bool:
    """Whether this entry goes: expired, or of the address to scrub."""
    if job.address is not None:
        return _keys.has_address(key, job.address)
    return lifetime_of(value) < job.now


def delete_one(table: Table, job: Job, tally: Tally, key: bytes) -> bool:
    """Delete one entry found expired, if the live entry still is. False: time to stop, nothing done."""
    if not job.limit.take(1):
        return False
    number = class_number(key)
    tally.expired[number] += 1
    value = table.map.lookup(key)
    if value is None or (job.recheck and not is_victim(job, key, value)) or not table.map.delete(key):
        tally.skipped[number] += 1
        return True
    tally.deleted[number] += 1
    if job.recorder is not None:
        job.recorder.deleted(table.name, job.reason, key, value)
    tally.nat_deleted += delete_nat(table, job, key, value)
    return True


def delete_nat(table: Table, job: Job, key: bytes, value: bytes) -> int:
    """Delete the SNAT entry of a deleted OUT entry, and its reverse; how many went."""
    if table.nat is None or not _keys.is_out(key):
        return 0
    dsr = bool(flags_of(value) & CtFlags.DSRInternal)
    forward = _keys.nat_key(key, dsr)
    nat_value = table.nat.lookup(forward)
    if nat_value is None or not _drop(table, job, forward, nat_value):
        return 0
    if dsr:
        return 1
    reverse = _keys.reverse_nat_key(forward, nat_value)
    reverse_value = table.nat.lookup(reverse)
    return 2 if reverse_value is not None and _drop(table, job, reverse, reverse_value) else 1


def _drop(table: Table, job: Job, key: bytes, value: bytes) -> bool:
    if table.nat is None or not table.nat.delete(key):
        return False
    if job.recorder is not None:
        job.recorder.deleted(table.nat.name, "snat-pair", key, value)
    return True
