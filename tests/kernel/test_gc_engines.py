"""The three engines on real LRU tables: one result, true figures, clean stops, pairs, races."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctctl.errors import KernelError
from ctctl.gc import batch, deleters, perkey, walk
from ctctl.gc.job import Engine, Job
from ctctl.gc.limit import RateLimit
from ctctl.gc.tally import Tally
from ctctl.kernel.map import Map, MapType
from ctctl.model.entry import CtFlags
from ctctl.tables import pairs as keys
from ctctl.tables.writer import remover
from ctctl.tables.writer.journal import Journal
from ctctl.tables.writer.remover import Remover
from ctctl.tables.writer.undo import undo
from tests.support.gctables import (
    CT,
    NOW,
    as_target,
    collected,
    contents,
    entry,
    key4,
    nat4,
    random_keys,
    random_values,
    reverse_nat_value,
)

pytestmark = pytest.mark.kernel

ENGINES: dict[str, Engine] = {"batch": batch.collect, "kernel": walk.collect, "per-key": perkey.collect}
COLLECTING = pytest.mark.parametrize("collect", ENGINES.values(), ids=ENGINES)


class Recording:
    """A recorder that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, bytes, bytes]] = []

    def deleted(self, table: str, reason: str, key: bytes, value: bytes) -> None:
        self.lines.append((table, reason, key, value))

    def of(self, table: str) -> dict[bytes, bytes]:
        return {key: value for name, _, key, value in self.lines if name == table}


def job(**changes: object) -> Job:
    stop = threading.Event()
    made = Job(NOW, stop, RateLimit(None, stop))
    return replace(made, **changes)


def ct_map(name: str = "cilium_ct4_global", max_entries: int = 4096) -> Map:
    return Map.create(name[:15], MapType.LRU_HASH, CT[name].size, 56, max_entries)


@pytest.fixture
def pair() -> Iterator[tuple[Map, Map]]:
    """A conntrack table and an SNAT table."""
    with (
        ct_map() as ct,
        Map.create("snat_v4", MapType.LRU_HASH, 14, 40, 4096) as nat,
    ):
        yield ct, nat


def figures(tally: Tally) -> list[list[int]]:
    return [a.tolist() for a in (tally.alive, tally.expired, tally.deleted, tally.skipped)] + [[tally.nat_deleted]]


def fill_pair(ct: Map, nat: Map, seed: int, size: int, share: float) -> None:
    """Random entries; some OUT ones with SNAT pairs of both orientations, some SNAT entries of nobody."""
    rng = np.random.default_rng(seed)
    ks, vs = random_keys(size, CT["cilium_ct4_global"], rng), random_values(size, rng, expired=share)
    ct.update_batch(ks, vs)
    for key, value in zip(map(bytes, ks), map(bytes, vs), strict=True):
        if not keys.is_out(key) or rng.random() < 0.3:
            continue
        dsr = bool(int.from_bytes(value[36:38], "little") & CtFlags.DSRInternal)
        forward = keys.nat_key(key, dsr)
        nat_value = nat4("172.16.0.10", int(rng.integers(1, 65536)))
        nat.update(forward, nat_value)
        if not dsr:
            nat.update(keys.reverse_nat_key(forward, nat_value), reverse_nat_value(forward, nat_value))
    nat.update(key4("1.2.3.4", 5, "6.7.8.9", 10), nat4("1.1.1.1", 1))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(0, 600), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans())
