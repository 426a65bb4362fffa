#!/usr/bin/env python3
"""How many packets a second `ctctl trace --pcap` plays through the hooks, in one process.

    sudo .venv/bin/python tests/bench/replay.py [--connections N] [--rounds N] [--out DIR]

The capture holds whole TCP connections of a pod, 20 packets each. The figure by the clock is of the play
alone (reading, finding the hook, running it), the best of all rounds. On a machine that is shared it
says as much about the others: beside it stands the figure by CPU time, the loading of programs and the
reading of the tables included, and how busy the machine was.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import tempfile
import time
from pathlib import Path

from ctctl.packet.frame import build_frame
from ctctl.packet.text import parse_packet_text
from ctctl.simulate.replay import replay
from tests.support.nodefile import parse_node_file

RESULTS = Path(__file__).parent / "results"
MUST_REACH = 200_000
NODE = """\
node: {name: bench, ip: 10.1.0.1, pod-cidr: 10.64.0.0/24}
endpoints: [{name: pod1, ip: 10.64.0.36, identity: 3096}]
"""


def write_capture(path: Path, connections: int) -> int:
    """A pcap file of so many connections; how many packets it has."""
    packets = 0
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for port in range(10000, 10000 + connections):
            out, back = f"tcp 10.64.0.36:{port} > 10.64.1.64:80", f"tcp 10.64.1.64:80 > 10.64.0.36:{port}"
            data = [f"{out} PA len=100", f"{back} PA len=1000"] * 7
            texts = [f"{out} S", f"{back} SA", f"{out} A", *data, f"{out} FA", f"{back} FA", f"{out} A"]
            for frame in (build_frame(parse_packet_text(text)) for text in texts):
                file.write(
                    struct.pack("<IIII", packets // 10000, packets % 10000 * 100, len(frame), len(frame)) + frame
                )
                packets += 1
    return packets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    node = parse_node_file(NODE)
    by_clock, by_cpu = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.pcap"
        packets = write_capture(path, args.connections)
        for _ in range(args.rounds):
            before = time.process_time()
            summary = replay(path, node)
            by_cpu.append(packets / (time.process_time() - before))
            by_clock.append(summary.rate)
    result = {
        "what": "ctctl trace --pcap, plain replay, one process",
        "packets": packets,
        "packets_per_s": round(max(by_clock)),
        "packets_per_cpu_s": round(statistics.median(by_cpu)),
        "must_reach": MUST_REACH,
        "reached": max(by_clock) >= MUST_REACH,
        "load_average": round(os.getloadavg()[0], 1),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "replay.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
