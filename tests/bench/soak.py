#!/usr/bin/env python3
"""The lab under everything at once, for a while: what runs long must stay as large as it was.

    sudo .venv/bin/python tests/bench/soak.py [--minutes 60] [--out FILE]

Connections come and go; two collectors with metrics, a metrics server, a trace and ``ct events`` run all the time;
other commands (list, stats, doctor, export, short traces, a dry run, a node loaded again) come one after another in
three lanes. The memory and descriptors of what runs long are looked at every few seconds: neither may grow after the
first fifth of the time. In the end everything is taken down, and nothing may be left. Exit status 1 if something grew,
ended by itself, failed or stayed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ctctl.kernel.netns import run_in_netns
from ctctl.lab.topology import CLIENT, SERVE_PORT, Topology
from tests.lab.conftest import remains
from tests.support.names import unique_name
from tests.support.net import free_ports

ROOT = Path(__file__).resolve().parents[2]
CTCTL = [sys.executable, "-m", "ctctl"]
#: who asks whom, as often as it answers but at most so often a second
TRAFFIC = (("pod1", "10.64.1.36", SERVE_PORT), ("pod1", "10.68.174.146", 80), (CLIENT, "172.190.0.17", 80),
           (CLIENT, "172.190.0.18", 80))  # fmt: skip
A_SECOND = 50
SAMPLE_S = 5.0
#: a command that takes so long on whatever machine will not end
HANGS_S = 900
#: what Python keeps by itself, beside a tenth
SLACK_KB = 6_144


class Watch:
    """Samples of long-running processes: resident kilobytes and descriptors by name."""

    def __init__(self, processes: dict[str, subprocess.Popen[bytes]]) -> None:
        self.processes = processes
        self.samples: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def sample(self) -> None:
        for name, process in self.processes.items():
            with suppress(OSError, StopIteration):
                status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
                descriptors = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
                self.samples[name].append((resident, descriptors))

    def problems(self) -> Iterator[str]:
        for name, process in self.processes.items():
            if process.poll() is not None:
                yield f"{name} ended by itself with status {process.returncode}"
        for name, samples in self.samples.items():
            warm = len(samples) // 5
            before, after = samples[: warm + 1], samples[-max(warm, 1) :]
            resident, descriptors = (max(sample[at] for sample in before) for at in (0, 1))
            if (grown := min(kb for kb, _ in after)) > resident * 1.1 + SLACK_KB:
                yield f"{name}: {resident} kB became {grown}"
            if (grown := min(count for _, count in after)) > descriptors:
                yield f"{name}: {descriptors} descriptors became {grown}"

    def figures(self) -> dict[str, Any]:
        return {
            name: {"kb": [samples[len(samples) // 5][0], samples[-1][0]],
                   "descriptors": [samples[len(samples) // 5][1], samples[-1][1]]}
            for name, samples in self.samples.items()
        }  # fmt: skip


def _traffic(lab: Topology, stop: threading.Event, tally: Counter[str]) -> None:
    for member, address, port in itertools.cycle(TRAFFIC):
        if stop.wait(1 / A_SECOND):
            return
        try:
            with run_in_netns(lab.netns(member), socket.create_connection, (address, port), 20) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
                while connection.recv(4096):
                    pass
            tally["connections"] += 1
        except OSError:
            tally["connections that failed"] += 1


def _lane(commands: list[list[str]], stop: threading.Event, tally: Counter[str], failed: list[str]) -> None:
    for command in itertools.cycle(commands):
        if stop.is_set():
            return
        try:
            done = subprocess.run(
                [*CTCTL, *command], check=False, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S
            )
        except subprocess.TimeoutExpired:
            failed.append(f"{' '.join(command)}: no end after {HANGS_S} s")
            continue
        tally["commands"] += 1
        # 3: the doctor found something, or two tables differ.
        if done.returncode not in {0, 3}:
            failed.append(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()[-300:]}")


def _lanes(lab: Topology, folder: Path) -> list[list[list[str]]]:
    near, far = (lab.datapath_node(node.name) for node in lab.nodes)
    before = str(folder / "a.ctsnap")
    at_near, at_far = ["--node", near], ["--node", far]
    return [
        [["ct", "list", *at_near], ["ct", "stats", *at_near], ["ct", "top", *at_far], ["nat", "list", *at_far],
         ["ct", "list", "-o", "jsonl", "proto == tcp", *at_far], ["status"], ["doctor", *at_near]],
        [["ct", "export", before, *at_near], ["ct", "diff", before, f"/sys/fs/bpf/ctctl/{near}"],
         ["gc", "--dry-run", "--explain", *at_far], ["ct", "export", str(folder / "b.parquet"), *at_far]],
        [["trace", "tcp any > any:80", "--for", "2s", "-o", "jsonl", *at_near],
         ["load", "-f", str(lab.node_file("node-b")), "--netns", lab.netns("node-b")],
         ["trace", "--simulate", "tcp 10.64.0.36:40000 > 10.68.174.146:80 S", *at_near]],
    ]  # fmt: skip


def _long(lab: Topology, ports: list[int]) -> dict[str, list[str]]:
    near, far = (lab.datapath_node(node.name) for node in lab.nodes)
    metrics, own = (f"127.0.0.1:{port}" for port in ports)
    return {
        "gc batch": ["gc", "--node", near, "--interval", "1s", "--yes", "--metrics", metrics, "-o", "jsonl"],
        "gc kernel": ["gc", "--node", far, "--interval", "1s", "--engine", "kernel", "--yes", "-o", "jsonl"],
        "metrics serve": ["metrics", "serve", own, "--node", near],
        "ct events": ["ct", "events", "--follow", "--node", far, "-o", "jsonl"],
        "trace": ["trace", "ip any > any", "--node", near, "-o", "jsonl"],
    }


@contextmanager
def _running(long: dict[str, list[str]], folder: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    with ExitStack() as stack:
        processes = {}
        for name, words in long.items():
            errors = stack.enter_context((folder / f"{name}.err").open("wb"))
            process = subprocess.Popen([*CTCTL, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            processes[name] = process
        yield processes


def _scrape(ports: list[int], tally: Counter[str]) -> None:
    for port in ports:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            tally["scrapes"] += b" 200 " in connection.recv(64)


def soak(lab: Topology, minutes: float, folder: Path) -> tuple[list[str], dict[str, Any]]:
    stop, tally, failed = threading.Event(), Counter[str](), list[str]()
    ports = free_ports(2)
    with _running(_long(lab, ports), folder) as processes:
        threads = [threading.Thread(target=_traffic, args=(lab, stop, tally))]
        threads += [threading.Thread(target=_lane, args=(lane, stop, tally, failed)) for lane in _lanes(lab, folder)]
        for thread in threads:
            thread.start()
        watch = Watch(processes)
        end = time.monotonic() + minutes * 60
        try:
            while time.monotonic() < end and not any(process.poll() is not None for process in processes.values()):
                watch.sample()
                _scrape(ports, tally)
                stop.wait(SAMPLE_S)
            problems = [*watch.problems(), *failed[:20]]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    if not tally["scrapes"]:
        problems.append("no scrape of metrics was answered")
    if tally["connections that failed"]:
        problems.append(f"{tally['connections that failed']} of {tally['connections']} connections failed")
    for name, process in processes.items():
        if process.poll() not in {0, -15, 130, 143}:
            said = (folder / f"{name}.err").read_text()[-300:]
            problems.append(f"{name}: status {process.returncode} when it was ended: {said}")
    return problems, {"tally": dict(tally), "processes": watch.figures()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, help="also write the result here, as JSON")
    args = parser.parse_args()
    # Ended from outside, everything is taken down too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    lab = Topology(unique_name("soak"))
    with TemporaryDirectory() as folder:
        subprocess.run([*CTCTL, "lab", "up", "--name", lab.name], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        try:
            problems, figures = soak(lab, args.minutes, Path(folder))
        finally:
            subprocess.run(
                [*CTCTL, "lab", "down", "--name", lab.name], cwd=ROOT, check=False, stdout=subprocess.DEVNULL
            )
    problems += [f"left behind: {thing}" for thing in remains(lab)]
    result = {"benchmark": "soak", "minutes": args.minutes, "problems": problems, **figures}
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