def test_three_engines_one_result(seed: int, size: int, share: float, recorded: bool) -> None:
    results = []
    for collect in ENGINES.values():
        recorder = Recording() if recorded else None
        with ct_map() as ct, Map.create("snat_v4", MapType.LRU_HASH, 14, 40, 4096) as nat:
            if size:
                fill_pair(ct, nat, seed, size, share)
            before, nat_before = contents(ct), contents(nat)
            tally = collected(collect, as_target(ct, nat), job(recorder=recorder))
            left, nat_left = contents(ct), contents(nat)
        assert left == {k: v for k, v in before.items() if perkey.lifetime_of(v) >= NOW}
        assert tally.complete
        assert int(tally.alive.sum()) == len(left)
        assert int(tally.deleted.sum()) == len(before) - len(left)
        assert tally.nat_deleted == len(nat_before) - len(nat_left)
        if recorder is not None:
            assert recorder.of("cilium_ct4_global") == {k: v for k, v in before.items() if k not in left}
            nat_gone = {k: v for name, _, k, v in recorder.lines if name != "cilium_ct4_global"}
            assert nat_gone == {k: v for k, v in nat_before.items() if k not in nat_left}
        results.append((figures(tally), left, nat_left))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("name", ["cilium_ct_any4_global", "cilium_ct6_global", "cilium_ct_any6_global"])
def test_every_table_and_family(name: str) -> None:
    results = []
    for collect in ENGINES.values():
        rng = np.random.default_rng(3)
        with ct_map(name) as ct:
            ct.update_batch(random_keys(1000, CT[name], rng, tcp="any" not in name), random_values(1000, rng))
            tally = collected(collect, as_target(ct, name=name), job())
            results.append((figures(tally), contents(ct)))
            assert tally.rows(name, "ipv6")
    assert results[0] == results[1] == results[2]
    assert 400 < len(results[0][1]) < 600


CLIENT6, POD6, VIP6 = bytes(range(16)), bytes(range(16, 32)), bytes(range(64, 80))
HTTPS, CLIENT_PORT = b"\x01\xbb", b"\xd3\xf4"


@COLLECTING
def test_ipv6_snat_pair_goes_along(collect: Engine) -> None:
    """Keys by hand: the conntrack key is reversed with crossed ports, the SNAT key as the packet has it."""
    ct_key = POD6 + CLIENT6 + HTTPS + CLIENT_PORT + b"\x06\x00"
    forward = CLIENT6 + POD6 + HTTPS + CLIENT_PORT + b"\x06\x00"
    nat_value = bytes(32) + VIP6 + b"\xc3\x50" + bytes(6)
    reverse = VIP6 + CLIENT6 + b"\xc3\x50" + HTTPS + b"\x06\x01"
    assert (keys.nat_key(ct_key, dsr=False), keys.reverse_nat_key(forward, nat_value)) == (forward, reverse)
    with ct_map("cilium_ct6_global") as ct, Map.create("snat_v6", MapType.LRU_HASH, 38, 56, 64) as nat:
        ct.update(ct_key, entry(lifetime=NOW - 1))
        nat.update(forward, nat_value)
        nat.update(reverse, reverse_nat_value(forward, nat_value))
        tally = collected(collect, as_target(ct, nat, "cilium_ct6_global"), job())
        assert (tally.nat_deleted, contents(ct), contents(nat)) == (2, {}, {})


@COLLECTING
def test_the_snat_entry_of_an_ipv6_dsr_connection_goes_along_and_no_other(collect: Engine) -> None:
    """A DSR entry's SNAT key is the pod's reply: the same addresses, the ports exchanged, and it has no reverse."""
    ct_key = CLIENT6 + POD6 + HTTPS + CLIENT_PORT + b"\x06\x00"
    reply = CLIENT6 + POD6 + CLIENT_PORT + HTTPS + b"\x06\x00"
    # What would be taken for the pair of a plain entry, and for the reverse of this one.
    plain = POD6 + CLIENT6 + HTTPS + CLIENT_PORT + b"\x06\x00"
    reverse = VIP6 + CLIENT6 + b"\xc3\x50" + HTTPS + b"\x06\x01"
    nat_value = bytes(32) + VIP6 + b"\xc3\x50" + bytes(6)
    assert keys.nat_key(ct_key, dsr=True) == reply
    with ct_map("cilium_ct6_global") as ct, Map.create("snat_v6", MapType.LRU_HASH, 38, 56, 64) as nat:
        ct.update(ct_key, entry(lifetime=NOW - 1, flags=0x80))
        for key in (reply, plain, reverse):
            nat.update(key, nat_value)
        tally = collected(collect, as_target(ct, nat, "cilium_ct6_global"), job())
        assert (tally.nat_deleted, contents(ct), contents(nat).keys()) == (1, {}, {plain, reverse})


