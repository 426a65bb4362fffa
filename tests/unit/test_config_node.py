"""Node files: both forms read, and everything wrong refused with file, line and the offending value."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from ctctl.config.datapath import CtSpec, Masquerade
from ctctl.config.fields import parse_seconds
from ctctl.config.node import Device, Endpoint, Overlay, Remote, load_node_file
from ctctl.errors import ConfigError, NotFoundError
from ctctl.model.timeouts import Timeouts
from tests.support.nodefile import parse_node_file

SHORT = """\
node: {name: node-a, ip: 10.0.0.1, device: eth0}
datapath:
  accounting: false
  timeouts: {regular-tcp: 2h13m20s, regular-tcp-syn: 60s, service-any: 90}
  ct: {tcp-max: 1024, report-interval: 7s, report-flags: 0x3f}
  lb: {algorithm: maglev, maglev-table-size: 1021, mode: dsr, dispatch: geneve, loopback: 169.254.42.9}
endpoints:
  - {name: pod1, ip: 10.64.0.36, identity: 3096, interface: lxc1, mac: 10:00:00:00:00:01}
remote:
  - {cidr: 10.64.0.64/32, identity: 3096, node: 10.0.0.2}
services:
  - {name: svc-a, type: ClusterIP, ip: 10.68.174.146, port: 80, protocol: TCP, id: 15, affinity: none,
     backends: [{id: 19, ip: 10.64.0.98, port: 8000, state: active}]}
policy: []
"""

LONG = """\
node:
  name: node1
  ip: 10.1.0.1
  pod-cidr: 10.64.0.0/24
  device: {name: eth0, ifindex: 10, mac: "02:00:00:00:01:01"}
  overlay: {name: cilium_geneve, ifindex: 14}
datapath:
  {like: 1.16.4, routing: tunnel, masquerade: {ipv4: true}, native-routing-cidr: 10.64.0.0/16,
   accounting: true, sctp: true, fragments: false, lb: {no-backend: drop, algorithm: random}}
clock: 1000000
endpoints:
  - {name: pod1, ip: 10.64.0.36, id: 1001, identity: 20001, ifindex: 21,
     mac: 02:00:00:00:03:02, node-mac: 02:00:00:00:03:01}
services:
  - {name: any, ip: 10.96.0.1, port: 53, protocol: ANY, scope: internal, flags: 16, flags2: 2, affinity: 300s,
     id: 9, source-ranges: [192.0.2.0/24, 198.51.100.7]}
steps:
  - {advance: 5s}
