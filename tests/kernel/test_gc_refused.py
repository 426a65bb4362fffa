"""What the kernel refuses to delete is still there, and is told apart from what is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctctl.abi.layouts import CtctlGcStatus, CtctlWriterStatus
from ctctl.ct.change import Outcome, _delete_batch
from ctctl.gc import batch, perkey, programs, walk
from ctctl.gc.job import Engine, Job
from ctctl.gc.limit import RateLimit
from ctctl.gc.tally import Tally
from ctctl.kernel.map import Map, MapType
from ctctl.tables import pairs
from ctctl.tables.writer import programs as writing
from ctctl.tables.writer.journal import Journal, open_journal, records
from ctctl.tables.writer.remover import Remover
from tests.support.bpf import compile_file
from tests.support.gctables import CT, NOW, as_target, contents, entry, reverse_nat_value

pytestmark = pytest.mark.kernel

NAMES = ["cilium_ct4_global", "cilium_ct6_global"]
EXPIRED = entry(lifetime=NOW - 1)


class Tables:
    """A conntrack table of three expired entries and their SNAT pairs: nothing is refused of the first; the second
    itself is; of the third what its SNAT key is looked up by."""

    def __init__(self, name: str, ct: Map, nat: Map) -> None:
        layout = CT[name]
        self.name, self.ct, self.nat = name, ct, nat
        ends = [(1, 2), (200, 3), (4, 201)]
        size = layout.address
        self.keys = [bytes([a]) * size + bytes([b]) * size + bytes([1, 2, 3, 4, 6, 0]) for a, b in ends]
        for key in self.keys:
            ct.update(key, EXPIRED)
            forward = pairs.nat_key(key, False)
            value = (bytes(layout.nat_address) + bytes([9]) * size + b"\xc3\x50").ljust(layout.nat_value_size, b"\0")
            nat.update(forward, value)
            nat.update(pairs.reverse_nat_key(forward, value), reverse_nat_value(forward, value))

    def left(self) -> tuple[set[bytes], int]:
        return set(contents(self.ct)), len(contents(self.nat))

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        values = np.frombuffer(EXPIRED * len(self.keys), np.uint8)
        found = np.frombuffer(b"".join(self.keys), np.uint8)
        return found.reshape(len(self.keys), -1), values.reshape(len(self.keys), -1)


@pytest.fixture(params=NAMES)
def tables(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
    monkeypatch.setattr(programs, "OBJECT", compile_file("gc_refused.c"))
    monkeypatch.setattr(writing, "OBJECT", compile_file("writer_refused.c"))
    layout = CT[request.param]
    with (
        Map.create("ct", MapType.LRU_HASH, layout.size, 56, 256) as ct,
        Map.create("nat", MapType.LRU_HASH, layout.size, layout.nat_value_size, 256) as nat,
    ):
        yield Tables(request.param, ct, nat)


def job(**changes: object) -> Job:
    stop = threading.Event()
    return replace(Job(NOW, stop, RateLimit(None, stop)), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("planned", [False, True], ids=["expiry", "planned"])
@pytest.mark.parametrize("collect", [batch.collect, perkey.collect, walk.collect], ids=["batch", "per-key", "kernel"])
def test_an_engine_counts_what_was_refused_and_goes_on(
    tables: Tables, collect: Engine, planned: bool, tmp_path: Path
) -> None:
    path, tally = tmp_path / "undo", Tally()
    target = as_target(tables.ct, tables.nat, tables.name)
    if planned:
        with Journal.create(path, command="test", source="test", node=None) as journal:
            collect(target.table, target, job(journal=journal), tally)
    else:
        collect(target.table, target, job(), tally)
    assert tally.complete
    assert (int(tally.expired.sum()), int(tally.deleted.sum()), int(tally.skipped.sum())) == (3, 2, 1)
    assert (tally.nat_deleted, tally.refused) == (2, 2)
    # Its own pair, and the one that was refused.
    assert tables.left() == ({tables.keys[1]}, 4)
    if planned:
        written = {record.key for record in records(open_journal(path)) if record.table == tables.name}
        assert written == {tables.keys[0], tables.keys[2]}


def test_a_check_tells_what_stayed_from_what_is_gone(tables: Tables) -> None:
    target = as_target(tables.ct, None, tables.name)
    absent = bytes([250]) + tables.keys[0][1:]
    with programs.GcProgram(target, programs.Kind.CHECK, slots=3) as check:
        check.control["now"], check.control["nr_slots"] = NOW, 3
        for slot, key in zip(check.slots, (*tables.keys[:2], absent), strict=True):
            slot["key"] = np.frombuffer(key, slot["key"].dtype)[0]
        check.run()
        told = [CtctlGcStatus.GC_DELETED, CtctlGcStatus.GC_STAYED, CtctlGcStatus.GC_GONE]
        assert [int(status) for status in check.slots["status"]] == told
        assert int(check.control["nr_refused"][0]) == 1


def test_a_part_of_a_walk_passes_over_what_was_refused(tables: Tables) -> None:
    """The next part skips as many as were left in place: one not counted would be met twice."""
    with programs.GcProgram(as_target(tables.ct, None, tables.name), programs.Kind.WALK) as walking:
        walking.control["now"], walking.control["budget"] = NOW, 1 << 62
        walking.run()
        assert (int(walking.control["passed"][0]), int(walking.control["nr_deleted"][0])) == (1, 2)


def test_the_writer_tells_it_and_leaves_no_half_of_a_pair(tables: Tables) -> None:
    keys, values = tables.rows()
    with Remover(as_target(tables.ct, tables.nat, tables.name)) as remover:
        removed = remover.remove(keys, values)
    assert list(removed.status) == [
        CtctlWriterStatus.WRITER_DELETED,
        CtctlWriterStatus.WRITER_STAYED,
        CtctlWriterStatus.WRITER_DELETED,
    ]
    assert (removed.deleted, removed.nat_deleted, removed.refused) == (2, 2, 2)
    assert tables.left() == ({tables.keys[1]}, 4)


def test_a_delete_says_it(tables: Tables) -> None:
    outcome = Outcome()
    with Remover(as_target(tables.ct, None, tables.name)) as remover:
        _delete_batch(remover, *tables.rows(), None, outcome)
    assert (outcome.deleted, outcome.refused, outcome.gone, outcome.changed) == (2, 1, 0, 0)
