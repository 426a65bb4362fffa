"""Scenario files: every kind of step read, and what cannot be a step refused with its line."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from ctctl.errors import ConfigError
from ctctl.model.event import Hook
from ctctl.simulate.scenario_file import AdvanceStep, GcStep, OpStep, PacketStep, Scenario, ServiceStep, scenario_of
from tests.support.geneve import parse_dsr_option
from tests.support.nodefile import parse_node_file
from tests.support.sentences import held_by, sentences, unsaid

HEAD = """\
node: {name: n, ip: 10.1.0.1}
endpoints: [{name: pod1, ip: 10.64.0.36, identity: 3096}]
services: [{name: svc-a, ip: 10.96.0.10, port: 80, id: 7}]
steps:
"""


def scenario(*steps: str) -> Scenario:
    return scenario_of(parse_node_file(HEAD + "".join(f"  - {step}\n" for step in steps), "s.yaml"))


def test_a_packet_step() -> None:
    (step,) = scenario(
        '{hook: from_container, endpoint: pod1, packet: "tcp 10.64.0.36:5 > 10.64.1.1:80 SA len=3", random: 7, '
        "identity: 20001, advance: 1m, note: hello, expect: {verdict: pass, ct: 1}}"
    ).steps
    assert isinstance(step, PacketStep)
    assert (step.hook, step.endpoint, step.random, step.identity) == (Hook.FROM_CONTAINER, "pod1", 7, 20001)
    assert step.packet is not None
    assert (step.packet.dst_port, step.packet.length) == (80, 3)
    assert (step.step.number, step.step.line, step.step.advance, step.step.note) == (1, 5, 60, "hello")
    assert step.step.expect == {"verdict": "pass", "ct": 1}


def test_a_frame_of_digits_only_stays_a_frame() -> None:
    (step,) = scenario("{hook: to_netdev, packet-hex: 0200000000010200000000020800, mark: 0x0c00}").steps
    assert isinstance(step, PacketStep)
    assert step.frame == bytes.fromhex("0200000000010200000000020800")
    assert step.mark == 0x0C00


def test_geneve() -> None:
    steps = scenario(
        "{hook: from_overlay, geneve: {vni: 5, remote: 10.1.0.9, dsr: 172.16.0.10:80}, packet: udp 1.1.1.1 > 5.5.5.5}",
        '{hook: from_overlay, geneve: {option-hex: 014b8102ac10000a00500000}, packet: "udp 1.2.3.4 > 5.6.7.8"}',
        '{hook: from_overlay, geneve: {}, packet: "udp 1.2.3.4 > 5.6.7.8"}',
    ).steps
    tunnels = [step.geneve for step in steps if isinstance(step, PacketStep)]
    assert [(t.vni, len(t.options)) for t in tunnels if t is not None] == [(5, 12), (2, 12), (2, 0)]
    assert tunnels[0] is not None
    assert tunnels[1] is not None
    assert tunnels[0].options == tunnels[1].options
    assert parse_dsr_option(tunnels[0].options) == (IPv4Address("172.16.0.10"), 80)
    assert (tunnels[0].remote, tunnels[0].local) == (IPv4Address("10.1.0.9"), IPv4Address("10.1.0.1"))


def test_the_other_steps() -> None:
    steps = scenario(
        "{advance: 10s}",
        "{service: svc-a, backends: [{id: 1, ip: 10.64.1.1, port: 80}]}",
        "{gc: {}}",
        "{gc: {endpoint: 10.64.0.36}, expect: {ct: 0}}",
    ).steps
    assert isinstance(steps[0], AdvanceStep)
    assert steps[0].step.advance == 10
    assert isinstance(steps[1], ServiceStep)
    assert (steps[1].name, steps[1].backends[0].id) == ("svc-a", 1)
    assert isinstance(steps[2], GcStep)
    assert steps[2].endpoint is None
    assert isinstance(steps[3], GcStep)
    assert steps[3].endpoint == IPv4Address("10.64.0.36")


def test_table_operations() -> None:
    steps = scenario(
        "{op: backend_del, backend_id: 5}",
        "{op: backend_set, backend_id: 5, ip: 10.64.1.1, port: 80, state: terminating}",
        "{op: service_set, service: {ip: 10.96.0.10, port: 80, id: 7, flags: 16}}",
        "{op: service_del, addr: 10.96.0.10, port: 80}",
        "{op: revnat_del, rev_nat_id: 7}",
        "{op: affmatch_del, backend_id: 5, rev_nat_id: 7}",
        "{op: snat_clear}",
        "{op: srcrange_add, rev_nat_id: 7, cidr: 192.0.2.0/24}",
        "{op: policy_del, endpoint_id: 36, egress: 1}",
    ).steps
    ops = {step.op: step.args for step in steps if isinstance(step, OpStep)}
    assert len(ops) == len(steps)
    assert ops["backend_set"]["state"] == "terminating"
    assert ops["service_set"]["service"].flags == 16
    assert ops["srcrange_add"]["cidr"] == IPv4Network("192.0.2.0/24")
    assert ops["policy_del"] == {"endpoint_id": 36, "egress": 1}


#: What is no step, and words of what is said of it.
NO_STEPS = [
    ("{hok: from_container}", ["hok", "'hook'"]),
    ("[]", ["step 1", "mapping"]),
    ('{hook: from_pod, packet: "udp 1.2.3.4 > 5.6.7.8"}', ["from_pod", "from_container"]),
    ("{hook: from_netdev}", ["packet or packet-hex"]),
    ('{hook: from_netdev, packet: "udp 1.2.3.4 > 5.6.7.8", packet-hex: "00"}', ["packet or packet-hex"]),
    ("{hook: from_netdev, packet-hex: xyz}", ["'xyz'", "hexadecimal"]),
    ('{hook: from_netdev, packet: "tcp nowhere"}', ["packet", "tcp nowhere"]),
    ('{hook: from_container, endpoint: pod2, packet: "udp 1.2.3.4 > 5.6.7.8"}', ["pod2", "pod1"]),
    ('{hook: from_netdev, mark: 1, identity: 2, packet: "udp 1.2.3.4 > 5.6.7.8"}', ["identity", "one of them"]),
    ('{hook: from_netdev, expct: {}, packet: "udp 1.2.3.4 > 5.6.7.8"}', ["expct", "expect"]),
    ('{hook: from_netdev, packet: "udp 1.2.3.4 > 5.6.7.8", geneve: {dsr: here}}', ["dsr", "ADDRESS:PORT"]),
    (f'{{hook: from_netdev, packet: "udp 1.2.3.4 > 5.6.7.8", geneve: {{option-hex: {"00" * 42}}}}}', ["42 bytes"]),
    (
        '{hook: from_netdev, packet: "udp 1.2.3.4 > 5.6.7.8", geneve: {dsr: "1.2.3.4:80", option-hex: "00000000"}}',
        ["dsr", "give either"],
    ),
    ("{service: svc-b, backends: []}", ["svc-b", "svc-a"]),
    ("{service: svc-a}", ["backends is missing"]),
    ("{op: backend_dell, backend_id: 5}", ["backend_dell", "backend_del"]),
    ("{op: backend_del}", ["backend_id is missing"]),
    ("{op: revnat_del, rev_nat_id: 70000}", ["70000", "65535"]),
    ("{gc: {endpont: 10.0.0.1}}", ["endpont", "endpoint"]),
    ("{advance: later}", ["advance", "later"]),
]


@pytest.mark.parametrize(("step", "words"), NO_STEPS)
def test_what_is_no_step(step: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        scenario(step)
    assert str(caught.value).startswith("s.yaml:5: ")
    for word in words:
        assert word in str(caught.value)


def test_every_sentence_is_provoked() -> None:
    said = []
    for step, _ in NO_STEPS:
        with pytest.raises(ConfigError) as caught:
            scenario(step)
        said.append(str(caught.value))
    for module in held_by(__file__):
        assert sentences(module)
        assert unsaid(module, "\n".join(said)) == []
