"""Prediction against the kernel: the same workload through the real datapath, the real LRU and the real GC.

    .venv/bin/python tests/bench/predict.py [--seconds 400]

The datapath's own programs run on private tables by test run, under a simulated clock, so that time
is scaled down and nothing waits. Writes predicted and measured fill and LRU evictions to
tests/bench/results/predict.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from ctctl.config.node import load_node_file  # noqa: E402
from ctctl.gc import batch  # noqa: E402
from ctctl.gc.job import Job  # noqa: E402
from ctctl.gc.limit import RateLimit  # noqa: E402
from ctctl.gc.tally import Tally  # noqa: E402
from ctctl.kernel.map import Map  # noqa: E402
from ctctl.model.event import Hook  # noqa: E402
from ctctl.model.timeouts import Timeouts  # noqa: E402
from ctctl.predict.fluid import predict  # noqa: E402
from ctctl.predict.model import Duration, Kind, Shape, Workload  # noqa: E402
from ctctl.predict.workload import load_document, parse_workload  # noqa: E402
from ctctl.simulate.simulator import Simulator  # noqa: E402
from ctctl.tables.sources.live import table_of  # noqa: E402
from ctctl.tables.writer.targets import private_target  # noqa: E402

RESULTS = ROOT / "tests/bench/results/predict.json"
START = 1_000_000
NODE = """
node: {{name: predict, ip: 10.1.0.1, device: {{name: eth0, ifindex: 2, mac: "02:00:00:00:01:01"}}}}
datapath:
  timeouts: {{regular-tcp: {t.regular_tcp}s, regular-tcp-syn: {t.regular_tcp_syn}s, regular-tcp-fin: {t.regular_tcp_fin}s, regular-any: {t.regular_any}s}}
  ct: {{tcp-max: {w.tcp_max}, any-max: {w.any_max}}}
endpoints:
  - {{name: pod1, ip: 10.64.0.36, identity: 3096, id: 7, ifindex: 11, mac: "02:00:00:00:00:01", node-mac: "02:00:00:00:00:02"}}
remote:
  - {{cidr: 10.65.0.0/16, identity: 4000}}
