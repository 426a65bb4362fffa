"""The simulator: the datapath's programs on private maps, under a clock and a chance that are set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from ctctl.abi import pins
from ctctl.config.node import NodeFile, load_node_file
from ctctl.decode.ct import decode_entry
from ctctl.errors import KernelError, NotFoundError, UsageError
from ctctl.kernel.map import Map
from ctctl.kernel.program import PreparedRun
from ctctl.lab.nodefile import node_document, node_yaml
from ctctl.lab.topology import Topology
from ctctl.model.event import CtResult, Hook, Verdict, Why
from ctctl.model.tuples import Direction
from ctctl.packet.geneve import Geneve, dsr_option
from ctctl.packet.text import parse_packet_text
from ctctl.simulate.conversation import Request, converse
from ctctl.simulate.frame import frame_of
from ctctl.simulate.journey import Cluster
from ctctl.simulate.simulator import Simulator, StepResult, identity_mark
from tests.support.names import unique_name
from tests.support.nodefile import parse_node_file
from tests.support.wait import wait_for

pytestmark = pytest.mark.kernel

NODE = """\
node:
  name: node-a
  ip: 10.1.0.1
  pod-cidr: 10.64.0.0/24
  device: {name: eth0, ifindex: 10, mac: "02:00:00:00:01:01"}
  overlay: {name: cilium_geneve, ifindex: 14}
datapath: {lb: {algorithm: maglev, maglev-table-size: 1021}}
clock: 5000
endpoints:
  - {name: pod1, ip: 10.64.0.36, identity: 3096, ifindex: 21, mac: "02:00:00:00:03:02", node-mac: "02:00:00:00:03:01"}
  - {name: pod2, ip: 10.64.0.64, identity: 4711, ifindex: 22, mac: "02:00:00:00:04:02", node-mac: "02:00:00:00:04:01"}
remote:
  - {cidr: 10.64.1.0/24, identity: 30001, node: 10.1.0.2}
services:
  - {name: web, ip: 10.96.0.10, port: 80, id: 7,
     backends: [{id: 101, ip: 10.64.1.64, port: 8080}, {id: 102, ip: 10.64.1.65, port: 8080}]}
  - {name: lb, type: LoadBalancer, ip: 172.16.0.10, port: 80, id: 20, backends: [{id: 201, ip: 10.64.1.64, port: 8080}]}
