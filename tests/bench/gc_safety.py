"""Does GC break connections? The real datapath at full speed, GC back to back, for ten minutes.

    .venv/bin/python tests/bench/gc_safety.py [--minutes 10]

One thread sends packets through the datapath's programs (test runs) as fast as it can, another
collects without a pause. Timeouts are short, and a unit of the datapath's clock is 50 ms. With
accounting on, an entry's packet counter says whether it is still the same entry.

- steady connections send within their lifetime, up to its last moment: none may ever lose its entry;
- late connections send around their expiry, and once more right after. An entry that the late packet
  refreshed, and that is gone at the next, was deleted after it was refreshed.

Both are counted with the re-check and, for a tenth of the time, without: then late ones must lose some.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


from ctctl.config.node import load_node_file  # noqa: E402
from ctctl.gc import batch, walk  # noqa: E402
from ctctl.gc.job import Engine, Job  # noqa: E402
from ctctl.gc.limit import RateLimit  # noqa: E402
from ctctl.gc.tally import Tally  # noqa: E402
from ctctl.kernel.map import Map  # noqa: E402
from ctctl.model.event import Hook  # noqa: E402
from ctctl.simulate.simulator import Simulator  # noqa: E402
from ctctl.tables.sources.live import table_of  # noqa: E402
from ctctl.tables.writer.targets import private_target  # noqa: E402
from tests.bench.predict import ACK, TCP, frame  # noqa: E402
from tests.support.gctables import key4  # noqa: E402

RESULTS = ROOT / "tests/bench/results/gc_safety.json"
NAME = "cilium_ct4_global"
UNIT_S = 0.05
LIFETIME = 2
START = 1_000_000
STEADY, LATE, PAIRS = 1000, 3000, 100
NODE = f"""
node: {{name: safety, ip: 10.1.0.1, device: {{name: eth0, ifindex: 2, mac: "02:00:00:00:01:01"}}}}
datapath:
  accounting: true
  timeouts: {{regular-tcp: {LIFETIME}s, regular-tcp-syn: {LIFETIME}s, regular-tcp-fin: 1s, regular-any: {LIFETIME}s}}
  ct: {{tcp-max: 65536, any-max: 65536}}
endpoints:
  - {{name: pod1, ip: 10.64.0.36, identity: 3096, id: 7, ifindex: 11, mac: "02:00:00:00:00:01",
      node-mac: "02:00:00:00:00:02"}}
remote:
  - {{cidr: 10.65.0.0/16, identity: 4000}}
"""


@dataclass(slots=True)
class Result:
    """What one run saw."""

    packets: int = 0
    collections: int = 0
    deleted: int = 0
    skipped: int = 0
    steady_lost: int = 0
    late_refreshed: int = 0
    late_lost: int = 0
    overruns: int = 0


@dataclass(slots=True)
class Connection:
    """One connection: its frame and key, the counter it expects, whether a late packet was just sent."""

    frame: bytes
    key: bytes
    late: bool
    count: int = 0
    sent_s: float = 0.0
    refreshed: bool = False


def connections() -> list[Connection]:
    made = []
    for number in range(STEADY + LATE):
        packet = frame(TCP, 0, number, PAIRS, flags=ACK, reply=False)
        key = key4("10.64.0.36", 1024 + number // PAIRS % 60000, f"10.65.0.{number % PAIRS}", 80)
        made.append(Connection(packet, key, number >= STEADY))
    return made


def counter(ct: Map, key: bytes) -> int:
    """Packets an entry counted; -1 where there is none."""
    value = ct.lookup(key)
    return int.from_bytes(value[16:24], "little") if value is not None else -1


def send(simulator: Simulator, ct: Map, run: object, result: Result, *, end: float, origin: float) -> None:
    """Send packets until ``end``, each connection's next at its own time."""
    rng, flows = random.Random(1), connections()
    due = [(origin + rng.random() * LIFETIME * UNIT_S, number) for number in range(len(flows))]
    heapq.heapify(due)
    clock = 0
    while (now := time.monotonic()) < end:
        at, number = due[0]
        if (unit := int((now - origin) / UNIT_S)) != clock:
            clock = unit
            simulator.set_clock(START + clock)
        if at > now:
            continue
        flow = flows[number]
        run.run(flow.frame)  # type: ignore[attr-defined]
        result.packets += 1
        count, within = counter(ct, flow.key), now - flow.sent_s < (LIFETIME - 1) * UNIT_S
        kept = count == flow.count + 1
        if flow.late:
            late_packet = not flow.refreshed
            if not late_packet and not kept and within:
                result.late_lost += 1
            result.late_refreshed += late_packet and kept
            flow.refreshed = late_packet and kept
            gap = 0.3 if flow.refreshed else rng.uniform(LIFETIME, LIFETIME + 2)
        else:
            # A lifetime is cut to whole units: LIFETIME - 1 of them are sure. A sender that was held up is no proof.
            if flow.sent_s and not kept and within:
                result.steady_lost += 1
            result.overruns += not within and flow.sent_s > 0
            gap = rng.uniform(0.2, LIFETIME - 1.05)
        flow.count, flow.sent_s = count, now
        heapq.heapreplace(due, (now + gap * UNIT_S, number))


def experiment(engine: Engine, seconds: float, *, recheck: bool) -> Result:
    """Traffic and collections side by side for ``seconds``."""
    result, done = Result(), threading.Event()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "node.yaml")
        file.write_text(NODE)
        node = load_node_file(file)
    with Simulator(node, now=START, full_size=True) as simulator:
        run = simulator.program(Hook.FROM_CONTAINER, node.endpoints[0]).prepare_test_run(max_frame=64)
        simulator.mute()
        simulator.set_clock(START)
        ct = simulator.maps[NAME]
        target = private_target(table_of(NAME, ct))
        origin = time.monotonic()

        def collect() -> None:
            while not done.is_set():
                # The clock as the datapath has it, so that both mean the same by expired.
                job = Job(simulator.now, done, RateLimit(None, done), recheck=recheck)
                tally = Tally()
                engine(target.table, target, job, tally)
                result.collections += 1
                result.deleted += int(tally.deleted.sum())
                result.skipped += int(tally.skipped.sum())

        collector = threading.Thread(target=collect)
        collector.start()
        try:
            send(simulator, ct, run, result, end=origin + seconds, origin=origin)
        finally:
            done.set()
            collector.join()
    return result


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--minutes", type=float, default=10)
    seconds = arguments.parse_args().minutes * 60
    runs = {
        "batch": experiment(batch.collect, seconds * 0.45, recheck=True),
        "kernel": experiment(walk.collect, seconds * 0.45, recheck=True),
        "batch without re-check": experiment(batch.collect, seconds * 0.1, recheck=False),
    }
    figures = {name: {field: getattr(result, field) for field in Result.__slots__} for name, result in runs.items()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"minutes": seconds / 60, "runs": figures}, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