"""  # noqa: E501 - the node file as one writes it
POD = bytes((10, 64, 0, 36))
SYN, ACK, FIN, SYN_ACK, FIN_ACK = 0x02, 0x10, 0x01, 0x12, 0x11
TCP, UDP = 6, 17
#: How often the tables are looked at between the seconds, to see who is evicted.
LOOK_S = 0.2
#: Packets of an open connection come at least so often.
BEAT_S = 2.0

TIMEOUTS = Timeouts(regular_tcp=120, regular_tcp_syn=20, regular_tcp_fin=5, regular_any=20)
KINDS = (
    Kind("web", "tcp", 200, Duration(Shape.EXPONENTIAL, 4), lost=0.05, pairs=200),
    Kind("scan", "tcp", 20, Duration(Shape.CONSTANT, 0), unanswered=1.0, pairs=200),
    Kind("dns", "udp", 100, Duration(Shape.CONSTANT, 1), pairs=200),
)
ROOMY = Workload(KINDS, TIMEOUTS, tcp_max=32768, any_max=16384, interval_s=30, name="roomy")
CASES = {
    "roomy": ROOMY,
    "seldom collected": replace(ROOMY, interval_s=90, name="seldom collected"),
    "too small for the backlog": replace(ROOMY, tcp_max=8192, any_max=4096, interval_s=90),
    "too small for the living": replace(ROOMY, tcp_max=3000, any_max=2048, interval_s=30),
}


@dataclass(slots=True)
class Measured:
    """One table of the kernel over time."""

    each_second: list[int] = field(default_factory=list)
    peak: int = 0
    evicted: int = 0
    evicted_live: int = 0
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, "S14"))
    lifetimes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint32))
    #: connections that were begun, and keys that any look ever found
    begun: int = 0
    ever: set[bytes] = field(default_factory=set)

    def unseen(self) -> int:
        """Connections whose entry was evicted before any look found it: all of them alive."""
        return self.begun - sum(key[12:13] in (b"\x06", b"\x11") for key in self.ever)


def packets(kind: Kind, seconds: float, rng: np.random.Generator, first: int) -> Iterator[tuple[float, int, int, bool]]:
    """(time, number of the connection, TCP flags, whether a reply) of every packet of a kind."""
    count = rng.poisson(kind.rate * seconds)
    starts = np.sort(rng.random(count) * seconds)
    lengths = rng.exponential(kind.duration.scale_s, count) if kind.duration.shape is Shape.EXPONENTIAL else None
    for number, start in enumerate(starts, first):
        length = float(lengths[number - first]) if lengths is not None else kind.duration.scale_s
        end = start + length
        if kind.protocol == "udp":
            yield start, number, 0, False
            yield end, number, 0, True
            continue
        yield start, number, SYN, False
        if rng.random() < kind.unanswered:
            continue
        yield start + 0.001, number, SYN_ACK, True
        yield start + 0.002, number, ACK, False
        beat = start + BEAT_S
        while beat < end:
            yield beat, number, ACK, bool(number & 1)
            beat += BEAT_S
        if rng.random() < kind.lost:
            yield end, number, ACK, False
            continue
        yield max(end, start + 0.003), number, FIN_ACK, False
        yield max(end, start + 0.003) + 0.001, number, FIN_ACK, True


def frame(proto: int, kind: int, number: int, pairs: int, *, flags: int, reply: bool) -> bytes:
    """A packet of connection ``number``: its peer is one of ``pairs``, its port unique among them."""
    peer = bytes((10, 65, kind, number % pairs))
    port = (1024 + number // pairs % 60000).to_bytes(2, "big")
    service = (80 if proto == TCP else 53).to_bytes(2, "big")
    ends = (peer + POD, service + port) if reply else (POD + peer, port + service)
    rest = bytes(8) + bytes((0x50, flags)) + bytes(6) if proto == TCP else bytes((0, 8, 0, 0))
    length = (24 + len(rest)).to_bytes(2, "big")
    return b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0\x45\0" + length + bytes(4) + bytes((64, proto, 0, 0)) + ends[0] + ends[1] + rest  # fmt: skip  # noqa: E501


def look(ct: Map, seen: Measured, now: int) -> None:
    """Count a table; what is gone since the last look, other than by GC, the LRU evicted."""
    parts = [(b.keys.copy(), b.values[:, 32:36].copy()) for b in ct.batches()]
    keys = np.concatenate([k for k, _ in parts]).view("S14")[:, 0] if parts else np.zeros(0, "S14")
    lifetimes = np.concatenate([v for _, v in parts]).view("<u4")[:, 0] if parts else np.zeros(0, np.uint32)
    gone = ~np.isin(seen.keys, keys)
    seen.evicted += int(gone.sum())
    seen.evicted_live += int((seen.lifetimes[gone] >= now).sum())
    seen.ever.update(keys[~np.isin(keys, seen.keys)].tolist())
    seen.keys, seen.lifetimes = keys, lifetimes
    seen.peak = max(seen.peak, len(keys))


def measure(workload: Workload, seconds: int, seed: int = 1) -> dict[str, Measured]:
    """Run the workload through the kernel for ``seconds`` simulated seconds.

    All on one CPU, so that only its free list holds elements of the table back.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        return _measure(workload, seconds, seed)
    finally:
        os.sched_setaffinity(0, allowed)


def _measure(workload: Workload, seconds: int, seed: int) -> dict[str, Measured]:
    rng = np.random.default_rng(seed)
    events: list[tuple[float, int, int, bool, int, int, int]] = []
    first = 0
    for kind_number, kind in enumerate(workload.kinds):
        proto = TCP if kind.protocol == "tcp" else UDP
        mine = list(packets(kind, seconds, rng, first))
        more = (proto, kind_number, int(kind.pairs or 1))
        events += [(at, number, flags, reply, *more) for at, number, flags, reply in mine]
        first = max((number for _, number, *_ in mine), default=first) + 1
    events.sort(key=lambda event: event[0])
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "node.yaml")
        file.write_text(NODE.format(w=workload, t=replace_ints(workload.timeouts)))
        node = load_node_file(file)
    with Simulator(node, now=START, full_size=True) as simulator:
        endpoint = node.endpoints[0]
        runs = {
            reply: simulator.program(hook, endpoint).prepare_test_run(max_frame=64)
            for reply, hook in ((False, Hook.FROM_CONTAINER), (True, Hook.TO_CONTAINER))
        }
        simulator.mute()
        names = ("cilium_ct4_global", "cilium_ct_any4_global")
        seen = {name: Measured() for name in names}
        begun: set[int] = set()
        at, looked, last_gc, stop = -1, 0.0, 0, threading.Event()
        for when, number, flags, reply, proto, kind_number, pairs in events:
            if when >= seconds:
                break
            if when - looked >= LOOK_S:
                looked = when
                for name in names:
                    look(simulator.maps[name], seen[name], START + at)
            while at < int(when):
                at += 1
                simulator.set_clock(START + at)
                for name in names:
                    look(simulator.maps[name], seen[name], START + at)
                if at - last_gc >= (workload.interval_s or 0):
                    last_gc = at
                    for name in names:
                        _collect(simulator.maps[name], name, START + at, stop)
                        after = Measured()
                        look(simulator.maps[name], after, START + at)
                        seen[name].keys, seen[name].lifetimes = after.keys, after.lifetimes
                for name in names:
                    seen[name].each_second.append(len(seen[name].keys))
            if number not in begun:
                begun.add(number)
                seen[names[proto != TCP]].begun += 1
            runs[reply].run(frame(proto, kind_number, number, pairs, flags=flags, reply=reply))
        for name in names:
            look(simulator.maps[name], seen[name], START + at)
    return seen


