#!/usr/bin/env python3
"""What the datapath costs for each packet of an established TCP connection, nobody listening.

    sudo .venv/bin/python tests/bench/packet_cost.py [--repeat N] [--rounds N] [--against DIR] [--out DIR]

Each hook's program runs N times over the same packet by BPF_PROG_TEST_RUN; from the time of one run that of an
empty program, measured in turn with it, is taken off. Rounds are short and many, those of all cases in turn, and the
least counts: what else the machine does, and how fast it is for a while, shows in the others. A translated packet
would not be translated again in the next run, so two services have each other's address as their backend: the packet
goes from one to the other and back for ever, and every run is a whole translation. Where a run leaves something that
the next would notice (the TTL, the mark, an address), there are few runs a round and many rounds.

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
from dataclasses import dataclass, field, replace
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
HEADERS = Path(__file__).parents[2] / "bpf" / "include"
RESULTS = Path(__file__).parent / "results"
#: A program that does nothing, and one for each family that only asks the kernel for an entry of conntrack.
BESIDE = r"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <ctctl/abi.h>

#define LOOKUP(family) \
struct { \
	__uint(type, BPF_MAP_TYPE_LRU_HASH); \
	__type(key, struct ipv##family##_ct_tuple); \
	__type(value, struct ct_entry); \
	__uint(max_entries, 65536); \
} table##family SEC(".maps"); \
SEC("tc") int lookup##family(struct __sk_buff *skb) \
{ \
	struct ipv##family##_ct_tuple key = {}; \
	struct ct_entry *entry = bpf_map_lookup_elem(&table##family, &key); \
	return entry ? entry->flags : 0; \
}
LOOKUP(4)
LOOKUP(6)

SEC("tc") int empty(struct __sk_buff *skb) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""
OBJECT_HOOKS = {
    "lxc": ("from_container", "to_container"),
    "netdev": ("from_netdev", "to_netdev"),
    "overlay": ("from_overlay",),
}
#: rounds of a case that allows only few runs each, at least
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
#: What each lookup of a connection costs in the kernel: its hash of Cilium's key, 14 octets or 38.
LOOKUP = Case("of the kernel alone: a lookup of a connection", "", f"tcp {POD} > {PEER} A", ())
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
def beside(clang: str) -> Iterator[BpfObject]:
    """The programs to compare with: ``empty``, ``lookup4`` and ``lookup6``."""
    with tempfile.TemporaryDirectory() as tmp, ExitStack() as stack:
        source = Path(tmp) / "beside.c"
        source.write_text(BESIDE)
        include = [f"-I/usr/include/{platform.machine()}-linux-gnu", f"-I{HEADERS}"]
        subprocess.run([clang, "-target", "bpf", "-O2", "-g", *include, "-c", source, "-o", f"{tmp}/e.o"], check=True)
        bpf = stack.enter_context(BpfObject.open(f"{tmp}/e.o"))
        bpf.load()
        for name, size in (("table4", 14), ("table6", 38)):
            bpf.map(name).update(bytes(size), bytes(56))
        yield bpf


@contextmanager
def empty_program(clang: str) -> Iterator[Program]:
    with beside(clang) as bpf:
        yield bpf.program("empty")


@dataclass(slots=True)
class Run:
    """A case's program with what it costs: nanoseconds of one run of each round, and of the empty program's."""

    case: Case
    program: Program
    repeat: int
    data: bytes
    floors: list[int] = field(default_factory=list)
    costs: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, case: Case, hook: Callable[[str], Program], repeat: int) -> Run:
        for name, text in case.before:
            hook(name).test_run(frame(text))
        return cls(case, hook(case.hook), case.repeat or repeat, frame(case.packet))

    def round(self, empty: Program) -> None:
        self.floors.append(empty.test_run(self.data, repeat=self.repeat).duration_ns)
        self.costs.append(self.program.test_run(self.data, repeat=self.repeat).duration_ns)

    @property
    def above_empty(self) -> int:
        return min(self.costs) - min(self.floors)


def measure(runs: list[Run], empty: Program, rounds: int) -> None:
    """``rounds`` of each, all in turn, each shorter than a turn of the scheduler; more of those that are one run."""
    for _ in range(rounds):
        for run in runs:
            for _ in range(max(SHORT_ROUNDS // rounds, 1) if run.case.repeat else 1):
                run.round(empty)


def row_of(run: Run) -> dict[str, Any]:
    """The least of a case's rounds less the empty program's least."""
    floor, name = min(run.floors), run.case.name
    row: dict[str, Any] = {
        "case": name,
        "repeat": run.repeat,
        "rounds": len(run.costs),
        "ns_above_empty": run.above_empty,
        "median_ns_above_empty": statistics.median(run.costs) - statistics.median(run.floors),
        "empty_ns": floor,
        "in_empty_runs": round(run.above_empty / floor, 1),
    }
    if name in ORIGINAL:
        row["original_ns"] = ORIGINAL[name]
        row["original_in_empty_runs"] = round(ORIGINAL[name] / ORIGINAL_EMPTY, 1)
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


MODES = ((4, "dsr"), (4, "snat"), (6, "dsr"), (6, "snat"))


@contextmanager
def prepared(repeat: int, objects: Path = OBJECTS) -> Iterator[list[Run]]:
    """Every case, each family and mode on tables of its own."""
    with ExitStack() as stack:
        runs = []
        for version, mode in MODES:
            hook = stack.enter_context(datapath(version, mode, objects))
            cases = [case for case in (*CASES, *SINGLE) if case.mode == mode]
            runs += [Run.of(case if version == 4 else case.of_ipv6(), hook, repeat) for case in cases]
        yield runs


def compare(before: Path, empty: Program, repeat: int, rounds: int) -> None:
    """The least of each version's rounds, in turn, and their ratio."""
    with prepared(repeat, before) as old, prepared(repeat) as new:
        measure([run for both in zip(old, new, strict=True) for run in both], empty, rounds)
    for was, now in zip(old, new, strict=True):
        ratio = now.above_empty / was.above_empty
        print(f"{was.case.name:55} {was.above_empty:5} {now.above_empty:5}  {ratio:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--clang", default="clang-19")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    with beside(args.clang) as bpf:
        empty = bpf.program("empty")
        if args.against:
            compare(args.against, empty, args.repeat, args.rounds)
            return
        with prepared(args.repeat) as runs:
            for version, lookup in ((4, LOOKUP), (6, LOOKUP.of_ipv6())):
                runs.append(Run(lookup, bpf.program(f"lookup{version}"), args.repeat, frame(lookup.packet)))
            measure(runs, empty, args.rounds)
            rows = [row_of(run) for run in runs]
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
