"""Services for sockets: the rules that no recording here shows, and a node that has them, loaded."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctctl.abi import pins
from ctctl.errors import ConfigError, UsageError
from ctctl.events.tap import EventTap
from ctctl.kernel.link import Link
from ctctl.kernel.map import Map
from ctctl.model.event import Hook, Why
from ctctl.node.loader import load
from ctctl.node.paths import NodePaths
from ctctl.node.status import node_status
from ctctl.node.unload import unload
from tests.support.cgroups import made_cgroup
from tests.support.children import run_ctctl
from tests.support.nodes import BPFFS, POD_NET, TestNode, make_node
from tests.support.socket_story import replay
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = pytest.mark.kernel

BACKEND, NODE_PORT = {"id": 101, "ip": "10.64.1.64", "port": 8080}, 30080
NODE, OTHER_NODE = "10.1.0.1", "10.1.0.2"
TRANSLATED = {"ok": True, "kernel_peer": "10.64.1.64:8080"}
REFUSED = {"ok": False, "errno": "ECONNREFUSED"}
IN_USE = {"ok": False, "errno": "EADDRINUSE"}


def service(address: str, port: int, number: int, flags: int) -> dict[str, Any]:
    return {
        "addr": address, "port": port, "rev_nat_id": number, "type": "", "scope": "external", "flags": flags,
        "flags2": 0, "affinity_timeout_s": 0, "backends": [BACKEND],
    }  # fmt: skip


def story(*steps: dict[str, Any], services: list[dict[str, Any]]) -> dict[str, Any]:
    """A story whose calls are each by a new TCP socket, and which has a server behind the backend's address."""
    server: list[dict[str, Any]] = [
        {"call": "socket", "socket": "server", "family": 4, "type": "tcp", "result": {}},
        {"call": "listen", "socket": "server", "to": "10.64.1.64:8080", "result": {"ok": True}},
        {"call": "socket", "socket": "own", "family": 4, "type": "tcp", "result": {}},
        # The node's own addresses are on the loopback device here, as the backend's are.
        {"call": "listen", "socket": "own", "to": f"{NODE}:1", "result": {"ok": True}},
    ]
    calls = []
    for number, step in enumerate(steps):
        name, place = f"s{number}", step.get("namespace", "pod")
        family = 6 if step["to"].startswith("[") else 4
        made = {"call": "socket", "socket": name, "family": family, "type": step.get("type", "tcp"), "result": {}}
        calls += [{**made, "namespace": place}, {**step, "socket": name}]
        if "peer" in step:
            calls.append({"call": "getpeername", "socket": name, "namespace": place, "result": {"peer": step["peer"]}})
    remote = [{"cidr": f"{OTHER_NODE}/32", "identity": 6}]
    return {"config": {"start_now": 1_000_000}, "services": services, "remote": remote, "steps": [*server, *calls]}


def test_node_ports_by_every_node_s_address() -> None:
    def connect(host: str, result: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"call": "connect", "to": f"{host}:{NODE_PORT}", "result": result, **more}

    assert not replay(
        story(
            connect(NODE, TRANSLATED, peer=f"{NODE}:{NODE_PORT}"),
            connect(OTHER_NODE, TRANSLATED, peer=f"{OTHER_NODE}:{NODE_PORT}"),
            connect("127.0.0.1", REFUSED),
            connect("127.0.0.1", TRANSLATED, namespace="host", peer=f"127.0.0.1:{NODE_PORT}"),
            connect("[::ffff:10.1.0.1]", {"kernel_peer": "[::ffff:10.64.1.64]:8080"}),
            {"call": "connect", "to": f"{NODE}:{NODE_PORT + 1}", "result": REFUSED},
            services=[service("0.0.0.0", NODE_PORT, 7, 2)],
        )
    )


