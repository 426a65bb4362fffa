"""A short fuzz run: `make fuzz` does a million packets a hook by the same code."""

from __future__ import annotations

import random

import pytest

from ctctl.model.event import PACKET_HOOKS, Hook
from tests.support.datapath import simulated
from tests.support.fuzz import Fuzz, fuzz_node

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("seed", [1, 2])
def test_tables_keep_to_the_rules(seed: int) -> None:
    with simulated(fuzz_node()) as node:
        fuzz = Fuzz(node, random.Random(seed))
        planted = fuzz.plant()
        if seed % 2:
            node.mute()
        for _ in range(2):
            for hook in PACKET_HOOKS:
                fuzz.run(hook, 1500)
        assert fuzz.problems(planted) == []
        assert fuzz.codes["pass"] > fuzz.codes["drop"] > 0
        assert fuzz.codes["redirect"] > 0


def test_a_broken_rule_is_found() -> None:
    """The checks themselves: a foreign entry, a changed connection and an uncounted packet are told."""
    with simulated(fuzz_node()) as node:
        fuzz = Fuzz(node, random.Random(3))
        planted = fuzz.plant()
        fuzz.run(Hook.FROM_CONTAINER, 100)
        assert fuzz.problems(planted) == []
        fuzz.ran["to_netdev"] += 1
        node.maps["cilium_ct4_global"].update(bytes(12) + b"\x11\x07", b"\xff" * 56)
        node.maps["cilium_ct4_global"].delete(next(key for key in planted if key[12] == 6))
        problems = "\n".join(fuzz.problems(planted))
        for text in ("in the wrong table", "tuple flags", "lifetime", "another flow's entry", "to_netdev"):
            assert text in problems
