"""Who encapsulates: the datapath itself, or a geneve device in collect_md mode where the kernel has one."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import replace

from ctctl.config.node import NodeFile, Overlay
from ctctl.datapath.record import NodeRecord
from ctctl.datapath.resolve import find_interface
from ctctl.errors import ConfigError, KernelError, UnsupportedError

BPF = "bpf"
DEVICE = "device"

_DEFAULT_NAME = "ctctl_geneve"
_PORT = 6081


def resolve_tunnel(node: NodeFile, record: NodeRecord | None) -> tuple[NodeFile, bool]:
    """(``node`` with ``tunnel`` decided and the overlay's index, whether the loader makes the device).

    ``auto`` uses a collect_md geneve device that the node file names and that exists, and encapsulates in
    BPF otherwise. Runs in the node's namespace. Raises ConfigError for a device of another kind.
    """
    wanted, overlay = node.datapath.tunnel, node.node.overlay
    name = overlay.name if overlay is not None else _DEFAULT_NAME
    found = find_interface(name) if wanted != BPF else None
    if found is not None and not _collects_metadata(found.ifindex):
        if wanted == DEVICE:
            raise ConfigError(f"overlay: {name!r} is no geneve device in collect_md mode", path=node.path)
        found = None
    if found is None and wanted != DEVICE:
        return replace(node, datapath=replace(node.datapath, tunnel=BPF)), False
    made = found is None or (record is not None and record.made_overlay)
    return with_overlay(node, name, found.ifindex if found else None), made


def with_overlay(node: NodeFile, name: str, ifindex: int | None) -> NodeFile:
    """``node`` using that geneve device."""
    return replace(
        node,
        node=replace(node.node, overlay=Overlay(name, ifindex)),
        datapath=replace(node.datapath, tunnel=DEVICE),
    )


def make_overlay(name: str) -> int:
    """Make a collect_md geneve device in this thread's namespace; its index. Raises UnsupportedError, KernelError."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as route:
        try:
            route.link("add", ifname=name, kind="geneve", geneve_port=_PORT, geneve_collect_metadata=True)
            ifindex: int = route.link_lookup(ifname=name)[0]
            route.link("set", index=ifindex, state="up")
        except NetlinkError as error:
            if error.code in (errno.EOPNOTSUPP, errno.EINVAL):
                raise UnsupportedError(
                    "this kernel has no geneve device (CONFIG_GENEVE): use tunnel: bpf or auto in the node file"
                ) from error
            raise KernelError("make geneve device", name, error.code) from error
    return ifindex


def remove_overlay(name: str) -> None:
    """Remove a device made by ``make_overlay``. One that is gone is fine."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as route, contextlib.suppress(NetlinkError, IndexError):
        route.link("del", index=route.link_lookup(ifname=name)[0])


def _collects_metadata(ifindex: int) -> bool:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        info = route.get_links(ifindex)[0].get_attr("IFLA_LINKINFO")
    if info is None or info.get_attr("IFLA_INFO_KIND") != "geneve":
        return False
    data = info.get_attr("IFLA_INFO_DATA")
    return data is not None and any(name == "IFLA_GENEVE_COLLECT_METADATA" for name, _ in data["attrs"])
