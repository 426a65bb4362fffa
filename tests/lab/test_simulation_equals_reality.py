"""The same conversations through the lab and through the simulation leave equal tables, times apart."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from ctctl.abi import pins
from ctctl.config.node import load_node_file
from ctctl.decode.ct import decode_entry, decode_key
from ctctl.kernel.netns import run_in_netns
from ctctl.lab import processes
from ctctl.lab.nodefile import address_of
from ctctl.lab.topology import CLIENT, MEMBERS, PODS, SERVE_PORT, Topology
from ctctl.model.entry import CtEntry
from ctctl.packet.checksum import internet_checksum
from ctctl.packet.text import parse_packet_text
from ctctl.simulate.conversation import Journey, Request, converse
from ctctl.simulate.journey import Cluster, with_ifindexes
from tests.lab.conftest import ctctl
from tests.support.lab_modes import ANY_TABLES, MODES, REQUEST, TCP_TABLES, Lab, lab_in_mode, real_tables, table_names
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = pytest.mark.lab

#: of an SNAT entry: what an address and port become (docs/reference/abi.md)
SNAT_TARGET = {pins.SNAT4: slice(32, 38), pins.SNAT6: slice(32, 50)}
CLOSED = 0x03
ECHO = {4: (8, 0), 6: (128, 129)}


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
    def version(self) -> int:
        return ip_address(self.source).version

    @property
    def packet(self) -> str:
        if self.proto == "icmp":
            proto = "icmp" if self.version == 4 else "icmpv6"
            return f"{proto} {self.source} > {self.destination} id={self.port}"
        source, destination = (f"[{ip}]" if self.version == 6 else ip for ip in (self.source, self.destination))
        ends = f"{source}:{self.port} > {destination}:{self.service_port}"
        return f"tcp {ends} PA len={len(REQUEST)}" if self.proto == "tcp" else f"udp {ends} len=5"


def ports_of(here: Lab) -> range:
    """Of this mode alone, as the lab goes on with the tables; where SNAT is, those that it keeps."""
    first = 10000 + 1000 * list(MODES.values()).index(here.mode)
    return (
        range(first + 30000, first + 31000) if {"masquerade", "lb"} & here.mode.keys() else range(first, first + 1000)
    )


def conversations(here: Lab, seed: str, number: int) -> list[Conversation]:
    """A random choice of pairs that can talk, over pods, services, load balancers and the world.

    Their ports are nobody else's: in no entry yet, and given to no other connection from now on.
    """
    own = ports_of(here)
    for member in MEMBERS:
        reserved = f"net.ipv4.ip_local_reserved_ports={own[0]}-{own[-1]}"
        processes.run(here.topology, member, ["sysctl", "-qw", reserved])
    taken = taken_ports(here.topology, here.versions)
    chance = random.Random(seed)
    kinds = ["pod", "pod", "service", "service", "balancer", "nodeport", "hairpin", "udp", "echo"]
    kinds += ["world", "world"] if here.mode.get("masquerade") else []
    ports = chance.sample([port for port in own if port not in taken], number)
    return [_one(here, chance, chance.choice(kinds), chance.choice(here.versions), port) for port in ports]


def _one(here: Lab, chance: random.Random, kind: str, version: int, port: int) -> Conversation:
    topology, four = here.topology, version == 4
    client = here.client(version)
    pods = {pod.name: address_of(pod, version) for pod in PODS}
    # No pod hears itself by way of an IPv6 service: there is no address to stand for it (docs/datapath.md).
    askers = sorted(pods.items()) if four or kind == "pod" else sorted(pods.items())[:2]
    member, source = chance.choice(askers)
    other = chance.choice([ip for ip in pods.values() if ip != source])

    def service(*names: str) -> str:
        return str(topology.service(chance.choice(names)).ip)

    if kind == "pod" or (kind == "hairpin" and not four):
        return Conversation("tcp", member, source, other, SERVE_PORT, port)
    if kind == "world":
        return Conversation("tcp", member, source, client, SERVE_PORT, port)
    if kind == "service":
        return Conversation("tcp", member, source, service(*(("api", "web", "drain") if four else ("api6",))), 80, port)
    if kind == "balancer":
        return Conversation("tcp", CLIENT, client, service(*(("lb-dsr", "lb-web") if four else ("lb6",))), 80, port)
    if kind == "nodeport":
        return Conversation("tcp", CLIENT, client, address_of(chance.choice(topology.nodes), version), 30080, port)
    if kind == "hairpin":
        return Conversation("tcp", "pod1", pods["pod1"], service("self"), 80, port)
    if kind == "udp":
        name = chance.choice(("dns", "lb-udp") if four else ("dns6",))
        ends = (CLIENT, client) if name == "lb-udp" else (member, source)
        return Conversation("udp", *ends, service(name), 53, port)
    return Conversation("icmp", member, source, other, 0, port)


# ---- the lab


def talk(topology: Topology, conversation: Conversation) -> None:
    """One conversation of a real program through the lab, which must be answered."""
    netns = topology.netns(conversation.member)
    four = conversation.version == 4
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "icmp": socket.SOCK_RAW}[conversation.proto]
    proto = 0 if conversation.proto != "icmp" else socket.IPPROTO_ICMP if four else socket.IPPROTO_ICMPV6
    with run_in_netns(netns, socket.socket, socket.AF_INET if four else socket.AF_INET6, kind, proto) as sock:
        sock.settimeout(PATIENCE_S)
        if conversation.proto == "icmp":
            _ping(sock, conversation)
            return
        sock.bind((conversation.source, conversation.port))
        sock.connect((conversation.destination, conversation.service_port))
        sock.sendall(REQUEST if conversation.proto == "tcp" else b"hello")
        assert sock.recv(2048)


def _ping(sock: socket.socket, conversation: Conversation) -> None:
    """An echo request and its reply; of ICMPv6 the kernel makes the checksum, and takes off the IP header."""
    request, reply = ECHO[conversation.version]
    echo = struct.pack(">BBHHH", request, 0, 0, conversation.port, 1)
    echo = echo[:2] + struct.pack(">H", internet_checksum(echo)) + echo[4:]
    sock.sendto(echo, (conversation.destination, 0))
    header = 20 if conversation.version == 4 else 0

    def answered() -> bool:
        got = sock.recv(2048)[header:]
        return got[:2] == bytes([reply, 0]) and got[4:8] == echo[4:8]

    wait_for(answered)


def taken_ports(topology: Topology, versions: tuple[int, ...]) -> set[int]:
    """Ports of all connections that there were."""
    flows = [decode_key(key)[0] for node in topology.nodes for _, key, _ in real_tables(topology, node.name, versions)]
    return {port for flow in flows for port in (flow.src_port, flow.dst_port)}


def simulated_tables(cluster: Cluster, node: str, versions: tuple[int, ...]) -> Iterator[tuple[str, bytes, bytes]]:
    for table in table_names(versions):
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
            target = SNAT_TARGET.get(table)
            found[f"{table} {key.hex()}"] = value[target].hex() if target else facts(decode_entry(key, value))
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


def differences(real: dict[str, object], simulated: dict[str, object], chosen: list[Conversation]) -> str:
    """Every entry in which they differ, whole, and the conversations. A failure comes seldom."""
    keys = sorted(key for key in real.keys() | simulated.keys() if real.get(key) != simulated.get(key))
    return "\n".join(
        [*(f"{key}\n  real {real.get(key)}\n  simulated {simulated.get(key)}" for key in keys), *map(str, chosen)]
    )


def related_keys(records: Iterator[tuple[str, bytes, bytes]]) -> set[bytes]:
    return {key for table, key, _ in records if table in ANY_TABLES.values() and key[-1] & 2}


def settled(topology: Topology, ports: set[int], versions: tuple[int, ...]) -> bool:
    """Whether every TCP connection of these ports is closed everywhere: the last packets are under way after close."""
    entries = [
        decode_entry(key, value)
        for node in topology.nodes
        for table, key, value in real_tables(topology, node.name, versions)
        if table in TCP_TABLES.values()
    ]
    return all(
        entry.flags & CLOSED == CLOSED for entry in entries if {entry.tuple.src_port, entry.tuple.dst_port} & ports
    )


@pytest.fixture(scope="module", params=MODES)
def here(request: pytest.FixtureRequest, lab_in_some_mode: Topology) -> Iterator[Lab]:
    with lab_in_mode(lab_in_some_mode, MODES[request.param]) as found:
        yield found


def test_equal_tables(here: Lab, request: pytest.FixtureRequest) -> None:
    lab, versions, mode = here.topology, here.versions, request.node.callspec.params["here"]
    with ExitStack() as stack:
        chosen = conversations(here, mode, 40)
        ports = {conversation.port for conversation in chosen}
        for conversation in chosen:
            talk(lab, conversation)
        wait_for(lambda: settled(lab, ports, versions))
        files = tuple(with_ifindexes(load_node_file(lab.node_file(node.name))) for node in lab.nodes)
        cluster = stack.enter_context(Cluster.of(files))
        for conversation in chosen:
            tcp = conversation.proto == "tcp"
            request = Request(parse_packet_text(conversation.packet), files, reply=True, handshake=tcp, close=tcp)
            ends = [part for part in converse(cluster, request) if isinstance(part, Journey)]
            assert len(ends) == (8 if tcp else 2), (conversation, [str(end.arrival.outcome) for end in ends])
        translated: set[str] = set()
        for node in lab.nodes:
            name = lab.datapath_node(node.name)
            simulated = essence(simulated_tables(cluster, name, versions), ports)
            assert len(simulated) > len(chosen) / 2
            real = essence(real_tables(lab, node.name, versions), ports)
            assert real == simulated, differences(real, simulated, chosen)
            related = related_keys(simulated_tables(cluster, name, versions))
            assert related <= related_keys(real_tables(lab, node.name, versions))
            translated |= {key.split()[0] for key in simulated} & SNAT_TARGET.keys()
        assert translated == {pins.SNAT_TABLES[version] for version in versions}


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
        before = {key: value for table, key, value in real_tables(lab, "node-a") if table == TCP_TABLES[4]}
        lines = ctctl_json(packet.format(port=port), "--node", node)
        after = {key: value for table, key, value in real_tables(lab, "node-a") if table == TCP_TABLES[4]}
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
