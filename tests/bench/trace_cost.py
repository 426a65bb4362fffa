#!/usr/bin/env python3
"""What a live trace costs the traffic that is not traced (what a probe costs: probe_cost.py).

    sudo .venv/bin/python tests/bench/trace_cost.py [--repeat N] [--rounds N] [--seconds S] [--out DIR]

First each program by BPF_PROG_TEST_RUN, in turn with an empty one: the datapath's hooks with nobody
listening and with a listener for another flow. Then a lab of its own:
UDP at full speed from pod to pod over two nodes, with and without a trace of curls through the
LoadBalancer beside it, rounds in turn; every hook of every curl must have been told.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ctctl.abi import layouts
from ctctl.events.stream import KernelFilter, control_words
from ctctl.kernel.map import Map
from ctctl.kernel.program import Program
from ctctl.lab.cluster import down, up
from ctctl.lab.topology import CLIENT, CLIENT_IP, Topology
from ctctl.packet.text import parse_flow_text
from tests.bench.packet_cost import PEER, POD, RESULTS, datapath, empty_program, frame
from tests.support.children import wait_for_line

OTHER_FLOW = "tcp 192.0.2.1 > 192.0.2.2:80"
TC_ACT_REDIRECT = 7
FOREVER = (1 << 64) - 1
VIP = "172.190.0.17"
#: Where the SYN and the SYN-ACK of a DSR connection are seen.
HOOKS = {"S": ("from_netdev", "from_overlay", "to_container"), "SA": ("from_container", "to_netdev")}


def control(until_ns: int, near: bool = True) -> bytes:
    """A listener for another flow. ``near``: what the command writes, save for a backend alone as the flow's end."""
    words = control_words(replace(KernelFilter.of(parse_flow_text(OTHER_FLOW)), near=near))
    words.until_ns = until_ns
    return bytes(words)


def per_run_ns(program: Program, data: bytes, repeat: int) -> int:
    run = program.test_run(data, repeat=repeat)
    assert run.retval in (0, TC_ACT_REDIRECT, 0xFFFFFFFF), run.retval
    return run.duration_ns


def program_costs(repeat: int, rounds: int, clang: str) -> dict[str, Any]:
    """Median ns of one run above the empty program."""
    syn, packet, reply = (
        frame(f"tcp {text}") for text in (f"{POD} > {PEER} S", f"{POD} > {PEER} A", f"{PEER} > {POD} A")
    )
    measured: dict[str, list[float]] = {}
    with datapath() as program, empty_program(clang) as empty:
        program("from_container").test_run(syn)
        trace_ctl = _trace_control(program("from_container"))
        cases = [
            ("from_container, nobody listens", program("from_container"), packet, control(0)),
            ("from_container, another flow is traced", program("from_container"), packet, control(FOREVER)),
            ("from_container, same address, other port", program("from_container"), packet, control(FOREVER, False)),
            ("to_container, nobody listens", program("to_container"), reply, control(0)),
            ("to_container, another flow is traced", program("to_container"), reply, control(FOREVER)),
            ("to_container, same address, other port", program("to_container"), reply, control(FOREVER, False)),
        ]
        for _ in range(rounds):
            for name, target, data, words in cases:
                trace_ctl.update(bytes(4), words)
                floor = per_run_ns(empty, data, repeat)
                measured.setdefault(name, []).append(per_run_ns(target, data, repeat) - floor)
        trace_ctl.close()
    return {name: round(statistics.median(values)) for name, values in measured.items()}


def _trace_control(program: Program) -> Map:
    for number in program.info.map_ids:
        table = Map.from_id(number)
        if table.info.name == "ctctl_trace_ctl"[:15]:
            return table
        table.close()
    raise AssertionError("no ctctl_trace_ctl")


