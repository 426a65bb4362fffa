"""What must survive: kill -9 at any moment, and entries that packets refresh while GC runs."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ctctl.gc import batch, walk
from ctctl.gc.job import Job
from ctctl.gc.limit import RateLimit
from ctctl.gc.perkey import lifetime_of
from ctctl.gc.report import EngineName, Report
from ctctl.gc.run import GcOptions, run
from ctctl.kernel.map import Map, MapType
from ctctl.tables.sources.open import open_source
from tests.support.gctables import CT, NOW, as_target, collected, contents, entry, random_keys, random_values, table_dir
from tests.support.wait import PATIENCE_S

pytestmark = pytest.mark.kernel

NAME = "cilium_ct4_global"


def _run(path: Path, engine: EngineName, progress: Callable[[int], None] | None = None) -> Report:
    with open_source(str(path)) as source:
        return run(source, GcOptions(engine=engine, now=NOW), threading.Event(), progress)


class _StopsItself:
    """As GC's progress: the process stops (SIGSTOP) when it is told for the n-th time, wherever GC stands then."""

    def __init__(self, told: int) -> None:
        self._left = told

    def __call__(self, _more: int) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGSTOP)


def _collect_in_a_child(path: Path, engine: EngineName, progress: Callable[[int], None] | None = None) -> int:
    """Fork a process that collects; its pid. Forked, not started: the interpreter's start would hide the run."""
    pid = os.fork()
    if pid == 0:
        try:
            _run(path, engine, progress)
        finally:
            os._exit(0)
    return pid


def _wait_for_end(pid: int, at_most_s: float) -> None:
    fd = os.pidfd_open(pid)
    select.select([fd], [], [], at_most_s)
    os.close(fd)


class _Filled:
    """A table of which GC has to leave the living entries, as they are, however often it is killed."""

    def __init__(self, table: Map, size: int) -> None:
        rng = np.random.default_rng(20)
        self.table, self.size = table, size
        self.keys, self.values = random_keys(size, CT[NAME], rng), random_values(size, rng)
        pairs = zip(self.keys, self.values, strict=True)
        self.living = {bytes(k): bytes(v) for k, v in pairs if lifetime_of(bytes(v)) >= NOW}

    def fill(self) -> None:
        self.table.update_batch(self.keys, self.values)

    def left_by(self, killed: int) -> int:
        """Kill the process; how many entries are left, after a look that no living one is gone or changed."""
        os.kill(killed, signal.SIGKILL)
        os.waitpid(killed, 0)
        left = contents(self.table)
        assert left.keys() >= self.living.keys()
        assert all(left[key] == value for key, value in self.living.items())
        return len(left)


@pytest.mark.parametrize("engine", list(EngineName))
def test_kill_9_at_random_moments(tmp_path: Path, engine: EngineName) -> None:
    """Wherever a run is; whether it is hit in its middle is up to the machine (the next test's are, always)."""
    rng = np.random.default_rng(20)
    size = 3000 if engine is EngineName.PER_KEY else 30_000
    with table_dir(tmp_path) as node:
        filled = _Filled(node.create(NAME, 2 * size), size)
        filled.fill()
        started = time.monotonic()
        os.waitpid(_collect_in_a_child(node.path, engine), 0)
        whole_s = time.monotonic() - started
        for _ in range(16):
            filled.fill()
            pid = _collect_in_a_child(node.path, engine)
            # The moment is the point of the test: anywhere from before the first entry to after the last.
            _wait_for_end(pid, float(rng.random()) * whole_s)
            filled.left_by(pid)
        assert _run(node.path, engine).complete
        assert contents(filled.table) == filled.living


