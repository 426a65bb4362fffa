"""GC's programs one run at a time: what each figure, bound and status of theirs is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from ctctl.abi.layouts import CtctlGcStatus as Status
from ctctl.gc.programs import GcProgram, Kind
from ctctl.kernel.map import Map, MapType
from ctctl.model.entry import CtFlags
from ctctl.tables import pairs
from ctctl.tables.sources.live import table_of
from tests.support.gctables import CT, NOW, as_target, contents, entry, reverse_nat_value

pytestmark = pytest.mark.kernel

TCP, UDP = 6, 17
EXPIRED, ALIVE = entry(lifetime=NOW - 1), entry(lifetime=NOW)
LOG = 4


@dataclass(frozen=True)
class Tables:
    """Empty tables of one family."""

    name: str
    ct: Map
    nat: Map

    def key(self, number: int, *, proto: int = TCP, flags: int = 0) -> bytes:
        """A key unlike those of other numbers, its two addresses and its two ports unlike as well."""
        address = CT[self.name].address
        here, there = bytes([number + 1]) * address, bytes([number + 101]) * address
        return here + there + bytes([1, number, 2, number, proto, flags])

    def fill(self, count: int, value: bytes = EXPIRED) -> list[bytes]:
        made = [self.key(number) for number in range(count)]
        for key in made:
            self.ct.update(key, value)
        return made

    def program(self, kind: Kind, *, nat: bool = False, **more: int) -> GcProgram:
        made = GcProgram(as_target(self.ct, self.nat if nat else None, self.name), kind, **more)
        made.control["now"], made.control["budget"] = NOW, 1 << 62
        return made

    def reading(self) -> GcProgram:
        made = GcProgram(table_of(self.name, self.ct, None), Kind.WALK)
        made.control["now"], made.control["budget"] = NOW, 1 << 62
        return made


@pytest.fixture(params=["cilium_ct4_global", "cilium_ct6_global"])
def tables(request: pytest.FixtureRequest) -> Iterator[Tables]:
    layout = CT[request.param]
    with (
        Map.create("ct", MapType.LRU_HASH, layout.size, 56, 256) as ct,
        Map.create("nat", MapType.LRU_HASH, layout.size, layout.nat_value_size, 256) as nat,
    ):
        yield Tables(request.param, ct, nat)


def figure(program: GcProgram, name: str) -> int:
    return int(program.control[name][0].sum())


def classes(program: GcProgram, name: str) -> dict[int, int]:
    """What was counted in which class."""
    counts = program.control[name][0]
    return {int(number): int(counts[number]) for number in np.flatnonzero(counts)}


def class_of(proto: int, flags: int) -> int:
    return proto * 8 + flags


def test_a_walk_of_an_empty_table_does_nothing(tables: Tables) -> None:
    with tables.program(Kind.WALK) as walk:
        walk.run()
        assert [figure(walk, name) for name in ("nr_deleted", "passed", "alive", "skipped")] == [0, 0, 0, 0]


def test_a_walk_counts_each_class_by_itself(tables: Tables) -> None:
    kinds = [(TCP, 0), (TCP, 1), (TCP, 4), (UDP, 0), (UDP, 2)]
    for number, (proto, flags) in enumerate(kinds):
        for turn in range(number + 1):
            tables.ct.update(tables.key(10 * number + turn, proto=proto, flags=flags), EXPIRED)
        tables.ct.update(tables.key(10 * number + 9, proto=proto, flags=flags), ALIVE)
    gone = {class_of(*kind): number + 1 for number, kind in enumerate(kinds)}
    alive = {class_of(*kind): 1 for kind in kinds}
    with tables.reading() as look:
        look.run()
        assert (classes(look, "alive"), classes(look, "skipped"), classes(look, "deleted")) == (alive, gone, {})
        assert (figure(look, "passed"), len(contents(tables.ct))) == (20, 20)
    with tables.program(Kind.WALK) as walk:
        walk.run()
        assert (classes(walk, "alive"), classes(walk, "skipped"), classes(walk, "deleted")) == (alive, {}, gone)
        assert [figure(walk, name) for name in ("nr_deleted", "passed", "nr_found")] == [15, 5, 0]
    assert set(contents(tables.ct).values()) == {ALIVE}


def test_a_walk_stays_within_its_budget_and_goes_on_behind_what_it_passed(tables: Tables) -> None:
    tables.fill(20, ALIVE)
    for number in range(20, 30):
        tables.ct.update(tables.key(number), EXPIRED)
    with tables.program(Kind.WALK) as walk:
        walk.control["budget"] = 3
        walk.run()
        assert (figure(walk, "nr_deleted"), len(contents(tables.ct))) == (3, 27)
        walk.control["budget"] = 0
        walk.run()
        assert figure(walk, "nr_deleted") == 3
        # All are passed over: none is looked at, whatever it is.
        walk.control["budget"], walk.control["skip"], walk.control["passed"] = 100, 27, 0
        before = classes(walk, "alive")
        walk.run()
        assert (figure(walk, "nr_deleted"), figure(walk, "passed"), classes(walk, "alive")) == (3, 27, before)
        walk.control["skip"], walk.control["passed"] = 0, 0
        walk.run()
        assert (figure(walk, "nr_deleted"), figure(walk, "passed")) == (10, 20)


def test_a_walk_that_is_stopped_looks_at_nothing(tables: Tables) -> None:
    tables.fill(5)
    with tables.program(Kind.WALK) as walk:
        walk.control["stop"] = 1
        walk.run()
        assert (figure(walk, "nr_deleted"), figure(walk, "passed"), len(contents(tables.ct))) == (0, 0, 5)


def test_a_walk_that_records_deletes_nothing_and_ends_when_its_log_is_full(tables: Tables) -> None:
    expired = tables.fill(LOG + 3)
    tables.ct.update(tables.key(100), ALIVE)
    with tables.program(Kind.WALK, log=LOG) as walk:
        walk.run()
        assert (figure(walk, "nr_found"), figure(walk, "nr_deleted"), len(contents(tables.ct))) == (LOG, 0, LOG + 4)
        found = {one["key"].tobytes(): one["entry"].tobytes() for one in walk.log}
        assert found.keys() < set(expired)
        assert (len(found), set(found.values())) == (LOG, {EXPIRED})
        walk.control["nr_found"], walk.control["budget"] = 0, 2
        walk.run()
        assert figure(walk, "nr_found") == 2


@pytest.mark.parametrize("recheck", [True, False])
def test_a_check_tells_of_each_candidate_what_became_of_it(tables: Tables, recheck: bool) -> None:
    gone, alive, absent, behind = (tables.key(number) for number in range(4))
    for key, value in ((gone, EXPIRED), (alive, ALIVE), (behind, EXPIRED)):
        tables.ct.update(key, value)
    with tables.program(Kind.CHECK, slots=4, recheck=recheck) as check:
        for slot, key in zip(check.slots, (gone, alive, absent, behind), strict=True):
            slot["key"] = np.frombuffer(key, slot["key"].dtype)[0]
        check.control["nr_slots"] = 3
        check.run()
        refreshed = Status.GC_REFRESHED if recheck else Status.GC_DELETED
        told = [Status.GC_DELETED, refreshed, Status.GC_GONE, Status.GC_UNTOUCHED]
        assert [int(status) for status in check.slots["status"]] == told
        assert figure(check, "nr_deleted") == (1 if recheck else 2)
    # What is behind the last candidate is of another run, and nobody's to delete.
    assert contents(tables.ct).keys() == ({alive, behind} if recheck else {behind})


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    ("flags", "value", "taken"),
    [(0, {}, 2), (0, {"flags": int(CtFlags.DSRInternal)}, 1), (1, {}, 0), (4, {}, 0)],
    ids=["out", "dsr", "in", "service"],
)
def test_what_goes_takes_its_snat_entries_along_and_no_others(
    tables: Tables, kind: Kind, flags: int, value: dict[str, int], taken: int
) -> None:
    layout = CT[tables.name]
    key = tables.key(1, flags=flags)
    tables.ct.update(key, entry(lifetime=NOW - 1, **value))
    for dsr in (False, True):
        forward = pairs.nat_key(tables.key(1), dsr)
        nat_value = bytes(layout.nat_address) + bytes([9]) * layout.address + b"\xc3\x50"
        nat_value += bytes(layout.nat_value_size - len(nat_value))
        tables.nat.update(forward, nat_value)
        tables.nat.update(pairs.reverse_nat_key(forward, nat_value), reverse_nat_value(forward, nat_value))
    with tables.program(kind, nat=True) as program:
        if kind is Kind.CHECK:
            program.slots["key"] = np.frombuffer(key, program.slots["key"].dtype)
            program.control["nr_slots"] = 1
        program.run()
        assert (figure(program, "nr_deleted"), figure(program, "nr_nat_deleted")) == (1, taken)
    assert len(contents(tables.nat)) == 4 - taken
