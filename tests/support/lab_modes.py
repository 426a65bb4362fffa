"""The lab in each mode of its datapath: connections that talk in it, and the entries that its tables have of them.

Loading both nodes anew is nearly all of what a mode costs: a lab is left in the mode it came to, and whoever needs
another brings it there (``change_to``). Tests that need it as it was built take the fixture ``lab``.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from ctctl.abi import pins
from ctctl.kernel.map import Map
from ctctl.kernel.netns import run_in_netns
from ctctl.lab import datapaths, network, servers
from ctctl.lab.nodefile import NO_MODE
from ctctl.lab.topology import CLIENT, CLIENT_IP, CLIENT_IP6, Topology
from tests.support.wait import PATIENCE_S

#: Tables by IP version.
TCP_TABLES = {4: pins.CT4_TCP, 6: pins.CT6_TCP}
ANY_TABLES = {4: pins.CT4_ANY, 6: pins.CT6_ANY}
#: What a server of the lab answers with its name.
REQUEST = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n"

_CLUSTER = ["10.64.0.0/16", "10.1.0.0/24", "fd00:64::/32", "fd00:10:1::/64"]
#: Keys of ``datapath`` in a node file.
MODES: dict[str, dict[str, Any]] = {
    "dsr": {},
    "option": {"lb": {"dispatch": "opt"}},
    "snat": {"lb": {"mode": "snat"}},
    "hybrid": {"lb": {"mode": "hybrid"}},
    "masquerade": {"masquerade": True, "native-routing-cidr": _CLUSTER, "lb": {"mode": "snat"}},
    "dual": {"ipv6": True},
    "dual-snat": {"ipv6": True, "lb": {"mode": "snat"}},
    "dual-option": {"ipv6": True, "lb": {"dispatch": "opt"}},
    "dual-hybrid": {"ipv6": True, "lb": {"mode": "hybrid", "dispatch": "opt"}},
    "dual-tunnel": {"ipv6": True, "routing": "tunnel", "lb": {"mode": "snat"}},
    "dual-masquerade": {"ipv6": True, "masquerade": True, "native-routing-cidr": _CLUSTER},
}


@dataclass(frozen=True)
class Lab:
    """The lab in one mode."""

    topology: Topology
    mode: dict[str, Any]

    @property
    def versions(self) -> tuple[int, ...]:
        return (4, 6) if self.mode.get("ipv6") else (4,)

    def client(self, version: int) -> str:
        """The address of the client outside."""
        return CLIENT_IP if version == 4 else CLIENT_IP6


#: The mode of each lab that is in another than it was built in; None where a change did not come to its end.
_left_in: dict[str, Mapping[str, Any] | None] = {}


def change_to(topology: Topology, mode: Mapping[str, Any]) -> None:
    """Have the lab's nodes in a mode. What they are in already is not loaded again."""
    if _left_in.get(topology.name, NO_MODE) == mode:
        return
    _left_in[topology.name] = None
    if mode.get("ipv6"):
        network.enable_ipv6(topology)
    for node in topology.nodes:
        datapaths.change_mode(topology, node, mode)
    if not mode.get("ipv6"):
        network.disable_ipv6(topology)
    _left_in[topology.name] = mode


@contextmanager
def lab_in_mode(topology: Topology, mode: dict[str, Any]) -> Iterator[Lab]:
    """The lab's nodes in a mode; where pods reach the world by it, the client outside answers as every pod does."""
    change_to(topology, mode)
    with ExitStack() as stack:
        if mode.get("masquerade"):
            stack.enter_context(_world_answers(topology))
        yield Lab(topology, mode)


@contextmanager
def _world_answers(topology: Topology) -> Iterator[None]:
    process = servers.start(topology, CLIENT)
    try:
        assert servers.is_ready(topology, CLIENT)
        yield
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def connect(topology: Topology, member: str, address: tuple[str, int]) -> socket.socket:
    """A TCP connection of a member of the lab."""
    return run_in_netns(topology.netns(member), lambda: socket.create_connection(address, timeout=PATIENCE_S))


def ask(connection: socket.socket) -> str:
    """The name of the server at the other end, by its own answer."""
    connection.sendall(REQUEST)
    return connection.recv(4096).decode().rpartition("\r\n")[2].strip()


def table_names(versions: tuple[int, ...]) -> list[str]:
    """Every table of these IP versions that has entries of connections."""
    return [kind[version] for version in versions for kind in (TCP_TABLES, ANY_TABLES, pins.SNAT_TABLES)]


def real_tables(topology: Topology, node: str, versions: tuple[int, ...] = (4,)) -> Iterator[tuple[str, bytes, bytes]]:
    """Every entry of a node's tables: the table's name, key and value."""
    for table in table_names(versions):
        with Map.open_pinned(datapaths.pin_dir(topology, node) / table, read_only=True) as opened:
            for key, value in opened.items():
                yield table, key, value
