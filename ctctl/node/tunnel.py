"""Who encapsulates: the datapath itself, or a geneve device in collect_md mode where the kernel has one."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ctctl.config.node import NodeFile, Overlay
from ctctl.errors import ConfigError, KernelError, UnsupportedError
from ctctl.kernel.netns import run_in_new_netns
from ctctl.node.resolve import find_interface

AUTO = "auto"
#: By the programs themselves: every kernel can.
BPF = "bpf"
DEVICE = "device"

_DEFAULT_NAME = "ctctl_geneve"
_PORT = 6081


def resolve_tunnel(node: NodeFile) -> tuple[NodeFile, bool]:
    """(``node`` with ``tunnel`` decided and the overlay's index, whether the loader must make the device).

    ``auto`` uses a collect_md geneve device that the node file names and that exists, and encapsulates in
    BPF otherwise. Runs in the node's namespace. Raises ConfigError for a device of another kind.
    """
    wanted, overlay = node.datapath.tunnel, node.node.overlay
    name = overlay.name if overlay is not None else _DEFAULT_NAME
    named = wanted == DEVICE or (wanted == AUTO and overlay is not None)
    found = find_interface(name) if named else None
    if found is not None and not _collects_metadata(found.ifindex):
        if wanted == DEVICE:
            raise ConfigError(f"overlay: {name!r} is no geneve device in collect_md mode", path=node.path)
        found = None
    if found is None and wanted != DEVICE:
        return replace(node, datapath=replace(node.datapath, tunnel=BPF)), False
    return with_overlay(node, name, found.ifindex if found else None), found is None


def with_overlay(node: NodeFile, name: str, ifindex: int | None) -> NodeFile:
    """``node`` using that geneve device."""
    return replace(
        node,
        node=replace(node.node, overlay=Overlay(name, ifindex)),
        datapath=replace(node.datapath, tunnel=DEVICE),
    )


def make_overlay(node: str, name: str) -> int:
    """Make a collect_md geneve device for ``node`` in this thread's namespace; its index.

    Its alias says whose it is: ``remove_overlays`` goes by that. Raises UnsupportedError, KernelError.
    """
    with _rtnetlink("make geneve device", name) as route:
        route.link("add", ifname=name, kind="geneve", geneve_port=_PORT, geneve_collect_metadata=True)
        ifindex: int = route.link_lookup(ifname=name)[0]
        route.link("set", index=ifindex, ifalias=_alias(node))
        route.link("set", index=ifindex, state="up")
    return ifindex


def try_overlay() -> None:
    """Make such a device where it is in nobody's way, and gone at once. Raises what ``make_overlay`` raises."""
    run_in_new_netns(make_overlay, "trial", _DEFAULT_NAME)


def remove_overlays(node: str) -> None:
    """Remove what ``make_overlay`` made for ``node`` in this thread's namespace. Raises KernelError."""
    with _rtnetlink("remove geneve device of node", node) as route:
        for link in route.get_links():
            if link.get_attr("IFLA_IFALIAS") == _alias(node):
                route.link("del", index=link["index"])


def _alias(node: str) -> str:
    return f"ctctl/{node}"


@contextmanager
def _rtnetlink(what: str, name: str) -> Iterator[Any]:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as route:
            yield route
    except NetlinkError as error:
        if error.code == errno.EOPNOTSUPP:
            raise UnsupportedError(
                "this kernel has no geneve device (CONFIG_GENEVE): use tunnel: bpf or auto in the node file"
            ) from error
        raise KernelError(what, name, error.code) from error


def _collects_metadata(ifindex: int) -> bool:
    with _rtnetlink("query interface", str(ifindex)) as route:
        info = route.get_links(ifindex)[0].get_attr("IFLA_LINKINFO")
    if info is None or info.get_attr("IFLA_INFO_KIND") != "geneve":
        return False
    data = info.get_attr("IFLA_INFO_DATA")
    return data is not None and any(name == "IFLA_GENEVE_COLLECT_METADATA" for name, _ in data["attrs"])
