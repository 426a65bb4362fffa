"""How full an LRU table can be made: the bound that undo and import keep to, on real tables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ctctl.kernel import lru
from ctctl.kernel.cpus import possible_cpus
from ctctl.kernel.map import Map, MapFlag, MapType
from ctctl.tables.writer.journal import Record
from ctctl.tables.writer.restore import restore

pytestmark = pytest.mark.kernel

NAME = "cilium_ct4_global"


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def table_of(size: int, *flags: MapFlag) -> Map:
    return Map.create("ctctl_lru_room", MapType.LRU_HASH, 4, 8, size, flags=sum(flags))


def keys_in(table: Map) -> set[bytes]:
    return {bytes(one) for batch in table.batches() for one in batch.keys}


@contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def filled(table: Map, count: int) -> set[bytes]:
    """``count`` entries, created in turn by every CPU, so that each holds free places that others do not see."""
    cpus, size = sorted(os.sched_getaffinity(0)), table.info.max_entries
    if count and lru.kept_free(size) >= size:
        pytest.skip(f"this kernel throws entries out of a table of {size}, however few it has")
    for turn, cpu in enumerate(cpus):
        with on_cpu(cpu):
            for number in range(turn, count, len(cpus)):
                table.update(key(number), bytes(8))
    assert len(keys_in(table)) == count
    return {key(number) for number in range(count)}


@pytest.mark.parametrize("size", [16, 100, 512, 4096])
@pytest.mark.parametrize("used", [0.0, 0.3, 0.6])
def test_a_restore_throws_nothing_out(size: int, used: float) -> None:
    """More records than have room: those that go in push out none that was there, and none of one another."""
    with table_of(size) as table:
        there = filled(table, int(size * used))
        room = lru.room(table)
        records = [Record(NAME, key(1 << 20 | number), bytes(8)) for number in range(size)]
        done = restore(records, {NAME: table})
        assert (done.restored, done.full) == (room, size - room)
        assert keys_in(table) == there | {record.key for record in records[:room]}


@pytest.mark.parametrize("size", [512, 4096])
def test_places_have_to_stay_free(size: int) -> None:
    """Why there is a bound: with free places that this CPU cannot see, an entry is lost before the table is full."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("one CPU sees every free place")
    with table_of(size) as table:
        with on_cpu(cpus[1]):
            table.update(key(0), bytes(8))  # takes free places, uses one
        with on_cpu(cpus[0]):
            for number in range(1, size):
                table.update(key(number), bytes(8))
                if number > size - 2 * lru.kept_free(size) and len(keys_in(table)) <= number:
                    break
        lost_at = number + 1
    assert size - lru.kept_free(size) < lost_at < size


@pytest.mark.parametrize("used", [0, 10, 40])
def test_lists_of_their_own_for_each_cpu(used: int) -> None:
    """NO_COMMON_LRU: the used places may all be those of the CPU that restores."""
    cpus = possible_cpus()
    with table_of(64 * cpus, MapFlag.NO_COMMON_LRU) as table:
        with on_cpu(min(os.sched_getaffinity(0))):
            there = {key(number) for number in range(used)}
            for one in there:
                table.update(one, bytes(8))
            room = lru.room(table)
            done = restore([Record(NAME, key(1 << 20 | n), bytes(8)) for n in range(100)], {NAME: table})
        assert done.restored == room == 64 - used
        assert there <= keys_in(table)


def test_what_is_kept_free_is_what_this_kernel_takes() -> None:
    """The trial's answer is the same each time, and keeps no more than the constant of the kernel's source."""
    assert lru.takes_by_size.__wrapped__() == lru.takes_by_size()
    assert lru.kept_free(1 << 20) == 128 * possible_cpus()
    assert (lru.kept_free(64) < 128 * possible_cpus()) is lru.takes_by_size()
