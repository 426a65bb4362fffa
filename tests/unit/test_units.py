"""Durations and suggestions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.model.suggest import nearest, unknown_name
from ctctl.model.units import counted, format_duration, parse_duration


@given(st.integers(0, 10**8))
def test_whole_seconds_survive_the_round_trip(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("2h13m20s", 8000), ("1.5m", 90), ("250ms", 0.25), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5s", "5x", "5s!", "1h 2m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_suggestions() -> None:
    assert nearest("protocl", ["proto", "protocol", "port"]) == "protocol"
    assert nearest("zzz", ["proto"]) is None
    assert unknown_name("field", "zzz", ["a", "b"]) == "unknown field 'zzz'; one of: a, b"


def test_one_of_a_thing_is_not_several() -> None:
    words = [counted(number, "entry", "entries") for number in (0, 1, 2)]
    assert words == ["0 entries", "1 entry", "2 entries"]
    assert (counted(1, "node"), counted(3, "node")) == ("1 node", "3 nodes")
