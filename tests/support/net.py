"""Network namespaces for tests that need a device but no traffic, and free ports."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ctctl.kernel.netns import run_in_netns
from tests.support.names import unique_name


@dataclass(frozen=True)
class TestNetns:
    """A named namespace with one veth pair in it: ``ifindex`` is one end, ``peer`` the other."""

    __test__ = False

    name: str
    ifindex: int
    peer: int


def ip(*words: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def tc(*words: str) -> str:
    """What tc(8) says."""
    return subprocess.run(["tc", *words], check=True, capture_output=True, text=True).stdout


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A fresh namespace, removed with everything in it: also when the run was told to end while it was made."""
    try:
        ip("netns", "add", name)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextmanager
def netns_with_veth() -> Iterator[TestNetns]:
    """A fresh namespace with a veth pair."""
    import socket

    with namespace(unique_name("ns")) as name:
        ip("-n", name, "link", "add", "veth-a", "up", "type", "veth", "peer", "name", "veth-b")
        ip("-n", name, "link", "set", "veth-b", "up")
        yield TestNetns(
            name,
            run_in_netns(name, socket.if_nametoindex, "veth-a"),
            run_in_netns(name, socket.if_nametoindex, "veth-b"),
        )


def free_ports(count: int) -> list[int]:
    """Free ports of this machine. Another program could take one before it is used; then the server says so."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]
