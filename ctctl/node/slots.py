"""Which program goes where on a node. Pure: from a resolved node file to slots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ctctl.config.datapath import SocketLb
from ctctl.config.node import Endpoint, NodeFile
from ctctl.kernel.link import XDP_MODES
from ctctl.node.record import SlotRecord

#: what the names of IPv6's programs end with
_OF_IPV6 = "_v6"

INGRESS = "ingress"
EGRESS = "egress"

#: object file (without .bpf.o) → its programs and the side of the device each belongs to (docs/datapath.md)
HOOKS: dict[str, tuple[tuple[str, str], ...]] = {
    "lxc": (("from_container", INGRESS), ("to_container", EGRESS)),
    "netdev": (("from_netdev", INGRESS), ("to_netdev", EGRESS)),
    "overlay": (("from_overlay", INGRESS), ("to_overlay", EGRESS)),
}

#: what runs on the node's device before there is a socket buffer; a device runs one, so that of IPv6 is behind IPv4's
XDP_OBJECT, XDP_PROGRAM = "xdp", "xdp_netdev"

#: the same for cgroups: programs of sockets, and the hook of each (``kernel.link.SOCKET_ATTACH_TYPES``)
SOCKET_HOOKS: dict[int, tuple[tuple[str, str], ...]] = {
    4: (
        *((name, f"{name}4") for name in ("connect", "sendmsg", "recvmsg", "getpeername", "post_bind")),
        *((f"{name}_mapped", f"{name}6") for name in ("connect", "sendmsg", "recvmsg", "getpeername", "post_bind")),
    ),
    6: tuple((f"{name}_v6", f"{name}6") for name in ("connect", "sendmsg", "recvmsg", "getpeername", "post_bind")),
}


def object_name(name: str, version: int) -> str:
    """The object that has the programs of ``name`` for one IP version."""
    return f"{name}6" if version == 6 else name


def program_name(hook: str, version: int) -> str:
    """The program of a hook for one IP version."""
    return f"{hook}{_OF_IPV6}" if version == 6 else hook


def program_names() -> frozenset[str]:
    """Every program of the datapath, of either family."""
    hooks = {program_name(hook, version) for programs in HOOKS.values() for hook, _ in programs for version in (4, 6)}
    ahead = {program_name(XDP_PROGRAM, version) for version in (4, 6)}
    return frozenset(hooks | ahead | {program for programs in SOCKET_HOOKS.values() for program, _ in programs})


def program_version(name: str) -> int:
    """The IP version of a program, or of a slot, by its name."""
    return 6 if name.endswith(_OF_IPV6) else 4


@dataclass(frozen=True, slots=True)
class Unit:
    """One object to load: its configuration is of one endpoint, or of the node, and of one IP version.

    ``behind``: another whose program this one's goes on to, by the program array ``pins.XDP_NEXT``.
    """

    object: str
    slots: tuple[SlotRecord, ...]
    endpoint: Endpoint | None = None
    version: int = 4
    behind: Unit | None = None

    @property
    def title(self) -> str:
        return f"{self.object} {self.endpoint.name}" if self.endpoint else self.object


def endpoint_slot(endpoint: Endpoint, program: str) -> str:
    """A slot's name, also its pin's: by address, which is what an endpoint keeps when it is renumbered."""
    return f"lxc-{str(endpoint.ip).replace('.', '_')}-{program}"


def endpoint_unit(endpoint: Endpoint, version: int = 4) -> Unit:
    """The programs of one pod and IP version, on the host side of its veth. ``ifindex`` must be known."""
    interface, ifindex = endpoint.interface, endpoint.ifindex
    assert interface is not None
    assert ifindex is not None
    slots = tuple(
        SlotRecord(endpoint_slot(endpoint, program), program, interface, ifindex, direction, endpoint.name)
        for program, direction in _hooks("lxc", version)
    )
    return Unit(object_name("lxc", version), slots, endpoint, version)


def units(node: NodeFile) -> Iterator[Unit]:
    """Every object a resolved node file needs, pods first: a node that takes traffic can deliver it.

    Of a device's two programs for one hook that of IPv4 comes first: what is of neither family is its.
    """
    versions = (4, 6) if node.datapath.ipv6 else (4,)
    for endpoint in node.endpoints:
        yield from (endpoint_unit(endpoint, version) for version in versions)
    device, overlay = node.node.device, node.node.overlay
    if node.datapath.tunnel == "device" and overlay is not None:
        yield from (_device_unit("overlay", overlay.name, overlay.ifindex, version) for version in versions)
    if device is not None:
        yield from (_device_unit("netdev", device.name, device.ifindex, version) for version in versions)
    if device is not None and node.datapath.lb.acceleration in XDP_MODES:
        slot = SlotRecord(XDP_PROGRAM, XDP_PROGRAM, device.name, device.ifindex or 0, node.datapath.lb.acceleration)
        behind = Unit(object_name(XDP_OBJECT, 6), (), version=6) if node.datapath.ipv6 else None
        yield Unit(XDP_OBJECT, (slot,), behind=behind)
    if node.datapath.lb.socket is not None:
        yield from (_socket_unit(node.datapath.lb.socket, version) for version in versions)


def _socket_unit(sockets: SocketLb, version: int) -> Unit:
    slots = tuple(
        SlotRecord(f"sock-{program}", program, sockets.cgroup, 0, hook, cgroup_id=sockets.cgroup_id or 0)
        for program, hook in SOCKET_HOOKS[version]
    )
    return Unit(object_name("sock", version), slots, version=version)


def _hooks(name: str, version: int) -> Iterator[tuple[str, str]]:
    for hook, direction in HOOKS[name]:
        yield program_name(hook, version), direction


def _device_unit(name: str, interface: str, ifindex: int | None, version: int) -> Unit:
    """``ifindex`` None: a device that the load has yet to make; its slots have 0."""
    slots = tuple(
        SlotRecord(program, program, interface, ifindex or 0, direction) for program, direction in _hooks(name, version)
    )
    return Unit(object_name(name, version), slots, version=version)
