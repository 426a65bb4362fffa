"""Scenarios: steps of every kind, what they do to the tables, and expectations that fail."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ctctl.errors import CtctlError
from ctctl.kernel.object import BpfObject
from ctctl.simulate.kept import kept
from ctctl.simulate.scenario import StepRecord, run, run_scenario
from ctctl.simulate.scenario_file import load_scenario
from ctctl.simulate.show_scenario import step_record
from tests.support.children import run_ctctl

pytestmark = pytest.mark.kernel

HEAD = """\
node: {name: n, ip: 10.1.0.1, pod-cidr: 10.64.0.0/24, device: {name: eth0, ifindex: 10, mac: "02:00:00:00:01:01"}}
datapath: {lb: {algorithm: random}}
clock: 1000
endpoints:
  - {name: pod1, ip: 10.64.0.36, id: 36, identity: 3096, ifindex: 21}
remote:
  - {cidr: 10.64.1.0/24, identity: 30001, node: 10.1.0.2}
services:
  - {name: web, ip: 10.96.0.10, port: 80, id: 7, affinity: 60s,
     backends: [{id: 101, ip: 10.64.1.64, port: 8080}, {id: 102, ip: 10.64.1.65, port: 8080}]}
  - {name: lb, type: LoadBalancer, ip: 172.16.0.10, port: 80, id: 20, backends: [{id: 201, ip: 10.64.0.36, port: 8080}]}
