"""What is said instead of a simulation, or beside one: every sentence, by a captured node that is changed for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from ctctl.decode.ct import encode_key
from ctctl.errors import UnsupportedError
from ctctl.model.service import ServiceFlags
from ctctl.model.tuples import FlowTuple
from ctctl.packet.text import parse_packet_text
from ctctl.simulate import limits
from ctctl.simulate.carry import Carried
from ctctl.simulate.start import carried_node
from ctctl.simulate.whatif import StartTable
from ctctl.tables.open import open_source
from ctctl.tables.sources.modes import Fact
from tests.support.captures import files
from tests.support.sentences import held_by, sentences, unsaid

NODE = "cilium-1.16-snat-node1"
POD, SERVER, REMOTE, HOST, WORLD = "10.61.1.101", "10.61.1.102", "10.61.2.103", "192.168.61.11", "1.1.1.1"
SERVER_ENDPOINT = 1505
TO_SERVICE, TO_SERVER = f"tcp {POD}:5000 > 10.96.0.10:80", f"tcp {POD}:5000 > {SERVER}:8000"
TO_WORLD, NODE_PORT = f"tcp {POD}:5000 > {WORLD}:80", f"tcp 192.168.61.1:50000 > {HOST}:30080"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Carried:
    """What the capture's listings tell, without its policy."""
    where = tmp_path_factory.mktemp("node")
    for name, content in files(NODE).items():
        if name.startswith("cli/"):
            (where / name[4:]).write_bytes(content)
    with open_source([where]) as source:
        return carried_node(source, None, 6, {"routing": "tunnel"}, [parse_packet_text(TO_SERVICE)])


def modes(node: Carried, *gone: str, **given: str) -> Carried:
    """The node with some settings unknown and others as said: ``lb_mode="dsr"``."""
    known = {key: fact for key, fact in node.modes.items() if key not in gone}
    named = {key.replace("__", "-").replace("_", "."): Fact(value, "a test") for key, value in given.items()}
    return replace(node, modes={**known, **named})


def listings(node: Carried, **changed: Any) -> Carried:
    return replace(node, listings=replace(node.listings, **changed))


def flagged(node: Carried, flags: ServiceFlags) -> Carried:
    """The services with these flags more."""
    return listings(node, services=[replace(one, flags=(one.flags or 0) | flags) for one in node.listings.services])


def ruled(node: Carried, **changed: Any) -> Carried:
    """The server's rules changed."""
    policy = node.listings.policy
    return listings(
        node, policy=[replace(one, **changed) if one.endpoint_id == SERVER_ENDPOINT else one for one in policy]
    )


def refused(node: Carried) -> Iterator[tuple[Carried, str]]:
    """Nodes and packets of which there can be no simulation."""
    yield (
        replace(node, file=replace(node.file, datapath=replace(node.file.datapath, ipv6=False))),
        "tcp [fd61::1]:1 > [fd61::11]:30080",
    )
    yield (
        replace(node, file=replace(node.file, node=replace(node.file.node, ip6=None))),
        "tcp [fd61::1]:1 > [fd61::11]:30080",
    )
    yield modes(node, ipv4="false"), TO_SERVER
    for feature in ("wireguard", "ipsec", "egress__gateway", "nat46x64"):
        yield modes(node, **{feature: "true"}), TO_WORLD
    yield modes(node, host__firewall="true"), f"tcp {HOST}:5000 > {SERVER}:8000"
    yield modes(node, masquerade_agent="true"), TO_WORLD
    yield modes(node, "lb.socket"), f"tcp {HOST}:5000 > 10.96.0.10:80"
    yield modes(node, lb_socket="false"), f"tcp {HOST}:5000 > 10.96.0.10:80"
    for flag in (ServiceFlags.L7LoadBalancer, ServiceFlags.LocalRedirect, ServiceFlags.Nat46x64):
        yield flagged(node, flag), NODE_PORT
    yield flagged(node, ServiceFlags.SourceRange | ServiceFlags.Quarantined), NODE_PORT
    yield listings(node, backends=[], services=[replace(s, backend=None) for s in node.listings.services]), NODE_PORT
    yield modes(node, "lb.mode"), NODE_PORT
    yield modes(node, lb_mode="annotation"), NODE_PORT
    yield modes(node, "lb.dispatch", lb_mode="dsr"), NODE_PORT
    yield modes(node, lb_mode="dsr", lb_dispatch="ipip"), NODE_PORT
    yield modes(node, lb_mode="dsr", lb_dispatch="opt"), NODE_PORT
    quiet = replace(node, tables=())
    yield modes(quiet, "lb.socket", "lb.socket-host-only"), TO_SERVICE
    yield modes(node, "routing"), f"tcp {POD}:1 > {REMOTE}:8000"
    yield modes(node, "masquerade.bpf", "masquerade.ipv4"), TO_WORLD
    yield modes(node, masquerade_bpf="false"), TO_WORLD
    first = node.listings.services[0]
    named = replace(first, addr=ip_address("10.96.0.99"), port=0, slot=0)
    yield listings(node, services=[*node.listings.services, named]), f"tcp {POD}:5000 > 10.96.0.99:81"
    yield modes(node, lb_node__port__max="40000"), f"tcp 192.168.61.1:80 > {HOST}:40001"
    answer = replace(next(one for one in node.listings.nat if str(one.direction) == "IN"), xlate="DST")
    flow = replace(answer.tuple, proto=6, src=ip_address(WORLD), src_port=80, dst=ip_address(HOST), dst_port=1500)
    yield listings(node, nat_entries=[replace(answer, tuple=flow)], nat_text=None), f"tcp {WORLD}:80 > {HOST}:1500"
    assert node.version is not None
    later = replace(node, version=node.version._replace(low=19, high=19))
    yield later, f"icmp {POD} > {WORLD} id=77"
    policy = [one for one in node.listings.policy if one.endpoint_id != SERVER_ENDPOINT]
    yield listings(node, policy=policy), TO_SERVER
    yield ruled(node, identity=None), TO_SERVER
    yield ruled(node, proxy_port=10000), TO_SERVER
    yield ruled(node, auth_type=1), TO_SERVER
    rules = [one for one in node.listings.policy if one.endpoint_id == SERVER_ENDPOINT and not one.egress]
    denial = replace(rules[0], deny=True, precedence=1)
    over = replace(rules[0], precedence=2)
    yield listings(node, policy=[*node.listings.policy, denial, over]), TO_SERVER


