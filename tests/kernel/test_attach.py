"""TCX links and clsact filters on a device of a namespace of the test's own."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from ctctl.errors import ClosedError, KernelError, NotFoundError
from ctctl.kernel import tc
from ctctl.kernel.link import LINK_TYPE_TCX, AttachedProgram, Direction, TcxLink, query_tcx
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.netns import run_in_netns
from ctctl.kernel.object import BpfObject
from ctctl.kernel.program import Program
from tests.support.bpf import compile_file
from tests.support.names import unique_name
from tests.support.net import TestNetns, netns_with_veth
from tests.support.wait import wait_for

pytestmark = pytest.mark.kernel

T = TypeVar("T")


@pytest.fixture
def netns() -> Iterator[TestNetns]:
    with netns_with_veth() as found:
        yield found


@pytest.fixture
def loaded() -> Iterator[BpfObject]:
    with (
        BpfObject.open(compile_file("kernel_layer.bpf.c")) as found,
        Map.create("inner", MapType.ARRAY, 4, 8, 1) as inner,
    ):
        found.set_inner_map("outer", inner)
        found.set_config("cfg_byte", 0)
        found.load()
        yield found


@pytest.fixture
def programs(loaded: BpfObject) -> tuple[Program, Program]:
    return loaded.program("count"), loaded.program("other")


@pytest.fixture
def inside(netns: TestNetns) -> Callable[[Callable[[], T]], T]:
    """Runs a function in the namespace."""
    return lambda fn: run_in_netns(netns.name, fn)


@pytest.mark.tcx
class TestTcx:
    def test_order_replace_detach(
        self,
        netns: TestNetns,
        programs: tuple[Program, Program],
        inside: Callable[[Callable[[], T]], T],
        loaded: BpfObject,
    ) -> None:
        first, second = programs
        ids = [program.info.id for program in programs]

        def chain() -> list[int]:
            return [attached.prog_id for attached in query_tcx(netns.ifindex, Direction.EGRESS)]

        def steps() -> None:
            assert chain() == []
            with TcxLink.attach(first, netns.ifindex, Direction.EGRESS) as link:
                assert chain() == [ids[0]]
                with TcxLink.attach(second, netns.ifindex, Direction.EGRESS, before="first") as probe:
                    assert chain() == [ids[1], ids[0]]
                    assert query_tcx(netns.ifindex, Direction.EGRESS)[0] == AttachedProgram(ids[1], probe.info.id)
                with TcxLink.attach(second, netns.ifindex, Direction.EGRESS, before=ids[0]):
                    assert chain() == [ids[1], ids[0]]
                with TcxLink.attach(second, netns.ifindex, Direction.EGRESS):
                    assert chain() == [ids[0], ids[1]]
                link.update(second)
                assert chain() == [ids[1]]
                assert query_tcx(netns.ifindex, Direction.INGRESS) == []
                link.detach()
                assert chain() == []
                assert link.info.ifindex == 0
            with pytest.raises(ClosedError):
                _ = link.info

        inside(steps)

    def test_info_says_where(
        self, netns: TestNetns, programs: tuple[Program, Program], inside: Callable[[Callable[[], T]], T]
    ) -> None:
        with inside(lambda: TcxLink.attach(programs[0], netns.ifindex, Direction.INGRESS)) as link:
            info = link.info
            assert (info.type, info.ifindex, info.direction) == (LINK_TYPE_TCX, netns.ifindex, Direction.INGRESS)
            assert info.prog_id == programs[0].info.id
            with TcxLink.from_id(info.id) as again:
                assert again.info == info

    def test_a_packet_meets_the_program(
        self,
        netns: TestNetns,
        loaded: BpfObject,
        inside: Callable[[Callable[[], T]], T],
    ) -> None:
        def send() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
                raw.bind(("veth-a", 0))
                raw.send(bytes(12) + b"\x88\xb5" + bytes(60))

        with inside(lambda: TcxLink.attach(loaded.program("count"), netns.peer, Direction.INGRESS)):
            inside(send)
            assert wait_for(lambda: loaded.map("seen").lookup((7).to_bytes(4, "little"))) is not None

    def test_a_pinned_link_outlives_its_handle(
        self, netns: TestNetns, programs: tuple[Program, Program], inside: Callable[[Callable[[], T]], T]
    ) -> None:
        path = Path("/sys/fs/bpf") / unique_name("link")

        def chain() -> int:
            return len(inside(lambda: query_tcx(netns.ifindex, Direction.INGRESS)))

        try:
            with inside(lambda: TcxLink.attach(programs[0], netns.ifindex, Direction.INGRESS)) as link:
                link.pin(path)
            assert chain() == 1
            with TcxLink.open_pinned(path) as again:
                again.update(programs[1])
                assert again.info.prog_id == programs[1].info.id
            with pytest.raises(KernelError, match="a link is pinned there"):
                Program.open_pinned(path)
        finally:
            path.unlink(missing_ok=True)
        wait_for(lambda: chain() == 0)
        with pytest.raises(NotFoundError, match=f"no link is pinned at {path}"):
            TcxLink.open_pinned(path)

    def test_failures_name_program_device_and_reason(
        self, netns: TestNetns, programs: tuple[Program, Program], inside: Callable[[Callable[[], T]], T]
    ) -> None:
        def attach(ifindex: int, **options: int) -> TcxLink:
            return inside(lambda: TcxLink.attach(programs[0], ifindex, Direction.INGRESS, **options))

        with pytest.raises(KernelError, match=r"attach count to ingress of interface 9999: .*no such interface"):
            attach(9999)
        with attach(netns.ifindex), pytest.raises(KernelError, match="in that chain already") as caught:
            attach(netns.ifindex)
        assert caught.value.errno == errno.EEXIST
        with pytest.raises(KernelError) as caught:
            attach(netns.ifindex, before=2**31)
        assert caught.value.errno == errno.ENOENT
        with pytest.raises(KernelError, match=r"query programs of egress of interface 9999: .*no such interface"):
            inside(lambda: query_tcx(9999, Direction.EGRESS))
        with pytest.raises(NotFoundError, match="no link has id"):
            TcxLink.from_id(2**32 - 1)

    def test_a_map_is_no_link(self) -> None:
        path = Path("/sys/fs/bpf") / unique_name("map")
        with Map.create("table", MapType.ARRAY, 4, 4, 1) as table:
            table.pin(path)
            try:
                with pytest.raises(KernelError, match="a map is pinned there"):
                    TcxLink.open_pinned(path)
            finally:
                path.unlink()


class TestClsact:
    def test_attach_replace_list_detach(
        self, netns: TestNetns, programs: tuple[Program, Program], inside: Callable[[Callable[[], T]], T]
    ) -> None:
        ids = [program.info.id for program in programs]

        def steps() -> None:
            assert tc.list_filters() == []
            made = tc.attach_filter(programs[0], netns.ifindex, Direction.INGRESS, name="ctctl/n/a")
            assert tc.list_filters() == [made]
            assert (made.prog_id, made.name) == (ids[0], "ctctl/n/a")
            replaced = tc.attach_filter(programs[1], netns.ifindex, Direction.INGRESS, name="ctctl/n/a")
            assert [found.prog_id for found in tc.list_filters(netns.ifindex)] == [ids[1]]
            out = tc.attach_filter(programs[0], netns.peer, Direction.EGRESS, name="ctctl/n/b", priority=7, handle=3)
            assert tc.list_filters(netns.peer) == [out]
            assert (out.priority, out.handle) == (7, 3)
            assert len(tc.list_filters()) == 2
            assert tc.remove_clsact(netns.ifindex) is False, "a filter is still there"
            assert tc.detach_filter(replaced) is True
            assert tc.detach_filter(replaced) is False
            assert tc.remove_clsact(netns.ifindex) is True
            assert tc.remove_clsact(netns.ifindex) is False
            assert tc.list_filters() == [out]

        inside(steps)

    def test_tc_sees_the_filter(
        self, netns: TestNetns, programs: tuple[Program, Program], inside: Callable[[Callable[[], T]], T]
    ) -> None:
        inside(lambda: tc.attach_filter(programs[0], netns.ifindex, Direction.EGRESS, name="ctctl/n/a"))
        shown = subprocess.run(
            ["tc", "-n", netns.name, "-j", "filter", "show", "dev", "veth-a", "egress"],
            check=True,
            capture_output=True,
            text=True,
        )
        options = [row["options"] for row in json.loads(shown.stdout) if "options" in row]
        assert [(row["bpf_name"], row["direct-action"], row["prog"]["id"]) for row in options] == [
            ("ctctl/n/a", True, programs[0].info.id)
        ]

    def test_a_device_that_is_not_there(
        self, programs: tuple[Program, Program], inside: Callable[[Callable[[], T]], T]
    ) -> None:
        with pytest.raises(KernelError, match="attach ctctl/n/a to ingress of interface 9999"):
            inside(lambda: tc.attach_filter(programs[0], 9999, Direction.INGRESS, name="ctctl/n/a"))
        gone = tc.Filter(9999, Direction.INGRESS, 1, "ctctl/n/a", 1, 1)
        assert inside(lambda: tc.detach_filter(gone)) is False
