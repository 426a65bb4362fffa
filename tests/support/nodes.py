"""A node to load: its own namespace with a device and pods, and the node file that describes it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctctl.config.node import NodeFile
from ctctl.node.loader import LoadRequest
from ctctl.node.paths import remove_tree
from tests.support.names import unique_name
from tests.support.net import namespace
from tests.support.nodefile import parse_node_file
from tests.support.wait import PATIENCE_S

BPFFS = Path("/sys/fs/bpf")
POD_NET = "10.244.7"
NODE_IP = "10.9.9.1"
OUTSIDE_IP = "10.9.9.2"


def run(*command: str) -> str:
    """Run a command that must succeed; its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


@dataclass
class TestNode:
    """``name`` is the node's and its namespace's; pods are ``name`` + 1, 2, …, the outside ``name`` + x."""

    __test__ = False

    name: str
    pods: int

    @property
    def outside(self) -> str:
        return f"{self.name}x"

    def pod(self, number: int) -> str:
        return f"{self.name}{number}"

    @property
    def dir(self) -> Path:
        return BPFFS / "ctctl" / self.name

    def document(self, **changes: Any) -> dict[str, Any]:
        """The node file as plain data; ``changes`` replace top-level keys."""
        document: dict[str, Any] = {
            "node": {"name": self.name, "ip": NODE_IP, "device": "eth0", "pod-cidr": f"{POD_NET}.0/24"},
            "datapath": {"ct": {"tcp-max": 4096, "any-max": 4096, "snat-max": 4096}, "lb": {"maglev-table-size": 251}},
            "endpoints": [
                {"name": f"pod{n}", "ip": f"{POD_NET}.{10 + n}", "identity": 3000 + n, "interface": f"lxc{n}"}
                for n in range(1, self.pods + 1)
            ],
            "remote": [{"cidr": "10.244.8.0/24", "identity": 3099, "node": OUTSIDE_IP}],
            "services": [
                {
                    "name": "svc",
                    "type": "ClusterIP",
                    "ip": "10.68.0.1",
                    "port": 80,
                    "id": 15,
                    "backends": [{"id": 19, "ip": f"{POD_NET}.11", "port": 8000}],
                }
            ],
        }
        return {**document, **changes}

    def text(self, **changes: Any) -> str:
        import yaml

        return yaml.safe_dump(self.document(**changes), sort_keys=False)

    def file(self, **changes: Any) -> NodeFile:
        return parse_node_file(self.text(**changes), f"{self.name}.yaml")

    def request(self, *, request: dict[str, Any] | None = None, **changes: Any) -> LoadRequest:
        """A load of the node file with ``changes``; ``request`` are other fields of the request."""
        text = self.text(**changes)
        wanted = LoadRequest(
            node=parse_node_file(text, f"{self.name}.yaml"), text=text, netns=self.name, wait_s=PATIENCE_S
        )
        return replace(wanted, **(request or {}))


@contextmanager
def make_node(pods: int = 1) -> Iterator[TestNode]:
    """A namespace with ``eth0`` to an outside one and a veth ``lxcN`` to each pod's; gone afterwards.

    So are pins in its place: where a test failed there may be some that ``unload`` refuses to touch.
    """
    node = TestNode(unique_name("n"), pods)
    with ExitStack() as stack:
        stack.callback(_remove_pins, node.dir)
        for name in (node.name, node.outside, *(node.pod(n) for n in range(1, pods + 1))):
            stack.enter_context(namespace(name))
            run("ip", "-n", name, "link", "set", "lo", "up")
        _connect(node)
        yield node


def _remove_pins(place: Path) -> None:
    if place.exists():
        remove_tree(place)


def _connect(node: TestNode) -> None:
    commands = [f"link add eth0 type veth peer name eth0 netns {node.outside}", "link set eth0 up"]
    commands += [f"addr add {NODE_IP}/24 dev eth0", "addr add 169.254.1.1/32 dev lo"]
    for n in range(1, node.pods + 1):
        commands += [
            f"link add lxc{n} type veth peer name eth0 netns {node.pod(n)}",
            f"link set lxc{n} up",
            f"route add {POD_NET}.{10 + n}/32 dev lxc{n}",
        ]
    _batch(node.name, commands)
    _batch(
        node.outside,
        ["link set eth0 up", f"addr add {OUTSIDE_IP}/24 dev eth0", f"route add {POD_NET}.0/24 via {NODE_IP}"],
    )
    for n in range(1, node.pods + 1):
        gateway = ["route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1"]
        _batch(node.pod(n), ["link set eth0 up", f"addr add {POD_NET}.{10 + n}/32 dev eth0", *gateway])
    run("ip", "netns", "exec", node.name, "sysctl", "-qw", "net.ipv4.ip_forward=1")


def _batch(namespace: str, commands: list[str]) -> None:
    done = subprocess.run(
        ["ip", "-n", namespace, "-batch", "-"], input="\n".join(commands), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
