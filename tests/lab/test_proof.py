"""Independent witnesses: bpftool for the tables, a capture read by scapy for what is on the wire."""

from __future__ import annotations

import json
import struct
import subprocess
from collections import Counter
from ipaddress import IPv4Address
from typing import Any

import pytest

from ctctl.lab import datapaths, processes
from ctctl.lab.topology import CLIENT_IP, IPERF_PORT, ROUTER_NODE_MAC, Topology
from tests.lab.capture import capture
from tests.lab.conftest import ctctl, iperf_server
from tests.support.checksums import same_checksum
from tests.support.wait import wait_for

pytestmark = pytest.mark.lab

ETH_P_ALL = 3
TCP_TABLE, ANY_TABLE = "cilium_ct4_global", "cilium_ct_any4_global"
#: Flag bits by hand, from the layout's description and not from the code under test.
RX_CLOSING, TX_CLOSING, SEEN_NON_SYN = 0x01, 0x02, 0x10


def dump(topology: Topology, node: str, table: str) -> list[dict[str, Any]]:
    """A table by ``bpftool map dump``: bytes taken apart here, by the offsets in the description."""
    path = datapaths.pin_dir(topology, node) / table
    done = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", path], check=True, capture_output=True, text=True)
    entries = []
    for entry in json.loads(done.stdout):
        key = bytes(int(byte, 16) for byte in entry["key"])
        value = bytes(int(byte, 16) for byte in entry["value"])
        daddr, saddr = IPv4Address(key[0:4]), IPv4Address(key[4:8])
        dport, sport, proto, flags = struct.unpack(">HHBB", key[8:14])
        lifetime, bits = struct.unpack("<IH", value[32:38])
        entries.append(
            {
                "proto": proto,
                "flags": flags,
                # OUT and IN entries hold the tuple reversed, with the ports crossed.
                "flow": (str(daddr), sport, str(saddr), dport),
                "lifetime": lifetime,
                "bits": bits,
                "rev_nat": struct.unpack(">H", value[38:40])[0],
                "tx": value[42],
                "rx": value[43],
                "identity": struct.unpack("<I", value[44:48])[0],
                "last_tx": struct.unpack("<I", value[48:52])[0],
                "last_rx": struct.unpack("<I", value[52:56])[0],
            }
        )
    return entries


@pytest.mark.parametrize(("node", "direction"), [("node-a", 0), ("node-b", 1)])
def test_pod_to_pod_tables_by_bpftool(lab: Topology, node: str, direction: int) -> None:
    """OUT at the client's node, IN at the server's, each with its related entry, as the connection ended."""
    ctctl("lab", "run", "pod-to-pod", "--name", lab.name)
    tcp = dump(lab, node, TCP_TABLE)
    assert len(tcp) == 1
    entry = tcp[0]
    source, port, target, service = entry["flow"]
    assert (source, target, service) == ("10.64.0.36", "10.64.1.36", 8000)
    assert 54260 <= port <= 54999
    assert (entry["proto"], entry["flags"]) == (6, direction)
    assert entry["bits"] == RX_CLOSING | TX_CLOSING | SEEN_NON_SYN
    assert (entry["tx"], entry["rx"]) == (0x1B, 0x1B)
    assert entry["identity"] == 3096
    assert entry["rev_nat"] == 0
    # The last packet may come in a later second than the one that was reported; a report is at most 5 s old.
    assert 10 <= entry["lifetime"] - max(entry["last_tx"], entry["last_rx"]) <= 15
    others = dump(lab, node, ANY_TABLE)
    related = [one for one in others if one["flags"] == direction | 2]
    assert len(related) == 1
    assert (related[0]["proto"], related[0]["flow"]) == (1, ("10.64.0.36", 0, "10.64.1.36", 0))
    assert related[0]["bits"] == 0
    assert (related[0]["tx"], related[0]["rx"]) == ((2, 0) if direction == 0 else (0, 2))
    kinds = sorted((one["proto"], one["flags"]) for one in others)
    assert kinds == [(1, direction), (1, direction | 2), (17, direction)]


def _geneve(frames: list[bytes]) -> list[Any]:
    """The Geneve packets among the frames, taken apart by scapy."""
    from scapy.contrib.geneve import GENEVE
    from scapy.layers.l2 import Ether

    packets = [Ether(frame) for frame in frames]
    return [packet for packet in packets if GENEVE in packet]


