"""Who encapsulates: chosen by the node file and by what the kernel has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ctctl.errors import ConfigError, UnsupportedError
from ctctl.kernel.features import probe
from ctctl.node.loader import load, plan_load
from ctctl.node.unload import unload
from tests.support.loaded import attached_ids, status, tcx_programs
from tests.support.nodes import TestNode, make_node, run

pytestmark = pytest.mark.kernel


def has_geneve() -> bool:
    return probe(("geneve-device",))[0].available


@pytest.fixture
def node() -> Iterator[TestNode]:
    with make_node() as made:
        yield made
        if made.dir.exists():
            unload(made.name)


def tunnel(node: TestNode, how: str, overlay: str | None = None) -> dict[str, Any]:
    document = node.document()
    document["datapath"]["tunnel"] = how
    if overlay is not None:
        document["node"]["overlay"] = overlay
    return document


def test_auto_without_a_device_encapsulates_in_bpf(node: TestNode) -> None:
    report = load(node.request(**tunnel(node, "auto", "nodev7")))
    assert report.tunnel == "bpf"
    assert len(attached_ids(node)) == 4


def test_a_device_of_another_kind_is_refused(node: TestNode) -> None:
    with pytest.raises(ConfigError, match="'eth0' is no geneve device in collect_md mode"):
        load(node.request(**tunnel(node, "device", "eth0")))
    assert not node.dir.exists()
    assert load(node.request(**tunnel(node, "auto", "eth0"))).tunnel == "bpf"


@pytest.mark.skipif("has_geneve()", reason="this kernel has geneve devices")
def test_a_kernel_without_geneve_says_so(node: TestNode) -> None:
    for refused in (load, plan_load):
        with pytest.raises(UnsupportedError, match="no geneve device"):
            refused(node.request(**tunnel(node, "device")))
    assert not node.dir.exists()
    assert tcx_programs(node) == set()


# No failure under CTCTL_REQUIRE_KERNEL: the datapath does without such a device (docs/datapath.md).
@pytest.mark.skipif("not has_geneve()", reason="this kernel has no geneve device")
def test_the_loader_makes_and_removes_its_geneve_device(node: TestNode) -> None:
    assert {"from_overlay", "to_overlay"} <= set(plan_load(node.request(**tunnel(node, "device"))).attached)
    assert "ctctl_geneve" not in run("ip", "-n", node.name, "link", "show")
    report = load(node.request(**tunnel(node, "device")))
    assert report.tunnel == "device"
    assert {"from_overlay", "to_overlay"} <= attached_ids(node).keys()
    shown = run("ip", "-n", node.name, "-d", "link", "show", "ctctl_geneve")
    assert "geneve external" in shown
    assert load(node.request(**tunnel(node, "device"))).replaced == report.attached
    assert status(node).problems == ()
    # Back to encapsulation in BPF: the device is not needed any more.
    assert load(node.request()).tunnel == "bpf"
    assert "ctctl_geneve" not in run("ip", "-n", node.name, "link", "show")
    load(node.request(**tunnel(node, "device")))
    unload(node.name)
    assert "ctctl_geneve" not in run("ip", "-n", node.name, "link", "show")


@pytest.mark.skipif("not has_geneve()", reason="this kernel has no geneve device")
def test_a_device_of_the_user_is_used_and_left(node: TestNode) -> None:
    run("ip", "-n", node.name, "link", "add", "gnv0", "type", "geneve", "external")
    assert load(node.request(**tunnel(node, "auto", "gnv0"))).tunnel == "device"
    unload(node.name)
    assert "gnv0" in run("ip", "-n", node.name, "link", "show")
