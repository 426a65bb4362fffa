"""What-if from a Cilium node's tables: what is carried, what is changed first, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import validate

from ctctl.simulate.limits import one_of
from ctctl.simulate.start import carried_node
from ctctl.tables.open import open_source
from ctctl.trace.schema import TRACE_SCHEMAS
from tests.support.captures import BUGTOOL, CapturedNode, captured_node, files
from tests.support.children import run_ctctl

pytestmark = pytest.mark.kernel

SNAT, SOCKET, DSR = "cilium-1.16-snat-node1", "cilium-1.19-snat-node1", "cilium-1.19-dsr-node1"
#: the endpoint of 10.61.1.102 there
SERVER_ENDPOINT = 1505
#: a connection of the capture, to a service's backend on the other node
NODE_PORT = "tcp 192.168.61.1:53350 > 192.168.61.11:30080 A"


@pytest.fixture(scope="module")
def node() -> Iterator[CapturedNode]:
    with captured_node(SNAT) as captured:
        yield captured


@pytest.fixture(scope="module")
def socket_node() -> Iterator[CapturedNode]:
    with captured_node(SOCKET) as captured:
        yield captured


def simulated(node: CapturedNode, *words: str) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """The steps, the last packet's arrival, and what was said on the side."""
    done = node.done("trace", "--simulate", *words, "-o", "jsonl")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    for record in records:
        validate(record, TRACE_SCHEMAS[record["schema"]])
    arrivals = [record for record in records if record["schema"].startswith("ctctl/trace-arrival")]
    return [record for record in records if "step" in record], arrivals[-1], done.stderr


def entries(step: dict[str, Any], *states: str) -> set[tuple[str, str]]:
    """(direction, state) of the entries that a step shows."""
    found = {(entry["direction"], entry["state"]) for table in step["ct"].values() for entry in table}
    return {one for one in found if not states or one[1] in states}


def test_a_machine_with_ciliums_maps_pinned_needs_no_more(node: CapturedNode) -> None:
    steps, arrival, said = simulated(node, "tcp 10.61.1.101:51130 > 10.61.1.102:8000 A")
    assert [step["hook"] for step in steps] == ["from_container", "to_container"]
    assert arrival["outcome"] == "delivered"
    assert "copied from /sys/fs/bpf/tc/globals" in said


def test_a_connection_meets_its_entries_and_their_addresses(node: CapturedNode) -> None:
    steps, arrival, _ = simulated(node, NODE_PORT)
    assert steps[0]["packet_out"].startswith("tcp 10.61.1.52:53350 > 10.61.2.103:8000")
    assert steps[0]["tunnel"]["remote"] == "192.168.61.12"
    why = [name for lookup in steps[0]["events"][0]["lookups"] for name in lookup["why"]]
    assert why == ["hit", "backend_kept", "hit", "snat_kept"]
    # The pair that Cilium made for it, and nothing of any other connection.
    assert [(entry["to_addr"], entry["to_port"]) for entry in steps[0]["snat"]] == [("10.61.1.52", 53350)]
    assert arrival["backend_one_of"] is None


def test_ipv6(node: CapturedNode) -> None:
    steps, _, _ = simulated(node, "tcp [fd61::1]:46942 > [fd61::11]:30080 A")
    assert steps[0]["packet_out"].startswith("tcp [fd10:61:1::9699]:46942 > [fd10:61:2::103]:8000")
    assert {entry["direction"] for entry in steps[0]["ct"]["cilium_ct6_global"]} == {"SVC", "OUT"}
    assert [entry["to_addr"] for entry in steps[0]["snat6"]] == ["fd10:61:1::9699"]


def test_a_reply_through_the_tunnel_comes_out_of_it(node: CapturedNode) -> None:
    steps, arrival, _ = simulated(node, "tcp 10.61.2.103:8000 > 10.61.1.52:53350 A")
    assert steps[0]["hook"] == "from_overlay"
    assert arrival["origin"] == "node 192.168.61.12"
    assert arrival["packet_out"].startswith("tcp 192.168.61.11:30080 > 192.168.61.1:53350")


