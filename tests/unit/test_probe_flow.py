"""Which packets are the flow's, from what the probes tell of them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import ICMP, IP, UDP

from ctctl.model.tuples import FlowTuple
from ctctl.packet.text import parse_flow_text
from ctctl.trace.probe_event import ProbeEvent, ProbeKind
from ctctl.trace.probe_flow import ProbeFlow
from ctctl.trace.probe_places import Neighbourhood
from ctctl.trace.probe_points import name_of_namespace

CLIENT, SERVER, ROUTER = "10.99.0.1", "10.99.0.2", "10.99.0.9"


def unreachable(port: int, *, client: str = CLIENT, sender: str = CLIENT) -> ProbeEvent:
    """The word on a datagram of the server to a port of the client, as it comes to the server."""
    quoted = IP(src=SERVER, dst=client) / UDP(sport=9100, dport=port)
    head = bytes(IP(src=sender, dst=SERVER) / ICMP(type=3, code=3) / quoted)
    flow = FlowTuple(1, IPv4Address(sender), 0, IPv4Address(SERVER), 0)
    return ProbeEvent(
        1,
        ProbeKind.PACKET,
        flow,
        netns=7,
        ifindex=3,
        packet_length=len(head),
        mark=0,
        icmp_type=3,
        icmp_code=3,
        head=head,
    )


@pytest.fixture
def followed() -> list[FlowTuple]:
    return []


@pytest.fixture
def flow(followed: list[FlowTuple]) -> ProbeFlow:
    return ProbeFlow(parse_flow_text(f"udp {SERVER}:9100 > {CLIENT}:9102"), {}, Neighbourhood([]), followed.append)


@pytest.mark.parametrize("sender", [CLIENT, ROUTER])
def test_an_error_of_the_flow_makes_no_other_error_the_flows(
    flow: ProbeFlow, followed: list[FlowTuple], sender: str
) -> None:
    """Where a program's return is told too, the same packet is seen twice; the errors' own tuples are all alike."""
    other, own = unreachable(9101, sender=sender), unreachable(9102, sender=sender)
    again = replace(own, kind=ProbeKind.RETURN, same_packet=True)
    assert [flow.take(event) for event in (other, own, again, other)] == [[], [own], [again], []]
    assert own.flow not in followed


def test_an_error_that_a_program_turned_is_the_one_before(flow: ProbeFlow) -> None:
    own = unreachable(9102)
    turned = replace(unreachable(4000, client="10.98.0.1", sender="10.98.0.1"), same_packet=True)
    assert flow.take(own) == [own]
    assert flow.take(turned) == [turned]
    assert flow.take(replace(turned, same_packet=False)) == [replace(turned, same_packet=False)], "followed from now on"
    stranger = replace(unreachable(4001, client="10.98.0.1", sender="10.98.0.1"), same_packet=False)
    assert flow.take(stranger) == []


@pytest.mark.parametrize(
    ("given", "called"),
    [("node-a", "node-a"), ("/run/netns/node-b", "node-b"), ("/proc/4711/ns/net", "pid-4711"), ("/tmp/net", "net")],
)
def test_a_namespace_without_a_name_is_called_by_its_process(given: str, called: str) -> None:
    assert name_of_namespace(given) == called
