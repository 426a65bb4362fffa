"""A small network with somebody else's tc program on it, for tests of the probes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from ctctl.kernel.link import Direction, TcxLink, has_tcx
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.netns import run_in_netns
from ctctl.kernel.object import BpfObject
from ctctl.kernel.program import Program
from ctctl.kernel.tc import attach_filter, detach_filter, remove_clsact
from tests.support.bpf import compile_file
from tests.support.names import unique_name
from tests.support.net import ip, namespace

CLIENT, SERVER, OTHER = "10.99.0.1", "10.99.0.2", "10.99.0.3"
PORT = 9000
#: This run's own: a packet that the kernel drops is seen wherever on the machine that is, and other runs have the same
#: addresses in namespaces of theirs.
CLIENT_PORT = 20000 + os.getpid() % 40000
#: linux/in.h; Python 3.11 has no name for it.
_IP_PKTINFO = 8
PROGRAMS = ("passes", "drops", "redirects", "rewrites")


@dataclass
class ForeignNet:
    """Two namespaces joined by a veth pair; the server's second address and device ``aside`` lead nowhere."""

    client: str
    server: str
    device: str
    client_socket: socket.socket
    listener: socket.socket
    ifindex: int
    aside: int

    def send(self, payload: bytes = b"x", port: int = PORT) -> None:
        """One datagram from the client to the server."""
        self.client_socket.sendto(payload, (SERVER, port))

    def received(self, timeout_s: float = 0.3) -> str | None:
        """The address at which the server got a datagram, None if nothing came."""
        self.listener.settimeout(timeout_s)
        try:
            _, ancillary, _, _ = self.listener.recvmsg(100, socket.CMSG_SPACE(64))
        except TimeoutError:
            return None
        for level, kind, data in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
                return str(IPv4Address(data[8:12]))
        return ""


def _listener() -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    found.bind(("0.0.0.0", PORT))
    return found


def _client() -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.bind((CLIENT, CLIENT_PORT))
    return found


@contextmanager
def foreign_net() -> Iterator[ForeignNet]:
    """The network, removed afterwards."""
    client, server, device = unique_name("fc"), unique_name("fs"), "veth-s"
    with ExitStack() as stack:
        for name in (client, server):
            stack.enter_context(namespace(name))
        ip("link", "add", "veth-c", "netns", client, "type", "veth", "peer", "name", device, "netns", server)
        ip("-n", server, "link", "add", "aside", "type", "veth", "peer", "name", "aside-peer")
        for name, link in ((client, "veth-c"), (server, device), (server, "aside")):
            ip("-n", name, "link", "set", link, "up")
        ip("-n", client, "address", "add", f"{CLIENT}/24", "dev", "veth-c")
        for address in (SERVER, OTHER):
            ip("-n", server, "address", "add", f"{address}/24", "dev", device)
        listener = stack.enter_context(run_in_netns(server, _listener))
        sender = stack.enter_context(run_in_netns(client, _client))
        yield ForeignNet(
            client,
            server,
            device,
            sender,
            listener,
            run_in_netns(server, socket.if_nametoindex, device),
            run_in_netns(server, socket.if_nametoindex, "aside"),
        )


@contextmanager
def foreign_program(net: ForeignNet, kind: str, via: str | None = None) -> Iterator[Program]:
    """The foreign program that ``kind`` ("drops") at the server's ingress, by "tcx" or "clsact"; else as can be."""
    via = via or ("tcx" if has_tcx() else "clsact")
    name = f"foreign_program_that_{kind}"
    with ExitStack() as stack:
        bpf = stack.enter_context(BpfObject.open(compile_file("foreign.c")))
        bpf.set_config("cfg_target", net.aside)
        bpf.set_config("cfg_address", IPv4Address(OTHER).packed)
        bpf.load()
        program = bpf.program(name)
        if via == "tcx":
            stack.enter_context(run_in_netns(net.server, TcxLink.attach, program, net.ifindex, Direction.INGRESS))
        else:
            found = run_in_netns(
                net.server, lambda: attach_filter(program, net.ifindex, Direction.INGRESS, name="foreign")
            )
            stack.callback(run_in_netns, net.server, remove_clsact, net.ifindex)
            stack.callback(run_in_netns, net.server, detach_filter, found)
        yield program


@contextmanager
def pinned(*tables: tuple[str, MapType, int, int]) -> Iterator[Path]:
    """A directory with tables as a foreign datapath pins them: name, type, bytes of a key and of a value."""
    directory = Path("/sys/fs/bpf") / unique_name("tables")
    directory.mkdir()
    try:
        for name, kind, key, value in tables:
            with Map.create(name[:15], kind, key, value, 64, flags=1 if kind == MapType.LPM_TRIE else 0) as table:
                table.pin(directory / name)
        yield directory
    finally:
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