def test_a_new_connections_backend_is_one_of_several(node: CapturedNode) -> None:
    _, arrival, _ = simulated(node, "tcp 10.61.1.101:5000 > 10.96.0.10:80")
    assert arrival["backend_one_of"] == ["10.61.1.102:8000", "10.61.2.103:8000"]
    text = node.run("trace", "--simulate", "tcp 10.61.1.101:5000 > 10.96.0.10:80")
    assert "(new: the backend is one of 10.61.1.102:8000, 10.61.2.103:8000)" in text


def test_what_if_a_backend_is_gone(node: CapturedNode) -> None:
    steps, arrival, _ = simulated(node, NODE_PORT, "--without-backend", "2")
    why = [name for lookup in steps[0]["events"][0]["lookups"] for name in lookup["why"]]
    assert "backend_gone" in why
    assert arrival["place"] == "10.61.1.102 on node"


def test_an_error_for_an_answer_is_no_delivery(node: CapturedNode) -> None:
    words = ("tcp 10.61.1.101:5000 > 10.96.0.10:80", "--without-backend", "1", "--without-backend", "2", "--reply")
    steps, arrival, _ = simulated(node, *words)
    assert (arrival["outcome"], arrival["place"]) == ("came back as an error", "10.61.1.101 on node")
    # Nobody answers an error.
    assert {step["step"] for step in steps} == {1, 2}
    text = node.run("trace", "--simulate", *words)
    assert "packet 1 of the client came back to 10.61.1.101 on node as an error: icmp 10.96.0.10 > 10.61.1.101" in text


def test_what_leaves_for_another_node_does_not_leave_the_cluster(node: CapturedNode) -> None:
    packet = "tcp 10.61.1.101:5000 > 10.61.2.103:8000"
    # What that node does with it nothing here tells, nor whether it is answered.
    _, arrival, _ = simulated(node, packet, "--reply")
    assert (arrival["outcome"], arrival["place"]) == ("left for another node", "node 192.168.61.12")
    said = "verdict: left for node 192.168.61.12, what becomes of it there is not in these tables"
    assert said in node.run("trace", "--simulate", packet, "--reply")
    _, arrival, _ = simulated(node, "tcp 10.61.1.101:5000 > 1.1.1.1:80")
    assert (arrival["outcome"], arrival["place"]) == ("left the cluster", "outside")


def test_what_if_a_rule_is_added(node: CapturedNode) -> None:
    packet = "tcp 10.61.1.101:5000 > 10.61.1.102:8000"
    for rule, outcome in (
        ("deny ingress 10.61.1.102 port=8000 protocol=TCP", "dropped"),
        ("deny ingress 10.61.1.102 port=8001 protocol=TCP", "delivered"),
        ("allow ingress 10.61.1.102 cidr=192.168.61.0/24", "dropped"),
        ("allow ingress 10.61.1.102 identity=11505", "delivered"),
        ("deny egress 10.61.1.101", "dropped"),
        # A network is the world's part of it: pods are known by identity.
        ("deny egress 10.61.1.101 cidr=0.0.0.0/0", "delivered"),
    ):
        _, arrival, _ = simulated(node, packet, "--policy", rule)
        assert (arrival["outcome"], arrival["reason"]) == (outcome, "policy" if outcome == "dropped" else None), rule
    # A connection that is there is not asked again.
    _, arrival, _ = simulated(node, NODE_PORT, "--policy", "deny ingress 10.61.1.102")
    assert (arrival["outcome"], arrival["place"]) == ("left for another node", "node 192.168.61.12")


def test_what_if_gc_runs_first(node: CapturedNode) -> None:
    # The restored table is older than this machine's clock, or younger: what counts is that GC decides by it.
    steps, _, said = simulated(node, NODE_PORT, "--gc", "--at", "+4d")
    assert "node: GC removed" in said
    assert entries(steps[0]) == {("SVC", "new"), ("OUT", "new")} or entries(steps[0], "new") >= {("SVC", "new")}


