"""A made-up fleet as a lake, and what collecting and asking it costs: python -m tests.bench.fleet [--nodes N] …

Every node has pods, and connections to the pods of every other: OUT on one node, IN on the other, SVC where it
went to a service. A known few are missing where they should be IN, a known few are of a backend that is gone; the
answers are held against what was planted. Writes results/fleet.json; tests.bench.fleet_page puts its figures into
docs/fleet-cost.md, and a test compares. The lake stays with --lake DIR, else it goes. To make it takes three seconds of
CPU a million rows, on all cores; what is there already is left, so that a run which was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctctl.abi import layouts, pins
from ctctl.fleet.lake import Collection, Lake, Part
from ctctl.fleet.questions import QUESTIONS
from ctctl.fleet.tables import TABLES, listing_rows
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.model.nat import NatEntry
from ctctl.model.service import Backend, EndpointRecord
from ctctl.model.tuples import TCP, Direction, FlowTuple
from ctctl.tables.show.arrow import Stamp, arrow_rows, row_groups
from ctctl.tables.sources.base import CtTable, Source
from ctctl.tables.sources.listings import Listings
from ctctl.tables.sources.snapshot_write import write_snapshot

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests/bench/results/fleet.json"
NOW = 1_000_000
MADE = datetime(2026, 1, 15, 10, 0, 0, tzinfo=UTC)
PODS, SERVICES = 50, 200
_SHARE_OUT, _SHARE_IN = 0.4, 0.4
#: How many times its rows of the day before a node has.
_GROWTH = 100


def pod(node: int, number: int) -> int:
    """A pod's address."""
    return 0x0A000000 | node << 8 | number + 1


def _pair(client: int, server: int, count: int) -> tuple[NDArray[np.uint32], ...]:
    """The connections from one node's pods to another's, the same whoever asks."""
    rng = np.random.default_rng((client << 16) | server)
    src = (pod(client, 0) + rng.integers(0, PODS, count)).astype(np.uint32)
    dst = (pod(server, 0) + rng.integers(0, PODS, count)).astype(np.uint32)
    sport = (1024 + rng.permutation(60000)[:count]).astype(np.uint32)
    dport = rng.choice(np.array([80, 443, 5432, 6379, 8000, 8080, 9090], np.uint32), count)
    return src, dst, sport, dport


def planted(client: int, server: int) -> int:
    """How many of a pair's connections never came in."""
    return int((client + server) % 10 == 0 and client != server)


def rows_of(node: int, nodes: int, rows: int, service_ids: int = SERVICES) -> tuple[NDArray[Any], NDArray[Any]]:
    """Keys and values of a node's table."""
    count = int(rows * _SHARE_OUT / nodes)
    out = [np.concatenate(part) for part in zip(*(_pair(node, other, count) for other in range(nodes)), strict=True)]
    in_pairs = [_pair(other, node, count) for other in range(nodes)]
    held = [tuple(column[planted(other, node) :] for column in pair) for other, pair in enumerate(in_pairs)]
    come = [np.concatenate(part) for part in zip(*held, strict=True)]
    services = rows - len(out[0]) - len(come[0])
    rng = np.random.default_rng(node)
    svc = [column[:services].copy() for column in out]
    svc[1] = (0x0A600000 + rng.integers(0, service_ids, services)).astype(np.uint32)
    made = [(out, 0), (come, 1), (svc, 4)]
    keys = np.concatenate([_keys(columns, flags) for columns, flags in made])
    values = _values(keys, rng, service_ids)
    order = rng.permutation(len(keys))
    return keys[order], values[order]


def _keys(columns: list[NDArray[np.uint32]], flags: int) -> NDArray[Any]:
    src, dst, sport, dport = columns
    keys = np.zeros(len(src), np.dtype(layouts.ipv4_ct_tuple))
    # A SERVICE tuple is as the packet's, the others are reversed, ports crossed (docs/reference/abi.md).
    src, dst = src.astype(np.uint32).byteswap(), dst.astype(np.uint32).byteswap()
    sport, dport = sport.astype(np.uint16).byteswap(), dport.astype(np.uint16).byteswap()
    keys["daddr"], keys["saddr"] = (dst, src) if flags == 4 else (src, dst)
    keys["dport"], keys["sport"] = (sport, dport) if flags == 4 else (dport, sport)
    keys["nexthdr"], keys["flags"] = TCP, flags
    return keys