"""


def test_short_form() -> None:
    node = parse_node_file(SHORT)
    assert node.node.device == Device("eth0")
    assert node.datapath.timeouts == Timeouts(regular_tcp=8000, service_any=90)
    assert node.datapath.ct == CtSpec(tcp_max=1024, report_interval=7, report_flags=0x3F)
    assert node.datapath.lb.maglev_table_size == 1021
    assert node.datapath.like == "1.16.12"
    assert node.datapath.lb.loopback == IPv4Address("169.254.42.9")
    assert node.endpoints == (
        Endpoint("pod1", IPv4Address("10.64.0.36"), 3096, id=36, interface="lxc1", mac="10:00:00:00:00:01"),
    )
    assert node.remote == (Remote(IPv4Network("10.64.0.64/32"), 3096, IPv4Address("10.0.0.2")),)
    (service,) = node.services
    assert (service.id, service.affinity, service.backends[0].id, service.line) == (15, 0, 19, 12)


def test_long_form() -> None:
    node = parse_node_file(LONG)
    assert (node.datapath.like, node.datapath.routing) == ("1.16.4", "tunnel")
    assert node.datapath.masquerade == Masquerade(ipv4=True)
    assert node.datapath.native_routing == (IPv4Network("10.64.0.0/16"),)
    assert node.node.device == Device("eth0", 10, "02:00:00:00:01:01")
    assert node.node.overlay == Overlay("cilium_geneve", 14)
    assert node.node.pod_cidr == IPv4Network("10.64.0.0/24")
    assert (node.datapath.accounting, node.datapath.sctp, node.datapath.fragments) == (True, True, False)
    assert (node.datapath.lb.no_backend, node.datapath.lb.algorithm) == ("drop", "random")
    assert node.endpoints[0].node_mac == "02:00:00:00:03:01"
    (service,) = node.services
    assert (service.protocol, service.scopes, service.flags, service.flags2) == ("ANY", ("internal",), 16, 2)
    assert service.affinity == 300
    assert service.source_ranges == (IPv4Network("192.0.2.0/24"), IPv4Network("198.51.100.7/32"))
    assert (node.clock, len(node.steps)) == (1000000, 1)


def test_defaults_are_those_of_the_agent() -> None:
    node = parse_node_file("node: {name: n, ip: 10.0.0.1}")
    times = node.datapath.timeouts
    assert (times.regular_tcp, times.regular_tcp_syn, times.regular_tcp_fin, times.regular_any) == (8000, 60, 10, 60)
    assert (times.service_tcp, times.service_tcp_grace, times.service_any) == (8000, 60, 60)
    assert (node.datapath.ct.tcp_max, node.datapath.ct.any_max) == (524288, 262144)
    assert node.datapath.like == "1.16.12"
    assert (node.datapath.ct.report_interval, node.datapath.ct.report_flags) == (5, 255)
    assert node.datapath.lb.maglev_table_size == 16381


def _with(old: str, new: str, text: str = SHORT) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (_with("accounting:", "acounting:"), 3, ["acounting", "did you mean 'accounting'"]),
        (_with("endpoints:", "endpoint:"), 7, ["endpoint", "endpoints"]),
        (_with("identity: 3096, interface", "identiy: 3096, interface"), 8, ["identiy", "identity"]),
        (_with("10.64.0.36", "10.64.0.366"), 8, ["endpoint pod1", "10.64.0.366", "IPv4"]),
        (_with("10.64.0.36", "fd00::1"), 8, ["fd00::1", "IPv6"]),
        (_with("10.64.0.64/32", "10.64.0.64/24"), 10, ["10.64.0.64/24", "10.64.0.0/24"]),
        (_with("10:00:00:00:00:01", "10:00:00:00:01"), 8, ["10:00:00:00:01", "MAC"]),
        (_with("identity: 3096, interface", "identity: many, interface"), 8, ["many", "whole number"]),
        (_with("regular-tcp: 2h13m20s", "regular-tcp: soon"), 4, ["regular-tcp", "soon", "duration"]),
        (_with("accounting: false", "accounting: 1"), 3, ["accounting", "'1'", "true nor false"]),
        (_with("algorithm: maglev", "algorithm: roundrobin"), 6, ["roundrobin", "maglev, random"]),
        (_with("maglev-table-size: 1021", "maglev-table-size: 1024"), 6, ["1024", "prime"]),
        (_with("tcp-max: 1024", "tcp-max: 0"), 5, ["tcp-max", "0"]),
        (_with("port: 80,", "port: 80000,"), 12, ["80000", "65535"]),
        (_with("state: active", "state: dead"), 13, ["dead", "terminating"]),
        (_with("type: ClusterIP", "type: Cluster"), 12, ["Cluster", "LoadBalancer"]),
        (_with("ip: 10.64.0.98, ", ""), 13, ["ip is missing"]),
        (_with("node: {name: node-a, ip: 10.0.0.1, device: eth0}", "node: {name: node-a}"), 1, ["ip is missing"]),
        (_with("policy: []", "policy: {}"), 14, ["expected a list"]),
        (_with("policy: []", "policy: [{endpoint: pod9, direction: egress}]"), 14, ["pod9", "pod1"]),
        (_with("policy: []", "remote: []"), 14, ["'remote'", "line 9"]),
        (_with("loopback: 169.254.42.9", "maglev-seed: short"), 6, ["short", "base64"]),
        ("- a\n- b\n", 1, ["mapping"]),
        ("node: {name: n, ip: 10.0.0.1\n", 2, ["YAML"]),
        ("a: &x [*x]\n", 1, ["alias"]),
        ("".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9 * (n > 0)}]\n" for n in range(40)), 1, ["aliases", "too large"]),
        (_with("regular-tcp: 2h13m20s", "regular-tcp: 99999999999s"), 4, ["regular-tcp", "99999999999s", "too long"]),
        (_with("regular-tcp: 2h13m20s", "regular-tcp: " + "9" * 400), 4, ["regular-tcp", "too long"]),
        (_with("affinity: none", "affinity: 4294967296s"), 12, ["4294967296s", "too long"]),
    ],
)
def test_wrong_values_are_refused_where_they_stand(text: str, line: int, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_node_file(text, "n.yaml")
    assert caught.value.line == line
    assert str(caught.value).startswith(f"n.yaml:{line}: ")
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


ENDPOINT = "  - {name: pod1, ip: 10.64.0.36, identity: 3096, interface: lxc1, mac: 10:00:00:00:00:01}\n"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("  - {name: pod1, ip: 10.64.0.37, identity: 1}\n", ["name pod1", "line 8"]),
        ("  - {name: pod2, ip: 10.64.0.36, identity: 1}\n", ["ip 10.64.0.36", "line 8"]),
        ("  - {name: pod2, ip: 10.64.0.37, identity: 1, interface: lxc1}\n", ["interface lxc1", "line 8"]),
    ],
)
def test_duplicate_endpoints(extra: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_node_file(_with(ENDPOINT, ENDPOINT + extra))
    assert caught.value.line == 9
    for word in words:
        assert word in str(caught.value)


SERVICES = """\
node: {name: n, ip: 10.0.0.1}
services:
  - {name: a, ip: 10.96.0.1, port: 80, id: 7, backends: [{id: 1, ip: 10.64.0.1, port: 80}]}
  - {name: b, ip: 10.96.0.2, port: 80, id: 8, backends: [{id: 2, ip: 10.64.0.2, port: 80}]}
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: b", "name: a", ["name 'a'", "line 3"]),
        ("10.96.0.2", "10.96.0.1", ["10.96.0.1:80", "line 3", "protocol"]),
        ("id: 8", "id: 7", ["id 7", "line 3"]),
        ("id: 2, ip: 10.64.0.2", "id: 1, ip: 10.64.0.2", ["backend id 1", "10.64.0.2:80", "10.64.0.1:80"]),
    ],
)
def test_duplicate_services(old: str, new: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_node_file(_with(old, new, SERVICES))
    assert caught.value.line == 4
    for word in words:
        assert word in str(caught.value)


def test_a_backend_may_serve_two_services() -> None:
    node = parse_node_file(SERVICES.replace("id: 2, ip: 10.64.0.2", "id: 1, ip: 10.64.0.1"))
    assert [service.backends[0].id for service in node.services] == [1, 1]


def test_ids_that_are_left_out_do_not_depend_on_order() -> None:
    lines = [
        f"  - {{name: s{n}, ip: 10.96.0.{n}, port: 80, backends: [{{ip: 10.64.0.{n}, port: 8080}}]}}\n"
        for n in range(1, 40)
    ]
    head = "node: {name: n, ip: 10.0.0.1}\nservices:\n"
    forward = parse_node_file(head + "".join(lines))
    backward = parse_node_file(head + "".join(reversed(lines)))
    ids = {service.name: (service.id, service.backends[0].id) for service in forward.services}
    assert ids == {service.name: (service.id, service.backends[0].id) for service in backward.services}
    assert len({service_id for service_id, _ in ids.values()}) == len(lines)
    assert len({backend_id for _, backend_id in ids.values()}) == len(lines)


def test_endpoint_ids_follow_the_address_and_never_collide() -> None:
    node = parse_node_file(
        "node: {name: n, ip: 10.0.0.1}\nendpoints:\n"
        "  - {name: a, ip: 10.64.0.5, identity: 1, id: 6}\n"
        "  - {name: b, ip: 10.64.0.6, identity: 1}\n"
        "  - {name: c, ip: 10.65.0.6, identity: 1}\n"
        "  - {name: d, ip: 10.66.0.0, identity: 1}\n"
    )
    assert [endpoint.id for endpoint in node.endpoints] == [6, 7, 8, 1]


def test_several_nodes_in_one_file(tmp_path) -> None:
    path = tmp_path / "nodes.yaml"
    path.write_text("node: {name: a, ip: 10.0.0.1}\n---\nnode: {name: b, ip: 10.0.0.2}\n")
    assert load_node_file(path, "b").node.ip == IPv4Address("10.0.0.2")
    with pytest.raises(ConfigError, match=r"several nodes \(a, b\)"):
        load_node_file(path)
    with pytest.raises(ConfigError, match="no node 'c'"):
        load_node_file(path, "c")


def test_a_file_that_cannot_be_read(tmp_path) -> None:
    with pytest.raises(NotFoundError, match=r"absent\.yaml: there is no such file"):
        load_node_file(tmp_path / "absent.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_node_file(binary)


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10), ("2h13m20s", 8000), ("1d", 86400), ("7", 7), ("5m", 300)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "1 0s", "-5s", "1.5s", "10x"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|whole"):
        parse_seconds(text)
