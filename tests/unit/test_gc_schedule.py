"""When a collector that keeps running runs next; where it stops."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.errors import UsageError
from ctctl.gc.schedule import Schedule, parse_interval
from ctctl.kernel.stopping import TimeLimit
from ctctl.metrics.serve import parse_address
from tests.support.wait import PATIENCE_S


def test_first_run_is_at_once_then_by_the_rule() -> None:
    schedule = Schedule()
    assert schedule.due_in(1000) == 0
    schedule.ran(1000, 0.5)
    assert schedule.interval_s == 150
    assert schedule.due_in(1100) == 50
    schedule.ran(1150, 0.01)
    assert schedule.interval_s == 225


def test_fixed_interval_stays() -> None:
    schedule = parse_interval("30s")
    schedule.ran(0, 0.9)
    assert (schedule.interval_s, schedule.due_in(10)) == (30, 20)


def test_full_table_comes_early_but_not_at_once() -> None:
    schedule = Schedule()
    schedule.ran(1000, 0)
    assert schedule.due_in(1001, table_full=True) == 9
    assert schedule.due_in(1010, table_full=True) <= 0
    # Early: 10 s of 300 s; 2 % deleted then is as good as 60 % on time.
    schedule.ran(1010, 0.02)
    assert schedule.interval_s == 120


@given(st.lists(st.tuples(st.floats(0, 50000), st.floats(0, 1)), min_size=1))
def test_interval_stays_in_bounds(runs: list[tuple[float, float]]) -> None:
    schedule, now = Schedule(), 0.0
    for pause, ratio in runs:
        now += pause
        schedule.ran(now, ratio)
        assert 10 <= schedule.interval_s <= 43200
        assert schedule.due_in(now) == pytest.approx(schedule.interval_s)


@pytest.mark.parametrize("text", ["", "often", "0", "-3s"])
def test_bad_intervals(text: str) -> None:
    with pytest.raises(UsageError):
        parse_interval(text)


def test_time_limit_ends_by_itself_and_with_the_outer_one() -> None:
    outer = threading.Event()
    short, long = TimeLimit(outer, 0.02), TimeLimit(outer, 3600)
    assert short.wait(PATIENCE_S) is True
    assert not long.is_set()
    outer.set()
    assert long.is_set()
    assert long.wait(PATIENCE_S) is True


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9966", ("127.0.0.1", 9966)),
        (":80", ("0.0.0.0", 80)),
        ("[::1]:1", ("::1", 1)),
        ("9966", ("127.0.0.1", 9966)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "a", "host:port", "1.2.3.4:99999", "1.2.3.4:"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)
