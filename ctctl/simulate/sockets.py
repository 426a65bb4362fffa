"""What no packet shows: connections that a node's socket load balancer turns at connect() (bpf/sock.bpf.c)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ctctl.config.node import NodeFile
from ctctl.config.service import PROTOCOLS, Service
from ctctl.errors import UnsupportedError
from ctctl.model.identity import HOST, REMOTE_NODE
from ctctl.model.tuples import TCP, UDP, Address, end_text
from ctctl.packet.spec import PacketSpec
from ctctl.simulate.journey import own_addresses

_BALANCED: Final = (TCP, UDP)


def check_sockets(files: Iterable[NodeFile], packet: PacketSpec) -> None:
    """Raise UnsupportedError for a packet that its sender's node lets nobody send: to a service, not to a backend."""
    for nf in files:
        sockets = nf.datapath.lb.socket
        if sockets is None or not _is_here(nf, packet.src):
            continue
        service = next(_services(nf, packet), None)
        if service is not None:
            whose = f"of the processes of {sockets.cgroup}" if sockets.cgroup else "of its processes"
            ends = ", ".join(end_text(backend.ip, backend.port) for backend in service.backends) or "none"
            raise UnsupportedError(
                f"cannot simulate a packet to the service {service.name}: {nf.node.name} turns connections {whose} at"
                f" connect(), before there is a packet; simulate the packet to a backend ({ends}), or say"
                " --with lb.socket=false"
            )


def _is_here(nf: NodeFile, address: Address) -> bool:
    return nf.endpoint(str(address)) is not None or address in own_addresses(nf)


def _is_own(nf: NodeFile, address: Address) -> bool:
    return address in own_addresses(nf) or _is_remote(nf, address, HOST)


def _is_remote(nf: NodeFile, address: Address, identity: int) -> bool:
    return any(address in one.cidr for one in nf.remote if one.identity == identity)


def _services(nf: NodeFile, packet: PacketSpec) -> Iterator[Service]:
    """Those that the packet is for and a call is turned for; one at address 0 is at every node's."""
    own = _is_own(nf, packet.dst)
    for service in nf.services:
        at_nodes = service.ip.is_unspecified and (own or _is_remote(nf, packet.dst, REMOTE_NODE))
        its = PROTOCOLS[service.protocol] in (0, packet.proto) and service.port == packet.dst_port
        # Who names an address outside that is none of the node's means it.
        left_alone = service.type in ("ExternalIPs", "HostPort") and service.backends and not own
        if packet.proto in _BALANCED and its and (at_nodes or service.ip == packet.dst) and not left_alone:
            yield service