@COLLECTING
@pytest.mark.parametrize("name", ["cilium_ct4_global", "cilium_ct6_global"])
def test_an_entry_lives_through_the_second_of_its_lifetime(collect: Engine, name: str) -> None:
    made = {}
    with ct_map(name) as ct:
        for number, lifetime in enumerate((NOW - 1, NOW, NOW + 1)):
            made[lifetime] = bytes([number + 1] * (CT[name].size - 2)) + b"\x06\x00"
            ct.update(made[lifetime], entry(lifetime=lifetime))
        tally = collected(collect, as_target(ct, name=name), job())
        assert contents(ct).keys() == {made[NOW], made[NOW + 1]}
    assert (int(tally.deleted.sum()), int(tally.alive.sum())) == (1, 2)


@COLLECTING
def test_snat_of_a_living_connection_stays(collect: Engine, pair: tuple[Map, Map]) -> None:
    ct, nat = pair
    # Expired DSR OUT entry and a live plain one with related tuples: only the first one's SNAT entry goes.
    dsr = key4("192.0.2.50", 40000, "10.64.0.64", 8080)
    live = key4("10.64.0.64", 1234, "8.8.8.8", 443)
    ct.update(dsr, entry(lifetime=NOW - 1, flags=0x80))
    ct.update(live, entry(lifetime=NOW + 1))
    nat.update(keys.nat_key(dsr, dsr=True), nat4("172.16.0.10", 80))
    nat.update(keys.nat_key(live, dsr=False), nat4("10.0.0.1", 50000))
    tally = collected(collect, as_target(ct, nat), job())
    assert tally.nat_deleted == 1
    assert list(contents(nat)) == [keys.nat_key(live, dsr=False)]


@COLLECTING
def test_in_service_and_related_entries_take_no_snat_entry(collect: Engine, pair: tuple[Map, Map]) -> None:
    ct, nat = pair
    for flags in (1, 2, 3, 4):
        ct.update(key4("10.0.0.1", 1000, "10.0.0.2", 80, flags=flags), entry(lifetime=NOW - 1))
    out = key4("10.0.0.1", 1000, "10.0.0.2", 80)
    for dsr in (False, True):
        nat.update(keys.nat_key(out, dsr=dsr), nat4("1.1.1.1", 1))
    tally = collected(collect, as_target(ct, nat), job())
    assert (int(tally.deleted.sum()), tally.nat_deleted, len(contents(nat))) == (4, 0, 2)


@COLLECTING
def test_dry_run_works_on_a_map_opened_for_reading(collect: Engine, tmp_path: Path) -> None:
    from tests.support.gctables import table_dir

    with table_dir(tmp_path) as where:
        made = where.create("cilium_ct4_global")
        where.fill("cilium_ct4_global", 800, np.random.default_rng(5))
        before = contents(made)
        with Map.open_pinned(where.path / "cilium_ct4_global", read_only=True) as ct:
            tally = collected(collect, as_target(ct), job(dry_run=True))
        assert contents(made) == before
        expired = sum(perkey.lifetime_of(v) < NOW for v in before.values())
        assert int(tally.expired.sum()) == expired > 0
        assert (int(tally.alive.sum()), int(tally.deleted.sum()), int(tally.skipped.sum())) == (800 - expired, 0, 0)


class _EndsAt(RateLimit):
    """A limit that sets the stop when it is asked for leave for the n-th time."""

    def __init__(self, question: int, stop: threading.Event) -> None:
        super().__init__(2000, stop)
        self._until, self._ending = question, stop

    def take(self, want: int, **how: float) -> int:
        self._until -= 1
        if not self._until:
            self._ending.set()
        return super().take(want, **how)


