"""GC and its undo under open connections of every mode: all of a connection goes, all comes back, and it goes on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ctctl.abi import pins
from ctctl.kernel.clock import monotonic_s
from ctctl.lab.nodefile import address_of
from ctctl.lab.topology import CLIENT, SERVE_PORT, Topology
from tests.lab.conftest import ctctl
from tests.support.lab_modes import MODES, Lab, ask, connect, lab_in_mode, real_tables

pytestmark = pytest.mark.lab

#: later than any entry lives
LATER_S = 100_000
#: a table's name, and an entry's key and value
Record = tuple[str, bytes, bytes]


def _open(here: Lab, stack: ExitStack) -> list[socket.socket]:
    """A pod to a pod, by a ClusterIP, from outside by a load balancer and a node's port, and out to the world."""
    topology, made = here.topology, []
    for version in here.versions:
        service, balancer = ("api", "lb-dsr") if version == 4 else ("api6", "lb6")
        wanted = [
            ("pod1", address_of(topology.pod("pod3"), version), SERVE_PORT),
            ("pod1", str(topology.service(service).ip), 80),
            (CLIENT, str(topology.service(balancer).ip), 80),
            (CLIENT, address_of(topology.nodes[0], version), 30080),
        ]
        if here.mode.get("masquerade"):
            wanted.append(("pod1", here.client(version), SERVE_PORT))
        for member, address, port in wanted:
            made.append(stack.enter_context(connect(topology, member, (address, port))))
    return made


#: Entries are those of "dsr" and "dual", whatever tells the backend's node.
_AS_OTHERS = {"option", "dual-option"}


@pytest.fixture(scope="module", params=[mode for mode in MODES if mode not in _AS_OTHERS])
def here(request: pytest.FixtureRequest, lab_in_some_mode: Topology) -> Iterator[Lab]:
    with lab_in_mode(lab_in_some_mode, MODES[request.param]) as found:
        yield found


@contextmanager
def _connections(here: Lab) -> Iterator[dict[str, list[Record]]]:
    """Open connections, which must be answered afterwards as before; gives all entries by node."""
    with ExitStack() as stack:
        connections = _open(here, stack)
        answers = [ask(connection) for connection in connections]
        held = {node.name: _entries(here, node.name) for node in here.topology.nodes}
        assert {table for records in held.values() for table, _, _ in records} >= {
            pins.SNAT_TABLES[version] for version in here.versions
        }
        yield held
        assert [ask(connection) for connection in connections] == answers


def _entries(here: Lab, node: str) -> list[Record]:
    return sorted(real_tables(here.topology, node, here.versions))


@pytest.mark.parametrize("engine", ["batch", "kernel"])
def test_collected_and_put_back(here: Lab, tmp_path: Path, engine: str) -> None:
    lab, later = here.topology, str(int(monotonic_s()) + LATER_S)
    with _connections(here) as held:
        for node in held:
            name, journal = lab.datapath_node(node), str(tmp_path / f"{node}.jsonl")
            ctctl("gc", "--yes", "--engine", engine, "--now", later, "--undo", journal, "--node", name)
            assert _entries(here, node) == []
        for node, before in held.items():
            ctctl("gc", "undo", str(tmp_path / f"{node}.jsonl"), "--yes", "--node", lab.datapath_node(node))
            assert _entries(here, node) == before


def test_exported_flushed_and_imported(here: Lab, tmp_path: Path) -> None:
    lab = here.topology
    with _connections(here) as held:
        for node in held:
            name, snapshot = lab.datapath_node(node), str(tmp_path / f"{node}.ctsnap")
            ctctl("ct", "export", snapshot, "--node", name)
            ctctl("ct", "flush", "--yes", "--undo", str(tmp_path / f"{node}.jsonl"), "--node", name)
            assert _entries(here, node) == []
        for node, before in held.items():
            ctctl("ct", "import", str(tmp_path / f"{node}.ctsnap"), "--yes", "--node", lab.datapath_node(node))
            assert _entries(here, node) == before
