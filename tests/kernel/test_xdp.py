"""The loader and a device's XDP: attached, exchanged in place, removed, and never in another owner's way."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from ctctl.abi import pins
from ctctl.config.node import load_node_file
from ctctl.errors import ConfigError, KernelError, NotFoundError, UnsupportedError
from ctctl.kernel.attached import XdpProgram, xdp_programs
from ctctl.kernel.link import XdpLink
from ctctl.kernel.map import Map
from ctctl.kernel.netns import run_in_netns
from ctctl.kernel.object import BpfObject
from ctctl.kernel.program import Program
from ctctl.node.attach import AttachMode
from ctctl.node.loader import load, plan_load
from ctctl.node.paths import NodePaths
from ctctl.node.unload import unload
from ctctl.node.update import update
from tests.support.bpf import compile_file
from tests.support.loaded import attached_ids, link_ids, map_ids, status
from tests.support.needs import need_program
from tests.support.nodes import BPFFS, TestNode, make_node, run
from tests.support.wait import wait_for

pytestmark = pytest.mark.kernel


@pytest.fixture
def node() -> Iterator[TestNode]:
    with make_node() as made:
        yield made
        with contextlib.suppress(NotFoundError):
            unload(made.name)


def with_lb(node: TestNode, **lb: Any) -> dict[str, Any]:
    """The datapath of the node file with these settings of the load balancer."""
    datapath: dict[str, Any] = node.document()["datapath"]
    return {**datapath, "lb": {**datapath["lb"], **lb}}


def on_device(node: TestNode) -> list[XdpProgram]:
    return run_in_netns(node.name, xdp_programs)


@pytest.mark.parametrize("attach", [AttachMode.auto, AttachMode.tc])
def test_load_again_and_unload(node: TestNode, attach: AttachMode) -> None:
    wanted = {"datapath": with_lb(node, acceleration="generic"), "request": {"attach": attach}}
    report = load(node.request(**wanted))
    assert "xdp_netdev" in report.attached
    (first,) = on_device(node)
    assert (first.device, first.mode, first.prog_id) == ("eth0", "generic", attached_ids(node)["xdp_netdev"])
    told = status(node)
    assert told.problems == ()
    mine = next(program for program in told.programs if program.slot == "xdp_netdev")
    assert (mine.mode, mine.direction, mine.interface, mine.attached) == ("xdp", "generic", "eth0", True)

    links = link_ids(node)["xdp_netdev"]
    assert "xdp_netdev" in load(node.request(**wanted)).replaced
    (second,) = on_device(node)
    assert second.prog_id != first.prog_id
    assert link_ids(node)["xdp_netdev"] == links
    assert status(node).problems == ()

    assert "xdp_netdev" in load(node.request(request={"attach": attach})).detached
    assert on_device(node) == []
    load(node.request(**wanted))
    assert "xdp_netdev" in unload(node.name).detached
    assert on_device(node) == []


@contextlib.contextmanager
def program_at_the_other_end(node: TestNode, mode: str = "native") -> Iterator[None]:
    """Somebody's XDP program at the other end of the node's device, which passes everything on."""
    with BpfObject.open(compile_file("somebodys_xdp.bpf.c")) as bpf:
        bpf.load()
        there = run_in_netns(node.outside, lambda: socket.if_nametoindex("eth0"))
        with run_in_netns(node.outside, lambda: XdpLink.attach(bpf.program("somebodys"), there, mode)):
            yield


def test_native_where_the_driver_has_it(node: TestNode) -> None:
    with program_at_the_other_end(node):
        load(node.request(datapath=with_lb(node, acceleration="native")))
        assert [program.mode for program in on_device(node)] == ["native"]
        before = attached_ids(node)
        with pytest.raises(UnsupportedError, match="XDP runs native now"):
            load(node.request(datapath=with_lb(node, acceleration="generic")))
        assert attached_ids(node) == before


def test_a_veth_that_would_lose_what_it_sends_is_refused(node: TestNode) -> None:
    wanted = {"datapath": with_lb(node, acceleration="native")}
    load(node.request())
    before = attached_ids(node)
    # What GRO lets the other end take it leaves lying; and generic XDP is not its driver's.
    need_program("ethtool")
    run("ip", "netns", "exec", node.outside, "ethtool", "-K", "eth0", "gro", "on")
    with program_at_the_other_end(node, "generic"):
        for change in (load, plan_load, update):
            with pytest.raises(UnsupportedError, match="eth0 would lose every packet that XDP sends") as refused:
                change(node.request(**wanted))
            assert refused.value.exit_code == 4
    assert attached_ids(node) == before

    with program_at_the_other_end(node):
        load(node.request(**wanted))
        assert status(node).problems == ()
    # What runs is not stopped by what became of the other end, nor is what else there is to change.
    (said,) = status(node).problems
    assert "xdp_netdev of eth0: every packet that it sends is lost: the other end" in said
    update(node.request(**wanted, services=[]))
    assert "xdp_netdev" in load(node.request(**wanted)).replaced


def test_native_has_no_room_for_large_packets(node: TestNode) -> None:
    run("ip", "-n", node.outside, "link", "set", "eth0", "mtu", "9000")
    with program_at_the_other_end(node):
        with pytest.raises(KernelError, match="no room for packets of this MTU"):
            load(node.request(datapath=with_lb(node, acceleration="native")))
        assert on_device(node) == []
        load(node.request(datapath=with_lb(node, acceleration="generic")))


def dual(node: TestNode, **lb: Any) -> dict[str, Any]:
    """The node file's sections with both families."""
    document = node.document()
    addresses = {"ip6": "fd00:9::1", "pod-cidr6": "fd00:244:7::/64"}
    endpoints = [{**each, "ip6": f"fd00:244:7::{n}"} for n, each in enumerate(document["endpoints"], 17)]
    datapath = {**with_lb(node, **lb), "ipv6": True}
    return {"node": {**document["node"], **addresses}, "datapath": datapath, "endpoints": endpoints}


