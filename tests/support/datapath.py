"""A simulated node for tests of the BPF programs: every hook loaded, the clock set, packets in words."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ctctl.abi.layouts import CtctlHook, CtctlReason, ct_entry
from ctctl.config.node import NodeFile, load_node_file
from ctctl.kernel.map import Map
from ctctl.model.event import PACKET_HOOKS, Hook
from ctctl.packet.frame import build_frame
from ctctl.packet.text import parse_packet_text
from ctctl.simulate.simulator import Simulator, StepResult

POD, POD2, REMOTE, CLIENT = "10.64.0.36", "10.64.0.64", "10.64.1.64", "192.0.2.50"
VIP, LB_VIP, NODE_IP = "10.96.0.10", "172.16.0.10", "10.1.0.1"
NOW = 1_000_000
MAC_THERE, MAC_HERE = bytes.fromhex("020000000302"), bytes.fromhex("020000000301")

NODE: dict[str, Any] = {
    "node": {
        "name": "node1", "ip": NODE_IP, "pod-cidr": "10.64.0.0/24",
        "device": {"name": "eth0", "ifindex": 10, "mac": "02:00:00:00:01:01"},
        "overlay": {"name": "geneve0", "ifindex": 14},
    },
    "datapath": {"lb": {"algorithm": "random", "loopback": "169.254.42.1"}},
    "clock": NOW,
    "endpoints": [
        {"name": "pod1", "ip": POD, "id": 1001, "identity": 20001, "ifindex": 21,
         "mac": "02:00:00:00:03:02", "node-mac": "02:00:00:00:03:01"},
        {"name": "pod2", "ip": POD2, "id": 1002, "identity": 20002, "ifindex": 22,
         "mac": "02:00:00:00:04:02", "node-mac": "02:00:00:00:04:01"},
    ],
    "remote": [
        {"cidr": "10.64.1.0/24", "identity": 30001, "node": "10.1.0.2"},
        {"cidr": "10.1.0.2/32", "identity": 6},
    ],
}  # fmt: skip


def service(name: str, ip: str, port: int, number: int, *backends: tuple[int, str, int], **more: Any) -> dict[str, Any]:
    """A service of a node file; a backend is (id, address, port)."""
    return {
        "name": name, "type": "ClusterIP", "ip": ip, "port": port, "id": number,
        "backends": [{"id": i, "ip": address, "port": backend_port} for i, address, backend_port in backends], **more,
    }  # fmt: skip


def node_file(datapath: Mapping[str, Any] | None = None, **sections: Any) -> NodeFile:
    """The node of these tests with other sections; ``datapath`` is merged into its own."""
    document = {**NODE, **sections, "datapath": {**NODE["datapath"], **(datapath or {})}}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(document, file)
        file.flush()
        return load_node_file(Path(file.name))


def dual_stack(datapath: Mapping[str, Any] | None = None, **sections: Any) -> NodeFile:
    """The same node with both families."""
    six = {POD: "fd00:64::36", POD2: "fd00:64::64"}
    endpoints = [{**endpoint, "ip6": six[endpoint["ip"]]} for endpoint in NODE["endpoints"]]
    remote = [
        *NODE["remote"],
        {"cidr": "fd00:64:1::/48", "identity": 30001, "node": "10.1.0.2"},
        {"cidr": "fd00:1::2/128", "identity": 6},
    ]
    node = {**NODE["node"], "ip6": "fd00:1::1", "pod-cidr6": "fd00:64::/48"}
    known = {"node": node, "endpoints": endpoints, "remote": remote}
    return node_file({"ipv6": True, **(datapath or {})}, **{**known, **sections})


@contextmanager
def simulated(node: NodeFile) -> Iterator[Simulator]:
    """A simulator for one test: what it needs is loaded when it needs it; the maps are there."""
    with Simulator(node) as simulator:
        simulator.load()
        yield simulator


@contextmanager
def simulated_whole(node: NodeFile) -> Iterator[Simulator]:
    """A simulator with every program loaded, for a module: its tests open no descriptors of their own."""
    with Simulator(node) as simulator:
        for hook in PACKET_HOOKS:
            for endpoint in node.endpoints if hook in {Hook.FROM_CONTAINER, Hook.TO_CONTAINER} else (None,):
                simulator.load(hook, endpoint)
        yield simulator


def frame(text: str) -> bytes:
    """The frame that a packet text means."""
    return build_frame(parse_packet_text(text), MAC_THERE, MAC_HERE)


def send(simulator: Simulator, hook: str, packet: str | bytes, endpoint: str | None = None, **how: Any) -> StepResult:
    """One packet, in words or bytes, through one hook."""
    data = frame(packet) if isinstance(packet, str) else packet
    at = simulator.nf.endpoint(endpoint) if endpoint else None
    return simulator.run(Hook(hook), data, endpoint=at, **how)


def entries(simulator: Simulator) -> dict[bytes, ct_entry]:
    """Every conntrack entry of both tables by key."""
    tables = simulator.tables().ct
    return {key: ct_entry.from_buffer_copy(value) for table in tables.values() for key, value in table}


def forget(simulator: Simulator) -> None:
    """Empty the tables that packets write."""
    for name in ("cilium_ct4_global", "cilium_ct_any4_global", "cilium_snat_v4_external", "cilium_lb4_affinity",
                 "cilium_ipv4_frag_datagrams", "ctctl_trace_follow"):  # fmt: skip
        table = simulator.maps[name]
        for key, _ in list(table.items()):
            table.delete(key)


def drops(simulator: Simulator) -> dict[tuple[str, str], int]:
    """(hook, reason) -> packets, over all CPUs; reason "ok" for what was not dropped."""
    return {at: packets for at, (packets, _) in counters(simulator).items()}


def counters(simulator: Simulator) -> dict[tuple[str, str], tuple[int, int]]:
    """(hook, reason) -> packets and bytes, over all CPUs."""
    found = {}
    for key, value in simulator.maps["ctctl_metrics"].items():
        hook, reason = divmod(int.from_bytes(key, "little"), int(CtctlReason.REASON_MAX))
        packets, size = (
            sum(int.from_bytes(value[at : at + 8], "little") for at in range(first, len(value), 16)) for first in (0, 8)
        )
        if packets:
            names = CtctlHook(hook).name.removeprefix("HOOK_"), CtctlReason(reason).name.removeprefix("REASON_")
            found[names[0].lower(), names[1].lower()] = packets, size
    return found


def per_cpu_sum(table: Map, index: int) -> int:
    """A counter of a per-CPU array of 8-byte values."""
    value = table.lookup(index.to_bytes(4, "little"))
    assert value is not None
    return sum(int.from_bytes(value[at : at + 8], "little") for at in range(0, len(value), 8))
