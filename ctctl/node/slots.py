"""Which program goes where on a node. Pure: from a resolved node file to slots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ctctl.config.node import Endpoint, NodeFile
from ctctl.node.record import SlotRecord

INGRESS = "ingress"
EGRESS = "egress"

#: object file (without .bpf.o) → its programs and the side of the device each belongs to (docs/datapath.md)
HOOKS: dict[str, tuple[tuple[str, str], ...]] = {
    "lxc": (("from_container", INGRESS), ("to_container", EGRESS)),
    "netdev": (("from_netdev", INGRESS), ("to_netdev", EGRESS)),
    "overlay": (("from_overlay", INGRESS), ("to_overlay", EGRESS)),
}


@dataclass(frozen=True, slots=True)
class Unit:
    """One object to load: its configuration is of one endpoint, or of the node."""

    object: str
    slots: tuple[SlotRecord, ...]
    endpoint: Endpoint | None = None

    @property
    def title(self) -> str:
        return f"{self.object} {self.endpoint.name}" if self.endpoint else self.object


def endpoint_slot(endpoint: Endpoint, program: str) -> str:
    """A slot's name, also its pin's: by address, which is what an endpoint keeps when it is renumbered."""
    return f"lxc-{str(endpoint.ip).replace('.', '_')}-{program}"


def endpoint_unit(endpoint: Endpoint) -> Unit:
    """The programs of one pod, on the host side of its veth. ``ifindex`` must be known."""
    assert endpoint.interface is not None
    assert endpoint.ifindex is not None
    slots = tuple(
        SlotRecord(
            endpoint_slot(endpoint, program), program, endpoint.interface, endpoint.ifindex, direction, endpoint.name
        )
        for program, direction in HOOKS["lxc"]
    )
    return Unit("lxc", slots, endpoint)


def units(node: NodeFile) -> Iterator[Unit]:
    """Every object a resolved node file needs, pods first: a node that takes traffic can deliver it."""
    yield from map(endpoint_unit, node.endpoints)
    device, overlay = node.node.device, node.node.overlay
    if node.datapath.tunnel == "device" and overlay is not None:
        yield _device_unit("overlay", overlay.name, overlay.ifindex)
    if device is not None:
        yield _device_unit("netdev", device.name, device.ifindex)


def _device_unit(name: str, interface: str, ifindex: int | None) -> Unit:
    """``ifindex`` None: a device that the load has yet to make; its slots have 0."""
    return Unit(
        name,
        tuple(SlotRecord(program, program, interface, ifindex or 0, direction) for program, direction in HOOKS[name]),
    )
