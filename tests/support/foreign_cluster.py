"""Somebody else's cluster of two nodes, where real TCP runs through a NodePort in SNAT mode.

Its datapath is our own programs in our own lab, turned to SNAT and a tunnel; its maps are pinned a second
time, under Cilium's names in directories like an agent's, and only those are told to who looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ctctl.abi import pins
from ctctl.kernel.map import Map
from ctctl.lab.cgroups import ensure_cgroup
from ctctl.lab.cluster import down, up
from ctctl.lab.datapaths import change_mode
from ctctl.lab.topology import Topology
from ctctl.model.identity import REMOTE_NODE
from ctctl.node.paths import DEFAULT_BPFFS, NodePaths
from tests.support.children import run_ctctl
from tests.support.names import unique_name

#: What an agent pins of what a node of ours has.
_PINNED = (
    *(pins.CT4_TCP, pins.CT4_ANY, pins.SNAT4, pins.LB4_SERVICES, pins.LB4_BACKENDS, pins.LB4_REVERSE_NAT),
    *(pins.ENDPOINTS, pins.IPCACHE, pins.LB4_SOCKETS),
)


@dataclass(frozen=True)
class ForeignCluster:
    """The lab, and each node's directory of maps by its network namespace."""

    lab: Topology
    tables: dict[str, Path]

    @contextmanager
    def turned(self, mode: Mapping[str, Any], *, sockets: bool = False) -> Iterator[None]:
        """Both nodes reach backends in another way (keys of ``datapath`` in a node file), with empty tables.

        They stay so, without sockets; what an agent would not have pinned before is not afterwards.
        """
        before = {path for directory in self.tables.values() for path in directory.iterdir()}
        self._turn(mode, sockets=sockets)
        try:
            yield
        finally:
            if sockets:
                self._turn(mode, sockets=False)
            for path in {path for directory in self.tables.values() for path in directory.iterdir()} - before:
                path.unlink()

    def _turn(self, mode: Mapping[str, Any], *, sockets: bool) -> None:
        for node in self.lab.nodes:
            changed = {**mode, "routing": "tunnel"}
            if sockets:
                cgroup = ensure_cgroup(self.lab, node.name)
                assert cgroup is not None
                changed["lb"] = {**mode.get("lb", {}), "socket": {"cgroup": str(cgroup)}}
            directory = self.tables[self.lab.netns(node.name)]
            for path in directory.iterdir():
                path.unlink()
            change_mode(self.lab, node, changed)
            _pin_again(self.lab.datapath_node(node.name), directory)
            for name in (*pins.OWN_CT_TABLES, pins.SNAT4):
                if (directory / name).exists():
                    _empty(directory / name)

    def words(self) -> list[str]:
        """What ``ctctl trace`` must be told to look at both nodes."""
        found: list[str] = []
        for netns, directory in self.tables.items():
            found += ["--netns", netns, "--tables", f"{netns}={directory}"]
        return found


@contextmanager
def foreign_cluster() -> Iterator[ForeignCluster]:
    """The cluster, removed afterwards."""
    lab = Topology(unique_name("frgn"))
    root = Path("/sys/fs/bpf") / unique_name("agents")
    with ExitStack() as stack:
        stack.callback(down, lab)
        up(lab, lambda _line: None)
        stack.callback(_remove, root)
        tables = {}
        for node in lab.nodes:
            _to_snat(lab, node.name)
            directory = root / node.name / "tc" / "globals"
            directory.mkdir(parents=True)
            _pin_again(lab.datapath_node(node.name), directory)
            tables[lab.netns(node.name)] = directory
        yield ForeignCluster(lab, tables)


def _to_snat(lab: Topology, node: str) -> None:
    path = lab.node_file(node)
    document = yaml.safe_load(path.read_text())
    document["datapath"]["routing"] = "tunnel"
    document["datapath"]["lb"]["mode"] = "snat"
    # The other node's address among its pods, which SNAT gives its requests: replies go back through the tunnel.
    document["remote"] += [
        {"cidr": f"{other.gateway}/32", "identity": REMOTE_NODE, "node": other.ip}
        for other in lab.nodes
        if other.name != node
    ]
    path.write_text(yaml.safe_dump(document))
    done = run_ctctl("load", "-f", path, "--netns", lab.netns(node))
    assert done.returncode == 0, done.stderr


def _empty(path: Path) -> None:
    with Map.open_pinned(path) as table:
        for key, _ in list(table.items()):
            table.delete(key)


def _pin_again(name: str, directory: Path) -> None:
    paths = NodePaths(DEFAULT_BPFFS, name)
    for table in _PINNED:
        if not paths.map(table).exists():
            continue
        with Map.open_pinned(paths.map(table)) as opened:
            opened.pin(directory / table)


def _remove(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True) if root.exists() else ():
        path.rmdir() if path.is_dir() else path.unlink()
    if root.exists():
        root.rmdir()
