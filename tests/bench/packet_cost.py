#!/usr/bin/env python3
"""What the datapath costs for each packet of an established TCP connection, nobody listening.

    sudo .venv/bin/python tests/bench/packet_cost.py [--repeat N] [--rounds N] [--out DIR]

Each hook's program runs N times over the same packet by BPF_PROG_TEST_RUN; from the time of one run
that of an empty program, measured in turn with it, is taken off. A translated packet would not be
translated again in the next run, so two services have each other's address as their backend: the packet
goes from one to the other and back for ever, and every run is a whole translation. Where a run leaves
something that the next would notice (the TTL, the mark), there are few runs a round and many rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import yaml

import ctctl
from ctctl.config.node import load_node_file
from ctctl.kernel.map import Map
from ctctl.kernel.object import BpfObject
from ctctl.kernel.program import Program
from ctctl.node.tables import rodata, table_records
from ctctl.packet.frame import build_frame
from ctctl.packet.geneve import dsr_option
from ctctl.packet.text import parse_packet_text

OBJECTS = Path(ctctl.__file__).parent / "bpf"
RESULTS = Path(__file__).parent / "results"
EMPTY = '#include <linux/bpf.h>\n__attribute__((section("tc"), used)) int empty(struct __sk_buff *skb) { return 0; }\n'
OBJECT_HOOKS = {
    "lxc": ("from_container", "to_container"),
    "netdev": ("from_netdev", "to_netdev"),
    "overlay": ("from_overlay",),
}
#: rounds of a case that allows only few runs each
SHORT_ROUNDS = 3000

#: what Cilium 1.16.4 was measured to take above the empty program (ns), and the empty program there
ORIGINAL_EMPTY = 40
ORIGINAL = {
    "from_container, pod to pod": 370,
    "to_container, reply": 285,
    "from_container, ClusterIP": 710,
    "to_container, ClusterIP reply": 480,
    "from_netdev, LoadBalancer, remote backend": 595,
}

NODE = {
    "node": {"name": "bench", "ip": "10.1.0.1", "pod-cidr": "10.64.0.0/24", "device": {"name": "lo", "ifindex": 1}},
    "datapath": {"lb": {"algorithm": "random"}},
    "endpoints": [{"name": "pod1", "ip": "10.64.0.36", "id": 1001, "identity": 20001, "ifindex": 1}],
    "remote": [
        {"cidr": "10.64.1.0/24", "identity": 30001, "node": "10.1.0.2"},
        {"cidr": "172.16.0.0/24", "identity": 30002, "node": "10.1.0.3"},
    ],
    "services": [
        {"name": name, "type": kind, "ip": vip, "port": port, "id": number,
         "backends": [{"id": number, "ip": backend, "port": backend_port}]}
        for name, kind, vip, port, number, backend, backend_port in (
            ("there", "ClusterIP", "10.96.0.10", 80, 7, "10.96.0.11", 8080),
            ("back", "ClusterIP", "10.96.0.11", 8080, 8, "10.96.0.10", 80),
            ("lb-there", "LoadBalancer", "172.16.0.10", 80, 9, "172.16.0.11", 8080),
            ("lb-back", "LoadBalancer", "172.16.0.11", 8080, 10, "172.16.0.10", 80),
        )
    ],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """``before`` goes through the hooks once, then ``packet`` through ``hook`` many times."""

    name: str
    hook: str
    packet: str
    before: tuple[tuple[str, str], ...]
    #: runs of a round, if not as many as asked for
    repeat: int | None = None


POD, SERVER, PEER, CLIENT = "10.64.0.36:40000", "10.64.0.36:8080", "10.64.1.64:80", "192.0.2.50:40000"
CASES = (
    Case("from_container, pod to pod", "from_container", f"tcp {POD} > {PEER} A",
         (("from_container", f"tcp {POD} > {PEER} S"),)),
    Case("to_container, reply", "to_container", f"tcp {PEER} > {POD} A",
         (("from_container", f"tcp {POD} > {PEER} S"),)),
    Case("to_container, request", "to_container", f"tcp {PEER} > {SERVER} A",
         (("to_container", f"tcp {PEER} > {SERVER} S"),)),
    Case("from_container, ClusterIP", "from_container", f"tcp {POD} > 10.96.0.10:80 A",
         (("from_container", f"tcp {POD} > 10.96.0.10:80 S"), ("from_container", f"tcp {POD} > 10.96.0.11:8080 S"))),
    Case("to_container, ClusterIP reply", "to_container", f"tcp 10.96.0.11:8080 > {POD} A",
         (("from_container", f"tcp {POD} > 10.96.0.10:80 S"), ("from_container", f"tcp {POD} > 10.96.0.11:8080 S"))),
    Case("from_netdev, LoadBalancer, remote backend", "from_netdev", f"tcp {CLIENT} > 172.16.0.10:80 A",
         (("from_netdev", f"tcp {CLIENT} > 172.16.0.10:80 S"), ("from_netdev", f"tcp {CLIENT} > 172.16.0.11:8080 S"))),
    Case("from_netdev, no service", "from_netdev", f"tcp {CLIENT} > 10.1.0.1:22 A", ()),
    Case("from_overlay, DSR backend", "from_overlay", f"tcp {CLIENT} > {SERVER} A",
         (("from_overlay", f"tcp {CLIENT} > {SERVER} S"),), repeat=60),
    Case("to_netdev, DSR reply", "to_netdev", f"tcp {SERVER} > {CLIENT} A",
         (("from_overlay", f"tcp {CLIENT} > {SERVER} S"),), repeat=1),
    Case("to_netdev, not a reply of a service", "to_netdev", f"tcp {POD} > {CLIENT} A", ()),
)  # fmt: skip


def frame(text: str) -> bytes:
    return build_frame(parse_packet_text(text), bytes.fromhex("020000000302"), bytes.fromhex("020000000301"))


def tunnel_of_simulation() -> bytes:
    """``ctctl_sim``: now, and a tunnel with the DSR option (read from a SYN only)."""
    option = dsr_option(IPv4Address("172.16.0.10"), 80)
    remote = IPv4Address("10.1.0.9").packed
    return struct.pack("<QIII4sI36s", time.monotonic_ns(), 0, 1, 2, remote, len(option), option)


@contextmanager
def datapath() -> Iterator[Callable[[str], Program]]:
    """Both objects on shared maps of their full size, as on a live node; hook name -> program."""
    with ExitStack() as stack:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(NODE, file)
            file.flush()
            node = load_node_file(Path(file.name))
        maps: dict[str, Map] = {}
        programs: dict[str, Program] = {}
        config = rodata(node, node.endpoints[0], overlay_device=True) | {"cfg_overlay_ifindex": 1}
        for name, hooks in OBJECT_HOOKS.items():
            bpf = stack.enter_context(BpfObject.open(OBJECTS / f"{name}.bpf.o"))
            for key in bpf.config_names() & config.keys():
                bpf.set_config(key, config[key])
            # A test run's packet has no tunnel key: the simulation's is read instead.
            bpf.set_config("cfg_sim", int(name == "overlay"))
            for known in set(bpf.map_names()) & maps.keys():
                bpf.reuse_map(known, maps[known])
            bpf.load()
            maps |= {known: bpf.map(known) for known in bpf.map_names() if known not in maps}
            programs |= {hook: bpf.program(hook) for hook in hooks}
        for table, records in table_records(node).items():
            for key, value in records.items():
                maps[table].update(key, value)
        maps["ctctl_sim"].update(bytes(4), tunnel_of_simulation())
        yield programs.__getitem__


@contextmanager
def empty_program(clang: str) -> Iterator[Program]:
    with tempfile.TemporaryDirectory() as tmp, ExitStack() as stack:
        source = Path(tmp) / "empty.c"
        source.write_text(EMPTY)
        include = f"-I/usr/include/{platform.machine()}-linux-gnu"
        subprocess.run([clang, "-target", "bpf", "-O2", "-g", include, "-c", source, "-o", f"{tmp}/e.o"], check=True)
        bpf = stack.enter_context(BpfObject.open(f"{tmp}/e.o"))
        bpf.load()
        yield bpf.program("empty")


def measure(hook: Callable[[str], Program], empty: Program, case: Case, repeat: int, rounds: int) -> dict[str, object]:
    """Median over the rounds, each the hook's time less the empty program's just before it."""
    for name, text in case.before:
        hook(name).test_run(frame(text))
    data = frame(case.packet)
    if case.repeat:
        repeat, rounds = case.repeat, SHORT_ROUNDS
    floors, costs = [], []
    for _ in range(rounds):
        floors.append(empty.test_run(data, repeat=repeat).duration_ns)
        costs.append(hook(case.hook).test_run(data, repeat=repeat).duration_ns - floors[-1])
    costs.sort()
    row: dict[str, object] = {
        "case": case.name,
        "repeat": repeat,
        "rounds": rounds,
        "ns_above_empty": statistics.median(costs),
        "empty_ns": statistics.median(floors),
        "in_empty_runs": round(statistics.median(costs) / statistics.median(floors), 1),
        "low": costs[len(costs) // 20],
        "high": costs[-1 - len(costs) // 20],
    }
    if case.name in ORIGINAL:
        row["original_ns"] = ORIGINAL[case.name]
        row["original_in_empty_runs"] = round(ORIGINAL[case.name] / ORIGINAL_EMPTY, 1)
    return row


def as_markdown(result: dict[str, object], rows: list[dict[str, object]]) -> str:
    lines = [
        "# Cost per packet",
        "",
        f"Established TCP, no listener, {result['repeat']} runs a round, median of {result['rounds']} rounds;",
        f"nanoseconds above an empty program. {result['kernel']}, {result['cpus']} CPUs.",
        "",
        f"Cilium 1.16.4 was measured where the empty program took {ORIGINAL_EMPTY} ns: where that differs, compare",
        "the cost in empty runs.",
        "",
        "| case | ns above empty | 5 % to 95 % | in empty runs | Cilium 1.16.4, ns | in empty runs |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        span = f"{row['low']} to {row['high']}"
        original = f"{row.get('original_ns', '')} | {row.get('original_in_empty_runs', '')}"
        lines.append(f"| {row['case']} | {row['ns_above_empty']:.0f} | {span} | {row['in_empty_runs']} | {original} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clang", default="clang-19")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    with datapath() as hook, empty_program(args.clang) as empty:
        rows = [measure(hook, empty, case, args.repeat, args.rounds) for case in CASES]
    result: dict[str, object] = {
        "benchmark": "packet_cost", "repeat": args.repeat, "rounds": args.rounds,
        "kernel": platform.release(), "cpus": os.cpu_count(), "rows": rows,
    }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "packet_cost.json").write_text(json.dumps(result, indent=2) + "\n")
    text = as_markdown(result, rows)
    (args.out / "packet_cost.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
