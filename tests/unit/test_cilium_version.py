"""Which Cilium a node runs, by the names of its maps and by its entries; forms that go with a version."""

from __future__ import annotations

import pytest

from ctctl.decode.ct import encode_key
from ctctl.model.entry import Layout
from ctctl.model.tuples import FlowTuple
from ctctl.model.version import version_in
from ctctl.node.cilium import identify, version_of_entries, version_of_names
from ctctl.out.tabwriter import align

BASE = {"cilium_lxc", "cilium_runtime_config", "cilium_ct4_global", "cilium_signals"}
NAMES = {
    14: {"cilium_ipcache", "cilium_tunnel_map", "cilium_node_map", "cilium_encrypt_state", "cilium_policy_00092"},
    15: {"cilium_ipcache", "cilium_tunnel_map", "cilium_node_map", "cilium_policy_00092"},
    16: {
        "cilium_ipcache",
        "cilium_tunnel_map",
        "cilium_node_map",
        "cilium_node_map_v2",
        "cilium_skip_lb4",
        "cilium_ratelimit",
    },
    17: {"cilium_ipcache", "cilium_node_map_v2", "cilium_skip_lb4", "cilium_ratelimit", "cilium_policy_v2_00092"},
    18: {"cilium_ipcache_v2", "cilium_node_map_v2", "cilium_skip_lb4", "cilium_policystats", "cilium_policy_v2_00092"},
    19: {"cilium_ipcache_v2", "cilium_node_map_v2", "cilium_skip_lb4", "cilium_policystats", "cilium_l2_responder_v6"},
}


@pytest.mark.parametrize("minor", NAMES)
def test_by_names(minor: int) -> None:
    found = version_of_names(BASE | NAMES[minor])
    assert found is not None
    assert (found.low, found.high) == (minor, minor)
    assert str(found) == f"1.{minor}"
    assert found.layout is Layout.of_version(f"1.{minor}")


def test_names_that_every_version_has_tell_nothing() -> None:
    assert version_of_names({"cilium_ct4_global", "cilium_snat_v4_external"}) is None


def entry(front: bytes = b"", *, flags: int = 0, direction: int = 0, port: int = 0) -> tuple[bytes, bytes]:
    from ipaddress import IPv4Address

    flow = FlowTuple(6, IPv4Address("10.0.0.1"), 1, IPv4Address("10.0.0.2"), 80)
    value = bytearray(56)
    value[: len(front)] = front
    value[36:38] = flags.to_bytes(2, "little")
    value[40:42] = port.to_bytes(2, "big")
    value[52:56] = (7).to_bytes(4, "little")
    return encode_key(flow, direction), bytes(value)


def test_by_entries() -> None:
    counted, silent = entry(b"\x05"), entry()
    service = entry(b"\x05", direction=4)
    translated = entry(bytes(12) + bytes([172, 19, 0, 5]), flags=0x80, port=30080)
    for entries, expected in (
        ([counted, silent], (14, 15)),
        ([silent], (16, 19)),
        ([silent, translated], (19, 19)),
        ([counted, entry(b"\x05", flags=0x80)], (14, 15)),
    ):
        found = version_of_entries(entries)
        assert found is not None
        assert (found.low, found.high) == expected
    assert version_of_entries([service]) is None
    assert version_of_entries([]) is None


def test_evidence_adds_up_and_the_better_one_wins() -> None:
    found = identify(BASE | NAMES[18], [entry()], here=False)
    assert found is not None
    assert str(found) == "1.18"
    odd = identify(BASE | NAMES[18], [entry(b"\x05")], here=False)
    assert odd is not None
    assert (odd.low, odd.high) == (18, 18)
    assert "the entries say 1.14 or 1.15" in odd.evidence


@pytest.mark.parametrize(
    ("text", "minor", "full"),
    [
        ("1.16.15 (v1.16.15-abc)", 16, "1.16.15"),
        ("1.19.0-dev go version go1.26.6 linux/amd64", 19, "1.19.0-dev"),
        ("1.21.3", 19, "1.21.3"),
        (" (v-)", None, None),
        ("1.9.0", None, None),
    ],
)
def test_versions_in_what_agents_say(text: str, minor: int | None, full: str | None) -> None:
    found = version_in(text, "x")
    assert (found.low if found else None) == minor
    assert (found.full if found else None) == full


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("1.14", "1.14"),
        ("1.15.9", "1.15"),
        ("v1.17.2", "1.16"),
        ("1.18", "1.18"),
        ("1.19.0-dev", "1.19"),
        ("1.30", "1.19"),
    ],
)
def test_layouts_of_versions(text: str, layout: str) -> None:
    assert Layout.of_version(text) is Layout(layout)
    assert Layout.of_version("1.13") is None
    assert Layout.of_version("x") is None


def test_columns_align_as_gos_tabwriter_aligns_them() -> None:
    assert align([["A", "B"], ["aaaa", "b", ""], ["a", "bbbbbb", ""]]) == [
        "A      B",
        "aaaa   b        ",
        "a      bbbbbb   ",
    ]
    assert align([["x", ""], ["tail"], ["yyyyyy", ""]]) == ["x    ", "tail", "yyyyyy   "]
    assert align([]) == []