@COLLECTING
def test_a_stopped_run_tells_the_truth(collect: Engine) -> None:
    rng = np.random.default_rng(11)
    with ct_map(max_entries=16384) as ct:
        ct.update_batch(random_keys(8000, CT["cilium_ct4_global"], rng), random_values(8000, rng, expired=1.0))
        stop = threading.Event()
        tally = collected(collect, as_target(ct), job(stop=stop, limit=_EndsAt(4, stop), batch_size=512))
        left = len(contents(ct))
        assert not tally.complete
        assert 0 < int(tally.deleted.sum()) == 8000 - left < 8000


class _StopsAfter(threading.Event):
    """An event that is set once it was asked about so often."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self._left = questions

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


def test_a_walk_that_is_stopped_deletes_nothing_more() -> None:
    """Not what it had found and not yet deleted either."""
    rng = np.random.default_rng(13)
    with ct_map() as ct:
        ct.update_batch(random_keys(40, CT["cilium_ct4_global"], rng), random_values(40, rng, expired=1.0))
        tally = collected(perkey.collect, as_target(ct), job(stop=_StopsAfter(20)))
        assert (tally.complete, int(tally.deleted.sum()), len(contents(ct))) == (False, 0, 40)


@COLLECTING
def test_rate_limit_holds_and_all_go_in_the_end(collect: Engine) -> None:
    import time

    rng = np.random.default_rng(12)
    with ct_map() as ct:
        ct.update_batch(random_keys(900, CT["cilium_ct4_global"], rng), random_values(900, rng, expired=0.5))
        expired = sum(perkey.lifetime_of(v) < NOW for v in contents(ct).values())
        stop, started = threading.Event(), time.monotonic()
        tally = collected(collect, as_target(ct), job(stop=stop, limit=RateLimit(400, stop)))
        took = time.monotonic() - started
    assert (int(tally.deleted.sum()), tally.complete) == (expired, True)
    assert int(tally.alive.sum()) == 900 - expired
    assert took >= expired / 400 * 0.9


def _refresh(ct: Map, key: bytes) -> None:
    """What a packet does: write the lifetime of an entry that is there."""
    if ct.lookup(key) is not None:
        ct.update(key, entry(lifetime=NOW + 60))


def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without syscall programs."""

    def refuse(*_args: object, **_more: object) -> None:
        raise KernelError("load", "program", 22)

    monkeypatch.setattr(deleters, "GcProgram", refuse)
    monkeypatch.setattr(remover, "WriterProgram", refuse)


