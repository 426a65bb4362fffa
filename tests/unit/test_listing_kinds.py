"""Listings of policy, counters, sockets and tunnels, and every kind in the form of every version."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ctctl.cli.policy import _ways
from ctctl.decode import services
from ctctl.decode.policy import decode_counter, decode_policy
from ctctl.decode.services import decode_socket_nat, decode_tunnel
from ctctl.model.drops import DatapathCounter, file_name, files_of, reason_name, reason_number
from ctctl.model.entry import Layout
from ctctl.model.policy import PolicyEntry
from ctctl.model.service import ServiceSlot, TunnelRecord
from ctctl.model.tuples import FlowTuple
from ctctl.out.tabwriter import align
from ctctl.tables.show import listings as written
from ctctl.tables.show.cilium import cilium_line
from ctctl.tables.sources.listings import Listings
from ctctl.tables.sources.policy_text import ports_of
from tests.support import captures
from tests.support.children import run_ctctl
from tests.support.listings import read_text


@pytest.mark.parametrize("capture", captures.NAMES)
def test_listings_beside_conntrack_are_those_of_the_maps(capture: str, tmp_path: Path) -> None:
    pins = captures.pinned(capture)
    for file, kind in (("cli/tunnel-list.txt", "tunnels"), ("cli/socknat-list.txt", "sockets")):
        if file not in captures.files(capture):
            continue
        decode: Callable[[bytes, bytes], object] = decode_tunnel if kind == "tunnels" else decode_socket_nat
        names = ("cilium_tunnel_map",) if kind == "tunnels" else ("cilium_lb4_reverse_sk", "cilium_lb6_reverse_sk")
        expected = [decode(k, v) for name in names for k, v in pins.get(name, {}).items()]
        found = getattr(read_text(tmp_path / "x", captures.text(capture, file)).listings(None), kind)
        assert sorted(map(repr, found)) == sorted(map(repr, expected))
    if "cli/policy-all.txt" in captures.files(capture):
        text = captures.text(capture, "cli/policy-all.txt")
        found = read_text(tmp_path / "p", text).listings(None).policy
        assert written.policy_lines(found, int(capture[9:11])) == [line.rstrip("\n") for line in text.splitlines()]


def test_rules_by_labels_are_those_by_numbers(tmp_path: Path) -> None:
    head = ["POLICY", "DIRECTION", "LABELS (source:key[=value])", "PORT/PROTO", "PROXY PORT", "AUTH TYPE"]
    head += ["BYTES", "PACKETS", "PREFIX"]
    rows = [
        ("Allow", "Ingress", "reserved:unknown", "ANY", "NONE", "disabled", "0", "0", "0"),
        ("Allow", "Ingress", "reserved:host", "ANY", "NONE", "disabled", "0", "0", "0"),
        ("Deny", "Egress", "k8s:app=web", "80/TCP", "NONE", "spire", "5", "1", "24"),
        ("", "", "k8s:io.kubernetes.pod.namespace=default", "", "", "", "", "", ""),
        ("Allow", "Egress", "1234", "8192-8447/TCP", "15001", "disabled", "-", "-", "16"),
    ]
    labels = (
        "Endpoint ID: 7\nPath: /sys/fs/bpf/tc/globals/cilium_policy_00007\n\n"
        + "\n".join(align([[*head, ""], *([*row, ""] for row in rows)]))
        + "\n"
    )
    rules = read_text(tmp_path / "x", labels).listings(None).policy
    assert [(r.endpoint_id, r.identity, r.labels, r.deny) for r in rules] == [
        (7, 0, (), False),
        (7, 1, ("reserved:host",), False),
        (7, None, ("k8s:app=web", "k8s:io.kubernetes.pod.namespace=default"), True),
        (7, 1234, (), False),
    ]
    assert (rules[3].ports, rules[3].proxy_port, rules[3].packets) == ((8192, 8447), 15001, None)
    done = run_ctctl("policy", "list", "--from", tmp_path / "x", "-o", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["rules"][2]["labels"] == ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=default"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ANY", (0, 0, 0)),
        ("TCP", (6, 0, 0)),
        ("0/TCP", (6, 0, 0)),
        ("80/TCP", (6, 80, 16)),
        ("4096-8191/UDP", (17, 4096, 4)),
        ("0x1000/4/UDP", (17, 4096, 4)),
    ],
)
def test_ports_of_a_rule(text: str, found: tuple[int, int, int]) -> None:
    assert ports_of(text) == found


def test_a_policy_list_as_json(tmp_path: Path) -> None:
    key = {"Prefixlen": 64, "Identity": 9, "TrafficDirection": 1, "Nexthdr": 6, "DestPortNetwork": 0x5000}
    rule = {"ProxyPortNetwork": 0, "Flags": 1, "AuthType": 0, "Packets": 3, "Bytes": 180, "Key": key}
    whole = [{"EndpointID": "7", "Path": "/sys/fs/bpf/tc/globals/cilium_policy_00007", "Content": [rule]}]
    (found,) = read_text(tmp_path / "x", json.dumps(whole, indent=2)).listings(None).policy
    raw = bytes.fromhex("40000000 09000000 01060050".replace(" ", ""))
    value = (
        bytes.fromhex("0000 01 00 00000000".replace(" ", "")) + (3).to_bytes(8, "little") + (180).to_bytes(8, "little")
    )
    assert found == decode_policy(raw, value, 7, "cilium_policy_00007")
    (one,) = read_text(tmp_path / "y", json.dumps([rule], indent=2)).listings(None).policy
    assert (one.endpoint_id, one.port, one.deny) == (None, 80, True)


def test_counters_of_every_version(tmp_path: Path) -> None:
    old = json.dumps(
        [{"reason": 133, "description": "Policy denied", "values": {"ingress": {"packets": 2, "bytes": 80}}}]
    )
    new = json.dumps(
        [{"reason": "Policy denied", "direction": "ingress", "packets": 2, "bytes": 80, "line": 5, "file": "bpf_lxc.c"}]
    )
    text = "REASON          DIRECTION   PACKETS   BYTES\nPolicy denied   INGRESS     2         80\n"
    plain = DatapathCounter(133, "ingress", 2, 80)
    assert read_text(tmp_path / "a", old).listings(None).counters == [plain]
    assert read_text(tmp_path / "b", text).listings(None).counters == [plain]
    (one,) = read_text(tmp_path / "c", new).listings(None).counters
    assert (one.reason, one.line, one.place) == (133, 5, "bpf_lxc.c")
    # Per CPU, as bpftool dumps it.
    hexed = (
        "$ bpftool map dump pinned /sys/fs/bpf/tc/globals/cilium_metrics\nkey:\n85 01 05 00 02 00 00 00\n"
        "value (CPU 00): 01 00 00 00 00 00 00 00  28 00 00 00 00 00 00 00\n"
        "value (CPU 01): 01 00 00 00 00 00 00 00  28 00 00 00 00 00 00 00\nFound 1 element\n"
    )
    (raw,) = read_text(tmp_path / "d", hexed).listings(None).counters
    assert raw == decode_counter(
        bytes.fromhex("8501050002000000"), bytes.fromhex("01000000000000002800000000000000") * 2, 16
    )
    done = run_ctctl("metrics", "drops", "--from", tmp_path / "c")
    assert "bpf_lxc.c:5" in done.stdout
    assert done.returncode == 0


def test_reasons_have_one_number_whatever_version_spells_them() -> None:
    for number in (*range(3, 16), *range(131, 208)):
        if reason_name(number) != str(number) and number != 134:
            assert reason_number(reason_name(number)) == number
    assert reason_number("LB: No backend slot entry found") == 5
    assert reason_number("206") == 206
    assert reason_number("no reason") is None
    assert DatapathCounter(2, "ingress", 1, 1).dropped  # the agent counts it as a drop too


def test_files_are_named_where_their_numbers_are_certain() -> None:
    assert file_name(112, 17) == "encap.h"
    assert file_name(111, 19) == "encap.h"
    assert files_of(18).get(111) is None
    assert files_of(18, [1, 2, 109, 113]).get(109) == "local_delivery.h"
    assert files_of(18, [1, 2, 112, 115]).get(115) == "nodeport_egress.h"
    assert files_of(None, [109, 110]).get(109) is None


def test_the_bugtool_shows_what_the_live_node_shows() -> None:
    where = ("--from", captures.BUGTOOL)
    sockets = json.loads(run_ctctl("socknat", "list", *where, "-o", "json").stdout)["sockets"]
    assert [(one["frontend"], one["backend"]) for one in sockets] == [
        ("10.96.0.10:80", "10.61.2.103:8000"),
        ("10.96.0.10:80", "10.61.1.102:8000"),
    ]
    for words in (("policy", "list"), ("metrics", "drops", "--all")):
        done = run_ctctl(*words, *where, "-o", "json")
        assert done.returncode == 0, done.stderr
    assert run_ctctl("policy", "get", "tcp 10.61.1.101 > 10.61.1.102:8000", *where).stdout.count("allowed") == 2


def test_policy_of_a_service_without_a_port_is_that_of_all_its_ports() -> None:
    def ends(proto: str) -> set[str]:
        done = run_ctctl("policy", "get", f"{proto} 10.61.1.101 > 10.96.0.10", "--from", captures.BUGTOOL, "-o", "json")
        assert done.returncode == 0, done.stderr
        verdicts = json.loads(done.stdout)["verdicts"]
        return {f"{one['peer']}:{one['port']}" for one in verdicts if one["direction"] == "egress"}

    assert ends("tcp") == {"10.61.1.102:8000", "10.61.2.103:8000"}
    assert ends("udp") == {"10.61.1.102:5353", "10.61.2.103:5353"}
    assert ends("icmp") == {"10.96.0.10:0"}


def test_policy_of_a_nodes_address_without_a_port_is_the_nodes_too(capsys: pytest.CaptureFixture[str]) -> None:
    client, node = ip_address("10.0.0.1"), ip_address("192.0.2.1")
    backend = ip_address("10.0.0.2")
    slots = [
        ServiceSlot(node, 30080, "external", slot, 1, 6, "NodePort", backend="10.0.0.2:80" if slot else None)
        for slot in (0, 1)
    ]
    found = Listings(services=slots, problems=["cilium_lb4_backends_v3: cannot be read"])
    source = SimpleNamespace(some=lambda _node, *_kinds: found, nodes=list, partial=[])
    asked = FlowTuple(6, client, 0, node, 0)
    ways = _ways(source, None, asked)  # type: ignore[arg-type]
    assert ways == [asked, FlowTuple(6, client, 0, backend, 80)]
    assert "192.0.2.1 is a service" in capsys.readouterr().err
    # What could not be read is missing data of the source, and said once.
    _ways(source, None, asked)  # type: ignore[arg-type]
    assert source.partial == ["cilium_lb4_backends_v3: cannot be read"]


def test_policy_rules_know_their_ranges() -> None:
    rule = PolicyEntry(7, False, 0, 6, 8000, 8, False)
    assert rule.ports == (7936, 8191)


def _records(capture: str) -> Any:
    """Everything a captured node has, decoded from its maps."""
    found = Listings()
    kinds: list[tuple[str, str, Callable[[bytes, bytes], Any]]] = [
        ("services", "cilium_lb4_services_v2", services.decode_service),
        ("services", "cilium_lb6_services_v2", services.decode_service),
        ("backends", "cilium_lb4_backends_v3", services.decode_backend),
        ("backends", "cilium_lb6_backends_v3", services.decode_backend),
        ("rev_nats", "cilium_lb4_reverse_nat", services.decode_rev_nat),
        ("ipcache", "cilium_ipcache_v2", services.decode_ipcache),
        ("endpoints", "cilium_lxc", services.decode_endpoint),
        ("sockets", "cilium_lb4_reverse_sk", decode_socket_nat),
    ]
    pins = captures.pinned(capture)
    for kind, name, decode in kinds:
        getattr(found, kind).extend(decode(k, v) for k, v in pins.get(name, {}).items())
    rules = [
        PolicyEntry(59, False, 0, 0, 0, 0, False, map="cilium_policy_00059", packets=3, bytes=180),
        PolicyEntry(59, True, 9, 6, 443, 16, True, map="cilium_policy_00059", prefix_bits=24, packets=0, bytes=0),
        PolicyEntry(59, True, 1, 17, 0, 0, False, map="cilium_policy_00059", prefix_bits=8, packets=0, bytes=0),
        PolicyEntry(
            59, True, 2, 6, 8192, 8, False, 15001, map="cilium_policy_00059", prefix_bits=16, packets=1, bytes=9
        ),
    ]
    found.policy.extend(rules)
    found.counters.extend(
        DatapathCounter(reason, way, reason, 10 * reason, 7, 1)
        for reason in (0, 2, 3, 5, 14, 133, 151, 181, 203, 205)
        for way in ("ingress", "egress")
    )
    found.tunnels.append(TunnelRecord(ip_address("10.61.2.0"), ip_address("192.168.61.12"), 0))
    return found


@pytest.mark.parametrize("minor", range(14, 20))
def test_every_version_s_form_is_read_as_it_is_written(minor: int, tmp_path: Path) -> None:
    """There is no recording of 1.15 and 1.17: their listings are generated by the rules of their sources."""
    records = _records("cilium-1.19-snat-node1")
    forms: dict[str, Callable[[Any], list[str]]] = {
        "lb list": lambda f: written.service_lines(f.services, f.backends, minor),
        "lb list --frontends": lambda f: written.frontend_lines(f.services, minor),
        "lb list --backends": lambda f: written.backend_lines(f.backends),
        "ipcache list": lambda f: written.ipcache_lines(f.ipcache, minor),
        "endpoint list": lambda f: written.endpoint_lines(f.endpoints, minor),
        "socknat list": lambda f: written.socket_lines(f.sockets),
        "tunnel list": lambda f: written.tunnel_lines(f.tunnels),
        "policy get --all --numeric": lambda f: written.policy_lines(f.policy, minor),
        "metrics list": lambda f: written.counter_lines(f.counters, minor),
    }
    for name, write in forms.items():
        lines = write(records)
        assert len(lines) > 1, name
        source = read_text(tmp_path / "x", "\n".join(lines) + "\n")
        assert source.partial == [], name
        found = source.listings(None)
        if name == "lb list":  # backends stand in the frontends' rows there
            assert {(s.addr, s.port, s.slot) for s in found.services} == {
                (s.addr, s.port, s.slot) for s in records.services
            }
            continue
        if name == "lb list --frontends" and minor < 17:
            assert len(found.services) == len(records.services)
            continue
        if name == "metrics list" and minor < 16:
            assert sum(one.packets for one in found.counters) == sum(one.packets for one in records.counters)
            continue
        if name == "ipcache list" and minor == 16:  # a flag that it has no word for is lost
            assert [(r.prefix, r.identity) for r in found.ipcache] == [(r.prefix, r.identity) for r in records.ipcache]
            continue
        assert sorted(write(found)) == sorted(lines), name
    entry = captures.text("cilium-1.16-snat-node1", "cli/ct-list-global.txt").splitlines()[0]
    layout = Layout.of_version(f"1.{minor}")
    assert layout is not None
    (table,) = (one for one in read_text(tmp_path / "ct", entry + "\n").tables if one.count)
    (row,) = (columns.entry(0, table.name, table.absent) for columns in table.columns())
    line = cilium_line(replace(row, backend_id=row.backend_id or 0), layout)
    again = read_text(tmp_path / "again", f"{line}\n")
    (back,) = (one for one in again.tables if one.count)
    (same,) = (columns.entry(0, back.name, back.absent) for columns in back.columns())
    assert (same.tuple, same.flags, same.lifetime, cilium_line(same, back.layout)) == (
        row.tuple,
        row.flags,
        row.lifetime,
        line,
    )


def test_a_tunnel_end_that_is_no_address_is_no_record(tmp_path: Path) -> None:
    file = tmp_path / "ipcache.txt"
    file.write_text(
        "IP PREFIX/ADDRESS   IDENTITY\n"
        "10.0.0.1/32         identity=7 encryptkey=0 tunnelendpoint=192.0.2.1 flags=hastunnel\n"
        "10.0.0.2/32         identity=8 encryptkey=0 tunnelendpoint=192.0.2.999 flags=hastunnel\n"
    )
    done = run_ctctl("ipcache", "list", "--from", file, "-o", "jsonl")
    assert [json.loads(line)["tunnel_endpoint"] for line in done.stdout.splitlines()] == ["192.0.2.1"]
    assert done.returncode == 5
    assert "192.0.2.999" in done.stderr
