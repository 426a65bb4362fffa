"""A short fuzz run in every mode: `make fuzz` does ten million packets by the same code."""

from __future__ import annotations

import random

import pytest

from ctctl.model.event import PACKET_HOOKS, Hook
from tests.support.datapath import simulated_whole
from tests.support.fuzz import Fuzz
from tests.support.fuzz_seeds import MODES, fuzz_node

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("mode", MODES)
def test_tables_keep_to_the_rules(mode: str) -> None:
    with simulated_whole(fuzz_node(mode)) as node:
        fuzz = Fuzz(node, random.Random(mode))
        planted = fuzz.plant()
        if len(mode) % 2:
            node.mute()
        for turn in range(8):
            # By the node's address, or a VIP over a backend's: mostly drawn within two turns.
            if turn >= 2 and node.tables().snat and (node.tables().snat6 or mode == "ipv4"):
                break
            for hook in PACKET_HOOKS:
                fuzz.run(hook, 1500)
        assert fuzz.problems(planted) == []
        assert fuzz.codes["pass"] > fuzz.codes["drop"] > 0
        assert fuzz.codes["redirect"] > 0
        assert node.tables().snat
        assert node.tables().snat6 or mode == "ipv4"


def test_a_broken_rule_is_found() -> None:
    """The checks themselves: a foreign entry, a changed connection and an uncounted packet are told."""
    with simulated_whole(fuzz_node()) as node:
        fuzz = Fuzz(node, random.Random(3))
        planted = fuzz.plant()
        fuzz.run(Hook.FROM_CONTAINER, 100)
        assert fuzz.problems(planted) == []
        fuzz.ran["to_netdev"] += 1
        node.maps["cilium_ct4_global"].update(bytes(12) + b"\x11\x07", b"\xff" * 56)
        node.maps["cilium_ct4_global"].delete(next(key for key in planted if key[12] == 6))
        node.maps["cilium_snat_v4_external"].update(bytes(12) + b"\x06\x01", bytes(40))
        problems = "\n".join(fuzz.problems(planted))
        for text in (
            "in the wrong table",
            "tuple flags",
            "lifetime",
            "another flow's entry",
            "to_netdev",
            "half a pair",
        ):
            assert text in problems
