"""Records of the load balancer, identity and endpoint tables. Ports and ids in host order."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntFlag
from ipaddress import IPv4Address, ip_network

from ctctl.model.light import light_value
from ctctl.model.tuples import Address, end_of, endpoint

#: States of a backend by their number in its table (docs/reference/abi.md).
BACKEND_STATES = ("active", "terminating", "quarantined", "maintenance")
#: What stands for a pod that reaches itself through a service, the agent's default and ours.
LOOPBACK = IPv4Address("169.254.42.1")


class ServiceFlags(IntFlag):
    """Flag bits of a frontend: ``flags`` in the low byte, ``flags2`` in the high one (docs/reference/abi.md)."""

    ExternalIP = 1
    NodePort = 2
    ExtLocalScope = 4
    HostPort = 8
    Affinity = 16
    LoadBalancer = 32
    Routable = 64
    SourceRange = 128
    LocalRedirect = 1 << 8
    Nat46x64 = 1 << 9
    L7LoadBalancer = 1 << 10
    Loopback = 1 << 11
    IntLocalScope = 1 << 12
    TwoScopes = 1 << 13
    #: from 1.17; with SourceRange: the ranges are those that may not
    Quarantined = 1 << 14
    FwdModeDSR = 1 << 15


@light_value
class ServiceSlot:
    """One record of a service table: slot 0 is the frontend itself, others name a backend.

    What a listing does not show is None. ``backend`` is the address of a slot's backend, as listings
    have it. ``flag_words`` are the words a listing puts in brackets.
    """

    addr: Address
    port: int
    scope: str
    slot: int
    rev_nat: int | None
    proto: int | None = None
    type: str | None = None
    count: int | None = None
    flags: int | None = None
    affinity_timeout: int | None = None
    backend_id: int | None = None
    backend: str | None = None
    flag_words: tuple[str, ...] = ()
    l7_proxy_port: int | None = None
    #: the record's first word as it stands: the backend of a slot, the affinity timeout or proxy port of a frontend
    word: int | None = None
    #: backends of a frontend that are quarantined (from 1.17)
    quarantined: int | None = None

    @property
    def backend_end(self) -> tuple[Address, int] | None:
        """Address and port of ``backend``; None where it is no address, or one of another cluster's (with an ``@``)."""
        if self.backend is None or "@" in self.backend:
            return None
        return end_of(self.backend.partition("/")[0])


@light_value
class Backend:
    """One backend. ``port`` is None in listings that leave it out."""

    backend_id: int
    addr: Address
    proto: int | None
    port: int | None = None
    state: str | None = None
    cluster_id: int | None = None
    zone: int | None = None

    @property
    def where(self) -> str:
        """Its address and port, without the port where the listing leaves it out."""
        if self.port is not None:
            return endpoint(self.addr, self.port)
        return str(self.addr) if self.addr.version == 4 else f"[{self.addr}]"


@light_value
class RevNat:
    """What replies are translated back to."""

    rev_nat: int
    addr: Address
    port: int


@light_value
class SourceRange:
    """A CIDR that may reach a service with source ranges."""

    rev_nat: int
    cidr: str


@light_value
class MaglevTable:
    """A Maglev table: backend ids by slot."""

    rev_nat: int
    family: int
    table: tuple[int, ...]


@light_value
class IpcacheRecord:
    """An identity by prefix."""

    prefix: str
    identity: int
    cluster_id: int = 0
    tunnel_endpoint: str | None = None
    encrypt_key: int = 0
    skip_tunnel: bool = False
    #: the whole flag byte where the source has it
    flags: int | None = None


def identity_of(address: Address, ipcache: Iterable[IpcacheRecord]) -> int | None:
    """The identity of an address: that of the longest prefix, None where the table has none."""
    found: tuple[int, int] | None = None
    for record in ipcache:
        network = ip_network(record.prefix, strict=False)
        if (
            network.version == address.version
            and address in network
            and (found is None or network.prefixlen > found[0])
        ):
            found = network.prefixlen, record.identity
    return None if found is None else found[1]


@light_value
class TunnelRecord:
    """Up to 1.16: the node behind which the pods of a prefix are; ``key`` is the encryption key's number."""

    prefix: Address
    endpoint: Address
    key: int = 0


@light_value
class SocketNat:
    """A socket whose connection was turned to a backend at connect(): what its frontend was."""

    cookie: int
    backend: Address
    backend_port: int
    frontend: Address
    frontend_port: int
    rev_nat: int


@light_value
class EndpointRecord:
    """A local endpoint; ``flags`` 1 is the host itself, which has no MACs."""

    addr: Address
    ifindex: int = 0
    endpoint_id: int = 0
    flags: int = 0
    mac: str | None = None
    node_mac: str | None = None
    identity: int = 0
    parent_ifindex: int = 0

    @property
    def is_host(self) -> bool:
        """Whether it is the node itself, and no pod."""
        return bool(self.flags & 1)


SERVICE_TYPES = ("ClusterIP", "NodePort", "ExternalIPs", "HostPort", "LoadBalancer", "LocalRedirect")


def service_type(flags: int) -> str:
    """The word for a frontend's type; the bits exclude each other in practice, the order breaks ties."""
    if flags & ServiceFlags.ExternalIP:
        return "ExternalIPs"
    if flags & ServiceFlags.NodePort:
        return "NodePort"
    if flags & ServiceFlags.LoadBalancer:
        return "LoadBalancer"
    if flags & ServiceFlags.HostPort:
        return "HostPort"
    return "LocalRedirect" if flags & ServiceFlags.LocalRedirect else "ClusterIP"
