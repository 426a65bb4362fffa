"""Programs of any owner at a datapath's other places: XDP of devices, and the sockets of a cgroup. Only read."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ctctl._ffi import CallError, syscall
from ctctl.kernel.link import MAX_ATTACHED, SOCKET_ATTACH_TYPES

#: The ways in which XDP runs (IFLA_XDP_ATTACHED, linux/if_link.h), and which attribute has the program of each.
_XDP_MODES: Final = {1: "native", 2: "generic", 3: "offloaded", 4: "several"}
#: The same as pyroute2 says it where it knows the number.
_XDP_WORDS: Final = {"xdpdrv": "native", "xdpgeneric": "generic", "xdpoffload": "offloaded", "xdpmulti": "several"}
#: Where programs hook into the sockets of a cgroup, by name; the last one only others use.
_CGROUP_HOOKS: Final = {**SOCKET_ATTACH_TYPES, "sock_release": 34}


@dataclass(frozen=True, slots=True)
class XdpProgram:
    """A device's XDP program. ``mode``: native, generic or offloaded."""

    ifindex: int
    device: str
    prog_id: int
    mode: str


def xdp_programs() -> list[XdpProgram]:
    """Devices of this network namespace with an XDP program. Raises OSError, NetlinkError."""
    from pyroute2 import IPRoute

    with IPRoute() as ip:
        return [found for link in ip.get_links() if (found := _xdp_of(link)) is not None]


def sends_from_xdp(ifindex: int) -> bool:
    """Whether what native XDP sends back by a device of this network namespace gets out. Raises OSError, NetlinkError.

    A veth hands frames to the other end's driver, which wakes for them only where an XDP program runs in it: with none
    they are dropped, and with GRO alone they lie there until other traffic comes (veth_xdp_flush() of the kernel).
    """
    from pyroute2 import IPRoute

    with IPRoute() as ip:
        link: Any = ip.get_links(ifindex)[0]
        info = link.get_attr("IFLA_LINKINFO")
        if info is None or info.get_attr("IFLA_INFO_KIND") != "veth":
            return True
        namespace = link.get_attr("IFLA_LINK_NETNSID")
        where = {} if namespace is None else {"if_netnsid": namespace}
        (other_end,) = ip.link("get", index=link.get_attr("IFLA_LINK"), **where)
    about = other_end.get_attr("IFLA_XDP")
    return about is not None and bool(about.get_attr("IFLA_XDP_DRV_PROG_ID"))


def _xdp_of(link: Any) -> XdpProgram | None:
    about = link.get_attr("IFLA_XDP")
    number = about.get_attr("IFLA_XDP_PROG_ID") if about is not None else None
    if not number:
        return None
    attached = about.get_attr("IFLA_XDP_ATTACHED")
    mode = _XDP_WORDS.get(attached) if isinstance(attached, str) else _XDP_MODES.get(attached or 0)
    return XdpProgram(link["index"], str(link.get_attr("IFLA_IFNAME")), int(number), mode or "native")


def cgroup_programs(path: Path) -> Iterator[tuple[str, int]]:
    """Hook and program id of what is attached to a cgroup itself; nothing where it is none, or may not be asked."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for hook, number in _CGROUP_HOOKS.items():
            programs = (ctypes.c_uint32 * MAX_ATTACHED)()
            attr = syscall.QueryAttr(
                target_ifindex=fd, attach_type=number, prog_ids=ctypes.addressof(programs), count=MAX_ATTACHED
            )
            with suppress(CallError):
                syscall.bpf(syscall.BPF_PROG_QUERY, attr)
                yield from ((hook, programs[at]) for at in range(min(attr.count, MAX_ATTACHED)))
    finally:
        os.close(fd)