def test_an_external_address_that_is_not_the_node_s_means_itself() -> None:
    assert not replay(
        story(
            {"call": "connect", "to": "192.0.2.2:80", "result": TRANSLATED},
            {"call": "connect", "to": f"{NODE}:80", "result": TRANSLATED},
            {"call": "connect", "to": "192.0.2.1:80", "result": {"ok": False, "errno": "timeout"}},
            services=[
                service("192.0.2.1", 80, 7, 1), service("192.0.2.2", 80, 8, 0x60), service(NODE, 80, 9, 1),
            ],
        )
    )  # fmt: skip


def test_a_host_port_is_of_this_node_only() -> None:
    assert not replay(
        story(
            {"call": "connect", "to": f"{NODE}:8081", "result": TRANSLATED},
            {"call": "connect", "to": f"{OTHER_NODE}:8081", "result": {"ok": False, "errno": "timeout"}},
            services=[service("0.0.0.0", 8081, 7, 8)],
        )
    )


def test_a_socket_of_the_host_does_not_take_a_service_s_port() -> None:
    def bind(host: str, place: str, result: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"call": "bind", "to": f"{host}:{NODE_PORT}", "namespace": place, "result": result, **more}

    assert not replay(
        story(
            bind("127.0.0.1", "pod", {"ok": True}),
            bind(NODE, "host", IN_USE),
            bind(NODE, "host", IN_USE, type="udp"),
            bind("127.0.0.1", "host", IN_USE),
            bind("[::ffff:10.1.0.1]", "host", IN_USE),
            {"call": "bind", "to": f"{NODE}:{NODE_PORT + 1}", "namespace": "host", "result": {"ok": True}},
            services=[service("0.0.0.0", NODE_PORT, 7, 2)],
        )
    )


# ---- a node that is loaded


@pytest.fixture
def cgroup() -> Iterator[Path]:
    with made_cgroup() as made:
        yield made


@pytest.fixture
def node() -> Iterator[TestNode]:
    with make_node(pods=2) as made:
        yield made
        with contextlib.suppress(Exception):
            unload(made.name)


def balanced(node: TestNode, cgroup: Path) -> dict[str, Any]:
    """Changes of the node file by which sockets of that cgroup are balanced."""
    datapath = node.document()["datapath"]
    return {"datapath": {**datapath, "lb": {**datapath["lb"], "socket": {"cgroup": str(cgroup)}}}}


#: Connects to the service, says whom it reached and whom it believes to have reached.
ASK = """
import json, os, socket, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
server = socket.create_server(("0.0.0.0", 8000)) if sys.argv[3] == "serve" else None
c = socket.create_connection((sys.argv[2], 80), 30)
print(json.dumps(c.getpeername()))
"""


def ask(node: TestNode, cgroup: Path, address: str = "10.68.0.1") -> list[Any]:
    """What a program in pod 1, the service's only backend, hears."""
    # ip netns exec would hide the cgroups.
    enter = ("nsenter", f"--net=/run/netns/{node.pod(1)}")
    command = (*enter, sys.executable, "-c", ASK, str(cgroup), address, "serve")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    answer: list[Any] = json.loads(done.stdout)
    return answer


