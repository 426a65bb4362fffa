"""The interval rule of docs/reference/abi.md."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.gc.interval import MAXIMUM_S, MINIMUM_S, START_S, early_ratio, next_interval

ratios = st.floats(0, 1)
intervals = st.floats(MINIMUM_S, MAXIMUM_S)


@pytest.mark.parametrize(
    ("interval", "ratio", "expected"),
    [
        (300, 0.0, 300),
        (300, 0.01, 450),
        (300, 0.05, 300),
        (300, 0.25, 300),
        (300, 0.26, 222),
        (301, 0.5, 151),
        (300, 0.95, 30),
        (300, 1.0, 30),
        (12, 0.9, 10),
        (40000, 0.01, 43200),
        (301, 0.01, 451.5),
    ],
)
def test_rule(interval: float, ratio: float, expected: float) -> None:
    assert next_interval(interval, ratio) == expected


def test_early_run_counts_for_more() -> None:
    # Half of the interval passed: 15 % deleted is as good as 30 %.
    assert next_interval(300, 0.15, actual_s=150) == 210
    assert next_interval(300, 0.15, actual_s=300) == 300
    assert next_interval(300, 0.15, actual_s=900) == 300
    assert next_interval(300, 0.04, actual_s=30) == 180


def test_start_and_bounds() -> None:
    assert (START_S, MINIMUM_S, MAXIMUM_S) == (300, 10, 43200)
    with pytest.raises(ValueError, match="cannot be"):
        next_interval(300, -0.1)


@given(intervals, ratios, st.floats(0, 2 * MAXIMUM_S))
def test_always_within_bounds_and_monotonic_in_ratio(interval: float, ratio: float, actual: float) -> None:
    result = next_interval(interval, ratio, actual_s=actual)
    assert MINIMUM_S <= result <= MAXIMUM_S
    effective = early_ratio(ratio, actual, interval)
    if effective > 0.25:
        assert result <= max(MINIMUM_S, interval + 0.5)
    elif 0 < effective < 0.05:
        assert result >= interval
    else:
        assert result == interval


@given(intervals, ratios, ratios)
def test_more_deleted_never_means_later(interval: float, a: float, b: float) -> None:
    low, high = sorted((a, b))
    if low > 0:
        assert next_interval(interval, high) <= next_interval(interval, low) + 0.5
