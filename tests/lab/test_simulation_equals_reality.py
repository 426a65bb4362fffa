"""The same conversations through the lab and through the simulation leave equal tables, times apart."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ctctl.config.node import load_node_file
from ctctl.decode.ct import decode_entry, decode_key
from ctctl.kernel.map import Map
from ctctl.kernel.netns import run_in_netns
from ctctl.lab import datapaths
from ctctl.lab.topology import CLIENT, CLIENT_IP, PODS, SERVE_PORT, Topology
from ctctl.model.entry import CtEntry
from ctctl.packet.checksum import internet_checksum
from ctctl.packet.text import parse_packet_text
from ctctl.simulate.conversation import Journey, Request, converse
from ctctl.simulate.journey import Cluster, with_ifindexes
from tests.lab.conftest import ctctl
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = pytest.mark.lab

TABLES = ("cilium_ct4_global", "cilium_ct_any4_global")
SNAT = "cilium_snat_v4_external"
REQUEST = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n"
CLOSED = 0x03


@dataclass(frozen=True)
class Conversation:
    """Who talks to whom; ``port`` is the client's own (the identifier of an echo request) and occurs once."""

    proto: str
    member: str
    source: str
    destination: str
    service_port: int
    port: int

    @property
    def packet(self) -> str:
        if self.proto == "icmp":
            return f"icmp {self.source} > {self.destination} id={self.port}"
        ends = f"{self.source}:{self.port} > {self.destination}:{self.service_port}"
        return f"tcp {ends} PA len={len(REQUEST)}" if self.proto == "tcp" else f"udp {ends} len=5"


def conversations(topology: Topology, seed: int, number: int) -> list[Conversation]:
    """A random choice of pairs that can talk in the lab, over pods, services and load balancers."""
    chance = random.Random(seed)
    pods = {pod.name: pod.ip for pod in PODS}
    vips = {name: topology.service(name) for name in ("api", "web", "drain", "lb-dsr", "lb-web")}
    found = []
    for port in chance.sample(range(10000, 19999), number):
        kind = chance.choice(["pod", "pod", "service", "service", "balancer", "nodeport", "hairpin", "udp", "echo"])
        member, source = chance.choice(sorted(pods.items()))
        other = chance.choice([ip for ip in pods.values() if ip != source])
        if kind == "pod":
            found.append(Conversation("tcp", member, source, other, SERVE_PORT, port))
        elif kind == "service":
            ip = str(vips[chance.choice(["api", "web", "drain"])].ip)
            found.append(Conversation("tcp", member, source, ip, 80, port))
        elif kind == "balancer":
            ip = str(vips[chance.choice(["lb-dsr", "lb-web"])].ip)
            found.append(Conversation("tcp", CLIENT, CLIENT_IP, ip, 80, port))
        elif kind == "nodeport":
            found.append(Conversation("tcp", CLIENT, CLIENT_IP, chance.choice(topology.nodes).ip, 30080, port))
        elif kind == "hairpin":
            found.append(Conversation("tcp", "pod1", pods["pod1"], str(topology.service("self").ip), 80, port))
        elif kind == "udp":
            service = topology.service(chance.choice(["dns", "lb-udp"]))
            outside = service.name == "lb-udp"
            ends = (CLIENT, CLIENT_IP) if outside else (member, source)
            found.append(Conversation("udp", *ends, str(service.ip), 53, port))
        else:
            found.append(Conversation("icmp", member, source, other, 0, port))
    return found


# ---- the lab


def talk(topology: Topology, conversation: Conversation) -> None:
    """One conversation of a real program through the lab, which must be answered."""
    netns = topology.netns(conversation.member)
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "icmp": socket.SOCK_RAW}[conversation.proto]
    proto = socket.IPPROTO_ICMP if conversation.proto == "icmp" else 0
    with run_in_netns(netns, socket.socket, socket.AF_INET, kind, proto) as sock:
        sock.settimeout(PATIENCE_S)
        if conversation.proto == "icmp":
            echo = struct.pack(">BBHHH", 8, 0, 0, conversation.port, 1)
            echo = echo[:2] + struct.pack(">H", internet_checksum(echo)) + echo[4:]
            sock.sendto(echo, (conversation.destination, 0))
            wait_for(lambda: sock.recv(2048)[20:26] == b"\0\0" + _reply_sum(conversation.port) + echo[4:6])
            return
        sock.bind((conversation.source, conversation.port))
        sock.connect((conversation.destination, conversation.service_port))
        sock.sendall(REQUEST if conversation.proto == "tcp" else b"hello")
        assert sock.recv(2048)


def _reply_sum(identifier: int) -> bytes:
    return struct.pack(">H", internet_checksum(struct.pack(">BBHHH", 0, 0, 0, identifier, 1)))


def real_tables(topology: Topology, node: str) -> Iterator[tuple[str, bytes, bytes]]:
    for table in (*TABLES, SNAT):
        with Map.open_pinned(datapaths.pin_dir(topology, node) / table, read_only=True) as opened:
            for key, value in opened.items():
                yield table, key, value