class Traced:
    """A trace of everything the client opens to the VIP, in a process of its own, as an operator runs it."""

    def __init__(self, lab: Topology, *, probe: bool) -> None:
        nodes = [word for node in lab.nodes for word in ("--node", lab.datapath_node(node.name))]
        spaces = [word for node in lab.nodes for word in ("--netns", lab.netns(node.name))]
        command = [sys.executable, "-m", "ctctl", "trace", f"tcp {CLIENT_IP} > {VIP}:80", "-o", "jsonl"]
        command += ["--probe", *spaces] if probe else nodes
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for_line(self.process, self.process.stderr, "ready")

    def stop(self) -> tuple[list[dict[str, Any]], str]:
        self.process.send_signal(2)
        out, err = self.process.communicate(timeout=20)
        return [json.loads(line) for line in out.splitlines()], err.splitlines()[-1]


def in_lab(lab: Topology, member: str, *words: str) -> list[str]:
    return ["ip", "netns", "exec", lab.netns(member), *words]


def blast(lab: Topology, seconds: int, bits_per_s: int) -> tuple[float, int]:
    """Packets of 64 bytes a second that arrived (0: at full speed), and how many curls were made meanwhile."""
    options = ("-u", "-b", str(bits_per_s), "-l", "64", "-t", str(seconds), "-J")
    command = in_lab(lab, "pod1", "iperf3", "-c", "10.64.1.36", "-p", "5301", *options)
    curl = in_lab(lab, CLIENT, "curl", "-s", "-m", "5", f"http://{VIP}/")
    sender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    made = 0
    while sender.poll() is None:
        made += subprocess.run(curl, capture_output=True, check=False).returncode == 0
        time.sleep(0.1)
    assert sender.stdout is not None
    total = json.load(sender.stdout)["end"]["sum"]
    return (total["packets"] - total["lost_packets"]) / total["seconds"], made


def lab_costs(rounds: int, seconds: int) -> dict[str, Any]:
    lab = Topology(f"b{os.getpid()}")
    up(lab, lambda _line: None)
    server = subprocess.Popen(in_lab(lab, "pod3", "iperf3", "-s", "-p", "5301"), stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        offered = 100_000 * 64 * 8
        return {
            "trace, 100,000 packets/s offered": compare(lab, rounds, seconds, offered),
            "trace, full speed": compare(lab, rounds, seconds, 0),
            "probes on all devices, 100,000 packets/s offered": compare(lab, rounds, seconds, offered, probe=True),
        }
    finally:
        server.terminate()
        server.wait()
        down(lab)


def compare(lab: Topology, rounds: int, seconds: int, bits_per_s: int, *, probe: bool = False) -> dict[str, Any]:
    """The same traffic with and without a trace beside it, in turn."""
    quiet, traced, missing, made, lost = [], [], 0, 0, 0
    for number in range(2 * rounds):
        # The order is turned round from pair to pair, against drift.
        trace = Traced(lab, probe=probe) if (number % 2 == 1) ^ (number // 2 % 2 == 1) else None
        rate, curls = blast(lab, seconds, bits_per_s)
        (traced if trace else quiet).append(rate)
        if trace is not None:
            events, last = trace.stop()
            missing += 0 if probe else _missing(events, curls)
            made += curls
            lost += not last.endswith("none lost")
    return {
        # Whatever else the machine does only slows a round down: the best ones are the undisturbed ones.
        "packets_per_s": {"not traced": _best(quiet), "traced": _best(traced)},
        "ratio": round(_best(traced) / _best(quiet), 3),
        "curls": made,
        **({} if probe else {"events_missing": missing}),
        "rounds_with_lost_events": lost,
    }


def _best(rates: list[float]) -> int:
    """The mean of the best quarter."""
    return round(statistics.mean(sorted(rates)[-max(1, len(rates) // 4) :]))


def _missing(events: list[dict[str, Any]], curls: int) -> int:
    seen = Counter((event["tcp_flags"], event["hook"]) for event in events)
    return sum(max(0, curls - seen[flags, hook]) for flags, hooks in HOOKS.items() for hook in hooks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--clang", default="clang-19")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    found = {
        "event_bytes": len(bytes(layouts.ctctl_event())),
        "ns_above_empty_program": program_costs(args.repeat, args.rounds, args.clang),
        "lab": lab_costs(args.rounds, args.seconds),
    }
    print(json.dumps(found, indent=2))
    (args.out / "trace_cost.json").write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