def test_what_if_an_entry_of_ipv6_were_another(node: CapturedNode) -> None:
    change = "tcp svc [fd61::1]:46942 > [fd61::11]:30080 src_sec_id=4242"
    steps, _, _ = simulated(node, "tcp [fd61::1]:46942 > [fd61::11]:30080 A", "--set", change)
    marked = {entry["direction"] for entry in steps[0]["ct"]["cilium_ct6_global"] if entry["src_sec_id"] == 4242}
    assert marked == {"SVC"}
    packet = "tcp 10.61.1.101:5000 > 10.61.1.102:8000"
    done = node.done("trace", "--simulate", packet, "--with", "ipv6=false", "--set", change, check=2)
    assert "the node has no table cilium_ct6_global: IPv6 is off there" in done.stderr
    # Nothing else of a node without IPv6 needs its tables.
    _, arrival, _ = simulated(node, packet, "--with", "ipv6=false")
    assert arrival["outcome"] == "delivered"


def test_what_if_the_table_is_full(node: CapturedNode) -> None:
    steps, _, said = simulated(node, "tcp 10.61.1.101:5000 > 10.61.1.102:8000", "--full")
    assert "filled to the last place: cilium_ct4_global (" in said
    assert entries(steps[-1]) >= {("OUT", "new"), ("IN", "new")}


def test_what_if_the_nodes_other_mode() -> None:
    with captured_node(DSR) as node:
        packet = "tcp 192.168.61.1:42540 > 192.168.61.11:30080 S"
        steps, _, _ = simulated(node, packet)
        assert steps[0]["packet_out"].startswith("tcp 192.168.61.1:42540 > 10.61.2.103:8000")
        steps, _, _ = simulated(node, packet, "--with", "lb.mode=snat")
        assert steps[0]["packet_out"].startswith("tcp 192.168.61.11:")
        assert steps[0]["snat"] != []


def test_on_a_captured_node_with_socket_lb_the_call_is_made_first(socket_node: CapturedNode) -> None:
    steps, arrival, said = simulated(socket_node, "tcp 10.61.1.101:5000 > 10.96.0.10:80")
    assert [step["hook"] for step in steps[:2]] == ["connect", "from_container"]
    backends = ["10.61.1.102:8000", "10.61.2.103:8000"]
    assert arrival["backend_one_of"] == backends
    (event,) = steps[0]["events"]
    assert f"{event['tuple_out']['dst']}:{event['tuple_out']['dst_port']}" in backends
    assert "cannot simulate" not in said
    # The node's own connection too.
    steps, arrival, _ = simulated(socket_node, "tcp 192.168.61.11:5000 > 10.96.0.10:80")
    assert (steps[0]["hook"], arrival["backend_one_of"]) == ("connect", backends)


