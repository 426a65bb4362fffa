#!/usr/bin/env python3
"""What the datapath costs for each packet of an established TCP connection, nobody listening.

    sudo .venv/bin/python tests/bench/packet_cost.py [--repeat N] [--rounds N] [--against DIR] [--out DIR]

Each hook's program runs N times over the same packet by BPF_PROG_TEST_RUN; from the time of one run
that of an empty program, measured in turn with it, is taken off. Rounds are short and many, and the least counts:
what else the machine does shows in the others. A translated packet would not be
translated again in the next run, so two services have each other's address as their backend: the packet
goes from one to the other and back for ever, and every run is a whole translation. Where a run leaves
something that the next would notice (the TTL, the mark, an address), there are few runs a round and many rounds.

IPv6's cases are IPv4's with other addresses, through IPv6's programs of a node that has both families. SNAT and DSR
stand side by side in single runs: a packet that has the node's address already would not be translated again.

``--against``: compiled objects of another version, run in turn with these. Nothing is written then.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

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

NODE: dict[str, Any] = {
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
    #: of the load balancer, where it decides
    mode: str = "dsr"
    version: int = 4

    def of_ipv6(self) -> Case:
        before = tuple((hook, to_ipv6(text)) for hook, text in self.before)
        name = f"IPv6: {self.name}"
        return replace(self, name=name, packet=to_ipv6(self.packet), before=before, version=6)


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
LOW = CLIENT.replace(":40000", ":20000")
SINGLE = tuple(
    Case(f"from_netdev, LoadBalancer by {mode.upper()}, single runs", "from_netdev", f"tcp {LOW} > 172.16.0.10:80 A",
         (("from_netdev", f"tcp {LOW} > 172.16.0.10:80 S"),), repeat=1, mode=mode)
    for mode in ("dsr", "snat")
)  # fmt: skip


def to_ipv6(text: str) -> str:
    """The same packet between the addresses of IPv6 that stand for these."""
    return re.sub(r"([0-9.]+\.[0-9]+):([0-9]+)", lambda found: f"[{address_of_ipv6(found[1])}]:{found[2]}", text)


def address_of_ipv6(address: str) -> str:
    return f"fd00::{address.replace('.', ':')}"


def node_of(version: int, mode: str) -> dict[str, object]:
    """The node file: of IPv4 alone, or with IPv6's counterparts of everything, and both families."""
    datapath = {**NODE["datapath"], "lb": {**NODE["datapath"]["lb"], "mode": mode}}
    if version == 4:
        return {**NODE, "datapath": datapath}
    return {
        "node": {**NODE["node"], "ip6": address_of_ipv6("10.1.0.1"), "pod-cidr6": "fd00::10:64:0:0/112"},
        "datapath": {**datapath, "ipv6": True},
        "endpoints": [{**each, "ip6": address_of_ipv6(each["ip"])} for each in NODE["endpoints"]],
        "remote": [{**each, "cidr": f"{address_of_ipv6(each['cidr'].split('/')[0])}/112"} for each in NODE["remote"]],
        "services": [
            {**each, "ip": address_of_ipv6(each["ip"]),
             "backends": [{**one, "ip": address_of_ipv6(one["ip"])} for one in each["backends"]]}
            for each in NODE["services"]
        ],
    }  # fmt: skip


def frame(text: str) -> bytes:
    return build_frame(parse_packet_text(text), bytes.fromhex("020000000302"), bytes.fromhex("020000000301"))


def tunnel_of_simulation(version: int) -> bytes:
    """``ctctl_sim``: now, and a tunnel with the DSR option (read from a SYN only)."""
    address = "172.16.0.10" if version == 4 else address_of_ipv6("172.16.0.10")
    option = dsr_option(ip_address(address), 80)
    remote = IPv4Address("10.1.0.9").packed
    return struct.pack("<QIII4sI36s", time.monotonic_ns(), 0, 1, 2, remote, len(option), option)


@contextmanager
def datapath(version: int = 4, mode: str = "dsr", objects: Path = OBJECTS) -> Iterator[Callable[[str], Program]]:
    """A family's objects on shared maps of their full size, as on a live node; hook name -> program."""
    with ExitStack() as stack:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(node_of(version, mode), file)
            file.flush()
            node = load_node_file(Path(file.name))
        maps: dict[str, Map] = {}
        programs: dict[str, Program] = {}
        config = rodata(node, node.endpoints[0], overlay_device=True, version=version) | {"cfg_overlay_ifindex": 1}
        for name, hooks in OBJECT_HOOKS.items():
            family = "6" if version == 6 else ""
            bpf = stack.enter_context(BpfObject.open(objects / f"{name}{family}.bpf.o"))
            for key in bpf.config_names() & config.keys():
                bpf.set_config(key, config[key])
            # A test run's packet has no tunnel key: the simulation's is read instead.
            bpf.set_config("cfg_sim", int(name == "overlay"))
            for known in set(bpf.map_names()) & maps.keys():
                bpf.reuse_map(known, maps[known])
            bpf.load()
            maps |= {known: bpf.map(known) for known in bpf.map_names() if known not in maps}
            programs |= {hook: bpf.program(f"{hook}_v6" if version == 6 else hook) for hook in hooks}
        for table, records in table_records(node).items():
            for key, value in records.items():
                if table in maps:
                    maps[table].update(key, value)
        maps["ctctl_sim"].update(bytes(4), tunnel_of_simulation(version))
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


