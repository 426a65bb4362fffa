"""The properties Maglev tables must keep, over random sets of backends."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.node.maglev import build_table, shares

SIZE = 16381
backend_sets = st.lists(st.integers(1, 0xFFFFFF), min_size=2, max_size=12, unique=True).map(
    lambda ids: {number: (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:8080", 1) for number in ids}
)


@settings(max_examples=25, deadline=None)
@given(backend_sets, st.randoms())
def test_the_order_of_the_input_does_not_matter(backends: dict[int, tuple[str, int]], random) -> None:
    items = list(backends.items())
    random.shuffle(items)
    assert (build_table(backends, SIZE) == build_table(dict(items), SIZE)).all()


@settings(max_examples=25, deadline=None)
@given(backend_sets)
def test_shares_are_even(backends: dict[int, tuple[str, int]]) -> None:
    parts = shares(build_table(backends, SIZE))
    assert parts.keys() == backends.keys()
    for part in parts.values():
        assert abs(part * len(backends) - 1) < 0.01


@settings(max_examples=25, deadline=None)
@given(backend_sets, st.data())
def test_removing_one_of_n_moves_about_one_nth(backends: dict[int, tuple[str, int]], data) -> None:
    gone = data.draw(st.sampled_from(sorted(backends)))
    before = build_table(backends, SIZE)
    after = build_table({number: backend for number, backend in backends.items() if number != gone}, SIZE)
    assert gone not in after
    assert (before != after).mean() <= 1.25 / len(backends)


@pytest.mark.parametrize("size", [2, 3, 251, 1021, 4093, 131071])
def test_every_size_is_filled(size: int) -> None:
    backends = {n: (f"10.64.0.{n}:80", 1) for n in range(1, 8)}
    table = build_table(backends, size)
    assert len(table) == size
    assert set(table.tolist()) <= set(backends)
    assert table.all()
    if size > 100:
        parts = shares(table)
        assert max(parts.values()) - min(parts.values()) <= 1.5 / size


def test_weights_share_in_proportion() -> None:
    weights = {1: 1, 2: 2, 3: 5, 4: 0}
    parts = shares(build_table({n: (f"10.64.0.{n}:80", weight) for n, weight in weights.items()}, SIZE))
    assert 4 not in parts
    for number in (1, 2, 3):
        assert abs(parts[number] - weights[number] / 8) < 2 / SIZE


def test_equal_weights_give_the_table_of_no_weights() -> None:
    light = build_table({n: (f"b{n}", 1) for n in range(1, 6)}, 1021)
    heavy = build_table({n: (f"b{n}", 300) for n in range(1, 6)}, 1021)
    assert (light == heavy).all()


def test_growing_by_one_moves_little() -> None:
    backends = {n: (f"10.64.0.{n}:8000", 1) for n in range(1, 11)}
    tables = [build_table({n: backends[n] for n in range(1, count + 1)}, SIZE) for count in range(1, 11)]
    for count, (smaller, larger) in enumerate(pairwise(tables), 2):
        assert (smaller != larger).mean() <= 1.25 / count


def test_no_backend_is_an_error() -> None:
    with pytest.raises(ValueError, match="positive weight"):
        build_table({1: ("a", 0)}, 251)