def told(node: Carried) -> Iterator[tuple[Carried, str]]:
    """Those of which there is one, with something to say beside it."""
    yield listings(node, policy=[]), TO_SERVER
    yield listings(node, services=[], missing={"services"}), TO_SERVER
    yield modes(node, tunnel="vxlan"), TO_SERVER
    yield modes(node, "tunnel"), TO_SERVER
    # An entry to a service itself: of a socket that was not turned.
    flow = FlowTuple(6, ip_address(POD), 6000, ip_address("10.96.0.10"), 80)
    past = StartTable("cilium_ct4_global", ((encode_key(flow, 0), bytes(56)),))
    turned = modes(replace(node, tables=(*node.tables, past)), "lb.socket-host-only", lb_socket="true")
    yield turned, TO_SERVICE
    assert node.version is not None
    yield replace(node, version=node.version._replace(low=14, high=14)), TO_SERVER


def test_every_sentence_is_provoked(node: Carried) -> None:
    said = []
    for carried, text in refused(node):
        with pytest.raises(UnsupportedError) as caught:
            limits.check(carried, parse_packet_text(text))
        said.append(str(caught.value))
    # Each is refused for a reason of its own.
    assert len(set(said)) == len(said)
    for carried, text in told(node):
        said += limits.check(carried, parse_packet_text(text))
    known = "\n".join(said)
    (module,) = held_by(__file__)
    assert len(sentences(module)) > 40
    assert unsaid(module, known) == []


def test_what_can_be_simulated_is(node: Carried) -> None:
    per_packet = modes(node, lb_socket="false")
    for carried, text in ((node, TO_SERVER), (node, TO_WORLD), (node, NODE_PORT), (per_packet, TO_SERVICE)):
        limits.check(carried, parse_packet_text(text))


def test_whose_calls_are_turned(node: Carried) -> None:
    of_host = f"tcp {HOST}:5000 > 10.96.0.10:80"
    for carried, pods, host in (
        (modes(node, lb_socket="false"), False, False),
        (modes(node, "lb.socket-host-only", lb_socket="true"), True, True),
        (modes(node, lb_socket="true", lb_socket__host__only="true"), False, True),
    ):
        found = [limits.turns(carried, parse_packet_text(text)) for text in (TO_SERVICE, of_host, NODE_PORT)]
        assert found == [pods, host, False]
        if host:
            limits.check(carried, parse_packet_text(of_host))


def test_whose_an_address_is(node: Carried) -> None:
    ends = {POD: "pod", REMOTE: "remote pod", HOST: "host", WORLD: "world"}
    assert {text: limits.whose(node, ip_address(text)) for text in ends} == ends
