"""The frame of a packet given in words, with the MAC addresses it would have at a hook."""

from __future__ import annotations

from ctctl.config.node import Endpoint, NodeFile
from ctctl.model.event import Hook
from ctctl.packet.frame import build_frame
from ctctl.packet.spec import PacketSpec

#: a neighbour of the node on its network: the router
_ROUTER_MAC = "02:00:00:00:00:fe"
_NO_MAC = "02:00:00:00:00:00"


def frame_of(nf: NodeFile, hook: Hook, packet: PacketSpec, endpoint: Endpoint | None = None) -> bytes:
    """The Ethernet frame of ``packet`` as it comes to ``hook``. ``endpoint`` defaults to its address's."""
    source, destination = macs(nf, hook, packet, endpoint)
    return build_frame(packet, source, destination)


def macs(nf: NodeFile, hook: Hook, packet: PacketSpec, endpoint: Endpoint | None = None) -> tuple[str, str]:
    """(source, destination) MAC addresses at a hook."""
    device = (nf.node.device.mac if nf.node.device else None) or _NO_MAC
    if hook is Hook.FROM_CONTAINER:
        pod, node = _pod_macs(endpoint or nf.endpoint(str(packet.src)))
        return pod, node
    if hook is Hook.TO_CONTAINER:
        pod, node = _pod_macs(endpoint or nf.endpoint(str(packet.dst)))
        return node, pod
    return (device, _ROUTER_MAC) if hook in (Hook.TO_NETDEV, Hook.TO_OVERLAY) else (_ROUTER_MAC, device)


def _pod_macs(endpoint: Endpoint | None) -> tuple[str, str]:
    return ((endpoint.mac or _NO_MAC), (endpoint.node_mac or _NO_MAC)) if endpoint else (_NO_MAC, _NO_MAC)
