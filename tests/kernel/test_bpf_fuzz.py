"""A short fuzz run in every mode: `make fuzz` does ten million packets by the same code."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

import pytest

from ctctl.model.event import PACKET_HOOKS, Hook
from ctctl.simulate.simulator import Simulator
from tests.support.datapath import LB_VIP, simulated_whole
from tests.support.fuzz import Fuzz
from tests.support.fuzz_seeds import MODES, fuzz_node

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("mode", MODES)
def test_tables_keep_to_the_rules(mode: str) -> None:
    with simulated_whole(fuzz_node(mode)) as node, simulated_whole(fuzz_node(mode)) as twin:
        fuzz = Fuzz(node, random.Random(mode), twin)
        planted = fuzz.plant()
        if len(mode) % 2:
            node.mute()
        twin.mute()
        for turn in range(16):
            # By the node's address, or a VIP over a backend's: mostly drawn within four turns.
            if turn >= 2 and node.tables().snat and (node.tables().snat6 or mode == "ipv4"):
                break
            for hook in PACKET_HOOKS:
                fuzz.run(hook, 700)
        assert fuzz.problems(planted) == []
        assert fuzz.codes["pass"] > fuzz.codes["drop"] > 0
        assert fuzz.codes["redirect"] > 0
        assert fuzz.in_xdp["passed on"] > fuzz.in_xdp["redirect"] > 100
        assert node.tables().snat
        assert node.tables().snat6 or mode == "ipv4"


def test_a_node_that_does_otherwise_with_xdp_is_found() -> None:
    """The comparison itself: an entry, a byte of a packet, and a count that the other node has otherwise are told."""
    with simulated_whole(fuzz_node("snat")) as node, simulated_whole(fuzz_node("snat")) as twin:
        fuzz = Fuzz(node, random.Random(5), twin)
        planted = fuzz.plant()
        fuzz.run(Hook.XDP_NETDEV, 300)
        assert fuzz.in_xdp["redirect"] > 0
        assert fuzz.problems(planted) == []
        key = next(key for key in planted if key[12] == 6)
        entry = bytearray(planted[key])
        entry[0] ^= 1
        twin.maps["cilium_ct4_global"].update(key, bytes(entry))
        assert f"cilium_ct4_global: only without XDP: {key.hex()} {entry.hex()}" in fuzz.problems(planted)
        twin.maps["cilium_lb4_services_v2"].delete(_frontend(twin))
        fuzz.run(Hook.XDP_NETDEV, 300)
        problems = "\n".join(fuzz.problems(planted))
        for text in ("at xdp_netdev: redirect ", "without XDP pass ", "are counted, "):
            assert text in problems


def _frontend(simulator: Simulator) -> bytes:
    """The key of the LoadBalancer service that has backends on both nodes."""
    found = simulator.maps["cilium_lb4_services_v2"].items()
    (key,) = (key for key, _ in found if key[:4] == IPv4Address(LB_VIP).packed and key[6:8] == bytes(2))
    return key


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