def behind(node: TestNode) -> Program | None:
    """The program to which that of the device goes on for IPv6: what the device's own array has, pinned or not."""
    (first,) = on_device(node)
    with Program.from_id(first.prog_id) as program:
        for number in program.info.map_ids:
            with Map.from_id(number) as table:
                if table.info.name == pins.XDP_NEXT:
                    value = table.lookup(bytes(4))
                    return Program.from_id(int.from_bytes(value, "little")) if value else None
    raise AssertionError("the program has no such array")


def goes_on(node: TestNode) -> bool:
    found = behind(node)
    if found is None:
        return False
    with found:
        assert found.info.name == "xdp_netdev_v6"
    return True


def problems(node: TestNode) -> list[str]:
    return [problem for problem in status(node).problems if "IPv6" in problem]


def test_the_program_of_ipv6_is_behind_it(node: TestNode) -> None:
    wanted = dual(node, acceleration="generic")
    report = load(node.request(**wanted))
    assert pins.XDP_NEXT in report.made
    assert goes_on(node)
    assert status(node).problems == ()
    before = map_ids(node)[pins.XDP_NEXT]

    assert "xdp_netdev" in load(node.request(**wanted)).replaced
    assert map_ids(node)[pins.XDP_NEXT] != before
    assert goes_on(node)

    # Apply exchanges nothing of it, turns it off, and on again.
    update(node.request(**dual(node)))
    assert pins.XDP_NEXT not in map_ids(node)
    update(node.request(**wanted))
    assert goes_on(node)
    assert status(node).problems == ()

    # Without a pin the kernel empties the array: it is said, and what is IPv6's is tc's.
    (node.dir / pins.XDP_NEXT).unlink()
    wait_for(lambda: not goes_on(node), what="the array to be emptied")
    (said,) = problems(node)
    assert "xdp_netdev" in said
    load(node.request(**wanted))
    assert problems(node) == []

    load(node.request(datapath=with_lb(node, acceleration="generic")))
    assert pins.XDP_NEXT not in map_ids(node)
    assert status(node).problems == ()


@pytest.mark.parametrize("at", ["load xdp6", "attach xdp_netdev"])
def test_a_load_that_fails_leaves_the_program_of_ipv6(node: TestNode, at: str) -> None:
    load(node.request(**dual(node, acceleration="generic")))
    first = behind(node)
    assert first is not None

    def step(name: str) -> None:
        if name.startswith(at):
            raise _Killed

    with first:
        with pytest.raises(_Killed):
            load(node.request(**dual(node, acceleration="generic", mode="snat"), request={"step": step}))
        still = behind(node)
        assert still is not None
        with still:
            assert still.info.id == first.info.id


