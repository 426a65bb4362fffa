"""Read one hash table with two threads, each over half of the buckets; ctypes lets go of the GIL meanwhile.

The batch cursor of hash maps is the index of the next bucket (measured; documented as opaque). So
its use is guarded: unless both readers' first cursors look like bucket indexes, one reader does it
all. The first reader overruns its half by up to one batch; what the second one has given out of
those buckets is dropped from the first one's last batch.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctctl.kernel.map_batch import Batch, BatchReader
from ctctl.kernel.map_handle import HASHES, MapHandle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_QUEUED = 8
_STOP_CHECK_S = 0.05


@dataclass(frozen=True, slots=True)
class _Item:
    """What a reader hands over: a batch of the buckets from ``start`` to before ``end``, its end, or its failure."""

    second: bool
    batch: Batch | None = None
    start: int = 0
    end: int = 0
    error: BaseException | None = None


class ParallelReader:
    """One walk by two readers, or in the kernel's order by one that reads ahead. Batches are fresh arrays."""

    def __init__(self, table: MapHandle, size: int, *, ordered: bool = False) -> None:
        self._map = table
        self._ordered = ordered
        self._size = size
        self._half = bucket_count(table.info.max_entries) // 2
        self._items: queue.Queue[_Item] = queue.Queue(_QUEUED)
        self._stop = threading.Event()

    def run(self) -> Iterator[Batch]:
        """Every entry as non-empty batches, each valid for as long as it is kept. Raises KernelError."""
        # A handle of the walk's own: the caller may close its one while threads are in system calls.
        with self._map.dup() as self._map:
            yield from self._walk()

    def _walk(self) -> Iterator[Batch]:
        first = BatchReader(self._map, self._size, reuse=False, delete=False)
        batches = first.run()
        opening = next(batches, None)
        if opening is None:
            return
        yield opening
        second = None if self._ordered else self._second_reader(first)
        pumps = [self._pump_thread(False, first, batches, None)]
        if second is not None:
            first.stop_at(self._half)
            pumps.append(self._pump_thread(True, *second))
        for thread in pumps:
            thread.start()
        try:
            yield from self._merge() if second is not None else self._in_order()
        finally:
            self._stop.set()
            for thread in pumps:
                thread.join()

    def _pump_thread(
        self, second: bool, reader: BatchReader, batches: Iterator[Batch], opening: Batch | None
    ) -> threading.Thread:
        return threading.Thread(target=self._pump, args=(second, reader, batches, opening), daemon=True)

    def _second_reader(self, first: BatchReader) -> tuple[BatchReader, Iterator[Batch], Batch] | None:
        """The reader of the second half with its first batch; None where one reader is right or all there is."""
        worth_it = self._map.info.type in HASHES and len(os.sched_getaffinity(0)) > 1
        if not worth_it or not 0 < first.position < self._half:
            return None
        reader = BatchReader(self._map, self._size, reuse=False, delete=False, start=self._half)
        batches = reader.run()
        opening = next(batches, None)
        if opening is None or not self._half < reader.position <= 2 * self._half:
            return None
        return reader, batches, opening

    def _pump(self, second: bool, reader: BatchReader, batches: Iterator[Batch], opening: Batch | None) -> None:
        try:
            start = self._half if second else reader.position
            if opening is not None:
                self._put(_Item(second, opening, start, reader.position))
                start = reader.position
            for batch in batches:
                self._put(_Item(second, batch, start, reader.position))
                start = reader.position
                if self._stop.is_set():
                    return
        except BaseException as error:
            self._put(_Item(second, error=error))
        else:
            self._put(_Item(second))

    def _put(self, item: _Item) -> None:
        while not self._stop.is_set():
            try:
                self._items.put(item, timeout=_STOP_CHECK_S)
            except queue.Full:
                continue
            return

    def _in_order(self) -> Iterator[Batch]:
        while (item := self._items.get()).batch is not None:
            yield item.batch
        if item.error is not None:
            raise item.error

    def _merge(self) -> Iterator[Batch]:
        """Hand out both readers' batches; the first one's overrun once the second has covered it."""
        open_ends, covered = 2, self._half
        given: list[NDArray[np.uint8]] = []
        tail: _Item | None = None
        while open_ends:
            item = self._items.get()
            if item.error is not None:
                raise item.error
            if item.batch is None:
                open_ends -= 1
                covered = covered if not item.second else 2 * self._half
            elif item.second:
                # Only the buckets that the first reader can overrun into: two of its batches at most.
                if len(given) < 2 * _QUEUED and (tail is None or item.start < tail.end):
                    given.append(item.batch.keys)
                covered = max(covered, item.end)
                yield item.batch
            elif item.end > self._half:
                tail = item
            else:
                yield item.batch
            if tail is not None and tail.batch is not None and covered >= tail.end:
                yield from _without(tail.batch, given)
                tail, given = None, []


def _without(batch: Batch, given: list[NDArray[np.uint8]]) -> Iterator[Batch]:
    known = {key.tobytes() for keys in given for key in keys}
    fresh = [row for row, key in enumerate(batch.keys) if key.tobytes() not in known]
    if fresh:
        keys, values = (memoryview(one[fresh].tobytes()) for one in batch)
        yield Batch(keys, values, len(fresh))


def bucket_count(max_entries: int) -> int:
    """Buckets of a hash map: the next power of two (kernel/bpf/hashtab.c)."""
    return 1 << max(max_entries - 1, 0).bit_length()
