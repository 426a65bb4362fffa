"""How a node is configured: its agent's configuration, status as JSON and as text, and the config map say the same."""

from __future__ import annotations

import json

import pytest

from ctctl.tables.sources.agent_text import add_config, add_line
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.facts import Fact
from ctctl.tables.sources.modes import (
    CONFIG_MAP,
    NODE_PORT_MAX,
    Modes,
    modes_of_config_map,
    modes_of_status,
    modes_of_status_line,
    modes_of_stored,
    snat_first_port,
)
from tests.support.captures import NAMES, document, text


def values(modes: Modes) -> dict[str, str]:
    return {key: fact.value for key, fact in modes.items()}


@pytest.mark.parametrize("name", NAMES)
def test_what_an_agent_says_of_itself_does_not_contradict_itself(name: str) -> None:
    stored = values(modes_of_stored(document(name, "cmd/agent-runtime-config.json")))
    status = values(modes_of_status(document(name, "cmd/status.json")))
    lines: Modes = {}
    for line in text(name, "cmd/status-verbose.txt").splitlines():
        lines |= modes_of_status_line(line)
    told = values(lines)
    assert {"masquerade.bpf", "masquerade.ipv4", "masquerade.ipv6"} <= status.keys() & stored.keys() & told.keys()
    for first, second in ((stored, status), (stored, told), (status, told)):
        both = first.keys() & second.keys()
        assert {key: first[key] for key in both} == {key: second[key] for key in both}


def test_the_modes_of_the_captures() -> None:
    snat = values(modes_of_stored(document("cilium-1.14-snat-node1", "cmd/agent-runtime-config.json")))
    assert (snat["lb.mode"], snat["routing"], snat["tunnel"], snat["pod-cidr"]) == (
        "snat",
        "tunnel",
        "vxlan",
        "10.61.1.0/24",
    )
    assert snat["lb.maglev-seed"] == "JLfvgnHc2kaSUFaI"
    dsr = values(modes_of_status(document("cilium-1.19-dsr-node1", "cmd/status.json")))
    assert (dsr["lb.mode"], dsr["lb.dispatch"], dsr["lb.maglev-table-size"]) == ("dsr", "opt", "251")
    assert (dsr["lb.socket"], dsr["lb.socket-host-only"]) == ("true", "true")
    network = values(modes_of_stored(document("cilium-1.19-dsr-node1", "cmd/agent-runtime-config.json")))
    assert (network["native-routing-cidr"], network["native-routing-cidr6"]) == ("10.61.0.0/16", "fd10:61::/32")


def test_a_config_map() -> None:
    found = modes_of_config_map(
        {"bpf-lb-mode": "DSR", "tunnel": "disabled", "enable-ipv4-masquerade": "true", "node-port-range": "30000,40000"}
    )
    assert values(found) == {
        "lb.mode": "dsr",
        "routing": "native",
        "masquerade.ipv4": "true",
        "lb.node-port-max": "40000",
    }
    assert found["lb.mode"].evidence == f"bpf-lb-mode in {CONFIG_MAP}"
    assert values(modes_of_config_map({"tunnel": "geneve"})) == {"routing": "tunnel", "tunnel": "geneve"}


@pytest.mark.parametrize(
    "hostile",
    [
        {"IPv4NativeRoutingCIDR": {"IP": "x", "Mask": "//8AAA=="}},
        {"IPv4NativeRoutingCIDR": {"IP": "10.0.0.0", "Mask": "??"}},
        {"IPv4NativeRoutingCIDR": {"IP": "10.0.0.0", "Mask": "/w=="}},
        {"NodePortMode": ["snat"], "RoutingMode": None, "Opts": {"map": 7}},
        {"NodePortMode": "x" * 1000},
        {"Opts": []},
    ],
)
def test_what_is_no_setting_is_left_out(hostile: dict[str, object]) -> None:
    assert modes_of_stored(json.loads(json.dumps(hostile))) == {}


@pytest.mark.parametrize(
    "status", [None, [], {"kube-proxy-replacement": 3}, {"routing": {"inter-host-routing-mode": {}}}]
)
def test_a_status_of_nothing(status: object) -> None:
    assert modes_of_status(status) == {}


@pytest.mark.parametrize("said", ["", "0", "65535", "123456", "abc", "\N{ARABIC-INDIC DIGIT THREE}0000", "-1", "4e4"])
def test_what_is_no_port_tells_nothing_of_snat(said: str) -> None:
    assert snat_first_port({NODE_PORT_MAX: Fact(said, "here")}) is None


@pytest.mark.parametrize(
    ("line", "evidence"),
    [
        ("  NodePort:             Enabled (Range: 30000-40000)", "status --verbose"),
        ("node-port-range: 30000,40000", "node-port-range in the config map"),
        ('"node-port-range": "30000,40000",', "node-port-range in the config map"),
    ],
)
def test_where_snat_begins_by_lines(line: str, evidence: str) -> None:
    dump = Dump()
    add_line(dump, line)
    assert snat_first_port(dump.facts.modes) == Fact(40001, evidence, 1 if "status" in evidence else 2)
    # What runs is believed before what was configured, in either order.
    add_config(dump, {"NodePortMax": 50000, "ClockSource": 0})
    first = snat_first_port(dump.facts.modes)
    assert first is not None
    assert first.value == (40001 if "status" in evidence else 50001)
