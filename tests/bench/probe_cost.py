#!/usr/bin/env python3
"""What probes cost traffic through somebody else's program.

    sudo .venv/bin/python tests/bench/probe_cost.py [--rounds N] [--seconds S] [--out DIR] [--each]

Two namespaces, a veth pair, a foreign program that passes everything at the receiver's ingress, by TCX
and by clsact. UDP of 64 bytes, 100,000 packets/s and at full speed, with and without ``ctctl trace
--probe`` for another flow in front of the program, rounds in turn. On a veth pair the sender's CPU runs
the receiver's programs: beside packets a second, which fall with whatever else the machine does, stand
packets per second of the sender's CPU time. The command also listens to the kernel's drops
(``kfree_skb``): its filter is part of the cost where packets are dropped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ctctl.abi import layouts, pins
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.model.tuples import FlowTuple
from ctctl.packet.frame import build_frame
from ctctl.packet.text import parse_flow_text, parse_packet_text
from ctctl.trace.probe_follow import follow
from ctctl.trace.probe_request import control_of
from tests.bench.packet_cost import RESULTS, empty_program
from tests.support.bpf import CLANG
from tests.support.children import wait_for_line
from tests.support.foreign import SERVER, ForeignNet, foreign_net, foreign_program

OTHER_FLOW = "tcp 192.0.2.1 > 192.0.2.2:80"
LENGTH = 64
PORT = 5301


@contextmanager
def probes(net: ForeignNet) -> Iterator[None]:
    """Probes on every device of the receiver that carries programs, as an operator starts them."""
    command = [sys.executable, "-m", "ctctl", "trace", "--probe", OTHER_FLOW, "--netns", net.server]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for_line(process, process.stderr, "ready")
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)


@contextmanager
def receiver(net: ForeignNet) -> Iterator[None]:
    """iperf3, listening once this is entered."""
    command = ["ip", "netns", "exec", net.server, "iperf3", "-s", "-p", str(PORT), "--forceflush"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            wait_for_line(process, process.stdout, "listening")
            yield
        finally:
            process.terminate()


@dataclass(frozen=True)
class Round:
    """One round's packets: sent a second of the sender's CPU, sent and arrived a second."""

    per_cpu_s: float
    sent: float
    arrived: float


def send(net: ForeignNet, seconds: int, offered: int) -> Round:
    """UDP from the client to the server; ``offered`` packets a second, 0 for full speed."""
    options = ("-u", "-b", str(offered * LENGTH * 8), "-l", str(LENGTH), "-t", str(seconds), "-J")
    command = ["ip", "netns", "exec", net.client, "iperf3", "-c", SERVER, "-p", str(PORT), *options]
    end = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["end"]
    total, cpu = end["sum"], end["cpu_utilization_percent"]["host_total"] / 100
    sent = total["packets"] / total["seconds"]
    return Round(sent / cpu, sent, sent - total["lost_packets"] / total["seconds"])


#: What the flow was translated to, where it was.
FOLLOWED = "tcp 10.0.9.9:40000 > 10.0.0.2:8080"


def frames() -> dict[str, bytes]:
    """Packets of nobody's interest: what they share with the flow, or what makes them longer to read."""
    plain = {
        "TCP": "tcp 10.0.0.1:40000 > 10.0.0.2:8080 A",
        "UDP": "udp 10.0.0.1:40000 > 10.0.0.2:53",
        "TCP, one address is the flow's": "tcp 192.0.2.1:40000 > 10.0.0.2:8080 A",
        "TCP, both addresses are the flow's": "tcp 192.0.2.1:40000 > 192.0.2.2:8080 A",
        "TCP, both addresses are those it was translated to": "tcp 10.0.9.9:40002 > 10.0.0.2:8080 A",
        "TCP over IPv6": "tcp [fd00::1]:40000 > [fd00::2]:8080 A",
    }
    made = {name: build_frame(parse_packet_text(text)) for name, text in plain.items()}
    heads = {
        "VXLAN": (8472, struct.pack(">II", 0x08000000, 77 << 8)),
        "Geneve with options": (6081, struct.pack(">BBHI", 3, 0, 0x6558, 77 << 8) + bytes(12)),
    }
    for name, (port, head) in heads.items():
        data = head + made["TCP"]
        outer = build_frame(parse_packet_text(f"udp 10.0.0.8:40000 > 10.0.0.9:{port} len={len(data)}"))
        made[f"TCP in {name}"] = outer[: -len(data)] + data
    return made