def _values(keys: NDArray[Any], rng: np.random.Generator, service_ids: int) -> NDArray[Any]:
    from ctctl.decode.columns import record_types

    count = len(keys)
    values = np.zeros(count, record_types(4)[1])
    values["flags"] = rng.choice(np.array([0x00, 0x10, 0x11, 0x13], np.uint16), count, p=[0.1, 0.6, 0.1, 0.2])
    last = (NOW - rng.integers(0, 3000, count)).astype(np.uint32)
    values["last_tx_report"], values["last_rx_report"] = last, last
    values["lifetime"] = last + 8000
    late = rng.random(count) < 0.02
    values["lifetime"][late] = NOW - rng.integers(1, 120, int(late.sum()))
    service = keys["flags"] == 4
    # One backend in a thousand is gone: those with a number above all that the backend table has.
    numbers = rng.integers(1, 1000, count)
    values["word8"] = np.where(service, np.where(rng.random(count) < 0.001, 5000, numbers), 0)
    values["rev_nat"] = np.where(service, 1 + rng.integers(0, service_ids, count), 0)
    values["word16"], values["word24"] = rng.integers(1, 1000, count), rng.integers(60, 1_000_000, count)
    values["src_sec_id"] = 1000 + (keys["saddr"] & 0x3F)
    return values


def source_of(node: int, nodes: int, rows: int) -> Source:
    """A node's tables as a source."""
    keys, values = rows_of(node, nodes, rows)
    raw_keys, raw_values = keys.view(np.uint8).reshape(len(keys), 14), values.view(np.uint8).reshape(len(keys), 56)

    def read() -> Any:
        for start in range(0, len(raw_keys), 8192):
            yield raw_keys[start : start + 8192], raw_values[start : start + 8192]

    table = CtTable(pins.CT4_TCP, 4, Layout.V1_16, read, "made up", node_name(node), clock=Clock(), now=NOW)
    found = Listings()
    found.endpoints = [
        EndpointRecord(IPv4Address(pod(node, n)), endpoint_id=n + 1, identity=1000 + n) for n in range(PODS)
    ]
    found.backends = [Backend(n, IPv4Address(pod(n % nodes, n % PODS)), TCP, 8000, "active") for n in range(1, 1000)]
    egress = IPv4Address(0xC0A80000 + node)
    for number in range(2000):
        flow = FlowTuple(
            TCP, IPv4Address(pod(node, number % PODS)), 1024 + number, IPv4Address(0xC6336401 + number % 8), 443
        )
        found.nat_entries.append(NatEntry(None, flow, Direction.OUT, False, "SRC", egress, 32768 + number))
    source = Source(f"made up {node}", [table], lambda _node: found, node_names=[node_name(node)])
    source.collected_at = (MADE + timedelta(seconds=node % 5)).timestamp()
    return source


def node_name(node: int) -> str:
    return f"node-{node:04d}"


def write_node(job: tuple[str, int, int, int]) -> int:
    """A node's collections into the lake: a small one of the day before, and its newest. Rows of the newest, or 0."""
    where, node, nodes, rows = job
    if Lake(where).find(_collection_number(node, timedelta())) is not None:
        return 0
    write_earlier(job)
    return _collect(Lake(where), source_of(node, nodes, rows), node, timedelta())


def _collection_number(node: int, ago: timedelta) -> str:
    """The same for a node and a day in every run, so that what is there is known again."""
    return f"{ago.days << 64 | node:032x}"


