"""The loader and a device's XDP: attached, exchanged in place, removed, and never in another owner's way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from ctctl.config.node import load_node_file
from ctctl.errors import ConfigError, NotFoundError, UnsupportedError
from ctctl.kernel.attached import XdpProgram, xdp_programs
from ctctl.kernel.link import XdpLink
from ctctl.kernel.netns import run_in_netns
from ctctl.kernel.object import BpfObject
from ctctl.node.attach import AttachMode
from ctctl.node.loader import load
from ctctl.node.paths import NodePaths
from ctctl.node.unload import unload
from ctctl.node.update import update
from tests.support.bpf import compile_source
from tests.support.loaded import attached_ids, link_ids, status
from tests.support.nodes import BPFFS, TestNode, make_node

pytestmark = pytest.mark.kernel

FOREIGN = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int somebodys(struct xdp_md *ctx) { return ctx ? XDP_PASS : XDP_DROP; }
char LICENSE[] SEC("license") = "GPL";
"""


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


def test_native_where_the_driver_has_it(node: TestNode) -> None:
    load(node.request(datapath=with_lb(node, acceleration="native")))
    assert [program.mode for program in on_device(node)] == ["native"]
    before = attached_ids(node)
    with pytest.raises(UnsupportedError, match="XDP runs native now"):
        load(node.request(datapath=with_lb(node, acceleration="generic")))
    assert attached_ids(node) == before


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
    with BpfObject.open(compile_source("somebodys.bpf.c", FOREIGN)) as bpf:
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
    import socket

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


def test_what_cannot_be_is_refused(node: TestNode, tmp_path: Any) -> None:
    document = node.document()
    node_without_device = {key: value for key, value in document["node"].items() if key != "device"}
    with pytest.raises(UnsupportedError, match="names no device"):
        load(node.request(node=node_without_device, datapath=with_lb(node, acceleration="generic")))
    wrong = tmp_path / "node.yaml"
    wrong.write_text(node.text(datapath=with_lb(node, acceleration="fast")))
    with pytest.raises(ConfigError, match="acceleration"):
        load_node_file(wrong)