@pytest.mark.parametrize("how", ["expiry", "planned", "lookups", "no-recheck"])
@pytest.mark.parametrize("collect", [batch.collect, perkey.collect], ids=["batch", "per-key"])
def test_an_entry_refreshed_after_the_test_stays(collect: Engine, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = key4("10.0.0.1", 1000, "10.0.0.2", 80)
    other = key4("10.0.0.1", 1001, "10.0.0.2", 80)
    if how == "lookups":
        _no_programs(monkeypatch)
    said: list[str] = []
    with ct_map() as ct:
        ct.update(key, entry(lifetime=NOW - 1))
        ct.update(other, entry(lifetime=NOW - 1))
        turn = job(
            recheck=how != "no-recheck",
            recorder=Recording() if how == "planned" else None,
            before_delete=lambda _keys: _refresh(ct, key),
            say=said.append,
        )
        tally = collected(collect, as_target(ct), turn)
        survived = ct.lookup(key) is not None
        assert ct.lookup(other) is None
    assert survived is (how != "no-recheck")
    assert int(tally.skipped.sum()) == int(survived)
    assert int(tally.expired.sum()) == 2
    assert [("system calls" in line) for line in said] == ([True] if how == "lookups" else [])


@pytest.mark.parametrize("programs", [True, False], ids=["program", "lookups"])
def test_the_remover_takes_pairs_along_and_leaves_what_changed(
    pair: tuple[Map, Map], programs: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The program and its stand-in do the same; every byte counts, and the journal says which stayed."""
    if not programs:
        _no_programs(monkeypatch)
    ct, nat = pair
    plain, dsr = key4("10.0.0.1", 1, "8.8.8.8", 53), key4("192.0.2.9", 4000, "10.0.0.1", 80)
    changed, gone = key4("10.0.0.1", 2, "8.8.8.8", 53), key4("10.0.0.1", 3, "8.8.8.8", 53)
    values = {plain: entry(lifetime=5), dsr: entry(lifetime=6, flags=0x80), changed: entry(lifetime=7)}
    forward, moved = keys.nat_key(plain, dsr=False), keys.nat_key(changed, dsr=False)
    value = nat4("172.16.0.1", 77)
    nat.update(forward, value)
    nat.update(keys.reverse_nat_key(forward, value), reverse_nat_value(forward, value))
    nat.update(keys.nat_key(dsr, dsr=True), nat4("172.16.0.2", 80))
    nat.update(moved, nat4("172.16.0.3", 88))
    for key, planned in values.items():
        ct.update(key, planned)

    def meanwhile(_keys: object) -> None:
        ct.update(changed, entry(lifetime=7, packets=1))

    planned_keys = np.frombuffer(b"".join([plain, dsr, changed, gone]), np.uint8).reshape(4, 14)
    planned_values = np.frombuffer(b"".join([*values.values(), entry(lifetime=8)]), np.uint8).reshape(4, 56)
    path = tmp_path / "journal"
    with Journal.create(path, command="test", source="here", node=None) as journal:
        target = as_target(ct, nat)
        with Remover(target, journal=journal, before_delete=meanwhile, room=16) as taking:
            removed = taking.remove(planned_keys, planned_values)
            assert (taking.window is None) is programs
    assert removed.status.tolist() == [1, 1, 2, 3]
    assert removed.nat_deleted == 3
    assert contents(ct) == {changed: entry(lifetime=7, packets=1)}
    assert list(contents(nat)) == [moved]
    back = undo(path, {"cilium_ct4_global": ct, nat.name: nat})
    assert (back.restored.restored, back.restored.present, back.whole, back.journal.finished) == (5, 0, True, True)
    assert contents(ct) == {**values, changed: entry(lifetime=7, packets=1)}
    assert len(contents(nat)) == 4


@COLLECTING
def test_memory_does_not_grow_with_the_table(collect: Engine) -> None:
    import tracemalloc

    peaks = []
    for size in (3000, 24000):
        rng = np.random.default_rng(1)
        with ct_map(max_entries=2 * size) as ct:
            ct.update_batch(random_keys(size, CT["cilium_ct4_global"], rng), random_values(size, rng))
            tracemalloc.start()
            collected(collect, as_target(ct), job(batch_size=1024))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5 + 200_000


def test_batches_of_one_entry_and_more_than_the_table() -> None:
    for size in (1, 7, 100_000):
        rng = np.random.default_rng(9)
        with ct_map() as ct:
            ct.update_batch(random_keys(300, CT["cilium_ct4_global"], rng), random_values(300, rng))
            expected = {k: v for k, v in contents(ct).items() if perkey.lifetime_of(v) >= NOW}
            collected(batch.collect, as_target(ct), job(batch_size=size))
            assert contents(ct) == expected


def test_kernel_engine_logs_more_than_its_log_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "LOG_SIZE", 64)
    rng, recorder = np.random.default_rng(4), Recording()
    with ct_map() as ct:
        ct.update_batch(random_keys(1000, CT["cilium_ct4_global"], rng), random_values(1000, rng))
        before = contents(ct)
        tally = collected(walk.collect, as_target(ct), job(recorder=recorder))
        left = contents(ct)
    assert recorder.of("cilium_ct4_global") == {k: v for k, v in before.items() if k not in left}
    assert len(recorder.lines) == int(tally.deleted.sum()) == sum(perkey.lifetime_of(v) < NOW for v in before.values())
    assert int(tally.alive.sum()) == len(left)