def test_dsr_on_the_wire(lab: Topology) -> None:
    """Geneve with the VIP in the option on the SYN only; the reply goes past the intermediate node."""
    from scapy.contrib.geneve import GENEVE
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.l2 import Ether

    with capture(lab, "node-a") as at_a, capture(lab, "node-b") as at_b:
        ctctl("lab", "run", "loadbalancer-dsr", "--name", lab.name)
        wait_for(lambda: len(_geneve(at_b)) >= 4, what="the encapsulated packets")
    tunnelled = _geneve(at_a)
    assert tunnelled
    options = []
    for packet in tunnelled:
        assert (packet[IP].src, packet[IP].dst, packet[IP].ttl) == ("10.1.0.1", "10.1.0.2", 64)
        assert (packet[Ether].src, packet[Ether].dst) == (lab.nodes[0].mac, lab.nodes[1].mac)
        assert packet[UDP].dport == 6081
        assert packet[GENEVE].vni == 2
        assert packet[GENEVE].proto == 0x6558
        inner = packet[GENEVE].payload
        assert (inner[IP].src, inner[IP].dst, inner[TCP].dport) == (CLIENT_IP, "10.64.1.36", 8000)
        options.append((inner[TCP].flags, packet[GENEVE].options))
    syns = [found for flags, found in options if flags == "S"]
    assert len(syns) == 1
    (option,) = syns[0]
    assert (option.classid, option.type, option.length) == (0x014B, 0x81, 2)
    assert bytes(option.data) == IPv4Address("172.190.0.17").packed + struct.pack(">HH", 80, 0)
    assert all(not found for flags, found in options if flags != "S")
    replies = [packet for packet in map(Ether, at_b) if TCP in packet and packet[IP].dst == CLIENT_IP]
    assert replies
    for packet in replies:
        assert (packet[IP].src, packet[TCP].sport) == ("172.190.0.17", 80)
        assert (packet[Ether].src, packet[Ether].dst) == (lab.nodes[1].mac, ROUTER_NODE_MAC)
    assert not [packet for packet in map(Ether, at_a) if IP in packet and packet[IP].dst == CLIENT_IP]


def test_large_transfers_are_full_frames_on_the_wire(lab: Topology) -> None:
    """Upload through DSR: tunnelled segments of a full MSS, none too big for the node network, none a fragment."""
    from scapy.contrib.geneve import GENEVE
    from scapy.layers.inet import IP, TCP

    with iperf_server(lab, "pod3"), capture(lab, "node-b") as frames:
        argv = ["iperf3", "-4", "-c", "172.190.0.21", "-p", str(IPERF_PORT), "-n", "2M"]
        processes.run(lab, "client", argv)
    tunnelled = _geneve(frames)
    sizes = Counter(packet[IP].len for packet in tunnelled)
    # 50 bytes of outer headers around a packet of 1500; the option rides on the SYN alone.
    assert max(sizes) == 1550
    assert sizes[1550] > len(tunnelled) / 2
    for packet in tunnelled:
        inner = packet[GENEVE].payload
        assert packet[IP].frag == inner[IP].frag == 0
        assert packet[IP].flags == "DF"
        if inner[IP].len == 1500:
            assert len(inner[TCP].payload) == 1448


def test_udp_carries_the_option_on_every_packet(lab: Topology) -> None:
    from scapy.contrib.geneve import GENEVE

    with capture(lab, "node-b") as frames:
        ctctl("lab", "run", "udp", "--name", lab.name)
        wait_for(lambda: len(_geneve(frames)) >= 3, what="the encapsulated packets")
    tunnelled = _geneve(frames)
    assert len(tunnelled) == 3
    for packet in tunnelled:
        (option,) = packet[GENEVE].options
        assert bytes(option.data) == IPv4Address("172.190.0.20").packed + struct.pack(">HH", 53, 0)


def test_service_traffic_has_right_checksums_on_the_wire(lab: Topology) -> None:
    """Replies seen by the client are whole: every checksum is right after DNAT, encapsulation and SNAT.

    Senders are told to compute checksums in full, so that what is on the wire is what the datapath updated.
    """
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.l2 import Ether

    everybody = [*(pod.name for pod in lab.pods), "client"]
    _offload(lab, everybody, "off")
    try:
        with capture(lab, "client") as at_client, capture(lab, "pod3") as at_pod, capture(lab, "pod1") as at_pod1:
            ctctl("lab", "run", "loadbalancer-dsr", "udp", "clusterip", "hairpin", "--name", lab.name)
    finally:
        _offload(lab, everybody, "on")
    checked = 0
    for frame in [*at_client, *at_pod, *at_pod1]:
        packet = Ether(frame)
        if IP not in packet or not (TCP in packet or UDP in packet):
            continue
        layer = TCP if TCP in packet else UDP
        seen = {IP: packet[IP].chksum, layer: packet[layer].chksum}
        del packet[IP].chksum
        del packet[layer].chksum
        again = Ether(packet.build())
        for each, checksum in seen.items():
            assert same_checksum(each, checksum, again[each].chksum), (packet.summary(), each, checksum)
        checked += 1
    assert checked > 50


def _offload(topology: Topology, members: list[str], state: str) -> None:
    for member in members:
        processes.run(topology, member, ["ethtool", "-K", "eth0", "tx", state])