def each(rounds: int, repeat: int, *, translated: bool) -> dict[str, int]:
    """What a probe takes of one packet of another flow, ns above an empty program; the least of many short rounds.

    ``translated``: the flow was, and the probes follow what it was translated to.
    """
    with BpfObject.open(OBJECTS / "probe.bpf.o") as bpf, empty_program(CLANG) as empty:
        for switch in ("cfg_tables", "cfg_tables6", "cfg_nat", "cfg_nat6"):
            bpf.set_config(switch, 1)
        for variable, own in (("cfg_own", "10.0.9.9"), ("cfg_own6", "fd00:9::9")):
            bpf.set_config(variable, ip_address(own).packed * 8)
        bpf.load()
        control = layouts.ctctl_probe_ctl.from_buffer_copy(control_of(parse_flow_text(OTHER_FLOW), []))
        control.following = translated
        bpf.map(pins.PROBE_CTL).update(bytes(4), bytes(control))
        if translated:
            spec = parse_packet_text(FOLLOWED)
            follow(
                {name: bpf.map(name) for name in (pins.PROBE_FOLLOW, pins.PROBE_SLOTS)},
                FlowTuple(spec.proto, spec.src, spec.src_port, spec.dst, spec.dst_port),
            )
        probe = bpf.program("probe_ingress")
        found: dict[str, int] = {}
        for name, frame in frames().items():
            least = dict.fromkeys((probe, empty), 1 << 60)
            for _ in range(rounds):
                for program in least:
                    least[program] = min(least[program], program.test_run(frame, repeat=repeat).duration_ns)
            found[name] = least[probe] - least[empty]
        return found


def costs() -> dict[str, Any]:
    """The part of the result that is about one packet."""
    title = "a packet of another flow at a probe, ns above an empty program"
    return {
        title: each(2000, 500, translated=False),
        f"{title}, once the flow was translated": each(2000, 500, translated=True),
    }


def compare(net: ForeignNet, rounds: int, seconds: int, offered: int) -> dict[str, Any]:
    """The same traffic with and without probes in front of the foreign program."""
    quiet: list[Round] = []
    probed: list[Round] = []
    for number in range(rounds):
        # The order is turned round from pair to pair, against drift.
        for with_probes in (False, True) if number % 2 == 0 else (True, False):
            with probes(net) if with_probes else nullcontext():
                (probed if with_probes else quiet).append(send(net, seconds, offered))
    # At full speed most are lost at the receiver's socket: what arrives says when iperf3 was scheduled.
    figures = ("per_cpu_s", "sent", "arrived") if offered else ("per_cpu_s", "sent")
    best = [{name: _best([getattr(one, name) for one in found]) for name in figures} for found in (quiet, probed)]
    return {
        "without probes": {name: round(value) for name, value in best[0].items()},
        "with probes": {name: round(value) for name, value in best[1].items()},
        "ratio": {name: round(best[1][name] / best[0][name], 3) for name in figures},
    }


def _best(rates: list[float]) -> float:
    """The mean of the best quarter: whatever else the machine does only slows a round down."""
    return statistics.mean(sorted(rates)[-max(1, len(rates) // 4) :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--each", action="store_true", help="only what a probe takes of one packet; the rest stays")
    args = parser.parse_args()
    if args.each:
        path = args.out / "probe_cost.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | costs(), indent=2) + "\n")
        return
    with foreign_net() as net, receiver(net):
        found: dict[str, Any] = {
            "what": f"UDP of {LENGTH} bytes through a foreign program, probes for another flow in front of it",
            "unit": "packets a second; per_cpu_s: a second of the sender's CPU time",
            "rounds": args.rounds,
        }
        for via in ("tcx", "clsact"):
            with foreign_program(net, "passes", via):
                for offered in (100_000, 0):
                    title = f"{via}, {f'{offered:,} packets/s offered' if offered else 'full speed'}"
                    found[title] = compare(net, args.rounds, args.seconds, offered)
    found |= costs()
    found["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(found, indent=2))
    (args.out / "probe_cost.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
