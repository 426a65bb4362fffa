"""The frame of a packet given in words, with the MAC addresses it would have at a hook."""

from __future__ import annotations

from ctctl.config.node import Endpoint, NodeFile
from ctctl.model.event import Hook
from ctctl.node.records import mac_bytes
from ctctl.packet.frame import build_frame
from ctctl.packet.spec import PacketSpec

#: a neighbour of the node on its network: the router
_ROUTER_MAC = bytes.fromhex("0200000000fe")


def frame_of(nf: NodeFile, hook: Hook, packet: PacketSpec, endpoint: Endpoint | None = None) -> bytes:
    """The Ethernet frame of ``packet`` as it comes to ``hook``. ``endpoint`` defaults to its address's."""
    if endpoint is None and hook in (Hook.FROM_CONTAINER, Hook.TO_CONTAINER):
        endpoint = nf.endpoint(str(packet.src if hook is Hook.FROM_CONTAINER else packet.dst))
    return build_frame(packet, *macs_at(nf, hook, endpoint))


def macs_at(nf: NodeFile, hook: Hook, endpoint: Endpoint | None) -> tuple[bytes, bytes]:
    """(source, destination) MAC addresses of a packet at a hook, six bytes each; zeros where none is known."""
    pod = mac_bytes(endpoint.mac if endpoint else None)
    node = mac_bytes(endpoint.node_mac if endpoint else None)
    device = mac_bytes(nf.node.device.mac if nf.node.device else None)
    match hook:
        case Hook.FROM_CONTAINER:
            return pod, node
        case Hook.TO_CONTAINER:
            return node, pod
        case Hook.TO_NETDEV | Hook.TO_OVERLAY:
            return device, _ROUTER_MAC
    return _ROUTER_MAC, device
