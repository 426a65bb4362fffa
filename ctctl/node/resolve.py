"""From the names in a node file to what the kernel calls them: interface indexes and MAC addresses.

Everything here runs in the node's network namespace (``kernel/netns.py``).
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from ctctl.config.datapath import SocketLb
from ctctl.config.node import Endpoint, NodeFile
from ctctl.errors import ConfigError
from ctctl.kernel.cgroup import cgroup2_mount
from ctctl.kernel.netns import netns_cookie

_SIOCGIFHWADDR = 0x8927
_ARPHRD_ETHER = 1


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface of one namespace. ``mac`` is None where it has no Ethernet address."""

    name: str
    ifindex: int
    mac: str | None


def find_interface(name: str) -> Interface | None:
    """The interface of this thread's namespace called ``name``."""
    try:
        ifindex = socket.if_nametoindex(name)
    except (OSError, OverflowError, ValueError):
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        try:
            answer = fcntl.ioctl(query, _SIOCGIFHWADDR, struct.pack("16s16x", name.encode()[:15]))
        except OSError:
            return None
    family, address = struct.unpack_from("=H6s", answer, 16)
    return Interface(name, ifindex, address.hex(":") if family == _ARPHRD_ETHER else None)


def netns_inode() -> int:
    """Identity of this thread's network namespace."""
    return Path("/proc/thread-self/ns/net").stat().st_ino


def interface_name(ifindex: int) -> str | None:
    """The name of an interface of this thread's namespace, None if it is gone."""
    with contextlib.suppress(OSError):
        return socket.if_indextoname(ifindex)
    return None


def resolve_node(node: NodeFile, where: str) -> NodeFile:
    """``node`` with every index and address as this thread's namespace has them (``where`` names it).

    What a file's long form says of indexes and MACs of the node's own side is for simulation and
    gives way to the truth. The overlay is resolved by ``tunnel.py``. Raises ConfigError.
    """
    device = node.node.device
    if device is not None:
        found = _must_exist(device.name, "node: device", node.path, where)
        device = replace(device, ifindex=found.ifindex, mac=found.mac or "00:00:00:00:00:00")
    endpoints = tuple(resolve_endpoint(endpoint, node.path, where) for endpoint in node.endpoints)
    _refuse_shared(endpoints, device.name if device else None, node.path)
    datapath = replace(node.datapath, lb=replace(node.datapath.lb, socket=_resolve_sockets(node)))
    return replace(node, node=replace(node.node, device=device), endpoints=endpoints, datapath=datapath)


def _resolve_sockets(node: NodeFile) -> SocketLb | None:
    """The cgroup whose sockets are balanced, and the namespace whose are the host's. Raises ConfigError."""
    sockets = node.datapath.lb.socket
    if sockets is None:
        return None
    mount = cgroup2_mount()
    if mount is None:
        raise ConfigError("lb: socket: no cgroup2 file system is mounted", path=node.path)
    place = Path(sockets.cgroup) if sockets.cgroup else mount
    try:
        status = place.stat()
    except OSError as error:
        raise ConfigError(f"lb: socket: cgroup {str(place)!r}: {error.strerror}", path=node.path) from None
    if not place.is_dir() or status.st_dev != mount.stat().st_dev:
        raise ConfigError(f"lb: socket: {str(place)!r} is no cgroup of {mount}", path=node.path)
    return SocketLb(str(place), status.st_ino, netns_cookie())


def resolve_endpoint(endpoint: Endpoint, path: str, where: str) -> Endpoint:
    """``endpoint`` with the host side's index and MAC, and the pod's MAC. Raises ConfigError."""
    what = f"endpoint {endpoint.name}"
    if endpoint.interface is None:
        raise ConfigError(f"{what}: interface is missing: which veth leads to the pod?", path=path)
    found = _must_exist(endpoint.interface, f"{what}: interface", path, where)
    if found.mac is None:
        raise ConfigError(f"{what}: interface {found.name!r} is no Ethernet device", path=path)
    mac = endpoint.mac or _peer_mac(found.ifindex)
    if mac is None:
        raise ConfigError(f"{what}: mac is missing, and {found.name!r} has no veth peer to ask for it", path=path)
    return replace(endpoint, ifindex=found.ifindex, node_mac=found.mac, mac=mac)


def _must_exist(name: str, what: str, path: str, where: str) -> Interface:
    found = find_interface(name)
    if found is None:
        raise ConfigError(f"{what}: there is no interface {name!r} in {where}", path=path)
    return found


def _refuse_shared(endpoints: tuple[Endpoint, ...], device: str | None, path: str) -> None:
    for endpoint in endpoints:
        if endpoint.interface == device:
            raise ConfigError(f"endpoint {endpoint.name}: interface {device!r} is the node's own device", path=path)


def _peer_mac(ifindex: int) -> str | None:
    """MAC of the other end of a veth, wherever that end was moved to; None if the kernel does not tell."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with contextlib.suppress(NetlinkError, IndexError), IPRoute() as route:
        link = route.get_links(ifindex)[0]
        peer, netns_id = link.get_attr("IFLA_LINK"), link.get_attr("IFLA_LINK_NETNSID")
        if not peer:
            return None
        where = {} if netns_id is None else {"if_netnsid": netns_id}
        other = route.link("get", index=peer, **where)[0]
        mac = other.get_attr("IFLA_ADDRESS")
        return str(mac) if mac and other.get_attr("IFLA_LINK") == ifindex else None
    return None
