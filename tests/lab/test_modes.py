"""Each mode on the wire: a story is told while its members are listened to, and scapy says what went by."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from ctctl.lab.topology import CLIENT, CLIENT_IP, CLIENT_IP6, SERVE_PORT, Topology
from tests.lab.capture import capture, packets, wrong_checksums
from tests.lab.conftest import ctctl

pytestmark = pytest.mark.lab

NODE_A, NODE_B, NODE_A6, NODE_B6 = "10.1.0.1", "10.1.0.2", "fd00:10:1::1", "fd00:10:1::2"
POD1, POD3 = "10.64.0.36", "10.64.1.36"


def told(lab: Topology, story: str, *members: str) -> dict[str, list[Any]]:
    """Tell a story; the packets at the device of each member, none with a wrong IP or ICMP checksum."""
    with contextlib.ExitStack() as stack:
        frames = {member: stack.enter_context(capture(lab, member)) for member in members}
        output = ctctl("lab", "run", story, "--name", lab.name).stdout
    assert f"== {story}: as it has to be" in output
    found = {member: packets(taken) for member, taken in frames.items()}
    for taken in found.values():
        assert wrong_checksums(taken) == []
    return found


def tcp(found: list[Any], port: int, layer: str = "IP") -> set[tuple[str, str]]:
    """(source, destination) of TCP packets from or to that port."""
    return {(p[layer].src, p[layer].dst) for p in found if layer in p and "TCP" in p and port in (p.sport, p.dport)}


@pytest.mark.parametrize(
    ("story", "layer", "ends"),
    [
        ("nodeport-snat", "IP", (NODE_A, NODE_B, CLIENT_IP, POD3)),
        ("nodeport-snat-v6", "IPv6", (NODE_A6, NODE_B6, CLIENT_IP6, "fd00:64:1::36")),
    ],
    ids=["v4", "v6"],
)
def test_nodeport_snat(lab: Topology, story: str, layer: str, ends: tuple[str, str, str, str]) -> None:
    near, far, client, server = ends
    found = told(lab, story, CLIENT, "pod3")
    # The client speaks to nodes only; the pod to the node that asked for the client, and then to the client.
    assert tcp(found[CLIENT], 30080, layer) == {(client, near), (near, client), (client, far), (far, client)}
    assert tcp(found["pod3"], SERVE_PORT, layer) == {(near, server), (server, near), (client, server), (server, client)}


def test_masquerade(lab: Topology) -> None:
    found = told(lab, "masquerade", CLIENT, "pod1", "pod3")
    assert tcp(found[CLIENT], SERVE_PORT) == {(NODE_A, CLIENT_IP), (CLIENT_IP, NODE_A)}
    pod = {(POD1, CLIENT_IP), (CLIENT_IP, POD1), (POD1, POD3), (POD3, POD1)}
    assert tcp(found["pod1"], SERVE_PORT) == pod
    assert tcp(found["pod3"], SERVE_PORT) == {(POD1, POD3), (POD3, POD1)}


def test_masquerade_icmp(lab: Topology) -> None:
    found = told(lab, "masquerade-icmp", CLIENT, "pod1")
    echoes = {name: [p for p in taken if "ICMP" in p and p["ICMP"].type in (0, 8)] for name, taken in found.items()}
    assert {p["IP"].src for p in echoes[CLIENT] if p["ICMP"].type == 8} == {NODE_A}
    inside, outside = ({p["ICMP"].id for p in echoes[name]} for name in ("pod1", CLIENT))
    # One identifier each way on either side; outside it is one of SNAT's.
    assert (len(inside), len(outside)) == (1, 1)
    assert min(outside) >= 32768
    assert len(echoes["pod1"]) == len(echoes[CLIENT]) == 4


def test_socket_lb(lab: Topology) -> None:
    found = told(lab, "socket-lb", "pod1")
    ends = {(p["IP"].src, p["IP"].dst) for p in found["pod1"] if "IP" in p and ("TCP" in p or "UDP" in p)}
    assert ends == {(POD1, POD3), (POD3, POD1)}


def test_dual_stack(lab: Topology) -> None:
    from scapy.contrib.geneve import GENEVE

    found = told(lab, "dual-stack", CLIENT, "node-b")
    tunnelled = [p for p in found["node-b"] if GENEVE in p]
    assert tunnelled
    options = []
    for packet in tunnelled:
        assert (packet["IP"].src, packet["IP"].dst) == (NODE_A, NODE_B)
        inner = packet[GENEVE].payload
        assert (inner["IPv6"].src, inner["IPv6"].dst) == (CLIENT_IP6, "fd00:64:1::36")
        options.append((str(inner["TCP"].flags), packet[GENEVE].options))
    (syn,) = [found for flags, found in options if flags == "S"]
    assert bytes(syn[0].data) == IPv6Address("fd00:190::17").packed + struct.pack(">HH", 80, 0)
    assert all(not found for flags, found in options if flags != "S")
    assert tcp(found[CLIENT], 80, "IPv6") == {(CLIENT_IP6, "fd00:190::17"), ("fd00:190::17", CLIENT_IP6)}


def test_hybrid(lab: Topology) -> None:
    from scapy.contrib.geneve import GENEVE

    found = told(lab, "hybrid", "node-b", "pod3")
    inner = [p[GENEVE].payload for p in found["node-b"] if GENEVE in p]
    assert inner
    assert all("TCP" in p for p in inner)
    assert {(p["IP"].src, p["IP"].dst) for p in found["pod3"] if "UDP" in p} == {(NODE_A, POD3), (POD3, NODE_A)}
    assert tcp(found["pod3"], SERVE_PORT) == {(CLIENT_IP, POD3), (POD3, CLIENT_IP)}


def test_dsr_opt(lab: Topology) -> None:
    found = told(lab, "dsr-opt", "node-b", CLIENT)
    arriving = [p for p in found["node-b"] if "IP" in p and (p["IP"].src, p["IP"].dst) == (CLIENT_IP, POD3)]
    assert arriving
    for packet in arriving:
        service = ("172.190.0.17", 80) if "TCP" in packet else ("172.190.0.20", 53)
        said = bytes(packet["IP"])[20 : packet["IP"].ihl * 4]
        told_by = "UDP" in packet or packet["TCP"].flags == "S"
        # Address and port the other way round, as Cilium writes them.
        option = b"\x9a\x08" + struct.pack("<H", service[1]) + IPv4Address(service[0]).packed[::-1]
        assert said == (option if told_by else b"")
    assert not [p for p in found["node-b"] if "UDP" in p and p["UDP"].dport == 6081]
    assert tcp(found[CLIENT], 80) == {(CLIENT_IP, "172.190.0.17"), ("172.190.0.17", CLIENT_IP)}


def test_port_exhaustion(lab: Topology) -> None:
    output = ctctl("lab", "run", "port-exhaustion", "--name", lab.name).stdout
    assert "ok  the doctor names it: snat-exhausted" in output
    assert "packets dropped because no port of the node's address was free" in output
