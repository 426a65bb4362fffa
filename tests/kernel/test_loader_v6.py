"""A node with both families, loaded: real packets of IPv6 through its programs and tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from ctctl.abi import pins
from ctctl.decode.ct import decode_entry
from ctctl.errors import NotFoundError, UsageError
from ctctl.kernel.map import Map
from ctctl.model.tuples import Direction
from ctctl.node.attach import AttachMode
from ctctl.node.loader import load
from ctctl.node.paths import NodePaths
from ctctl.node.unload import unload
from ctctl.node.update import update
from tests.support.nodes import BPFFS, POD_NET, TestNode, make_node, run
from tests.support.wait import PATIENCE_S, PATIENCE_WORD

pytestmark = pytest.mark.kernel

PODS6, ROUTER6, NODE6, OUTSIDE6 = "fd00:244:7", "fd00:244:7::1", "fd00:9::1", "fd00:9::2"
PORT = 8000


def pod6(number: int) -> str:
    return f"{PODS6}::{10 + number}"


@pytest.fixture
def node() -> Iterator[TestNode]:
    with make_node(pods=2) as made:
        for namespace, forwarding in ((made.name, "1"), (made.pod(1), "0"), (made.pod(2), "0"), (made.outside, "0")):
            for setting in ("all.accept_dad=0", "default.accept_dad=0", f"all.forwarding={forwarding}"):
                run("ip", "netns", "exec", namespace, "sysctl", "-qw", f"net.ipv6.conf.{setting}")
        run("ip", "-n", made.name, "addr", "add", f"{NODE6}/64", "dev", "eth0", "nodad")
        run("ip", "-n", made.outside, "addr", "add", f"{OUTSIDE6}/64", "dev", "eth0", "nodad")
        run("ip", "-n", made.outside, "route", "add", f"{PODS6}::/64", "via", NODE6)
        for number in (1, 2):
            run("ip", "-n", made.name, "route", "add", f"{pod6(number)}/128", "dev", f"lxc{number}")
            run("ip", "-n", made.pod(number), "addr", "add", f"{pod6(number)}/128", "dev", "eth0", "nodad")
            run("ip", "-n", made.pod(number), "route", "add", ROUTER6, "dev", "eth0")
            run("ip", "-n", made.pod(number), "route", "add", "default", "via", ROUTER6)
        yield made
        with contextlib.suppress(NotFoundError):
            unload(made.name)


def dual(node: TestNode, **datapath: Any) -> dict[str, Any]:
    """Changes of the node file that give it both families."""
    document = node.document()
    endpoints = [{**e, "ip6": pod6(n)} for n, e in enumerate(document["endpoints"], 1)]
    backend = {"id": 29, "ip": pod6(2), "port": PORT}
    service = {"name": "svc6", "type": "ClusterIP", "ip": "fd00:68::1", "port": 80, "id": 16, "backends": [backend]}
    return {
        "node": {**document["node"], "ip6": NODE6, "pod-cidr6": f"{PODS6}::/64"},
        "datapath": {**document["datapath"], "ipv6": True, **datapath},
        "endpoints": endpoints,
        "services": [*document["services"], service],
    }


def flows(node: TestNode, table: str) -> set[tuple[str, str, int, Direction]]:
    """(source, destination, destination port, direction) of the entries of a pinned table."""
    with Map.open_pinned(NodePaths(BPFFS, node.name).map(table), read_only=True) as found:
        entries = [decode_entry(key, value, map_name=table) for key, value in found.items()]
    return {(str(e.tuple.src), str(e.tuple.dst), e.tuple.dst_port, e.direction) for e in entries if not e.related}


def talk(node: TestNode, client: str, server: str, address: str, port: int) -> None:
    """One TCP exchange between two namespaces; raises if it fails."""
    script = (
        "import socket,subprocess,sys\n"
        f"s = socket.create_server(('::', {PORT}), family=socket.AF_INET6)\n"
        f"s.settimeout({PATIENCE_S})\n"
        "ask = ('import socket; c = socket.create_connection((' + repr(sys.argv[2]) + ', ' + sys.argv[3] + '));'\n"
        '       \'c.sendall(b"hello"); assert c.recv(5) == b"world"; c.close()\')\n'
        "child = subprocess.Popen(['ip', 'netns', 'exec', sys.argv[1], sys.executable, '-c', ask])\n"
        "c, _ = s.accept(); assert c.recv(5) == b'hello'; c.sendall(b'world'); c.close()\n"
        f"sys.exit(child.wait({PATIENCE_S}))\n"
    )
    run("ip", "netns", "exec", server, "python3", "-c", script, client, address, str(port))


@pytest.mark.parametrize("mode", [AttachMode.tcx, AttachMode.tc])
def test_pods_and_services_of_ipv6(node: TestNode, mode: AttachMode) -> None:
    load(node.request(request={"attach": mode}, **dual(node)))
    run("ip", "netns", "exec", node.pod(1), "ping", "-6", "-c", "1", "-W", PATIENCE_WORD, pod6(2))
    talk(node, node.pod(1), node.pod(2), pod6(2), PORT)
    talk(node, node.pod(1), node.pod(2), "fd00:68::1", 80)
    pair = pod6(1), pod6(2), PORT
    assert {(*pair, Direction.OUT), (*pair, Direction.IN), (pod6(1), "fd00:68::1", 80, Direction.SVC)} <= flows(
        node, pins.CT6_TCP
    )
    # IPv4 goes on beside it.
    run("ip", "netns", "exec", node.pod(1), "ping", "-c", "1", "-W", PATIENCE_WORD, f"{POD_NET}.12")


def test_pods_masqueraded_to_the_world(node: TestNode) -> None:
    load(node.request(**dual(node, masquerade=True)))
    talk(node, node.pod(1), node.outside, OUTSIDE6, PORT)
    with Map.open_pinned(NodePaths(BPFFS, node.name).map(pins.SNAT6), read_only=True) as table:
        assert sorted(key[37] for key, _ in table.items()) == [0, 1]


def test_a_reload_keeps_the_entries_of_both_families(node: TestNode) -> None:
    load(node.request(**dual(node)))
    talk(node, node.pod(1), node.pod(2), pod6(2), PORT)
    before = flows(node, pins.CT6_TCP)
    load(node.request(**dual(node, like="1.16.4")))
    assert flows(node, pins.CT6_TCP) == before
    changed = dual(node, like="1.16.4")
    changed["services"][-1]["port"] = 81
    assert not update(node.request(**changed)).empty
    talk(node, node.pod(1), node.pod(2), "fd00:68::1", 81)
    with pytest.raises(UsageError, match="that takes ctctl load"):
        update(node.request())
