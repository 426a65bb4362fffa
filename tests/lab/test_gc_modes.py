"""GC and its undo under open connections of every mode: all of a connection goes, all comes back, and it goes on."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from ctctl.kernel.clock import monotonic_s
from ctctl.kernel.netns import run_in_netns
from ctctl.lab.nodefile import address_of
from ctctl.lab.run import in_mode
from ctctl.lab.topology import CLIENT, SERVE_PORT, Topology
from tests.lab.conftest import ctctl
from tests.lab.test_simulation_equals_reality import MODES, REQUEST, SNAT_TABLES, Lab, real_tables, world_answers
from tests.support.wait import PATIENCE_S

pytestmark = pytest.mark.lab

#: later than any entry lives
LATER_S = 100_000


def _ask(connection: socket.socket) -> str:
    connection.sendall(REQUEST)
    return connection.recv(4096).decode().rpartition("\r\n")[2].strip()


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
            netns = topology.netns(member)
            connection = run_in_netns(netns, socket.create_connection, (address, port), PATIENCE_S)
            made.append(stack.enter_context(connection))
    return made


@pytest.mark.parametrize("engine", ["batch", "kernel"])
@pytest.mark.parametrize("mode", ["dsr", "snat", "hybrid", "masquerade", "dual", "dual-snat", "dual-masquerade"])
def test_collected_and_put_back(lab: Topology, tmp_path: Path, mode: str, engine: str) -> None:
    here = Lab(lab, MODES[mode])
    with ExitStack() as stack:
        stack.enter_context(in_mode(lab, here.mode))
        if here.mode.get("masquerade"):
            stack.enter_context(world_answers(lab))
        connections = _open(here, stack)
        answers = [_ask(connection) for connection in connections]
        held = {node.name: list(real_tables(lab, node.name, here.versions)) for node in lab.nodes}
        assert {table for records in held.values() for table, _, _ in records} >= {
            SNAT_TABLES[version] for version in here.versions
        }
        later = str(int(monotonic_s()) + LATER_S)
        for node in lab.nodes:
            name, journal = lab.datapath_node(node.name), str(tmp_path / f"{node.name}.jsonl")
            ctctl("gc", "--yes", "--engine", engine, "--now", later, "--undo", journal, "--node", name)
            assert list(real_tables(lab, node.name, here.versions)) == []
        for node in lab.nodes:
            ctctl("gc", "undo", str(tmp_path / f"{node.name}.jsonl"), "--yes", "--node", lab.datapath_node(node.name))
            assert sorted(real_tables(lab, node.name, here.versions)) == sorted(held[node.name])
        assert [_ask(connection) for connection in connections] == answers


@pytest.mark.parametrize("mode", ["hybrid", "dual-snat", "dual-masquerade"])
def test_exported_flushed_and_imported(lab: Topology, tmp_path: Path, mode: str) -> None:
    here = Lab(lab, MODES[mode])
    with ExitStack() as stack:
        stack.enter_context(in_mode(lab, here.mode))
        if here.mode.get("masquerade"):
            stack.enter_context(world_answers(lab))
        connections = _open(here, stack)
        answers = [_ask(connection) for connection in connections]
        held = {node.name: sorted(real_tables(lab, node.name, here.versions)) for node in lab.nodes}
        for node in lab.nodes:
            name, snapshot = lab.datapath_node(node.name), str(tmp_path / f"{node.name}.ctsnap")
            ctctl("ct", "export", snapshot, "--node", name)
            ctctl("ct", "flush", "--yes", "--undo", str(tmp_path / f"{node.name}.jsonl"), "--node", name)
            assert list(real_tables(lab, node.name, here.versions)) == []
        for node in lab.nodes:
            name, snapshot = lab.datapath_node(node.name), str(tmp_path / f"{node.name}.ctsnap")
            ctctl("ct", "import", snapshot, "--yes", "--node", name)
            assert sorted(real_tables(lab, node.name, here.versions)) == held[node.name]
        assert [_ask(connection) for connection in connections] == answers
