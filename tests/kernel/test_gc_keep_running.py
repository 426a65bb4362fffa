"""GC that keeps running, and metrics, on real tables."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ctctl.abi import layouts
from ctctl.gc.keep_running import FullSignal, keep_running
from ctctl.gc.report import Report
from ctctl.gc.run import GcOptions
from ctctl.gc.schedule import Schedule
from ctctl.kernel.clock import monotonic_s
from ctctl.kernel.map import Map, MapType
from ctctl.metrics.serve import scrape
from ctctl.tables.sources.base import Source
from ctctl.tables.sources.open import open_source
from tests.support.children import CTCTL, line_of, started
from tests.support.gctables import TableDir, contents, entry, key4, table_dir
from tests.support.mounts import unmount
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = pytest.mark.kernel

CPUS = os.cpu_count() or 1


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TableDir]:
    """Both families, half expired by the real clock."""
    with table_dir(tmp_path) as made:
        now = monotonic_s()
        for seed, name in enumerate(("cilium_ct4_global", "cilium_ct6_global")):
            made.create(name)
            # Lifetimes are unsigned: a machine that booted just now has few seconds to be expired by.
            made.fill(name, 400, np.random.default_rng(seed), now=now + 10_000)
            table = made.maps[name]
            for key in list(contents(table))[:200]:
                table.update(key, entry(lifetime=0))
        yield made


def opening(path: Path) -> Callable[[], Source]:
    return lambda: open_source(str(path))


class Runs:
    """Reports of a collector in a thread, stopped at the end."""

    def __init__(self, node: TableDir, options: GcOptions, schedule: Schedule, **more: object) -> None:
        self.reports: list[Report] = []
        self.failures: list[str] = []
        self.stop = threading.Event()
        more |= {"on_report": self.reports.append, "on_failure": self.failures.append}
        self.thread = threading.Thread(
            target=lambda: keep_running(opening(node.path), options, schedule, self.stop, poll_s=0.02, **more)
        )

    def __enter__(self) -> Runs:
        self.thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


def families_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: dict, name: str, /, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def get(address: str) -> str:
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.status == 200
    text = response.read().decode()
    connection.close()
    return text


def test_runs_at_once_and_again(node: TableDir) -> None:
    with Runs(node, GcOptions(), Schedule(fixed_s=0.1)) as runs:
        wait_for(lambda: len(runs.reports) >= 3)
    first, second = runs.reports[:2]
    assert {t.map for t in first.tables} == {"cilium_ct4_global", "cilium_ct6_global"}
    assert [t.deleted for t in first.tables] == [200, 200]
    assert second.deleted == 0
    assert not runs.failures


def test_a_short_interval_does_not_cut_runs_short(node: TableDir) -> None:
    with Runs(node, GcOptions(), Schedule(fixed_s=0.0001)) as runs:
        wait_for(lambda: len(runs.reports) >= 3)
    assert all(report.complete for report in runs.reports[:-1])
    assert runs.reports[0].deleted == 400


def test_auto_follows_the_rule(node: TableDir) -> None:
    schedule = Schedule()
    with Runs(node, GcOptions(), schedule) as runs:
        wait_for(lambda: runs.reports)
    # 200 of 4096: under 5 %, half as long again
    assert runs.reports[0].next_interval_s == schedule.interval_s == 450


def test_a_table_full_signal_brings_the_run_forward(node: TableDir) -> None:
    stats = node.add("ctctl_stats", Map.create("ctctl_stats", MapType.PERCPU_ARRAY, 4, 8, layouts.CtctlStat.STAT_MAX))
    signal_ = FullSignal(node.path)
    assert not signal_.raised()
    index = int(layouts.CtctlStat.STAT_CT_CREATE_FAILED).to_bytes(4, "little")
    count = 0

    def fail() -> None:
        nonlocal count
        count += 1
        stats.update(index, count.to_bytes(8, "little").ljust(stats.value_bytes, b"\0"))

    fail()
    assert signal_.raised()
    assert not signal_.raised()
    # Half a second instead of the rule's ten, so that the test need not wait for it.
    schedule = Schedule(fixed_s=0.5)
    schedule.interval_s = 3600

    class Impatient(Schedule):
        def due_in(self, now: float, *, table_full: bool = False) -> float:
            return 0.0 if table_full else super().due_in(now)

    with Runs(node, GcOptions(), Impatient()) as runs:
        wait_for(lambda: len(runs.reports) == 1)
        node.maps["cilium_ct4_global"].update(key4("1.1.1.1", 1, "2.2.2.2", 2), entry(lifetime=0))
        fail()
        wait_for(lambda: len(runs.reports) == 2)
    assert runs.reports[1].deleted == 1


def test_neither_family_starves_behind_a_rate_limit(node: TableDir) -> None:
    # IPv4 has more to delete than a turn allows; IPv6 must get its turn in each run all the same.
    # Turns of 2 s against 10 s for each family: a slow machine is still far from done, and gets something done.
    with Runs(node, GcOptions(rate=20), Schedule(fixed_s=2), least_run_s=2) as runs:
        wait_for(lambda: len(runs.reports) >= 2)
    for report in runs.reports[:2]:
        by_family = {t.family: t for t in report.tables}
        assert by_family["ipv4"].deleted > 0
        assert by_family["ipv6"].deleted > 0
        assert not report.complete


def test_a_broken_family_does_not_stop_the_other(tmp_path: Path, node: TableDir, monkeypatch) -> None:
    from ctctl.errors import KernelError
    from ctctl.gc import batch, run
    from ctctl.gc.report import EngineName

    def broken(table, target, job, tally):
        if table.family == 4:
            raise KernelError("read map", table.name, 5)
        batch.collect(table, target, job, tally)

    monkeypatch.setitem(run.ENGINES, EngineName.BATCH, broken)
    with Runs(node, GcOptions(), Schedule(fixed_s=0.1)) as runs:
        wait_for(lambda: len(runs.reports) >= 2)
    report = runs.reports[0]
    assert [(t.map, t.deleted, t.complete) for t in report.tables] == [
        ("cilium_ct4_global", 0, False),
        ("cilium_ct6_global", 200, True),
    ]
    assert "cilium_ct4_global" in report.notes[0]
    assert not report.complete


def test_tables_that_go_away_are_a_failure_told_not_an_end(node: TableDir) -> None:
    with Runs(node, GcOptions(), Schedule(fixed_s=0.05)) as runs:
        wait_for(lambda: runs.reports)
        for name in list(node.maps):
            (node.path / name).unlink()
        wait_for(lambda: runs.failures)
        node.create("cilium_ct_any4_global")
        count = len(runs.reports)
        wait_for(lambda: len(runs.reports) > count)
    assert "no conntrack table" in runs.failures[0]
    assert runs.reports[-1].tables[0].map == "cilium_ct_any4_global"


def test_metrics_of_a_collector(node: TableDir) -> None:
    command = (*CTCTL, "gc", "--from", node.path, "--interval", "auto", "--metrics", "127.0.0.1:0", "-o", "jsonl")
    with started(*command) as process:
        wait_for(lambda: len(contents(node.maps["cilium_ct6_global"])) == 200)
        port = wait_for(lambda: _listening_port(process.pid))
        wait_for(lambda: "gc_runs_total{" in get(f"127.0.0.1:{port}"))
        samples = families_of(get(f"127.0.0.1:{port}"))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert out.count("\n") >= 2
    labels = {"family": "ipv6", "protocol": "TCP"}
    name = "ctctl_datapath_conntrack_gc"
    assert value(samples, f"{name}_runs_total", **labels, status="completed") == 1
    assert value(samples, f"{name}_entries", **labels, status="alive") == 200
    assert value(samples, f"{name}_entries", **labels, status="deleted") == 200
    assert value(samples, f"{name}_duration_seconds_count", **labels, status="completed") == 1
    assert samples[f"{name}_interval_seconds", frozenset({("global", "global")})] == 450
    resets = {"area": "conntrack", "name": "dump_interrupts", "family": "ipv6"}
    assert value(samples, "ctctl_datapath_conntrack_dump_resets_total", **resets) == 0
    assert value(samples, "ctctl_bpf_map_pressure", map_name="ct6_global") == 200 / 4096


def _listening_port(pid: int) -> int:
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(fd.readlink()).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            return int(fields[1].rpartition(":")[2], 16)
    return 0


def test_metrics_of_tables(node: TableDir) -> None:
    size = layouts.CtctlHook.HOOK_MAX * layouts.CtctlReason.REASON_MAX
    counters = node.add("ctctl_metrics", Map.create("ctctl_metrics", MapType.PERCPU_ARRAY, 4, 16, size))
    index = layouts.CtctlHook.HOOK_TO_CONTAINER * layouts.CtctlReason.REASON_MAX + layouts.CtctlReason.REASON_POLICY
    one = bytes(layouts.ctctl_counter(packets=3, bytes=180))
    counters.update(index.to_bytes(4, "little"), one * (counters.value_bytes // 16))
    cpus = counters.value_bytes // 16
    samples = families_of(scrape(node.path))
    assert value(samples, "ctctl_bpf_map_pressure", map_name="ct4_global") == 400 / 4096
    conntrack = {"family": "ipv4", "protocol": "TCP"}
    assert value(samples, "ctctl_datapath_conntrack_entries", **conntrack, status="alive") == 200
    assert value(samples, "ctctl_datapath_conntrack_entries", **conntrack, status="expired") == 200
    dropped = {"hook": "to_container", "reason": "policy"}
    assert value(samples, "ctctl_datapath_packets_total", **dropped) == 3 * cpus
    assert value(samples, "ctctl_datapath_bytes_total", **dropped) == 180 * cpus


def test_metrics_serve_until_stopped(node: TableDir) -> None:
    with started(*CTCTL, "metrics", "serve", "127.0.0.1:0", "--from", node.path) as process:
        address = line_of(process, process.stderr).strip().removeprefix("http://").removesuffix("/metrics")
        samples = families_of(get(address))
        assert samples["ctctl_node_up", frozenset()] == 1
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


def test_a_used_port_is_one_line(node: TableDir) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [*CTCTL, "metrics", "serve", address, "--from", str(node.path)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"ctctl: cannot serve metrics on {address}: ")
    assert len(done.stderr.splitlines()) == 1


def test_metrics_of_a_read_only_bpffs(node: TableDir, tmp_path: Path) -> None:
    """As the DaemonSet of deploy/ mounts it."""
    mount = tmp_path / "ro"
    mount.mkdir()
    subprocess.run(["mount", "--bind", "-o", "ro", node.path.parents[1], mount], check=True)
    try:
        where = mount / node.path.relative_to(node.path.parents[1])
        with pytest.raises(OSError, match="Read-only"):
            (where / "new").mkdir()
        samples = families_of(scrape(where))
        assert value(samples, "ctctl_bpf_map_pressure", map_name="ct4_global") == 400 / 4096
    finally:
        unmount(mount)
