"""Two readers over one table: together they are one walk."""

from __future__ import annotations

import os
import threading
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from ctctl.errors import ClosedError
from ctctl.kernel.map import Map, MapFlag, MapType
from ctctl.kernel.map_parallel import bucket_count

pytestmark = pytest.mark.kernel


@pytest.fixture(autouse=True)
def no_thread_stays() -> object:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def keys_of(numbers: range) -> NDArray[np.uint8]:
    keys = np.zeros((len(numbers), 14), np.uint8)
    keys[:, :4] = np.arange(numbers.start, numbers.stop, dtype="<u4").view(np.uint8).reshape(-1, 4)
    return keys


def filled(count: int, capacity: int, kind: MapType = MapType.LRU_HASH) -> Map:
    table = Map.create("halves", kind, 14, 56, capacity)
    keys = keys_of(range(count))
    values = np.zeros((count, 56), np.uint8)
    values[:, :4] = keys[:, :4]
    table.update_batch(keys, values)
    return table


def numbers_in(batches: list[NDArray[np.uint8]]) -> Counter[int]:
    found: Counter[int] = Counter()
    for keys in batches:
        found.update(np.ascontiguousarray(keys[:, :4]).view("<u4").ravel().tolist())
    return found


@pytest.mark.parametrize("size", [1, 16, 256, 4096])
@pytest.mark.parametrize("count", [0, 1, 300, 30_000])
@pytest.mark.parametrize("kind", [MapType.HASH, MapType.LRU_HASH])
def test_every_entry_comes_once(size: int, count: int, kind: MapType) -> None:
    with filled(count, 40_000, kind) as table:
        batches = list(table.parallel_batches(size))
        assert numbers_in([batch.keys for batch in batches]) == Counter(range(count))
        for batch in batches:
            assert 0 < len(batch) == len(batch.values)
            assert (batch.keys[:, :4] == batch.values[:, :4]).all()


@pytest.mark.parametrize("size", [1, 256, 4096])
@pytest.mark.parametrize("count", [0, 1, 30_000])
def test_reading_ahead_keeps_the_kernels_order(size: int, count: int) -> None:
    with filled(count, 40_000) as table:
        plain = [bytes(key) for batch in table.batches(size) for key in batch.keys]
        ahead = [bytes(key) for batch in table.parallel_batches(size, ordered=True) for key in batch.keys]
        assert ahead == plain
        assert len(set(plain)) == count


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU: one reader")
def test_two_threads_do_read() -> None:
    """Else the test above would prove nothing."""
    with filled(30_000, 40_000) as table:
        batches = table.parallel_batches(256)
        next(batches)
        next(batches)
        assert threading.active_count() >= 3
        batches.close()


@pytest.mark.parametrize("ordered", [False, True])
def test_a_reader_that_stops_early_leaves_no_thread(ordered: bool) -> None:
    with filled(30_000, 40_000) as table:
        for batch in table.parallel_batches(64, ordered=ordered):
            assert len(batch)
            break


def test_stable_entries_come_once_while_others_move() -> None:
    stable, moving = range(10_000), range(10_000, 20_000)
    with filled(20_000, 40_000, MapType.HASH) as table:
        found: list[NDArray[np.uint8]] = []
        keys, values = keys_of(moving), bytes(len(moving) * 56)
        for turn, batch in enumerate(table.parallel_batches(256)):
            found.append(batch.keys)
            if turn % 10 == 0:
                table.delete_batch(keys)
                table.update_batch(keys, values)
        counts = numbers_in(found)
        assert {number: counts[number] for number in stable} == dict.fromkeys(stable, 1)


def test_other_map_types_have_one_reader() -> None:
    with Map.create("trie", MapType.LPM_TRIE, 8, 4, 4000, flags=MapFlag.NO_PREALLOC) as table:
        for number in range(2000):
            table.update((32).to_bytes(4, "little") + number.to_bytes(4, "big"), bytes(4))
        assert sum(len(batch) for batch in table.parallel_batches(64)) == 2000


@pytest.mark.parametrize("ordered", [False, True])
def test_a_table_that_is_closed_meanwhile_is_read_to_its_end(ordered: bool) -> None:
    """The threads have a handle of their own: a descriptor number may be another file's by then."""
    table = filled(30_000, 40_000)
    batches = table.parallel_batches(16, ordered=ordered)
    found = [next(batches).keys]
    table.close()
    found += [batch.keys for batch in batches]
    assert numbers_in(found) == Counter(range(30_000))


def test_a_closed_table_is_not_read() -> None:
    table = filled(1, 2)
    table.close()
    with pytest.raises(ClosedError, match="map halves is used after it was closed"):
        next(table.parallel_batches())


@pytest.mark.parametrize(("entries", "buckets"), [(1, 1), (2, 2), (3, 4), (524288, 524288), (524289, 1048576)])
def test_buckets_are_the_next_power_of_two(entries: int, buckets: int) -> None:
    assert bucket_count(entries) == buckets