@pytest.mark.parametrize("engine", [EngineName.BATCH, EngineName.PER_KEY])
def test_kill_9_in_the_middle(tmp_path: Path, engine: EngineName) -> None:
    """At each moment at which GC tells its progress: the run stands there when it is killed, on any machine."""
    size = 3000 if engine is EngineName.PER_KEY else 30_000
    with table_dir(tmp_path) as node:
        filled = _Filled(node.create(NAME, 2 * size), size)
        filled.fill()
        told: list[int] = []
        assert _run(node.path, engine, told.append).complete
        lefts = []
        for moment in range(1, len(told) + 1):
            filled.fill()
            pid = _collect_in_a_child(node.path, engine, _StopsItself(moment))
            _, status = os.waitpid(pid, os.WUNTRACED)
            if os.WIFSTOPPED(status):
                lefts.append(filled.left_by(pid))
            else:
                # What is filled anew lies in another order: that run had a batch less to tell of.
                assert moment > 2, status
                assert contents(filled.table) == filled.living
        assert sum(len(filled.living) < left < size for left in lefts) >= 2
        assert _run(node.path, engine).complete
        assert contents(filled.table) == filled.living


class Traffic:
    """A connection's packets: each refreshes its entry, and writes it anew when it is gone, as the datapath does.

    The entries live in a map; ``breaks`` counts entries that were gone though refreshed within their lifetime.
    """

    def __init__(self, table: Map, keys: list[bytes]) -> None:
        self._table = table
        self._keys = keys
        self._stop = threading.Event()
        self.breaks = 0
        self.packets = 0
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._stop.is_set():
            for key in self._keys:
                self.packets += 1
                if self._table.lookup(key) is None:
                    self.breaks += 1
                self._table.update(key, entry(lifetime=NOW + 1))


def _collect_under_traffic(recheck: bool, seconds: float) -> tuple[int, int]:
    """Run GC back to back over connections that are refreshed between its test and its delete; (breaks, deleted)."""
    rng = np.random.default_rng(6)
    stop = threading.Event()
    deleted = 0
    with Map.create("ct", MapType.LRU_HASH, 14, 56, 65536) as ct:
        layout = CT[NAME]
        table = as_target(ct)
        idle, busy = random_keys(2000, layout, rng), random_keys(64, layout, rng)
        busy[:, 4:8] = 255
        busy_keys = [bytes(key) for key in busy]
        end = time.monotonic() + seconds

        def refreshed(_candidates: object) -> None:
            # A packet just within the lifetime of a connection whose entry was read a moment earlier.
            for key in busy_keys:
                if ct.lookup(key) is not None:
                    ct.update(key, entry(lifetime=NOW + 1))

        breaks = rounds = 0
        while time.monotonic() < end or not rounds:
            rounds += 1
            ct.update_batch(idle, random_values(len(idle), rng, expired=1.0))
            for key in busy_keys:
                ct.update(key, entry(lifetime=NOW - 1))
            tally = collected(
                batch.collect, table, Job(NOW, stop, RateLimit(None, stop), recheck=recheck, before_delete=refreshed)
            )
            deleted += int(tally.deleted.sum())
            breaks += sum(ct.lookup(key) is None for key in busy_keys)
    return breaks, deleted


def test_refreshed_entries_survive_with_the_recheck_and_only_with_it() -> None:
    breaks, deleted = _collect_under_traffic(recheck=True, seconds=0.5)
    assert (breaks, deleted > 0) == (0, True)
    breaks, _ = _collect_under_traffic(recheck=False, seconds=0.2)
    assert breaks > 0


@pytest.mark.parametrize("collect", [batch.collect, walk.collect], ids=["batch", "kernel"])
def test_live_connections_are_never_touched_under_traffic(collect) -> None:
    rng = np.random.default_rng(8)
    stop, rounds = threading.Event(), 0
    with Map.create("ct", MapType.LRU_HASH, 14, 56, 65536) as ct:
        layout = CT[NAME]
        table = as_target(ct)
        idle, busy = random_keys(2000, layout, rng), random_keys(200, layout, rng)
        busy[:, 4:8] = 255
        with Traffic(ct, [bytes(key) for key in busy]) as traffic:
            end = time.monotonic() + 1.0
            # Its first packets find no entry; from then on none may be missing.
            while traffic.packets < len(busy):
                assert time.monotonic() < end + PATIENCE_S
            before = traffic.breaks
            while time.monotonic() < end or rounds < 5:
                ct.update_batch(idle, random_values(len(idle), rng, expired=1.0))
                collected(collect, table, Job(NOW, stop, RateLimit(None, stop)))
                rounds += 1
        assert traffic.packets > len(busy)
        assert traffic.breaks == before == len(busy)