def measure(hook: Callable[[str], Program], empty: Program, case: Case, repeat: int, rounds: int) -> dict[str, Any]:
    """The least of many rounds, each shorter than a turn of the scheduler, less the empty program's least."""
    for name, text in case.before:
        hook(name).test_run(frame(text))
    data = frame(case.packet)
    if case.repeat:
        repeat, rounds = case.repeat, SHORT_ROUNDS
    floors, runs = [], []
    for _ in range(rounds):
        floors.append(empty.test_run(data, repeat=repeat).duration_ns)
        runs.append(hook(case.hook).test_run(data, repeat=repeat).duration_ns)
    floor, cost = min(floors), min(runs) - min(floors)
    row: dict[str, Any] = {
        "case": case.name,
        "repeat": repeat,
        "rounds": rounds,
        "ns_above_empty": cost,
        "median_ns_above_empty": statistics.median(runs) - statistics.median(floors),
        "empty_ns": floor,
        "in_empty_runs": round(cost / floor, 1),
    }
    if case.name in ORIGINAL:
        row["original_ns"] = ORIGINAL[case.name]
        row["original_in_empty_runs"] = round(ORIGINAL[case.name] / ORIGINAL_EMPTY, 1)
    return row


def add_ratios(rows: list[dict[str, Any]]) -> None:
    """What IPv6 costs of the same case's IPv4, and SNAT of DSR."""
    cost = {row["case"]: row["ns_above_empty"] for row in rows}
    for row in rows:
        case = row["case"]
        other = case.removeprefix("IPv6: ") if case.startswith("IPv6: ") else case.replace("by SNAT", "by DSR")
        if other != case:
            row["ratio"] = round(cost[case] / cost[other], 2)
            row["ratio_to"] = "IPv4" if case.startswith("IPv6: ") else "DSR"


def as_markdown(result: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Cost per packet",
        "",
        f"Established TCP, no listener, the least of {result['rounds']} rounds of {result['repeat']} runs; nanoseconds",
        f"above an empty program. {result['kernel']}, {result['cpus']} CPUs, load {result['load']}.",
        "",
        f"Cilium 1.16.4 was measured where the empty program took {ORIGINAL_EMPTY} ns: where that differs, compare",
        "the cost in empty runs.",
        "",
        "| case | ns above empty | in empty runs | ratio | Cilium 1.16.4, ns | in empty runs |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = f"{row['ratio']} of {row['ratio_to']}" if "ratio" in row else ""
        original = f"{row.get('original_ns', '')} | {row.get('original_in_empty_runs', '')}"
        lines.append(f"| {row['case']} | {row['ns_above_empty']} | {row['in_empty_runs']} | {ratio} | {original} |")
    return "\n".join(lines) + "\n"


def compare(before: Path, empty: Program) -> None:
    """The least of each version's rounds, in turn, and their ratio."""
    for case in (*CASES, *SINGLE, *(case.of_ipv6() for case in (*CASES, *SINGLE))):
        data, repeat = frame(case.packet), case.repeat or 10_000
        least = {"empty": 1 << 60, "before": 1 << 60, "now": 1 << 60}
        with (
            datapath(case.version, case.mode, before) as old,
            datapath(case.version, case.mode) as now,
        ):
            for name, text in case.before:
                old(name).test_run(frame(text))
                now(name).test_run(frame(text))
            programs = {"empty": empty, "before": old(case.hook), "now": now(case.hook)}
            for _ in range(SHORT_ROUNDS if case.repeat else 400):
                for which, program in programs.items():
                    least[which] = min(least[which], program.test_run(data, repeat=repeat).duration_ns)
        cost = {which: ns - least["empty"] for which, ns in least.items()}
        print(f"{case.name:55} {cost['before']:5} {cost['now']:5}  {cost['now'] / cost['before']:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--clang", default="clang-19")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    rows = []
    with empty_program(args.clang) as empty:
        if args.against:
            compare(args.against, empty)
            return
        all_cases = (*CASES, *SINGLE)
        for version, mode in ((4, "dsr"), (4, "snat"), (6, "dsr"), (6, "snat")):
            with datapath(version, mode) as hook:
                for case in (case if version == 4 else case.of_ipv6() for case in all_cases if case.mode == mode):
                    rows.append(measure(hook, empty, case, args.repeat, args.rounds))
    add_ratios(rows)
    result: dict[str, Any] = {
        "benchmark": "packet_cost", "repeat": args.repeat, "rounds": args.rounds, "kernel": platform.release(),
        "cpus": os.cpu_count(), "load": round(os.getloadavg()[0]), "rows": rows,
    }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "packet_cost.json").write_text(json.dumps(result, indent=2) + "\n")
    text = as_markdown(result, rows)
    (args.out / "packet_cost.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
