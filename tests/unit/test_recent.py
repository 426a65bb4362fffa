"""What is remembered of a stream is what was seen last, and no more however long it goes on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ctctl.model.recent import Recent

STEPS = st.lists(st.tuples(st.sampled_from(["add", "put", "get"]), st.integers(0, 9), st.integers(1, 99)), max_size=60)


@given(STEPS, st.integers(1, 6))
def test_the_last_are_kept(steps: list[tuple[str, int, int]], limit: int) -> None:
    recent: Recent[int, int] = Recent(limit)
    kept: dict[int, int] = {}  # in the order in which they were seen
    for way, key, value in steps:
        known = kept.pop(key, None)
        if way == "get":
            assert recent.get(key) == known
        elif way == "add":
            known = value if known is None else known
            assert recent.add(key, value) == known
        else:
            known = value
            recent.put(key, value)
        if known is not None:
            kept[key] = known
        kept = dict(list(kept.items())[-limit:])
        assert len(recent) == len(kept)
    assert {key: recent.get(key) for key in range(10) if key in recent} == kept
