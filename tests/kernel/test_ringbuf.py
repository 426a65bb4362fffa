"""Ring buffer: order, waiting, callbacks that raise, life."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ctctl.errors import ClosedError, KernelError
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.object import BpfObject
from ctctl.kernel.ringbuf import RingBuffer
from tests.support.bpf import FRAME, compile_file
from tests.support.wait import PATIENCE_S, wait_for

PATIENCE_MS = int(PATIENCE_S * 1000)

pytestmark = pytest.mark.kernel


@pytest.fixture
def loaded() -> Iterator[BpfObject]:
    with (
        BpfObject.open(compile_file("kernel_layer.bpf.c")) as found,
        Map.create("inner", MapType.ARRAY, 4, 8, 1) as inner,
    ):
        found.set_inner_map("outer", inner)
        found.load()
        yield found


def emit(loaded: BpfObject, length: int) -> None:
    loaded.program("count").test_run(FRAME.ljust(length, b"\0"))


def number(record: memoryview) -> int:
    return int.from_bytes(record, "little")


def test_records_come_in_order(loaded: BpfObject) -> None:
    got: list[int] = []
    with RingBuffer(loaded.map("ring"), lambda record: got.append(number(record))) as ring:
        for length in (60, 61, 62):
            emit(loaded, length)
        assert ring.poll(PATIENCE_MS) == 3
        assert got == [60, 61, 62]
        assert ring.consume() == 0
        assert ring.poll(0) == 0


def test_a_waiting_poll_wakes_up(loaded: BpfObject) -> None:
    got: list[int] = []
    with RingBuffer(loaded.map("ring"), lambda record: got.append(number(record))) as ring:
        started = threading.Event()

        def wait_for_records() -> None:
            started.set()
            while not got:
                ring.poll(PATIENCE_MS)

        waiter = threading.Thread(target=wait_for_records)
        waiter.start()
        started.wait()
        emit(loaded, 77)
        waiter.join(PATIENCE_S)
        assert not waiter.is_alive()
        assert got == [77]


def test_what_a_callback_raises_comes_out_of_poll(loaded: BpfObject) -> None:
    seen: list[int] = []

    def picky(record: memoryview) -> None:
        seen.append(number(record))
        if number(record) == 61:
            raise KeyError("no 61 please")

    with RingBuffer(loaded.map("ring"), picky) as ring:
        for length in (60, 61, 62):
            emit(loaded, length)
        with pytest.raises(KeyError, match="no 61 please"):
            ring.poll(PATIENCE_MS)
        assert seen == [60, 61]
        wait_for(lambda: ring.consume() or seen == [60, 61, 62])
        assert seen == [60, 61, 62]


def test_an_interrupt_in_a_callback_is_not_lost(loaded: BpfObject) -> None:
    def interrupted(_record: memoryview) -> None:
        raise KeyboardInterrupt

    with RingBuffer(loaded.map("ring"), interrupted) as ring:
        emit(loaded, 60)
        with pytest.raises(KeyboardInterrupt):
            ring.poll(PATIENCE_MS)


def test_only_a_ring_buffer_will_do(loaded: BpfObject) -> None:
    with pytest.raises(KernelError, match="open ring buffer seen"):
        RingBuffer(loaded.map("seen"), lambda _record: None)


def test_it_does_not_need_the_object_and_ends_with_close(loaded: BpfObject) -> None:
    got: list[int] = []
    ring = RingBuffer(loaded.map("ring"), lambda record: got.append(number(record)))
    emit(loaded, 60)
    loaded.close()
    assert ring.consume() == 1
    assert ring.fileno > 0
    ring.close()
    ring.close()
    with pytest.raises(ClosedError, match="ring buffer ring is used after it was closed"):
        ring.poll(0)
