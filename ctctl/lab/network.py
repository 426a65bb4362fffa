"""The lab's network: devices, addresses, routes and neighbours of every namespace, by netlink.

Every step asks for a state and not for a change, so that a second ``lab up`` repairs what is
missing and changes nothing else. Veth pairs are made from inside their namespaces: nothing of the
lab is ever in the host's own namespace.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from ctctl.lab import namespaces
from ctctl.lab.topology import (
    CLIENT,
    CLIENT_CIDR,
    CLIENT_IP,
    CLIENT_IP6,
    CLIENT_MAC,
    MEMBERS,
    NODE_MTU,
    POD_MTU,
    ROUTER,
    ROUTER_CLIENT_IP,
    ROUTER_CLIENT_IP6,
    ROUTER_CLIENT_MAC,
    ROUTER_NODE_IP,
    ROUTER_NODE_IP6,
    ROUTER_NODE_MAC,
    VIP_CIDR,
    VIP_CIDR6,
    Node,
    Pod,
    Topology,
)

NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
NTF_MASTER = 0x04
SCOPE_LINK = 253
IFA_F_NODAD = 0x02

_QUIET = {
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
    # The load balancer makes routes asymmetric on purpose: the reply of a DSR connection leaves by another node.
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    # ICMP errors are part of what the lab shows: none may be lost to the limiter.
    "net/ipv4/icmp_ratelimit": "0",
    # A thousand clients that connect at once fit into a server's queue.
    "net/core/somaxconn": "4096",
    "net/ipv4/tcp_max_syn_backlog": "4096",
}
_IPV6 = {
    # No addresses but those that are given, at once: nothing is announced, asked for or waited for.
    "net/ipv6/conf/all/addr_gen_mode": "1",
    "net/ipv6/conf/default/addr_gen_mode": "1",
    "net/ipv6/conf/all/accept_ra": "0",
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/icmp/ratelimit": "0",
    "net/ipv6/conf/all/disable_ipv6": "0",
}
_TUNNEL_OFFLOADS = {"tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"}
_FORWARD = {"net/ipv4/ip_forward": "1"}


def build(topology: Topology) -> None:
    """Make the lab's namespaces and connect them; what is there already stays.

    Raises:
        PermissionDenied: not root.
        KernelError: the kernel refused a step.
    """
    forwarding = {ROUTER, *(node.name for node in topology.nodes)}
    for member in MEMBERS:
        name = topology.netns(member)
        namespaces.ensure(name)
        namespaces.write_sysctls(name, _QUIET | (_FORWARD if member in forwarding else {}))
        namespaces.with_route(name, partial(_up, ifname="lo"))
    _connect(topology, _router, _client, _node, _pod)


def enable_ipv6(topology: Topology) -> None:
    """Give the lab addresses and routes of IPv6 beside those of IPv4, until ``disable_ipv6``.

    Raises:
        KernelError: the kernel refused a step.
    """
    forwarding = {ROUTER, *(node.name for node in topology.nodes)}
    for member in MEMBERS:
        settings = _IPV6 | {"net/ipv6/conf/all/forwarding": "1" if member in forwarding else "0"}
        namespaces.write_sysctls(topology.netns(member), settings)
    _connect(topology, _router6, _client6, _node6, _pod6)


_Work: TypeAlias = Callable[..., None]


def _connect(topology: Topology, router: _Work, client: _Work, node: _Work, pod: _Work) -> None:
    """Set every member up from inside; who makes the other end of its devices comes first."""
    namespaces.with_route(topology.netns(ROUTER), partial(router, topology=topology))
    namespaces.with_route(topology.netns(CLIENT), client)
    for each in topology.nodes:
        namespaces.with_route(topology.netns(each.name), partial(node, topology=topology, node=each))
    for one in topology.pods:
        namespaces.with_route(topology.netns(one.name), partial(pod, pod=one, node=topology.node(one.node)))


def disable_ipv6(topology: Topology) -> None:
    """Take them away again: the kernel drops addresses and routes of what is disabled."""
    for member in MEMBERS:
        namespaces.write_sysctls(topology.netns(member), {"net/ipv6/conf/all/disable_ipv6": "1"})


def _router6(ip: Any, topology: Topology) -> None:
    _address(ip, "br0", ROUTER_NODE_IP6, 64)
    _address(ip, "eth1", ROUTER_CLIENT_IP6, 64)
    _neighbour(ip, "eth1", CLIENT_IP6, CLIENT_MAC)
    for node in topology.nodes:
        _neighbour(ip, "br0", node.ip6, node.mac)
        ip.route("replace", dst=node.pod_cidr6, gateway=node.ip6)
    ip.route("replace", dst=VIP_CIDR6, gateway=topology.nodes[0].ip6)


def _client6(ip: Any) -> None:
    _address(ip, "eth0", CLIENT_IP6, 64)
    _neighbour(ip, "eth0", ROUTER_CLIENT_IP6, ROUTER_CLIENT_MAC)
    ip.route("replace", dst="::/0", gateway=ROUTER_CLIENT_IP6)


def _node6(ip: Any, topology: Topology, node: Node) -> None:
    _address(ip, "eth0", node.ip6, 64)
    _address(ip, "lo", node.gateway6, 128)
    _neighbour(ip, "eth0", ROUTER_NODE_IP6, ROUTER_NODE_MAC)
    ip.route("replace", dst="::/0", gateway=ROUTER_NODE_IP6)
    for other in topology.nodes:
        if other is not node:
            _neighbour(ip, "eth0", other.ip6, other.mac)
            ip.route("replace", dst=other.pod_cidr6, gateway=other.ip6)
    for pod in topology.pods_of(node.name):
        _neighbour(ip, pod.interface, pod.ip6, pod.mac)
        ip.route("replace", dst=f"{pod.ip6}/128", oif=_index(ip, pod.interface))


def _pod6(ip: Any, pod: Pod, node: Node) -> None:
    gateway = node.gateway6
    _address(ip, "eth0", pod.ip6, 128)
    _neighbour(ip, "eth0", gateway, pod.node_mac)
    ip.route("replace", dst=f"{gateway}/128", oif=_index(ip, "eth0"))
    ip.route("replace", dst="::/0", gateway=gateway, oif=_index(ip, "eth0"))


def _router(ip: Any, topology: Topology) -> None:
    """The node network is a bridge in the router, which has an address on it."""
    if _index(ip, "br0") is None:
        ip.link("add", ifname="br0", kind="bridge", address=ROUTER_NODE_MAC)
    bridge = _index(ip, "br0")
    for node in topology.nodes:
        port = f"to-{node.name}"
        _veth(ip, port, None, peer=("eth0", node.mac, topology.netns(node.name)))
        ip.link("set", index=_index(ip, port), mtu=NODE_MTU, master=bridge)
        _up(ip, port)
        # Known from the start: a flooded frame would be handled by the other node's hooks as well.
        ip.fdb("replace", ifindex=_index(ip, port), lladdr=node.mac, flags=NTF_MASTER, state=NUD_NOARP)
    ip.link("set", index=bridge, mtu=NODE_MTU)
    _up(ip, "br0")
    _address(ip, "br0", ROUTER_NODE_IP, 24)
    _veth(ip, "eth1", ROUTER_CLIENT_MAC, peer=("eth0", CLIENT_MAC, topology.netns(CLIENT)))
    _up(ip, "eth1")
    _address(ip, "eth1", ROUTER_CLIENT_IP, 24)
    _neighbour(ip, "eth1", CLIENT_IP, CLIENT_MAC)
    for node in topology.nodes:
        _neighbour(ip, "br0", node.ip, node.mac)
        ip.route("replace", dst=node.pod_cidr, gateway=node.ip)
    ip.route("replace", dst=VIP_CIDR, gateway=topology.nodes[0].ip)


def _client(ip: Any) -> None:
    ip.link("set", index=_index(ip, "eth0"), mtu=POD_MTU)
    _up(ip, "eth0")
    _address(ip, "eth0", CLIENT_IP, int(CLIENT_CIDR.partition("/")[2]))
    _neighbour(ip, "eth0", ROUTER_CLIENT_IP, ROUTER_CLIENT_MAC)
    ip.route("replace", dst="default", gateway=ROUTER_CLIENT_IP)


def _node(ip: Any, topology: Topology, node: Node) -> None:
    ip.link("set", index=_index(ip, "eth0"), mtu=NODE_MTU)
    _wire_frames("eth0")
    _up(ip, "eth0")
    _address(ip, "eth0", node.ip, 24)
    _address(ip, "lo", node.gateway, 32)
    _neighbour(ip, "eth0", ROUTER_NODE_IP, ROUTER_NODE_MAC)
    ip.route("replace", dst="default", gateway=ROUTER_NODE_IP)
    # An address of a service that is gone must not bounce between node and router until its TTL ends.
    ip.route("replace", dst=VIP_CIDR, type="unreachable")
    for other in topology.nodes:
        if other is not node:
            _neighbour(ip, "eth0", other.ip, other.mac)
            ip.route("replace", dst=other.pod_cidr, gateway=other.ip)
    for pod in topology.pods_of(node.name):
        _veth(ip, pod.interface, pod.node_mac, peer=("eth0", pod.mac, topology.netns(pod.name)))
        _up(ip, pod.interface)
        _neighbour(ip, pod.interface, pod.ip, pod.mac)
        ip.route("replace", dst=f"{pod.ip}/32", oif=_index(ip, pod.interface), scope=SCOPE_LINK, prefsrc=node.gateway)


def _pod(ip: Any, pod: Pod, node: Node) -> None:
    gateway = node.gateway
    _up(ip, "eth0")
    _address(ip, "eth0", pod.ip, 32)
    _neighbour(ip, "eth0", gateway, pod.node_mac)
    ip.route("replace", dst=f"{gateway}/32", oif=_index(ip, "eth0"), scope=SCOPE_LINK)
    ip.route("replace", dst="default", gateway=gateway, oif=_index(ip, "eth0"))


def _index(ip: Any, ifname: str) -> int | None:
    found: list[int] = ip.link_lookup(ifname=ifname)
    return found[0] if found else None


def _ends(ip: Any, ifname: str) -> tuple[int, int | None] | None:
    """The numbers of a device and of the one at its other end, each in its own namespace; None: no such device."""
    index = _index(ip, ifname)
    return None if index is None else (index, ip.get_links(index)[0].get_attr("IFLA_LINK"))


def _remove(ip: Any, ifname: str) -> None:
    """Remove a device that may go by itself meanwhile, with its other end."""
    from pyroute2.netlink.exceptions import NetlinkError

    index = _index(ip, ifname)
    if index is None:
        return
    try:
        ip.link("del", index=index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def _veth(ip: Any, ifname: str, mac: str | None, *, peer: tuple[str, str, str]) -> None:
    """A veth pair from here to device ``peer[0]`` with MAC ``peer[1]`` in namespace ``peer[2]``."""
    far_name, far_mac, far_netns = peer
    here, there = _ends(ip, ifname), namespaces.with_route(far_netns, partial(_ends, ifname=far_name))
    if here is not None and there is not None and here == (there[1], there[0]):
        return
    # One end's namespace was removed: what is in it keeps the pair for as long as it runs, the kernel for a moment.
    _remove(ip, ifname)
    namespaces.with_route(far_netns, partial(_remove, ifname=far_name))
    far = {"ifname": far_name, "address": far_mac, "net_ns_fd": far_netns}
    near = {"address": mac} if mac else {}
    ip.link("add", ifname=ifname, kind="veth", peer=far, **near)


def _wire_frames(ifname: str) -> None:
    """Let tunnelled packets leave the device segmented, as they would a network card.

    A veth would pass a tunnel's large packet on as it is, which no wire does: the other node would
    take it out of the tunnel unsegmented, and the kernel (6.18) can segment such a UDP packet no more.
    """
    from pyroute2 import Ethtool

    with Ethtool() as ethtool:
        features = ethtool.get_features(ifname)
        for name in _TUNNEL_OFFLOADS & features.features.keys():
            features.features[name].enable = False
        ethtool.set_features(ifname, features)


def _up(ip: Any, ifname: str) -> None:
    ip.link("set", index=_index(ip, ifname), state="up")


def _address(ip: Any, ifname: str, address: str, prefixlen: int) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        flags = {"flags": IFA_F_NODAD} if ":" in address else {}
        ip.addr("add", index=_index(ip, ifname), address=address, prefixlen=prefixlen, **flags)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _neighbour(ip: Any, ifname: str, address: str, mac: str) -> None:
    """A permanent neighbour: no ARP in the captures, and encapsulation always finds its next hop."""
    ip.neigh("replace", dst=address, lladdr=mac, ifindex=_index(ip, ifname), state=NUD_PERMANENT)