def write_earlier(job: tuple[str, int, int, int]) -> int:
    """The one of the day before: what the newest has grown from. Its rows."""
    where, node, nodes, rows = job
    return _collect(Lake(where), source_of(node, nodes, rows // _GROWTH), node, timedelta(days=1))


def _collect(lake: Lake, source: Source, node: int, ago: timedelta) -> int:
    moment = datetime.fromtimestamp(source.collected_at or 0, UTC) - ago
    name = node_name(node)
    about = Collection(
        _collection_number(node, ago), "bench", name, moment, "made up", None, source.description, True, ("ipv4/TCP",)
    )
    stamp = Stamp("bench", name, moment, about.collection, None)
    parts = {}
    with lake.file(about.path("ct"), TABLES["ct"]) as file:
        for part in row_groups(source.tables[0].columns()):
            file.add(arrow_rows(source.tables[0], part, stamp))
    parts["ct"] = Part(about.path("ct"), file.rows, lake.size(about.path("ct")))
    for kind in ("nat", "backends", "endpoints", "services", "ipcache"):
        with lake.file(about.path(kind), TABLES[kind]) as file:
            for listed in listing_rows(kind, source.listings(None), stamp, (Clock(), NOW)):
                file.add(listed)
        parts[kind] = Part(about.path(kind), file.rows, lake.size(about.path(kind)))
    lake.commit(replace(about, tables=parts))
    return parts["ct"].rows


def measured(*command: str) -> tuple[dict[str, float], str]:
    """Seconds of CPU and wall clock and the most memory of a child, and what it printed."""
    reader = (
        "import json,resource,subprocess,sys,time\n"
        "start=time.monotonic(); done=subprocess.run(sys.argv[1:],stdout=subprocess.PIPE)\n"
        "used=resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "sys.stdout.buffer.write(done.stdout)\n"
        "print('\\n'+json.dumps({'cpu_s':round(used.ru_utime+used.ru_stime,2),'wall_s':round(time.monotonic()-start,2),"
        "'rss_mb':used.ru_maxrss//1024,'code':done.returncode}))"
    )
    done = subprocess.run([sys.executable, "-c", reader, *command], capture_output=True, text=True, check=True)
    text, _, last = done.stdout.rstrip().rpartition("\n")
    return json.loads(last), text


def collecting(rows: int, folder: Path) -> dict[str, float]:
    """What collecting one node's snapshot costs, beyond starting the command."""
    source = source_of(0, 100, rows)
    snapshot = folder / "node.ctsnap"
    with snapshot.open("wb") as stream:
        write_snapshot(source, source.tables, lambda table: table.read(), stream)
    small = source_of(0, 100, 1000)
    start = folder / "small.ctsnap"
    with start.open("wb") as stream:
        write_snapshot(small, small.tables, lambda table: table.read(), stream)
    best: dict[str, float] = {}
    for turn in range(3):
        full, _ = measured(_CTCTL, "fleet", "collect", str(folder / f"lake{turn}"), "--from", str(snapshot))
        base, _ = measured(_CTCTL, "fleet", "collect", str(folder / f"base{turn}"), "--from", str(start))
        cost = full["cpu_s"] - base["cpu_s"]
        if not best or cost < best["cpu_s"]:
            best = {
                "rows": rows,
                "cpu_s": round(cost, 2),
                "rows_per_cpu_s": round(rows / cost),
                "rss_mb": full["rss_mb"],
            }
    files = sum(path.stat().st_size for path in (folder / "lake0").rglob("*.parquet"))
    return {**best, "snapshot_bytes": snapshot.stat().st_size, "lake_bytes": files}


_CTCTL = str(ROOT / ".venv/bin/ctctl")
_EXTRA = {"flow": ["--flow", "tcp 10.0.1.5 > 10.0.2.9"], "node-loss": ["--node", node_name(1)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--lake")
    parser.add_argument("--ask", default=",".join(QUESTIONS))
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ctctl-fleet-bench-"))
    lake = args.lake or str(folder / "lake")
    try:
        found = run(args, lake, folder)
    finally:
        shutil.rmtree(folder)
    # What other programs measured stays: this one asks no Spark.
    kept = {name: value for name, value in json.loads(RESULTS.read_text()).items() if name in ("spark", "documents")}
    RESULTS.write_text(json.dumps({**found, **kept}, indent=1) + "\n")


def run(args: argparse.Namespace, lake: str, folder: Path) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    how = f"each question asked twice, the cheaper; a load of {os.getloadavg()[0]:.1f} on {cores} cores at the start"
    found: dict[str, Any] = {"nodes": args.nodes, "rows_a_node": args.rows, "how": how}
    found["collect"] = collecting(args.rows, folder)
    print("collect", found["collect"], flush=True)
    started = time.monotonic()
    with ProcessPoolExecutor(cores) as pool:
        jobs = [(lake, node, args.nodes, args.rows) for node in range(args.nodes)]
        total = sum(pool.map(write_node, jobs))
    print(f"made {total} rows in {time.monotonic() - started:.0f} s", flush=True)
    found["lake_bytes"] = sum(path.stat().st_size for path in Path(lake).rglob("*.parquet"))
    found["questions"] = {}
    expected = sum(planted(a, b) for a in range(args.nodes) for b in range(args.nodes))
    for name in args.ask.split(","):
        command = [
            _CTCTL,
            "fleet",
            "ask",
            name,
            "--lake",
            lake,
            "-o",
            "jsonl",
            *_EXTRA.get(name, []),
        ]
        best, text = min((measured(*command) for _ in range(2)), key=lambda one: one[0]["cpu_s"])
        best["rows"] = len(text.splitlines())
        if name == "out-without-in":
            best["planted"] = expected
        found["questions"][name] = best
        print(name, best, flush=True)
    found["cores"] = cores
    found["rss_of_bench_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


if __name__ == "__main__":
    main()
