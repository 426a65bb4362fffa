"""Classes of entries, one by one and vectorised; explanations; merging of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.gc.explain import state_of, timeout_of
from ctctl.gc.perkey import class_number, lifetime_of
from ctctl.gc.tally import Tally
from ctctl.model.entry import CtState
from ctctl.model.entry_class import EntryClass
from ctctl.model.tuples import Direction
from ctctl.tables import classes
from ctctl.tables.classes import class_of
from tests.support.gctables import IPV4, IPV6, NOW, entry, random_keys, random_values


@pytest.mark.parametrize("layout", [IPV4, IPV6])
def test_vectorised_and_single_agree(layout) -> None:
    rng = np.random.default_rng(7)
    keys, values = random_keys(500, layout, rng, tcp=False), random_values(500, rng)
    assert classes.class_numbers(keys).tolist() == [class_number(bytes(k)) for k in keys]
    assert classes.lifetimes(values).tolist() == [lifetime_of(bytes(v)) for v in values]
    assert classes.expired(values, NOW).tolist() == [lifetime_of(bytes(v)) < NOW for v in values]


def test_expired_means_before_now() -> None:
    values = np.frombuffer(entry(lifetime=9) + entry(lifetime=10) + entry(lifetime=11), np.uint8).reshape(3, 56)
    assert classes.expired(values, 10).tolist() == [True, False, False]


def test_class_words() -> None:
    assert class_of(6 << 3) == EntryClass(6, Direction.OUT, related=False)
    assert class_of(1 << 3 | 3) == EntryClass(1, Direction.IN, related=True)
    assert class_of(17 << 3 | 4) == EntryClass(17, Direction.SVC, related=False)


def test_odd_flag_bytes_share_a_row() -> None:
    tally = Tally()
    tally.alive[6 << 3 | 4] = 2
    tally.alive[6 << 3 | 5] = 3
    (row,) = tally.rows("cilium_ct4_global", "ipv4")
    assert (row.entry_class.direction, row.alive) == (Direction.SVC, 5)


@pytest.mark.parametrize(
    ("direction", "proto", "related", "flags", "timeout", "state"),
    [
        (Direction.OUT, 6, False, 0x00, "regular-tcp-syn", CtState.NEW),
        (Direction.OUT, 6, False, 0x10, "regular-tcp", CtState.ESTABLISHED),
        (Direction.IN, 6, False, 0x12, "regular-tcp", CtState.CLOSING),
        (Direction.IN, 6, False, 0x13, "regular-tcp-fin", CtState.CLOSED),
        (Direction.SVC, 6, False, 0x10, "service-tcp", CtState.ESTABLISHED),
        (Direction.SVC, 6, False, 0x13, "regular-tcp-fin", CtState.CLOSED),
        (Direction.SVC, 17, False, 0x00, "service-any", CtState.NEW),
        (Direction.OUT, 17, False, 0x00, "regular-any", CtState.NEW),
        (Direction.OUT, 1, True, 0x00, "regular-tcp-syn or regular-any", CtState.NEW),
    ],
)
def test_timeout_and_state(*, direction, proto, related, flags, timeout, state) -> None:
    assert timeout_of(EntryClass(proto, direction, related), flags) == timeout
    assert state_of(flags) == state


@given(st.integers(0, 2047))
def test_every_class_number_has_a_class(number: int) -> None:
    assert class_of(number).protocol == number >> 3
