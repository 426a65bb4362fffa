#!/usr/bin/env python3
"""What a packet on its way to another node costs in XDP and in tc, established TCP, nobody listening.

    sudo .venv/bin/python tests/bench/xdp_cost.py [--rounds N] [--out DIR]

Both programs run once a round over the same packet by BPF_PROG_TEST_RUN, in turn, each less an empty program of its
kind; the least counts. XDP's figure has the look at routes and neighbours in it. What tc's packet costs besides its
program (a socket buffer, the way through the stack, routes and neighbours in bpf_redirect_neigh()) is in neither.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from ctctl._ffi import syscall
from ctctl.config.node import NodeFile, parse_node_files
from ctctl.kernel.map import Map
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.kernel.program import Program
from ctctl.node.slots import object_name, program_name
from ctctl.node.tables import rodata, table_records
from ctctl.packet.geneve import Geneve, wrap_geneve
from tests.bench.packet_cost import RESULTS, frame, node_of, to_ipv6

_CLONE_NEWNET = 0x40000000
EMPTY = """#include <linux/bpf.h>
__attribute__((section("tc"), used)) int empty_tc(struct __sk_buff *skb) { return 0; }
__attribute__((section("xdp"), used)) int empty_xdp(struct xdp_md *ctx) { return XDP_TX; }
"""
NETWORK = """link add eth0 type veth peer name peer
link set eth0 address 02:00:00:00:03:02
link set eth0 up
link set peer up
addr add 10.1.0.1/24 dev eth0
neigh add 10.1.0.3 lladdr 02:00:00:00:03:03 dev eth0
route add 172.16.0.0/24 via 10.1.0.3
route add 192.0.2.0/24 via 10.1.0.3
addr add fd00::10:1:0:1/112 dev eth0 nodad
neigh add fd00::10:1:0:3 lladdr 02:00:00:00:03:03 dev eth0
route add fd00::172:16:0:0/112 via fd00::10:1:0:3
route add fd00::192:0:2:0/112 via fd00::10:1:0:3
"""
CLIENT, VIP, BACKEND = "192.0.2.50:40000", "172.16.0.10:80", "172.16.0.11:8080"
XDP_PASS, XDP_TX = 2, 3


@dataclass(frozen=True, slots=True)
class Case:
    """``before`` goes through tc's program once, then ``packet`` many times through both.

    ``routing``: of the node file. ``tunnelled``: ``packet`` comes in a tunnel's outer headers.
    """

    name: str
    lb: dict[str, str]
    packet: str
    before: tuple[str, ...] = ()
    code: int = XDP_TX
    version: int = 4
    routing: str = "native"
    tunnelled: bool = False

    @property
    def frame(self) -> bytes:
        inner = frame(self.packet)
        return wrap_geneve(inner, TUNNEL, src_mac=inner[6:12], dst_mac=inner[:6]) if self.tunnelled else inner

    def of_ipv6(self) -> Case:
        before = tuple(map(to_ipv6, self.before))
        name = self.name.replace("an IP option", "an extension header")
        return replace(self, name=f"IPv6: {name}", packet=to_ipv6(self.packet), before=before, version=6)


REQUEST, SYN = f"tcp {CLIENT} > {VIP} A", f"tcp {CLIENT} > {VIP} S"
TUNNEL = Geneve(IPv4Address("10.1.0.3"), IPv4Address("10.1.0.1"), 30002)
CASES = (
    Case("request, SNAT", {"mode": "snat"}, REQUEST, (SYN,)),
    Case("answer, SNAT", {"mode": "snat"}, f"tcp {BACKEND} > 10.1.0.1:40000 A", (SYN,)),
    Case("request, DSR by Geneve", {"mode": "dsr"}, REQUEST, (SYN,)),
    Case("request, DSR by an IP option", {"mode": "dsr", "dispatch": "opt"}, REQUEST, (SYN,)),
    Case("no service: passed on to tc", {"mode": "snat"}, f"tcp {CLIENT} > 10.1.0.1:22 A", code=XDP_PASS),
)
#: IPv6's would be two programs' here, one behind the other
IN_TUNNEL = (
    Case("request, SNAT, into the tunnel", {"mode": "snat"}, REQUEST, (SYN,), routing="tunnel"),
    Case("answer, SNAT, out of the tunnel", {"mode": "snat"}, f"tcp {BACKEND} > 10.64.0.1:40000 A", (SYN,),
         routing="tunnel", tunnelled=True),
    Case("nobody's, out of the tunnel: passed on to tc", {"mode": "snat"}, f"tcp {BACKEND} > 10.64.0.1:40001 A", (SYN,),
         code=XDP_PASS, routing="tunnel", tunnelled=True),
)  # fmt: skip


def in_a_network() -> int:
    """This process moves into a network of its own; the index of the device that leads out."""
    syscall.unshare(_CLONE_NEWNET)
    subprocess.run(["ip", "-batch", "-"], input=NETWORK, text=True, check=True)
    subprocess.run(["sysctl", "-qw", "net.ipv4.conf.all.forwarding=1", "net.ipv6.conf.all.forwarding=1"], check=True)
    return socket.if_nametoindex("eth0")


def node_file(case: Case, ifindex: int) -> NodeFile:
    document: dict[str, Any] = node_of(case.version, case.lb["mode"])
    document["datapath"]["lb"].update(case.lb)
    document["datapath"]["routing"] = case.routing
    (node,) = parse_node_files(json.dumps(document), "bench")
    device = node.node.device
    assert device is not None
    return replace(node, node=replace(node.node, device=replace(device, ifindex=ifindex)))


@contextmanager
def programs(node: NodeFile, version: int) -> Iterator[tuple[Program, Program]]:
    """``from_netdev`` and ``xdp_netdev`` of one family on the same maps."""
    with ExitStack() as stack:
        maps: dict[str, Map] = {}
        found = []
        config = rodata(node, version=version)
        for name, hook in (("netdev", "from_netdev"), ("xdp", "xdp_netdev")):
            bpf = stack.enter_context(BpfObject.open(OBJECTS / f"{object_name(name, version)}.bpf.o"))
            for key in bpf.config_names() & config.keys():
                bpf.set_config(key, config[key])
            for known in set(bpf.map_names()) & maps.keys():
                bpf.reuse_map(known, maps[known])
            bpf.load()
            maps |= {known: bpf.map(known) for known in bpf.map_names() if known not in maps}
            found.append(bpf.program(program_name(hook, version)))
        for table, records in table_records(node).items():
            for key, value in records.items():
                if table in maps:
                    maps[table].update(key, value)
        yield found[0], found[1]


def measure(case: Case, ifindex: int, empty: dict[str, Program], rounds: int) -> dict[str, Any]:
    with programs(node_file(case, ifindex), case.version) as (tc, xdp):
        for text in case.before:
            tc.test_run(frame(text))
        data = case.frame
        runs = {
            "empty_tc": empty["tc"].prepare_test_run(),
            "empty_xdp": empty["xdp"].prepare_test_run(),
            "tc": tc.prepare_test_run(),
            "xdp": xdp.prepare_test_run(),
        }
        least = dict.fromkeys(runs, 1 << 60)
        for _ in range(rounds):
            for which, run in runs.items():
                code = run.run(data)
                if which == "xdp" and code != case.code:
                    raise SystemExit(f"{case.name}: XDP answers {code}, not {case.code}")
                least[which] = min(least[which], run.result().duration_ns)
    tc_ns, xdp_ns = least["tc"] - least["empty_tc"], least["xdp"] - least["empty_xdp"]
    return {
        "case": case.name,
        "rounds": rounds,
        "tc_ns": tc_ns,
        "xdp_ns": xdp_ns,
        "ratio": round(xdp_ns / tc_ns, 2),
        "empty_tc_ns": least["empty_tc"],
        "empty_xdp_ns": least["empty_xdp"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--clang", default="clang-19")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as tmp, ExitStack() as stack:
        source = Path(tmp) / "empty.c"
        source.write_text(EMPTY)
        include = f"-I/usr/include/{platform.machine()}-linux-gnu"
        command = [args.clang, "-target", "bpf", "-O2", "-g", include, "-c", source, "-o", f"{tmp}/e.o"]
        subprocess.run(command, check=True)
        bpf = stack.enter_context(BpfObject.open(f"{tmp}/e.o"))
        bpf.load()
        empty = {"tc": bpf.program("empty_tc"), "xdp": bpf.program("empty_xdp")}
        ifindex = in_a_network()
        cases = (*CASES, *IN_TUNNEL, *(case.of_ipv6() for case in CASES))
        rows = [measure(case, ifindex, empty, args.rounds) for case in cases]
    result = {"benchmark": "xdp_cost", "kernel": platform.release(), "cpus": os.cpu_count(), "rows": rows}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "xdp_cost.json").write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        "# Cost of a packet on its way to another node, in tc and in XDP",
        "",
        f"Single runs, the least of {args.rounds}; nanoseconds above an empty program of the same kind.",
        f"{platform.release()}.",
        "XDP's figure has the look at routes and neighbours in it; what the kernel does for tc's packet before",
        "and after the program (a socket buffer, the stack, routes and neighbours) is in neither.",
        "",
        "| packet | tc | XDP | ratio |",
        "|---|---|---|---|",
        *(f"| {row['case']} | {row['tc_ns']} | {row['xdp_ns']} | {row['ratio']} |" for row in rows),
    ]
    text = "\n".join(lines) + "\n"
    (args.out / "xdp_cost.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