steps:
"""
SYN = '{hook: from_container, packet: "tcp 10.64.0.36:%d > 10.96.0.10:80 S", random: %d}'
LB = '{hook: from_netdev, packet: "tcp 192.0.2.1:%d > 172.16.0.10:80 S"}'
OVERLAY = '{hook: from_overlay, geneve: {dsr: "172.16.0.10:80"}, packet: "tcp 192.0.2.1:%d > 10.64.0.36:8080 S"}'


@pytest.fixture
def play(tmp_path: Path) -> Any:
    def play(*steps: str) -> list[dict[str, Any]]:
        path = tmp_path / "s.yaml"
        path.write_text(HEAD + "".join(f"  - {step}\n" for step in steps))
        records = list(run(path, describe))
        assert [failure for record in records for failure in record.failures] == []
        return [describe(record) for record in records]

    return play


def describe(record: StepRecord) -> dict[str, Any]:
    return step_record(record, raw=True)


def backends(record: dict[str, Any]) -> list[int]:
    entries = record["ct"]["cilium_ct4_global"]
    return [entry["backend_id"] for entry in entries if entry["direction"] == "SVC"]


def test_backend_operations(play: Any) -> None:
    records = play(
        SYN % (1, 0),
        "{op: backend_del, backend_id: 101}",
        '{hook: from_container, packet: "tcp 10.64.0.36:1 > 10.96.0.10:80 A", random: 1}',
        "{op: backend_set, backend_id: 101, ip: 10.64.1.64, port: 8080}",
        "{op: affmatch_del, backend_id: 102, rev_nat_id: 7}",
        SYN % (2, 0),
    )
    assert backends(records[0]) == [101]
    assert backends(records[2]) == [102]
    assert sorted(backends(records[5])) == [101, 102]


def test_service_operations(play: Any) -> None:
    records = play(
        "{op: service_set, service: {ip: 10.96.0.10, port: 80, id: 7, protocol: ANY, flags: 0, flags2: 0,"
        " backends: [{id: 103, ip: 10.64.1.66, port: 1}]}}",
        SYN % (1, 5),
        "{op: service_del, addr: 10.96.0.10, port: 80}",
        '{hook: from_container, packet: "tcp 10.64.0.36:9 > 10.96.0.10:80 S"}',
    )
    assert backends(records[1]) == [103]
    assert records[3]["packet_out"].startswith("tcp 10.64.0.36:9 > 10.96.0.10:80")


def test_reverse_nat_ranges_and_policy(play: Any) -> None:
    records = play(
        SYN % (1, 0),
        "{op: revnat_del, rev_nat_id: 7}",
        '{hook: to_container, packet: "tcp 10.64.1.64:8080 > 10.64.0.36:1 SA"}',
        "{op: policy_del, endpoint_id: 36, egress: 1}",
        '{hook: from_container, packet: "tcp 10.64.0.36:3 > 10.64.1.64:80 S"}',
        "{op: service_set, service: {type: LoadBalancer, ip: 172.16.0.10, port: 80, id: 20, flags: 224, flags2: 0,"
        " backends: [{id: 201, ip: 10.64.0.36, port: 8080}]}}",
        LB % 1,
        "{op: srcrange_add, rev_nat_id: 20, cidr: 192.0.2.0/24}",
        LB % 1,
    )
    assert records[2]["packet_out"].startswith("tcp 10.64.1.64:8080 > 10.64.0.36:1")
    assert (records[4]["verdict"], records[4]["reason"]) == ("drop", "policy")
    assert (records[6]["verdict"], records[6]["reason"]) == ("drop", "not_in_src_range")
    assert records[8]["verdict"] != "drop"


def test_snat_entries_and_their_end(play: Any) -> None:
    records = play(OVERLAY % 1, "{op: snat_clear}", OVERLAY % 2, "{advance: 61s}", "{gc: {}}")
    assert [len(record["snat"]) for record in records] == [1, 0, 1, 1, 0]
    assert records[0]["snat"][0]["to_addr"] == "172.16.0.10"
    assert records[-1]["ct"]["cilium_ct4_global"] == []


def test_scrub_takes_a_pods_entries_and_no_others(play: Any) -> None:
    records = play(
        SYN % (1, 0),
        '{hook: from_netdev, packet: "tcp 192.0.2.9:1 > 172.16.0.10:80 S"}',
        "{gc: {endpoint: 10.64.1.64}}",
    )
    left = records[-1]["ct"]["cilium_ct4_global"]
    assert left
    assert not [entry for entry in left if "10.64.1.64" in (entry["src"], entry["dst"])]


def test_service_step_is_an_apply(play: Any) -> None:
    records = play("{service: web, backends: [{id: 102, ip: 10.64.1.65, port: 8080}]}", SYN % (1, 0), SYN % (2, 1))
    assert backends(records[-1]) == [102, 102]


def command(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_ctctl("trace", "--scenario", str(path), *options)


def test_the_command_and_its_json(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + f"  - {SYN % (1, 0)}\n  - {{advance: 5s}}\n  - {LB % 1}\n")
    done = command(path, "-o", "jsonl", "--raw")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["step"], line["hook"], line["now"]) for line in lines] == [
        (1, "from_container", 1000),
        (3, "from_netdev", 1005),
    ]
    entry = lines[0]["ct"]["cilium_ct4_global"][0]
    assert {"direction", "src", "dst", "lifetime", "remaining", "state", "key_hex", "value_hex"} <= entry.keys()
    assert lines[0]["tunnel"] is None
    assert lines[0]["affinity"][0].keys() == {"key_hex", "value_hex"}
    assert lines[0]["return_code"] == "TC_ACT_OK"


def test_a_failed_expectation_is_exit_code_3_and_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    steps = [SYN % (1, 0) + "}", "{advance: 1s, expect: {ct: 1}}"]
    steps[0] = steps[0].replace("}}", ", expect: {verdict: drop, ct.cilium_ct4_global: 2}}")
    path.write_text(HEAD + "".join(f"  - {step}\n" for step in steps))
    done = command(path)
    assert done.returncode == 3
    assert 'verdict: is "pass", expected "drop"' in done.stdout
    assert "ct: 3 entries (1 of them related), expected 1" in done.stdout
    assert str(path) in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_step_that_cannot_run_says_where(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + '  - {advance: 1s}\n  - {hook: from_container, packet: "tcp 10.9.9.9:1 > 10.64.1.1:2"}\n')
    with pytest.raises(CtctlError, match=r"s\.yaml:14: step 2: from_container: no endpoint has"):
        list(run(path, describe))


def test_a_wrong_file_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + f"  - {SYN % (1, 0)}\n  - {{hok: x}}\n")
    done = command(path, "-o", "jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ctctl: {path}:14: step 2: 'hok'")


def test_a_scenario_of_two_nodes(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + f"  - {SYN % (1, 0)}\n---\nnode: {{name: other, ip: 10.1.0.2}}\n")
    assert len(load_scenario(path, "n").steps) == 1
    assert load_scenario(path, "other").steps == ()


def test_a_full_table_evicts_the_same_every_time(tmp_path: Path) -> None:
    """Which entry goes depends on the CPU, so a scenario stays on one, wherever it was before."""
    document = {
        "node": {"name": "node1", "ip": "10.1.0.1"},
        "datapath": {"ct": {"tcp-max": 8, "any-max": 8}},
        "endpoints": [{"name": "pod1", "ip": "10.64.0.36", "identity": 20001}],
        "steps": [
            {"hook": "from_container", "packet": f"tcp 10.64.0.36:{port} > 10.64.1.64:80 S"}
            for port in range(40000, 40040)
        ],
    }
    path = tmp_path / "full.yaml"
    path.write_text(yaml.safe_dump(document))
    allowed = os.sched_getaffinity(0)
    outcomes = set()
    try:
        for cpu in (min(allowed), max(allowed)):
            os.sched_setaffinity(0, {cpu})
            left = [record.tables.ct["cilium_ct4_global"] for record in run_scenario(load_scenario(path), lambda _: {})]
            outcomes.add(tuple(tuple(key for key, _ in table) for table in left))
            assert os.sched_getaffinity(0) == {cpu}
        os.sched_setaffinity(0, allowed)
        for _ in run_scenario(load_scenario(path), lambda _: {}):
            assert len(os.sched_getaffinity(0)) == 1
        assert os.sched_getaffinity(0) == allowed
    finally:
        os.sched_setaffinity(0, allowed)
    assert len(outcomes) == 1


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Objects that reach the kernel, as they do."""
    names: list[str] = []
    load = BpfObject.load

    def counted(self: BpfObject) -> None:
        names.append(self.name)
        load(self)

    monkeypatch.setattr(BpfObject, "load", counted)
    return names