def replace_ints(timeouts: Timeouts) -> Timeouts:
    """The timeouts as whole seconds, as a node file has them."""
    return Timeouts(*(int(getattr(timeouts, name)) for name in Timeouts.__dataclass_fields__))


def _collect(ct: Map, name: str, now: int, stop: threading.Event) -> None:
    target = private_target(table_of(name, ct))
    batch.collect(target.table, target, Job(now, stop, RateLimit(None, stop)), Tally())


def compare(name: str, workload: Workload, seconds: int, *, cpus: int) -> dict[str, dict[str, dict[str, int]]]:
    """One case: predicted and measured figures of both tables."""
    measured = measure(workload, seconds)
    predicted = predict(workload, seconds, step_s=1.0, cpus=cpus)
    result: dict[str, dict[str, dict[str, int]]] = {}
    for table in predicted.tables:
        real = measured[table.name]
        series = [sample.entries[table.name] for sample in predicted.samples]
        half = seconds // 2
        result[table.name] = {
            "mean_entries": {"predicted": _mean(series[half:]), "measured": _mean(real.each_second[half:])},
            "peak_entries": {"predicted": round(max(series)), "measured": real.peak},
            "evicted": {"predicted": round(table.evicted), "measured": real.evicted + real.unseen()},
            "evicted_live": {"predicted": round(table.evicted_live), "measured": real.evicted_live + real.unseen()},
        }  # fmt: skip
    print(name, json.dumps(result, indent=1), flush=True)
    return result


def worst_errors(cases: dict[str, dict[str, dict[str, dict[str, int]]]]) -> dict[str, float]:
    """The worst relative error over all cases and tables, figure by figure.

    Live evictions stand twice: where they are more than a percent of the evictions, and where they are rarer.
    """
    worst: dict[str, float] = {}
    for tables in cases.values():
        for figures in tables.values():
            for name, pair in figures.items():
                if not pair["measured"]:
                    continue
                rare = name == "evicted_live" and pair["measured"] * 100 < figures["evicted"]["measured"]
                error = abs(pair["predicted"] / pair["measured"] - 1)
                kept = f"{name} where rare" if rare else name
                worst[kept] = max(worst.get(kept, 0.0), round(error, 3))
    return worst


def _mean(values: list[float] | list[int]) -> int:
    return round(float(np.mean(values)))


def fleet() -> dict[str, object]:
    """What a day of 10,000 nodes with half a million entries costs to predict."""
    path = ROOT / "examples/workload.yaml"
    workload = replace(parse_workload(load_document(path), str(path)), nodes=10_000, spread=0.5)
    wall, cpu = time.monotonic(), time.process_time()
    predicted = predict(workload, 86400)
    return {
        "nodes": workload.nodes,
        "entries_of_an_average_node": round(sum(table.mean for table in predicted.tables)),
        "seconds": round(time.monotonic() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def judge(cases: dict[str, dict[str, dict[str, dict[str, int]]]]) -> None:
    """Only predictions that hold what was asked are written down: fill to 5 %, evictions to 15 %. Raises SystemExit."""
    failed = [
        f"{case} {table} {name}: {figures[name]}"
        for case, tables in cases.items()
        for table, figures in tables.items()
        for name, limit in (("mean_entries", 0.05), ("peak_entries", 0.05), ("evicted", 0.15))
        if abs(figures[name]["predicted"] - figures[name]["measured"]) > max(limit * figures[name]["measured"], 10)
    ]
    if failed:
        raise SystemExit(f"not so: {'; '.join(failed)}; {RESULTS} is as it was")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=int, default=400)
    asked = arguments.parse_args()
    cases = {name: compare(name, w, asked.seconds, cpus=1) for name, w in CASES.items()}
    judge(cases)
    RESULTS.parent.mkdir(exist_ok=True)
    found = {"simulated_seconds": asked.seconds, "cases": cases, "worst_errors": worst_errors(cases), "fleet": fleet()}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