@pytest.mark.parametrize(
    ("packet", "words", "why"),
    [
        ("tcp 10.61.1.101:5000 > 1.1.1.1:80", ("--with", "masquerade.bpf=false"), "iptables masquerades, not BPF"),
        ("tcp 10.61.1.101:5000 > 1.1.1.1:80", ("--with", "masquerade.agent=true"), "ip-masq-agent decides"),
        ("tcp 10.61.1.101:5000 > 1.1.1.1:80", ("--with", "egress-gateway=true"), "the egress gateway, which"),
        ("tcp 10.61.1.101:5000 > 1.1.1.1:80", ("--with", "nat46x64=true"), "the NAT46/64 gateway, which"),
        ("tcp 10.61.1.101:5000 > 10.61.2.103:80", ("--with", "wireguard=true"), "WireGuard encrypts"),
        ("tcp 10.61.1.101:5000 > 10.61.2.103:80", ("--with", "ipsec=true"), "IPsec encrypts"),
        ("tcp 10.61.1.101:5000 > 10.61.2.103:80", ("--with", "srv6=true"), "SRv6, which"),
        ("tcp 192.168.61.11:5000 > 10.61.1.102:80", ("--with", "host-firewall=true"), "the host firewall, which"),
        ("tcp 192.168.61.11:5000 > 10.96.0.10:80", ("--with", "lb.socket=false"), "socket LB is off (--with)"),
        ("tcp [fd61::1]:5000 > [fd61::11]:30080", ("--with", "ipv6=false"), "IPv6 is off on this node"),
        ("tcp 10.61.1.101:5000 > 10.61.1.102:80", ("--with", "ipv4=false"), "IPv4 is off on this node"),
        (NODE_PORT, ("--with", "lb.mode=annotation"), "each service has a mode of its own"),
        (NODE_PORT, ("--with", "lb.mode=dsr", "--with", "lb.dispatch=ipip"), "DSR by ipip (--with)"),
        (NODE_PORT, ("--with", "lb.mode=dsr", "--with", "lb.dispatch=opt"), "needs native routing"),
        ("tcp 192.168.61.1:80 > 192.168.61.11:40000 A", ("--with", "lb.node-port-max=40000"), "has ports from 40001"),
    ],
)  # fmt: skip
def test_each_reason_is_said(node: CapturedNode, packet: str, words: tuple[str, ...], why: str) -> None:
    done = node.done("trace", "--simulate", packet, *words, check=4)
    assert done.stdout == ""
    assert done.stderr.startswith("ctctl: cannot simulate ")
    assert why in done.stderr


def test_reasons_of_later_versions(socket_node: CapturedNode) -> None:
    for packet, why in (
        ("tcp 192.168.61.1:5000 > 10.96.0.10:81", "has nothing at this port"),
        ("icmp 192.168.61.1 > 192.168.61.11 type=0 id=28051", "its SNAT entry is of 28051"),
        ("icmp 10.61.1.101 > 192.168.61.1 id=77", "some version after 1.16 began to keep an echo's identifier"),
    ):
        done = socket_node.done("trace", "--simulate", packet, check=4)
        assert why in done.stderr, packet


def test_a_bugtool_archive_needs_no_root_for_its_tables_and_says_what_it_lacks() -> None:
    done = run_ctctl("trace", "--simulate", "tcp 192.168.61.1:5000 > 192.168.61.11:30080", "--from", BUGTOOL)
    assert done.returncode == 0, done.stderr
    assert "the node's tunnel is vxlan: what leaves encapsulated is shown in Geneve" in done.stderr
    # The archive has the node's Maglev tables: the backend is the one that it would choose.
    assert "created SVC, backend 3" in done.stdout
    assert "one of" not in done.stdout


def test_whom_a_client_had_before_is_not_known() -> None:
    with open_source([BUGTOOL]) as source:
        carried = carried_node(source, None, 6, {}, ())
    number = next(s.id for s in carried.file.services if s.id in carried.known_choice and len(s.backends) > 1)
    assert one_of(carried, number, 4) == ()
    services = tuple(replace(service, affinity=300) for service in carried.file.services)
    sticky = replace(carried, file=replace(carried.file, services=services))
    assert len(one_of(sticky, number, 4)) > 1


def test_tables_without_a_node_around_them_are_not_simulated(tmp_path: Path) -> None:
    """Where nothing is loaded whose they could be: one line, and the exit code of what cannot be simulated."""
    with captured_node(SNAT, without=("cilium_lxc",)) as node:
        done = node.done("trace", "--simulate", NODE_PORT, check=4)
        verdict = node.done("policy", "get", "tcp 10.61.1.101 > 10.61.1.102:80", check=5)
    assert "nothing tells who decides about 10.61.1.101 and 10.61.1.102" in verdict.stderr
    assert "nothing here decides" not in verdict.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ctctl: cannot simulate {NODE_PORT}: ")
    assert line.endswith("shows no pods, so not what node it is of; give a node file with -f")


