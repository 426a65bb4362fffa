"""One ring buffer, several readers: each gets every record, and one that falls behind is told so."""

from __future__ import annotations

import pytest

from ctctl.abi import pins
from ctctl.kernel.ringshared import SharedRing
from tests.support.datapath import node_file, send, simulated

pytestmark = pytest.mark.kernel

PACKET = "tcp 10.64.0.36:40000 > 10.64.1.64:80 S"


def test_every_reader_gets_every_record_and_takes_none_from_another() -> None:
    with simulated(node_file()) as simulator:
        ring = simulator.maps[pins.EVENTS]
        first: list[bytes] = []
        second: list[bytes] = []
        with SharedRing(ring, first.append) as one:
            # The simulator's own reader takes what it reads: the others have it all the same.
            result = send(simulator, "from_container", PACKET)
            assert len(result.events) == 1
            with SharedRing(ring, second.append) as other:
                send(simulator, "from_container", PACKET)
                other.consume()
                assert len(second) == 1
                one.consume()
            assert len(first) == 2
            assert first[1] == second[0]
            one.consume()
            assert (len(first), one.missed_bytes) == (2, 0)


def test_a_reader_that_falls_behind_by_a_whole_buffer_is_told() -> None:
    with simulated(node_file()) as simulator:
        ring = simulator.maps[pins.EVENTS]
        got: list[bytes] = []
        with SharedRing(ring, got.append) as slow:
            size = 0
            while size <= ring.info.max_entries:
                size += 640
                send(simulator, "from_container", PACKET)
            slow.consume()
            assert got == []
            assert slow.missed_bytes > ring.info.max_entries
            send(simulator, "from_container", PACKET)
            slow.consume()
            assert len(got) == 1
            slow.skip()
            slow.consume()
            assert len(got) == 1


def test_alone_it_gives_the_room_back_to_the_producer() -> None:
    with simulated(node_file()) as simulator:
        ring = simulator.maps[pins.EVENTS]
        assert simulator._ring is not None
        simulator._ring.consume = lambda: 0  # type: ignore[method-assign]
        got: list[bytes] = []
        with SharedRing(ring, got.append) as only:
            count = 3 * ring.info.max_entries // 640
            for _ in range(count):
                send(simulator, "from_container", PACKET)
                only.consume()
            assert len(got) == count
            assert only.missed_bytes == 0
