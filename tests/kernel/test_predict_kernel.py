"""Predictions against the kernel: the datapath's programs, an LRU table and GC under a scaled-down workload.

tests/bench/predict.py is the long form of this; its figures are in tests/bench/results/predict.json.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ctctl.model.timeouts import Timeouts
from ctctl.predict.fluid import predict
from ctctl.predict.model import MODELLED_TIMEOUTS, Duration, Shape, Workload
from ctctl.predict.observed import observe
from ctctl.predict.sizing import memory_of
from ctctl.tables.sources.base import SourceOptions
from ctctl.tables.sources.open import open_source
from tests.bench import predict as bench
from tests.support.gctables import NOW, entry, key4, table_dir

pytestmark = pytest.mark.kernel

TCP, ANY = "cilium_ct4_global", "cilium_ct_any4_global"
SECONDS = 120


@pytest.mark.slow
@pytest.mark.parametrize("name", ["roomy", "too small for the living"])
def test_fill_within_5_percent_and_evictions_within_15(name: str) -> None:
    case = bench.CASES[name]
    measured = bench.measure(case, SECONDS)
    predicted = predict(case, SECONDS, step_s=1.0, cpus=1)
    for table in predicted.tables:
        real = measured[table.name]
        fill = float(np.mean([sample.entries[table.name] for sample in predicted.samples][SECONDS // 3 :]))
        seen = float(np.mean(real.each_second[SECONDS // 3 :]))
        assert fill == pytest.approx(seen, rel=0.05)
        assert table.evicted == pytest.approx(real.evicted + real.unseen(), rel=0.15, abs=50)


def test_memory_is_what_the_kernel_says() -> None:
    small, large = memory_of(65536, 14), memory_of(131072, 14)
    assert 65536 * (14 + 56) < small < 65536 * 400
    assert large == pytest.approx(2 * small, rel=0.1)
    assert memory_of(1 << 24, 14) == pytest.approx(8 * memory_of(1 << 21, 14))


def test_a_workload_learned_from_a_table_leaves_such_a_table(tmp_path: Path) -> None:
    # 18 a second end with FIN, an open connection lasts 33 s, one in a hundred is lost.
    timeouts = Timeouts()
    with table_dir(tmp_path) as node:
        table = node.create(TCP, 16384)
        ports = iter(range(1, 60000))

        def add(count: int, left: int, flags: int) -> None:
            for i in range(count):
                key = key4("10.64.0.36", next(ports), "10.64.0.64", 80)
                table.update(key, entry(lifetime=NOW + left - i % 5, flags=flags, src_sec_id=3096))

        add(180, 9, 0x13)
        add(600, 7995, 0x10)
        add(1540, 4000, 0x10)
        with open_source(str(node.path), SourceOptions(now=NOW)) as source:
            (kind,) = observe(source, timeouts, MODELLED_TIMEOUTS).kinds
    assert kind.rate == pytest.approx(18.2, rel=0.02)
    assert kind.duration == Duration(Shape.EXPONENTIAL, pytest.approx(33, rel=0.02))
    assert kind.lost == pytest.approx(0.011, rel=0.05)
    found = predict(Workload((kind,), timeouts), 1800, step_s=2)
    sample = found.samples[-1]
    # The 1,540 that were idle at the start are still there, and those lost since then.
    assert sample.entries[TCP] - sample.expired[TCP] == pytest.approx(1540 + 180 + 600 + 0.2 * 1800, rel=0.05)


def test_learns_from_a_capture(tmp_path: Path) -> None:
    from scapy.all import IP, UDP, Ether, wrpcap
    from scapy.all import TCP as T

    from ctctl.predict.observed import kinds_of_capture

    packets = []

    def add(at: float, packet) -> None:
        frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet
        frame.time = 1000 + at
        packets.append(frame)

    for i in range(20):
        start = i * 0.5
        add(start, IP(src="10.0.0.1", dst="10.0.0.2") / T(sport=1000 + i, dport=80, flags="S"))
        if i < 4:
            continue
        add(start + 0.1, IP(src="10.0.0.2", dst="10.0.0.1") / T(sport=80, dport=1000 + i, flags="SA"))
        if i < 8:
            continue
        add(start + 2, IP(src="10.0.0.1", dst="10.0.0.2") / T(sport=1000 + i, dport=80, flags="FA"))
        add(start + 2, IP(src="10.0.0.2", dst="10.0.0.1") / T(sport=80, dport=1000 + i, flags="FA"))
    for i in range(5):
        add(i, IP(src="10.0.0.1", dst="10.0.0.3") / UDP(sport=2000 + i, dport=53))
        add(i + 0.01, IP(src="10.0.0.3", dst="10.0.0.1") / UDP(sport=53, dport=2000 + i))
    packets.sort(key=lambda p: p.time)
    path = tmp_path / "flows.pcap"
    wrpcap(str(path), packets)
    (tcp, udp), connections, _ = kinds_of_capture(path)
    span = max(p.time for p in packets) - 1000
    assert (tcp.protocol, udp.protocol) == ("tcp", "udp")
    assert tcp.rate == pytest.approx(float(20 / span))
    assert tcp.unanswered == pytest.approx(0.2)
    assert tcp.lost == pytest.approx(0.25)
    assert max(tcp.duration.samples) == pytest.approx(2, abs=0.01)
    assert (udp.rate, udp.pairs) == (pytest.approx(float(5 / span)), 1)
    assert connections == 25
    assert "25 connections in 11s" in (kinds_of_capture(path).doubt or "")
    command = [sys.executable, "-m", "ctctl", "gc", "simulate", "--pcap", str(path), "--for", "5m", "-o", "name"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2), done.stderr
