"""What the lab consists of: names, addresses and services of two nodes, their pods, a router and a client. Pure.

    client 172.191.0.1 ── router ──┬── node-a 10.1.0.1   pod1, pod2   10.64.0.0/24
                                   └── node-b 10.1.0.2   pod3, pod4   10.64.1.0/24

Every member is a network namespace of its own. The router sends the LoadBalancer addresses
(172.190.0.0/24) to node-a, so that node-a is the intermediate node of a DSR connection and node-b
the backend's; the reply goes from node-b over the router, past node-a.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ctctl.errors import UsageError

DEFAULT_LAB = "lab"
STATE_ROOT = Path("/run/ctctl")

#: MTU of pods and client, and of the node network: 100 bytes more, so that a full packet still
#: fits with the outer Ethernet, IP, UDP and Geneve headers and the DSR option (62 bytes).
POD_MTU = 1500
NODE_MTU = 1600

#: Where every pod serves HTTP (TCP) and answers datagrams (UDP).
SERVE_PORT = 8000
IPERF_PORT = 5201
#: Nobody listens here in any pod.
CLOSED_PORT = 9

CLIENT_CIDR = "172.191.0.0/24"
VIP_CIDR = "172.190.0.0/24"

_LAB_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod: its namespace has one device ``eth0``, the other end is ``interface`` in the node's."""

    name: str
    node: str
    ip: str
    identity: int
    number: int
    #: while a story runs the lab with both families
    ip6: str

    @property
    def interface(self) -> str:
        return f"lxc-{self.name}"

    @property
    def mac(self) -> str:
        return f"02:00:00:00:{self.number:02x}:02"

    @property
    def node_mac(self) -> str:
        """MAC of the host side of the pod's veth."""
        return f"02:00:00:00:{self.number:02x}:01"

    @property
    def endpoint_id(self) -> int:
        return 1000 + self.number


@dataclass(frozen=True, slots=True)
class Node:
    """A node: namespace, node device ``eth0``, a datapath of its own."""

    name: str
    ip: str
    mac: str
    pod_cidr: str
    #: the node's own address in the pod network: the pods' gateway
    gateway: str
    ip6: str
    pod_cidr6: str
    gateway6: str


@dataclass(frozen=True, slots=True)
class Backend:
    pod: str
    port: int


@dataclass(frozen=True, slots=True)
class LabService:
    """One service of the lab. ``ip`` None: each node's own address (NodePort), the IPv6 one with ``version`` 6."""

    name: str
    type: str
    id: int
    ip: str | None
    port: int
    protocol: str
    backends: tuple[Backend, ...]
    affinity: str = "none"
    traffic_policy: str = "Cluster"
    version: int = 4


NODES = (
    Node(
        name="node-a",
        ip="10.1.0.1",
        mac="02:00:00:01:00:01",
        pod_cidr="10.64.0.0/24",
        gateway="10.64.0.1",
        ip6="fd00:10:1::1",
        pod_cidr6="fd00:64::/64",
        gateway6="fd00:64::1",
    ),
    Node(
        name="node-b",
        ip="10.1.0.2",
        mac="02:00:00:01:00:02",
        pod_cidr="10.64.1.0/24",
        gateway="10.64.1.1",
        ip6="fd00:10:1::2",
        pod_cidr6="fd00:64:1::/64",
        gateway6="fd00:64:1::1",
    ),
)

PODS = (
    Pod("pod1", "node-a", "10.64.0.36", 3096, 1, "fd00:64::36"),
    Pod("pod2", "node-a", "10.64.0.64", 3097, 2, "fd00:64::64"),
    Pod("pod3", "node-b", "10.64.1.36", 3098, 3, "fd00:64:1::36"),
    Pod("pod4", "node-b", "10.64.1.64", 3099, 4, "fd00:64:1::64"),
)

ROUTER = "router"
ROUTER_NODE_IP = "10.1.0.254"
ROUTER_NODE_MAC = "02:00:00:01:00:fe"
ROUTER_CLIENT_IP = "172.191.0.254"
ROUTER_CLIENT_MAC = "02:00:00:02:00:fe"
CLIENT = "client"
CLIENT_IP = "172.191.0.1"
CLIENT_MAC = "02:00:00:02:00:01"

ROUTER_NODE_IP6 = "fd00:10:1::fe"
ROUTER_CLIENT_IP6 = "fd00:191::fe"
CLIENT_IP6 = "fd00:191::1"
VIP_CIDR6 = "fd00:190::/64"

#: Every namespace of a lab, by its short name.
MEMBERS = (*(node.name for node in NODES), *(pod.name for pod in PODS), ROUTER, CLIENT)


def _serve(*pods: str) -> tuple[Backend, ...]:
    return tuple(Backend(pod, SERVE_PORT) for pod in pods)