def simulated_tables(cluster: Cluster, node: str) -> Iterator[tuple[str, bytes, bytes]]:
    for table in (*TABLES, SNAT):
        for key, value in cluster.nodes[node].maps.entries(table):
            yield table, key, value


# ---- what is compared


def essence(records: Iterator[tuple[str, bytes, bytes]], ports: set[int]) -> dict[str, object]:
    """What the entries of these conversations say, times and interface numbers apart, by key.

    A related entry is shared by all flows between two addresses, so only that it is there counts.
    """
    found: dict[str, object] = {}
    for table, key, value in records:
        flow, flags = decode_key(key)
        if not flags & 2 and {flow.src_port, flow.dst_port} & ports:
            found[f"{table} {key.hex()}"] = value[32:38].hex() if table == SNAT else facts(decode_entry(key, value))
    return found


def facts(entry: CtEntry) -> dict[str, object]:
    return {
        "flow": f"{entry.direction} {entry.tuple}",
        "flags": str(entry.flags),
        "backend": entry.backend_id,
        "rev_nat": entry.rev_nat,
        "identity": entry.src_sec_id,
        "tx": entry.tx_flags_seen,
        "rx": entry.rx_flags_seen,
    }


def related_keys(records: Iterator[tuple[str, bytes, bytes]]) -> set[bytes]:
    return {key for table, key, _ in records if table == TABLES[1] and key[-1] & 2}


def settled(topology: Topology, ports: set[int]) -> bool:
    """Whether every TCP connection of these ports is closed everywhere: the last packets are under way after close."""
    entries = [
        decode_entry(key, value)
        for node in topology.nodes
        for table, key, value in real_tables(topology, node.name)
        if table == TABLES[0]
    ]
    return all(
        entry.flags & CLOSED == CLOSED for entry in entries if {entry.tuple.src_port, entry.tuple.dst_port} & ports
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_equal_tables(lab: Topology, seed: int) -> None:
    chosen = conversations(lab, seed, 30)
    ports = {conversation.port for conversation in chosen}
    for conversation in chosen:
        talk(lab, conversation)
    wait_for(lambda: settled(lab, ports))
    files = tuple(with_ifindexes(load_node_file(lab.node_file(node.name))) for node in lab.nodes)
    with Cluster.of(files) as cluster:
        for conversation in chosen:
            tcp = conversation.proto == "tcp"
            request = Request(parse_packet_text(conversation.packet), files, reply=True, handshake=tcp, close=tcp)
            ends = [part for part in converse(cluster, request) if isinstance(part, Journey)]
            assert len(ends) == (8 if tcp else 2), (conversation, [str(end.arrival.outcome) for end in ends])
        for node in lab.nodes:
            name = lab.datapath_node(node.name)
            simulated = essence(simulated_tables(cluster, name), ports)
            assert len(simulated) > len(chosen) / 2
            assert essence(real_tables(lab, node.name), ports) == simulated
            assert related_keys(simulated_tables(cluster, name)) <= related_keys(real_tables(lab, node.name))


def ctctl_json(*words: str) -> list[dict[str, object]]:
    return [
        json.loads(line) for line in ctctl("trace", "--simulate", *words, "-o", "jsonl", "--raw").stdout.splitlines()
    ]


def test_a_copy_of_the_live_tables(lab: Topology, tmp_path: Path) -> None:
    """Simulated on a copy, an open connection goes on where it is; the live table does not change."""
    pod = lab.pod("pod1")
    packet = f"tcp {pod.ip}:{{port}} > {lab.pod('pod2').ip}:{SERVE_PORT} FA"
    node = lab.datapath_node("node-a")
    with run_in_netns(lab.netns("pod1"), socket.socket, socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect((lab.pod("pod2").ip, SERVE_PORT))
        sock.sendall(REQUEST)
        assert sock.recv(2048)
        port = sock.getsockname()[1]
        before = {key: value for table, key, value in real_tables(lab, "node-a") if table == TABLES[0]}
        lines = ctctl_json(packet.format(port=port), "--node", node)
        after = {key: value for table, key, value in real_tables(lab, "node-a") if table == TABLES[0]}
        assert {key: value for key, value in before.items() if after.get(key) != value} == {}
        snapshot = tmp_path / "node-a.ctsnap"
        ctctl("ct", "export", str(snapshot), "--node", node)
        again = ctctl_json(packet.format(port=port), "-f", str(lab.node_file("node-a")), "--from", str(snapshot))
    for first, *_ in (lines, again):
        assert first["hook"] == "from_container"
        (event,) = first["events"]  # type: ignore[misc]
        (lookup,) = event["lookups"]
        assert lookup["result"] == "established"
        assert lookup["before"]["state"] == "established"
        assert lookup["after"]["state"] == "closing"
