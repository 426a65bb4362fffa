"""Bringing entries back: each is created, and never put over one that is there."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ctctl.abi import pins
from ctctl.errors import CtctlError, KernelError
from ctctl.kernel import lru
from ctctl.kernel.map import Map, UpdateMode
from ctctl.tables.writer.journal import Record

#: A hostile file may name a table a record.
_REASONS = 20
#: What is said of entries that do not go in.
NO_ROOM = "the table is full, or so nearly that it would throw out others for them"
_SNAT = (*pins.SNAT_TABLES.values(), *pins.SNAT_PER_CLUSTER.values())


@dataclass(slots=True)
class Restored:
    """What a restore did: entries created, and left alone because the key is in use again.

    ``nat``: how many of those created are SNAT entries. ``full``: entries for which a table has no room, as
    an LRU table would have thrown out others for them. ``skipped``: why records were left out, with how many.
    ``stopped``: before the end, by whom it was to ask; ``failure``: what ended it, everything else is true then too.
    """

    restored: int = 0
    nat: int = 0
    present: int = 0
    full: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    dry_run: bool = False
    stopped: bool = False
    failure: CtctlError | None = None


def restore(
    records: Iterable[Record],
    maps: Mapping[str, Map],
    *,
    dry_run: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Restored:
    """Create the entries that are not there. ``maps``: the tables by name; a record of any other is left out.

    A name in a record is looked up in ``maps`` and nowhere else: no file can name a map. Raises nothing once it has
    begun: what went wrong is in what it did.
    """
    done = Restored(dry_run=dry_run)
    try:
        _restore(records, maps, stopped, done)
    except CtctlError as error:
        done.failure = error
    except OSError as error:  # the disk that the records are on
        done.failure = CtctlError(f"cannot read on: {error.strerror or error}")
    return done


def _restore(records: Iterable[Record], maps: Mapping[str, Map], stopped: Callable[[], bool], done: Restored) -> None:
    room: dict[str, int] = {}
    for record in records:
        if stopped():
            done.stopped = True
            break
        table = maps.get(record.table)
        reason = _unfit(record, table)
        if table is None or reason:
            if reason not in done.skipped and len(done.skipped) >= _REASONS:
                reason = "of other tables"
            done.skipped[reason] = done.skipped.get(reason, 0) + 1
            continue
        if record.table not in room:
            room[record.table] = lru.room(table)
        _create(table, record, room, done)


def _unfit(record: Record, table: Map | None) -> str:
    if table is None:
        return f"{record.table[:80]}: no such table here"
    if (len(record.key), len(record.value)) != (table.info.key_size, table.info.value_size):
        return f"{record.table}: not this table's layout"
    return ""


def _create(table: Map, record: Record, room: dict[str, int], done: Restored) -> None:
    if room[record.table] <= 0:
        there = table.lookup(record.key) is not None
        done.present += there
        done.full += not there
        return
    there = table.lookup(record.key) is not None if done.dry_run else not _created(table, record)
    done.present += there
    done.restored += not there
    done.nat += not there and record.table.startswith(_SNAT)
    room[record.table] -= not there


def _created(table: Map, record: Record) -> bool:
    try:
        table.update(record.key, record.value, mode=UpdateMode.NOEXIST)
    except KernelError as error:
        if error.errno == errno.EEXIST:
            return False
        raise
    return True
