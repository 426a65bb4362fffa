"""Test runs with context in and out, pins, and what the kernel says about a program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctctl.errors import ClosedError, KernelError, NotFoundError
from ctctl.kernel.cpus import possible_cpus
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.object import BpfObject
from ctctl.kernel.program import Program
from tests.support.bpf import FRAME, compile_file
from tests.support.names import unique_name

pytestmark = pytest.mark.kernel


@pytest.fixture
def loaded() -> Iterator[BpfObject]:
    with (
        BpfObject.open(compile_file("kernel_layer.bpf.c")) as found,
        Map.create("inner", MapType.ARRAY, 4, 8, 1) as inner,
    ):
        found.set_inner_map("outer", inner)
        found.set_config("cfg_byte", 2)
        found.load()
        yield found


def test_context_goes_in_and_comes_out(loaded: BpfObject) -> None:
    result = loaded.program("count").test_run(FRAME, mark=0x0C180F00, cb=(1, 2, 3, 4, 5))
    assert (result.retval, result.mark) == (2, 0x0C180F01)
    assert result.cb == (1, 0, 2, 4, 5)
    assert result.data == FRAME


def test_the_interface_is_seen(loaded: BpfObject) -> None:
    assert loaded.program("other").test_run(FRAME).retval == 2**32 - 1, "the kernel takes lo for 0"
    assert loaded.program("other").test_run(FRAME, ifindex=1, ingress_ifindex=1).retval == 2**32 - 1
    with pytest.raises(KernelError, match="run program other"):
        loaded.program("other").test_run(FRAME, ifindex=2**30)


def test_a_changed_packet_comes_out(loaded: BpfObject) -> None:
    assert loaded.program("count").test_run(FRAME, mark=99).data == FRAME + bytes(4)


def test_room_for_the_packet_can_be_limited(loaded: BpfObject) -> None:
    with pytest.raises(KernelError, match="does not fit data_out_size"):
        loaded.program("count").test_run(FRAME, mark=99, data_out_size=len(FRAME))


def test_repeats_run_that_often(loaded: BpfObject) -> None:
    result = loaded.program("count").test_run(FRAME, repeat=1000)
    value = loaded.map("per_cpu").lookup(bytes(4))
    assert value is not None
    runs = sum(int.from_bytes(value[8 * cpu : 8 * cpu + 4], "little") for cpu in range(possible_cpus()))
    assert runs == 1000
    assert 0 < result.duration_ns < 1_000_000


@pytest.mark.parametrize("size", [0, 13])
def test_a_frame_that_is_too_short_says_so(loaded: BpfObject, size: int) -> None:
    with pytest.raises(KernelError, match="too short: Ethernet and IP header are needed"):
        loaded.program("count").test_run(bytes(size))


def test_prepared_runs_are_the_same_and_reusable(loaded: BpfObject) -> None:
    prepared = loaded.program("count").prepare_test_run(mark=5, max_frame=200)
    for length in (60, 100, 200, 60):
        frame = FRAME.ljust(length, b"\0")[:length]
        assert prepared.run(frame) == 2
        assert prepared.data == frame
        assert prepared.mark_out == 6
        result = prepared.result()
        once = loaded.program("count").test_run(frame, mark=5)
        assert replace(result, duration_ns=0) == replace(once, duration_ns=0)
    prepared.context.mark = 99
    prepared.run(FRAME)
    assert prepared.data == FRAME + bytes(4)
    with pytest.raises(ValueError, match="frame of 201 bytes, room for 200"):
        prepared.run(bytes(201))
    loaded.close()
    with pytest.raises(ClosedError):
        prepared.run(FRAME)


def test_info_names_program_and_maps(loaded: BpfObject) -> None:
    info = loaded.program("count").info
    assert info.name == "count"
    assert info.type == 3
    assert len(info.tag) == 16
    assert info.verified_insns > 0
    assert loaded.map("seen").info.id in info.map_ids
    with Program.from_id(info.id) as again:
        assert again.info == info


def test_a_pinned_program_outlives_its_object(loaded: BpfObject) -> None:
    path = Path("/sys/fs/bpf") / unique_name("prog")
    try:
        loaded.program("count").pin(path)
        loaded.close()
        with Program.open_pinned(path) as program:
            assert program.name == path.name
            assert program.test_run(FRAME).retval == 2
        with pytest.raises(KernelError, match="a prog is pinned there"):
            Map.open_pinned(path)
    finally:
        path.unlink(missing_ok=True)
    with pytest.raises(NotFoundError, match=f"no program is pinned at {path}"):
        Program.open_pinned(path)


def test_unknown_ids(loaded: BpfObject) -> None:
    with pytest.raises(NotFoundError, match="no program has id 4294967295"):
        Program.from_id(2**32 - 1)
    with pytest.raises(KernelError, match="run program count"):
        loaded.program("count").run_syscall()