def test_a_kept_simulator_begins_as_new_and_loads_nothing_again(play: Any, loads: list[str]) -> None:
    changes = (
        "{advance: 100s}", SYN % (40000, 1), "{op: backend_del, backend_id: 102}", "{op: revnat_del, rev_nat_id: 7}",
        "{service: web, backends: [{id: 103, ip: 10.64.1.66, port: 8080}]}", LB % 40001, OVERLAY % 40002,
    )  # fmt: skip
    others = (SYN % (40000, 2), SYN % (40000, 1), LB % 40001, OVERLAY % 40002)
    new = play(*others)
    assert backends(new[0]) == [101]
    before = len(loads)
    with kept():
        play(*changes)
        first = len(loads)
        assert first > before
        assert play(*others) == new
        play(*changes)
        assert play(*others) == new
        assert len(loads) == first


def test_another_configuration_is_loaded_for_itself(tmp_path: Path, loads: list[str]) -> None:
    """One table's shape, two sets of read-only data: what one of them says is not the other's."""
    path = tmp_path / "s.yaml"
    counted = {}
    with kept():
        for accounting in ("false", "true", "false"):
            head = HEAD.replace("datapath: {", f"datapath: {{accounting: {accounting}, ")
            path.write_text(head + f"  - {SYN % (40000, 1)}\n")
            (record,) = run(path, describe)
            packets = {entry["packets"] for entry in describe(record)["ct"]["cilium_ct4_global"]}
            assert counted.setdefault(accounting, packets) == packets
    assert counted["false"] != counted["true"]
    assert len(loads) == 2


def test_a_node_whose_table_may_become_full_is_not_kept(tmp_path: Path, loads: list[str]) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD.replace("datapath: {", "datapath: {ct: {tcp-max: 64}, ") + f"  - {SYN % (40000, 1)}\n")
    with kept():
        for _ in range(2):
            list(run(path, describe))
    assert len(loads) == 2