def test_loaded_traced_and_unloaded(node: TestNode, cgroup: Path) -> None:
    load(node.request(**balanced(node, cgroup)))
    paths = NodePaths(BPFFS, node.name)
    status = node_status(paths)
    assert status.problems == ()
    sockets = [program for program in status.programs if program.mode == "cgroup"]
    assert {program.direction for program in sockets} >= {"connect4", "connect6", "recvmsg4", "getpeername6"}
    assert {program.interface for program in sockets} == {str(cgroup)}
    assert all(program.attached for program in sockets)
    with EventTap([node.name]) as tap:
        assert ask(node, cgroup) == ["10.68.0.1", 80]
        events = wait_for(lambda: [event for event in tap.events() if event.hook.of_sockets])
    connect = events[0]
    assert connect.hook is Hook.CONNECT
    assert (str(connect.tuple_in.dst), connect.tuple_in.dst_port) == ("10.68.0.1", 80)
    assert (str(connect.tuple_out.dst), connect.tuple_out.dst_port) == (f"{POD_NET}.11", 8000)
    assert (connect.backend_id, connect.rev_nat) == (19, 15)
    assert connect.lookups[0].why == Why.BACKEND_RANDOM | Why.SOCKET_WRITTEN
    assert Hook.GETPEERNAME in {event.hook for event in events}
    with Map.open_pinned(paths.map(pins.LB4_SOCKETS), read_only=True) as table:
        assert len(list(table.items())) == 1
    counted = {(c.hook, c.reason): c.packets for c in node_status(paths).counters}
    assert (counted["connect", "ok"], counted["getpeername", "ok"]) == (1, 1)
    links = list(paths.link_pins().values())
    unload(node.name)
    assert not any(pin.exists() for pin in links)
    assert not paths.dir.exists()


def test_the_node_file_of_the_examples(node: TestNode, cgroup: Path, tmp_path: Path) -> None:
    """Loaded as it is there, but for its name and for whose sockets are meant; who asks is answered."""
    text = (Path(__file__).parents[2] / "examples/socket-lb.yaml").read_text()
    file = tmp_path / "node.yaml"
    file.write_text(
        text.replace("name: socket-lb", f"name: {node.name}").replace("socket: true", f"socket: {{cgroup: {cgroup}}}")
    )
    loaded = run_ctctl("load", "-f", file)
    assert loaded.returncode == 0, loaded.stderr
    try:
        assert str(cgroup) in run_ctctl("status", "--node", node.name).stdout
        # The cgroup is what is meant, wherever its process is: in a pod as well as anywhere.
        assert ask(node, cgroup, "10.96.0.10") == ["10.96.0.10", 80]
    finally:
        assert run_ctctl("unload", "--node", node.name).returncode == 0
    assert not node.dir.exists()


def test_a_load_without_sockets_takes_the_programs_off(node: TestNode, cgroup: Path) -> None:
    load(node.request(**balanced(node, cgroup)))
    before = {pin.name: program(pin) for pin in NodePaths(BPFFS, node.name).link_pins().values()}
    load(node.request(**balanced(node, cgroup)))
    after = {pin.name: program(pin) for pin in NodePaths(BPFFS, node.name).link_pins().values()}
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)
    report = load(node.request())
    assert {slot for slot in report.detached if slot.startswith("sock-")} == {
        n for n in before if n.startswith("sock-")
    }
    assert not [name for name in NodePaths(BPFFS, node.name).link_pins() if name.startswith("sock-")]
    assert node_status(NodePaths(BPFFS, node.name)).problems == ()


def program(pin: Path) -> int:
    with Link.open_pinned(pin) as link:
        return link.info.prog_id


def test_a_cgroup_that_is_gone_is_said(node: TestNode) -> None:
    with made_cgroup() as cgroup:
        load(node.request(**balanced(node, cgroup)))
    # The kernel takes the programs off in its own time.
    wait_for(lambda: any("is gone" in problem for problem in node_status(NodePaths(BPFFS, node.name)).problems))
    unload(node.name)


def test_what_cannot_be_is_refused_before_anything_is_made(node: TestNode, cgroup: Path) -> None:
    with pytest.raises(ConfigError, match="is no cgroup of"):
        load(node.request(**balanced(node, Path("/tmp"))))
    with pytest.raises(ConfigError, match="No such file"):
        load(node.request(**balanced(node, cgroup / "nowhere")))
    load(node.request(**balanced(node, cgroup)))
    with make_node() as other, pytest.raises(UsageError, match=f"belongs to node {node.name}"):
        load(other.request(**balanced(other, cgroup)))
    assert not (BPFFS / "ctctl" / other.name).exists()