#: One service per thing that can be shown; ids are the rev-NAT indices.
SERVICES = (
    LabService("api", "ClusterIP", 15, "10.68.174.146", 80, "TCP", _serve("pod3")),
    LabService("web", "ClusterIP", 16, "10.68.0.10", 80, "TCP", _serve("pod2", "pod3", "pod4")),
    LabService("sticky", "ClusterIP", 17, "10.68.0.30", 80, "TCP", _serve("pod2", "pod3", "pod4"), affinity="300s"),
    LabService("self", "ClusterIP", 18, "10.68.0.40", 80, "TCP", _serve("pod1")),
    LabService("dns", "ClusterIP", 19, "10.68.0.53", 53, "UDP", _serve("pod3")),
    LabService("closed", "ClusterIP", 20, "10.68.0.60", CLOSED_PORT, "UDP", (Backend("pod3", CLOSED_PORT),)),
    LabService("empty", "ClusterIP", 21, "10.68.0.70", 80, "TCP", ()),
    LabService("drain", "ClusterIP", 22, "10.68.0.80", 80, "TCP", _serve("pod3", "pod4")),
    LabService("iperf", "ClusterIP", 23, "10.68.0.90", IPERF_PORT, "ANY", (Backend("pod3", IPERF_PORT),)),
    LabService("lb-dsr", "LoadBalancer", 24, "172.190.0.17", 80, "TCP", _serve("pod3")),
    LabService(
        "lb-local", "LoadBalancer", 25, "172.190.0.18", 80, "TCP", _serve("pod2", "pod3"), traffic_policy="Local"
    ),
    LabService("lb-web", "LoadBalancer", 26, "172.190.0.19", 80, "TCP", _serve("pod2", "pod3", "pod4")),
    LabService("lb-udp", "LoadBalancer", 27, "172.190.0.20", 53, "UDP", _serve("pod3")),
    LabService("lb-iperf", "LoadBalancer", 28, "172.190.0.21", IPERF_PORT, "ANY", (Backend("pod3", IPERF_PORT),)),
    LabService("nodeport", "NodePort", 29, None, 30080, "TCP", _serve("pod3")),
    LabService("nodeport-udp", "NodePort", 30, None, 30053, "UDP", _serve("pod3")),
)

#: Those of a lab with both families, beside the others.
SERVICES6 = (
    LabService("api6", "ClusterIP", 45, "fd00:68::10", 80, "TCP", _serve("pod3"), version=6),
    LabService("dns6", "ClusterIP", 46, "fd00:68::53", 53, "UDP", _serve("pod3"), version=6),
    LabService("lb6", "LoadBalancer", 47, "fd00:190::17", 80, "TCP", _serve("pod3"), version=6),
    LabService("nodeport6", "NodePort", 48, None, 30080, "TCP", _serve("pod3"), version=6),
    LabService("iperf6", "ClusterIP", 49, "fd00:68::90", IPERF_PORT, "ANY", (Backend("pod3", IPERF_PORT),), version=6),
    LabService(
        "lb-iperf6", "LoadBalancer", 50, "fd00:190::21", IPERF_PORT, "ANY", (Backend("pod3", IPERF_PORT),), version=6
    ),
)


@dataclass(frozen=True, slots=True)
class Topology:
    """A lab by its name: where its members, state and datapaths are.

    Raises:
        UsageError: the name is not of lower-case letters, digits and inner dashes, at most 24 long.
    """

    name: str = DEFAULT_LAB
    nodes: tuple[Node, ...] = field(default=NODES, repr=False)
    pods: tuple[Pod, ...] = field(default=PODS, repr=False)
    services: tuple[LabService, ...] = field(default=SERVICES, repr=False)

    def __post_init__(self) -> None:
        if not _LAB_NAME.fullmatch(self.name):
            raise UsageError(f"lab name {self.name!r}: use at most 24 lower-case letters, digits and inner dashes")

    def netns(self, member: str) -> str:
        """Name of a member's network namespace, as ``ip netns`` shows it.

        Raises:
            UsageError: the lab has no such member.
        """
        if member not in MEMBERS:
            raise UsageError(f"the lab has no {member!r}; its members are {', '.join(MEMBERS)}")
        return f"ctctl-{self.name}-{member}"

    def datapath_node(self, node: str) -> str:
        """Name under which a node's datapath is loaded (``ctctl status``)."""
        return f"{self.name}-{node}"

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def pod(self, name: str) -> Pod:
        return next(pod for pod in self.pods if pod.name == name)

    def pods_of(self, node: str) -> tuple[Pod, ...]:
        return tuple(pod for pod in self.pods if pod.node == node)

    def service(self, name: str) -> LabService:
        return next(service for service in (*self.services, *SERVICES6) if service.name == name)

    @property
    def state_dir(self) -> Path:
        """Node files and server logs of this lab; gone after ``lab down``."""
        return STATE_ROOT / f"lab-{self.name}"

    @property
    def lock_path(self) -> Path:
        return STATE_ROOT / f"lab-{self.name}.lock"

    def node_file(self, node: str) -> Path:
        return self.state_dir / f"{node}.yaml"