def test_a_listing_without_the_nodes_configuration_asks_for_it(tmp_path: Path) -> None:
    for name, content in files(SNAT).items():
        if name.startswith("cli/") and "policy" not in name:
            (tmp_path / name[4:]).write_bytes(content)
    base = ("trace", "--simulate", NODE_PORT, "--from", tmp_path)
    done = run_ctctl(*base)
    assert done.returncode == 4
    assert "nothing tells whether pods of other nodes are reached through a tunnel" in done.stderr
    done = run_ctctl(*base, "--with", "routing=tunnel")
    assert done.returncode == 0, done.stderr
    assert "translated to 10.61.1.52:53350 > 10.61.2.103:8000" in done.stdout
    assert "the source shows no policy: simulated as if all were allowed" in done.stderr


def _with_ingress_rule(where: Path, rule: str) -> tuple[str | Path, ...]:
    """The capture's listings in a folder, with this for the rule that lets everything into 10.61.1.102."""
    for name, content in files(SNAT).items():
        if name.startswith("cli/"):
            (where / name[4:]).write_bytes(content)
    policy = where / "policy-all.txt"
    before, mark, rules = policy.read_text().partition(f"Endpoint ID: {SERVER_ENDPOINT}")
    assert mark
    policy.write_text(before + mark + rules.replace("Allow    Ingress     0          ANY          ", rule, 1))
    return "--from", where, "--with", "routing=tunnel"


@pytest.mark.parametrize(
    ("port", "outcome"), [(8000, "delivered"), (8005, "delivered"), (8063, "delivered"), (8064, "dropped")]
)
def test_every_port_of_a_policys_range_is_in_it(tmp_path: Path, port: int, outcome: str) -> None:
    source = _with_ingress_rule(tmp_path, "Allow    Ingress     0          8000-8063/TCP          ")
    packet = f"tcp 10.61.1.101:5000 > 10.61.1.102:{port}"
    done = run_ctctl("trace", "--simulate", packet, *source, "-o", "jsonl")
    assert done.returncode == 0, done.stderr
    arrival = json.loads(done.stdout.splitlines()[-1])
    assert (arrival["outcome"], arrival["reason"]) == (outcome, "policy" if outcome == "dropped" else None)


def test_a_policy_that_is_not_told_is_not_guessed(tmp_path: Path) -> None:
    source = _with_ingress_rule(tmp_path, "Allow    Ingress     k8s:app=web   8000/TCP          ")
    packet = "tcp 10.61.1.101:5000 > 10.61.1.102:8000"
    done = run_ctctl("trace", "--simulate", packet, *source)
    assert done.returncode == 4
    assert "the ingress policy of 10.61.1.102 names a peer by labels only" in done.stderr
    policy = tmp_path / "policy-all.txt"
    others = [one for one in policy.read_text().split("Endpoint ID: ") if not one.startswith(str(SERVER_ENDPOINT))]
    policy.write_text("Endpoint ID: ".join(others))
    done = run_ctctl("trace", "--simulate", packet, *source)
    assert done.returncode == 4
    assert "the source shows the policies of other pods, and none of 10.61.1.102" in done.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--with", "lb.mode"), "write KEY=VALUE"),
        (("--with", "lb.mod=dsr"), "lb.mode"),
        (("--policy", "deny web"), "a rule reads"),
        (("--policy", "deny ingress web port=x"), "a rule reads"),
        (("--policy", "deny ingress web identity=5 cidr=10.0.0.0/8"), "not by both"),
        (("--policy", "deny ingress web colour=red"), "colour"),
    ],
)
def test_what_cannot_be_meant(node: CapturedNode, words: tuple[str, ...], why: str) -> None:
    done = node.done("trace", "--simulate", NODE_PORT, *words, check=2)
    assert why in done.stderr


def test_a_rule_of_a_pod_that_is_not_there(node: CapturedNode) -> None:
    done = node.done("trace", "--simulate", NODE_PORT, "--policy", "deny ingress nobody", check=1)
    assert "unknown pod 'nobody'; one of: 10.61.1.102, 10.61.1.101" in done.stderr