def test_apply_turns_it_on_and_off(node: TestNode) -> None:
    load(node.request())
    update(node.request(datapath=with_lb(node, acceleration="generic")))
    assert [program.prog_id for program in on_device(node)] == [attached_ids(node)["xdp_netdev"]]
    update(node.request())
    assert on_device(node) == []
    assert status(node).problems == ()


def test_another_owners_program_stays(node: TestNode) -> None:
    load(node.request())
    before = attached_ids(node)
    with BpfObject.open(compile_file("somebodys_xdp.bpf.c")) as bpf:
        bpf.load()
        ifindex = node_ifindex(node)
        with run_in_netns(node.name, lambda: XdpLink.attach(bpf.program("somebodys"), ifindex, "generic")):
            for change in (load, update):
                with pytest.raises(UnsupportedError, match="eth0 has an XDP program of another owner") as refused:
                    change(node.request(datapath=with_lb(node, acceleration="generic")))
                assert refused.value.exit_code == 4
            assert attached_ids(node) == before
            assert not NodePaths(BPFFS, node.name).staging.exists()
            assert [program.prog_id for program in on_device(node)] == [bpf.program("somebodys").info.id]


def node_ifindex(node: TestNode) -> int:
    return run_in_netns(node.name, lambda: socket.if_nametoindex("eth0"))


def test_everything_works_without_the_record(node: TestNode) -> None:
    load(node.request(datapath=with_lb(node, acceleration="generic")))
    (node.dir / "ctctl_node").unlink()
    assert "xdp_netdev" in load(node.request(datapath=with_lb(node, acceleration="generic"))).replaced
    (node.dir / "ctctl_node").unlink()
    assert "xdp_netdev" in unload(node.name).detached
    assert on_device(node) == []


class _Killed(BaseException):
    """Stands for SIGKILL: nothing is undone."""


@pytest.mark.parametrize("at", ["attach xdp_netdev", "put in place", "links", "record"])
def test_a_load_that_fails_at_any_step(node: TestNode, at: str) -> None:
    """Before the renames it is undone; behind them the next load finishes it, and unload removes all of it."""

    def step(name: str) -> None:
        if name.startswith(at):
            raise _Killed

    with pytest.raises(_Killed):
        load(node.request(datapath=with_lb(node, acceleration="generic"), request={"step": step}))
    assert len(on_device(node)) == (at in ("links", "record"))
    load(node.request(datapath=with_lb(node, acceleration="generic")))
    assert [program.prog_id for program in on_device(node)] == [attached_ids(node)["xdp_netdev"]]
    assert status(node).problems == ()


@pytest.mark.parametrize(
    ("routing", "lb", "advice"),
    [
        ("native", {"mode": "dsr"}, "use tunnel: bpf, or lb.dispatch: opt$"),
        ("tunnel", {"mode": "dsr"}, "use tunnel: bpf$"),
        ("tunnel", {"mode": "hybrid", "dispatch": "opt"}, "use tunnel: bpf$"),
    ],
)
def test_where_a_device_tunnels_it_says_what_would_do(
    node: TestNode, routing: str, lb: dict[str, str], advice: str
) -> None:
    datapath = with_lb(node, acceleration="generic", **lb) | {"tunnel": "device", "routing": routing}
    for change in (load, plan_load):
        with pytest.raises(UnsupportedError, match=advice):
            change(node.request(datapath=datapath))
    if not advice.endswith("bpf$"):
        datapath["lb"]["dispatch"] = "opt"
        with contextlib.suppress(UnsupportedError):  # this kernel may have no geneve device at all
            assert "xdp_netdev" in load(node.request(datapath=datapath)).attached


def test_what_cannot_be_is_refused(node: TestNode, tmp_path: Any) -> None:
    document = node.document()
    node_without_device = {key: value for key, value in document["node"].items() if key != "device"}
    with pytest.raises(UnsupportedError, match="names no device"):
        load(node.request(node=node_without_device, datapath=with_lb(node, acceleration="generic")))
    wrong = tmp_path / "node.yaml"
    wrong.write_text(node.text(datapath=with_lb(node, acceleration="fast")))
    with pytest.raises(ConfigError, match="acceleration"):
        load_node_file(wrong)