"""


@pytest.fixture
def node() -> NodeFile:
    return parse_node_file(NODE)


@pytest.fixture
def simulator(node: NodeFile) -> Iterator[Simulator]:
    with Simulator(node) as simulator:
        yield simulator


def send(simulator: Simulator, hook: Hook, text: str, geneve: Geneve | None = None, mark: int = 0) -> StepResult:
    frame = frame_of(simulator.nf, hook, parse_packet_text(text))
    return simulator.run(hook, frame, geneve=geneve, mark=mark)


def entries(simulator: Simulator, table: str = "cilium_ct4_global") -> list[tuple[Direction, int]]:
    decoded = (decode_entry(key, value) for key, value in simulator.tables().ct[table])
    return [(entry.direction, entry.lifetime) for entry in decoded]


def test_the_clock_is_the_simulators(simulator: Simulator) -> None:
    result = send(simulator, Hook.FROM_CONTAINER, "tcp 10.64.0.36:5 > 10.64.1.64:80 S")
    assert result.verdict is Verdict.PASS
    assert entries(simulator) == [(Direction.OUT, 5060)]
    assert result.event is not None
    assert (result.event.now_s, result.event.node, result.event.device) == (5000, "node-a", "pod1")
    simulator.advance(100)
    send(simulator, Hook.FROM_CONTAINER, "tcp 10.64.0.36:5 > 10.64.1.64:80 A")
    assert entries(simulator) == [(Direction.OUT, 5100 + 8000)]


def test_hooks_and_endpoints_share_the_tables(simulator: Simulator) -> None:
    send(simulator, Hook.FROM_CONTAINER, "tcp 10.64.0.36:5 > 10.64.0.64:80 S")
    result = send(simulator, Hook.TO_CONTAINER, "tcp 10.64.0.36:5 > 10.64.0.64:80 S", mark=identity_mark(3096))
    assert result.event is not None
    assert result.event.src_identity == 3096
    assert sorted(direction for direction, _ in entries(simulator)) == [Direction.IN, Direction.OUT]
    reply = send(simulator, Hook.FROM_CONTAINER, "tcp 10.64.0.64:80 > 10.64.0.36:5 SA")
    assert reply.event is not None
    assert reply.event.lookups[-1].result is CtResult.REPLY


def test_two_simulators_share_nothing(node: NodeFile, simulator: Simulator) -> None:
    send(simulator, Hook.FROM_CONTAINER, "tcp 10.64.0.36:5 > 10.64.1.64:80 S")
    with Simulator(node) as other:
        send(other, Hook.FROM_CONTAINER, "udp 10.64.0.36:5 > 10.64.1.64:80")
        assert entries(other) == []
        assert len(entries(other, "cilium_ct_any4_global")) == 2
    assert len(entries(simulator)) == 1


def test_maglev_chooses_by_the_client_and_keeps_to_it(node: NodeFile) -> None:
    chosen = []
    for _ in range(2):
        with Simulator(node) as simulator:
            results = [
                send(simulator, Hook.FROM_CONTAINER, f"tcp 10.64.0.36:{p} > 10.96.0.10:80 S") for p in range(1, 41)
            ]
            assert all(result.event and result.event.lookups[0].why & Why.BACKEND_MAGLEV for result in results)
            chosen.append([result.event.backend_id for result in results if result.event])
    assert chosen[0] == chosen[1]
    assert set(chosen[0]) == {101, 102}


def test_encapsulation_is_taken_off_and_kept(simulator: Simulator) -> None:
    result = send(simulator, Hook.FROM_NETDEV, "tcp 192.0.2.50:40000 > 172.16.0.10:80 S")
    assert result.verdict is Verdict.REDIRECT
    assert result.tunnel == Geneve(
        IPv4Address("10.1.0.2"), IPv4Address("10.1.0.1"), 2, dsr_option(IPv4Address("172.16.0.10"), 80)
    )
    assert result.wire is not None
    outer = Ether(result.wire)
    assert (outer[IP].src, outer[IP].dst, outer[UDP].dport) == ("10.1.0.1", "10.1.0.2", 6081)
    assert result.wire.endswith(result.frame)


def test_the_tunnel_a_packet_came_by(simulator: Simulator) -> None:
    option = dsr_option(IPv4Address("172.16.0.10"), 80)
    tunnel = Geneve(IPv4Address("10.1.0.9"), IPv4Address("10.1.0.1"), 2, option)
    send(simulator, Hook.FROM_OVERLAY, "tcp 192.0.2.50:40000 > 10.64.0.36:8080 S", geneve=tunnel)
    assert len(simulator.tables().snat) == 1
    # The next packet came by none.
    result = send(simulator, Hook.FROM_OVERLAY, "tcp 192.0.2.50:40001 > 10.64.0.36:8080 S")
    assert (result.verdict, result.tunnel) == (Verdict.DROP, None)


def test_a_drop_has_the_events_reason(simulator: Simulator) -> None:
    frame = frame_of(simulator.nf, Hook.FROM_CONTAINER, parse_packet_text("tcp 10.64.0.37:5 > 10.64.1.64:80 S"))
    result = simulator.run(Hook.FROM_CONTAINER, frame, endpoint=simulator.nf.endpoints[0])
    assert (result.verdict, result.reason, result.return_code) == (Verdict.DROP, "invalid_sip", "TC_ACT_SHOT")
    assert entries(simulator) == []


def test_services_can_change_between_packets(simulator: Simulator) -> None:
    send(simulator, Hook.FROM_CONTAINER, "tcp 10.64.0.36:5 > 10.96.0.10:80 S")
    simulator.configure(
        parse_node_file(NODE.replace("backends: [{id: 101, ip: 10.64.1.64, port: 8080}, ", "backends: ["))
    )
    for port in range(10, 20):
        result = send(simulator, Hook.FROM_CONTAINER, f"tcp 10.64.0.36:{port} > 10.96.0.10:80 S")
        assert result.event is not None
        assert result.event.backend_id == 102


def test_a_pod_hook_needs_a_pod(simulator: Simulator) -> None:
    with pytest.raises(UsageError, match=r"no endpoint has the packet's source 10\.9\.9\.9"):
        send(simulator, Hook.FROM_CONTAINER, "tcp 10.9.9.9:5 > 10.64.1.64:80 S")


def test_what_a_test_run_does_not_take_is_said(simulator: Simulator) -> None:
    with pytest.raises(KernelError, match="a frame of 20 bytes is too short"):
        simulator.run(Hook.FROM_NETDEV, bytes(12) + b"\x08\0" + bytes(6))


def test_sizes_of_the_file_are_kept_and_defaults_are_small(node: NodeFile) -> None:
    with (
        Simulator(node) as small,
        Simulator(parse_node_file(NODE.replace("datapath: {", "datapath: {ct: {tcp-max: 77}, "))) as said,
    ):
        small.load()
        said.load()
        assert small.maps["cilium_ct4_global"].info.max_entries < 65536
        assert said.maps["cilium_ct4_global"].info.max_entries == 77


def test_its_maps_go_with_it(node: NodeFile) -> None:
    with Simulator(node) as simulator:
        send(simulator, Hook.FROM_NETDEV, "tcp 192.0.2.50:40000 > 172.16.0.10:80 S")
        table: Map = simulator.maps["cilium_ct4_global"]
        number = table.info.id
    assert table.closed
    wait_for(lambda: not _exists(number), what="the map is gone")


def _exists(number: int) -> bool:
    try:
        Map.from_id(number).close()
    except NotFoundError:
        return False
    return True


def test_a_packet_stays_on_one_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """IPv6 out of a tunnel goes through two programs; what the first read of the outer headers is its CPU's alone."""
    run, cpus = PreparedRun.run, []

    def watched(self: PreparedRun, frame: bytes) -> int:
        cpus.append(os.sched_getaffinity(0))
        return run(self, frame)

    monkeypatch.setattr(PreparedRun, "run", watched)
    topology = Topology(unique_name("lab"))
    files = []
    for node in topology.nodes:
        (tmp_path / node.name).write_text(node_yaml(node_document(topology, node, mode={"ipv6": True})))
        files.append(load_node_file(tmp_path / node.name))
    packet = parse_packet_text("tcp [fd00:191::1]:40000 > [fd00:190::17]:80 S")
    with Cluster.of(tuple(files)) as cluster:
        assert list(converse(cluster, Request(packet, tuple(files))))
        (pair,) = cluster.nodes[files[1].node.name].maps.entries(pins.SNAT6)
    assert len(cpus) == 5, "of the hooks on the way, from_netdev of the backend's node has both programs"
    assert all(len(allowed) == 1 for allowed in cpus)
    assert pair
