"""Every check of the doctor: silent on a healthy table, and finding the fault made in a real one."""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctctl.abi import layouts
from ctctl.doctor.diagnose import CHECKS, diagnose
from ctctl.doctor.facts import gather
from ctctl.doctor.finding import Diagnosis, Finding, Severity, Verdict
from ctctl.kernel.map import Map, MapType
from ctctl.simulate.scenario import one_cpu
from ctctl.tables import pairs as keys
from ctctl.tables.sources.base import SourceOptions
from ctctl.tables.sources.open import open_source
from ctctl.tables.sources.snapshot_write import write_snapshot
from tests.support.children import run_ctctl
from tests.support.gctables import NOW, TableDir, entry, key4, nat4, reverse_nat_value, table_dir

pytestmark = pytest.mark.kernel

TCP, ANY, TCP6, NAT = "cilium_ct4_global", "cilium_ct_any4_global", "cilium_ct6_global", "cilium_snat_v4_external"
ANY6, NAT6 = "cilium_ct_any6_global", "cilium_snat_v6_external"
BACKENDS = "cilium_lb4_backends_v3"
POD, PEER, CLIENT, VIP = "10.64.0.36", "10.64.0.64", "192.0.2.50", "10.68.0.1"
SEEN, RX, TX, NODE_PORT, DSR = 0x10, 1, 2, 0x20, 0x80
ID = 3096


def put(node: TableDir, name: str, key: bytes, **fields: int) -> None:
    seen = {"tx_flags_seen": 0x12, "rx_flags_seen": 0x12}
    node.maps[name].update(key, entry(**{"lifetime": NOW + 50, "src_sec_id": ID} | seen | fields))


def related(node: TableDir, src: str, dst: str, flags: int) -> None:
    put(node, ANY, key4(src, 0, dst, 0, proto=1, flags=flags | 2))


def backend(node: TableDir, number: int, state: int = 0) -> None:
    value = bytes(layouts.lb4_backend(address=0x0A400040, port=8000, proto=6, flags=state))
    node.maps[BACKENDS].update(number.to_bytes(4, "little"), value)


def key6(number: int, flags: int = 0) -> bytes:
    return number.to_bytes(16, "big") + b"\xfd" + bytes(15) + b"\x00\x50\x04\xd2\x06" + bytes([flags])


@pytest.fixture(autouse=True)
def _on_one_cpu() -> Iterator[None]:
    """Each CPU that writes to an LRU table holds back free elements: what is nearly full is filled from one."""
    with one_cpu():
        yield


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TableDir]:
    """A healthy node that has one of everything the checks look at."""
    with table_dir(tmp_path) as made:
        for name in (TCP, ANY, TCP6, "cilium_ct_any6_global", NAT):
            made.create(name, 1024)
        made.add(BACKENDS, Map.create("backends", MapType.HASH, 4, 12, 64))
        made.add("cilium_lb4_services_v2", Map.create("services", MapType.HASH, 12, 12, 64))
        made.add("ctctl_stats", Map.create("ctctl_stats", MapType.PERCPU_ARRAY, 4, 8, layouts.CtctlStat.STAT_MAX))
        # An open connection with its related entries, at either end; one that just begins; some that ended.
        for flags in (0, 1):
            put(made, TCP, key4(POD, 40000, PEER, 80, flags=flags), flags=SEEN, lifetime=NOW + 8000)
            put(made, TCP, key4(POD, 40001, PEER, 80, flags=flags), flags=0)
            related(made, POD, PEER, flags)
        for port in range(50):
            put(made, TCP, key4(POD, 41000 + port, PEER, 80), flags=SEEN, lifetime=NOW + 7000)
            put(made, TCP, key4(POD, 42000 + port, PEER, 80), flags=SEEN | RX | TX, lifetime=NOW - port)
            put(made, TCP, key4(POD, 43000 + port, PEER, 80), flags=SEEN | RX, lifetime=NOW + 7000)
            put(made, ANY, key4(POD, 44000 + port, PEER, 53, proto=17), lifetime=NOW + 7)
            made.maps[TCP6].update(key6(port), entry(lifetime=NOW + 100, src_sec_id=ID, flags=SEEN))
        # A service connection, a DSR one with its SNAT entry, a masqueraded one with both of its.
        put(made, TCP, key4(POD, 45000, VIP, 80, flags=4), backend_id=7, src_sec_id=0, flags=SEEN, rev_nat_index=3)
        backend(made, 7)
        dsr = key4(CLIENT, 46000, POD, 8000)
        put(made, TCP, dsr, flags=DSR | SEEN, src_sec_id=2)
        made.maps[NAT].update(keys.nat_key(dsr, dsr=True), nat4(VIP, 80))
        masked = key4(POD, 47000, "8.8.8.8", 443)
        put(made, TCP, masked, flags=SEEN)
        forward, value = keys.nat_key(masked, dsr=False), nat4("10.0.0.1", 50000)
        made.maps[NAT].update(forward, value)
        made.maps[NAT].update(keys.reverse_nat_key(forward, value), reverse_nat_value(forward, value))
        # A live NodePort connection to a pod of this node: OUT and IN of the same tuple, both open.
        for flags in (0, 1):
            put(made, TCP, key4(CLIENT, 48000, POD, 8000, flags=flags), flags=SEEN | (0 if flags else NODE_PORT))
        yield made


def look(node: TableDir, **changes: object) -> Diagnosis:
    with open_source(str(node.path), SourceOptions(now=NOW)) as source:
        return diagnose(replace(gather(source, node=None, gc_interval_s=300), **changes))


def checks(findings: Diagnosis) -> set[str]:
    return {finding.check for finding in findings.findings}


def only(node: TableDir, check: str, **changes: object) -> Finding:
    found = look(node, **changes)
    assert checks(found) == {check}, found.findings
    return found.findings[0]


def test_a_healthy_node_is_silent_to_every_check(node: TableDir) -> None:
    found = look(node)
    assert found.findings == ()
    assert set(found.checks) == {check.name for check in CHECKS} - {"backend-without-endpoint", "programs"}
    assert set(found.skipped) == {"backend-without-endpoint", "programs"}
    assert found.verdict is Verdict.HEALTHY


def test_another_map_in_the_place_of_the_snat_table(tmp_path: Path) -> None:
    with table_dir(tmp_path) as made:
        made.create(TCP, 1024)
        made.add(NAT, Map.create("other", MapType.HASH, 4, 4, 16))
        found = look(made)
    assert found.skipped["snat-ports"] == "the source shows no SNAT table"


@pytest.mark.parametrize(
    ("tables", "absent"),
    [
        ((TCP, ANY, NAT), ()),
        ((TCP6, ANY6, NAT6), ()),
        ((TCP, ANY, TCP6, ANY6, NAT), ()),
        ((TCP6, ANY6, NAT), (TCP, ANY)),
        ((ANY, NAT), (TCP,)),
        ((TCP, ANY, TCP6), (ANY6,)),
    ],
)
def test_healthy_is_said_only_where_every_table_is_there(
    tables: tuple[str, ...], absent: tuple[str, ...], tmp_path: Path
) -> None:
    snapshot = tmp_path / "tables.ctsnap"
    with table_dir(tmp_path) as made:
        for name in tables:
            made.create(name, 1024)
        if NAT in tables:  # an empty one is not in a snapshot
            made.maps[NAT].update(keys.nat_key(key4(POD, 1, PEER, 80), dsr=False), nat4("10.0.0.1", 50000))
        found = [look(made)]
        with open_source(str(made.path), SourceOptions(now=NOW)) as source:
            for table in source.tables:
                table.now = NOW
            with snapshot.open("wb") as stream:
                write_snapshot(source, source.tables, lambda table: table.read(), stream)
    with open_source(str(snapshot), SourceOptions(now=NOW)) as source:
        found.append(diagnose(gather(source, node=None, gc_interval_s=300)))
    for diagnosis, where in zip(found, ("not pinned here", "not in the source"), strict=True):
        assert diagnosis.findings == ()
        assert diagnosis.verdict is (Verdict.UNKNOWN if absent else Verdict.HEALTHY)
        for check in ("pressure", "gc-backlog"):
            reason = diagnosis.skipped.get(check, "")
            assert reason.startswith(f"{where}: {' and '.join(absent)}, which a node with IPv") == bool(absent), reason


def test_pressure(node: TableDir) -> None:
    put_many(node, ANY, 800, lambda i: (key4(POD, 1 + i, PEER, 53, proto=17), {}))
    found = only(node, "pressure", growth={ANY: 10.0})
    assert (found.map, found.severity) == (ANY, Severity.WARNING)
    assert "full in" in found.summary
    put_many(node, ANY, 150, lambda i: (key4(POD, 2000 + i, PEER, 53, proto=17), {}))
    assert only(node, "pressure").severity is Severity.CRITICAL


def put_many(node: TableDir, name: str, count: int, make: Callable[[int], tuple[bytes, dict[str, int]]]) -> None:
    for i in range(count):
        key, fields = make(i)
        put(node, name, key, **fields)


def test_gc_backlog(node: TableDir) -> None:
    put_many(node, TCP, 40, lambda i: (key4(POD, 1 + i, PEER, 80), {"lifetime": NOW - 900 - i, "flags": SEEN}))
    put_many(node, TCP6, 0, lambda i: (key6(i), {}))
    # Both families behind, or it would be one that is starved.
    for i in range(40):
        node.maps[TCP6].update(key6(1000 + i), entry(lifetime=NOW - 900, src_sec_id=ID))
    found = look(node)
    assert checks(found) == {"gc-backlog"}
    assert {finding.map for finding in found.findings} == {TCP, TCP6}
    assert found.findings[0].evidence["oldest_s"] in (900, 939)


def test_a_backlog_younger_than_the_interval_is_healthy(node: TableDir) -> None:
    put_many(node, TCP, 100, lambda i: (key4(POD, 1 + i, PEER, 80), {"lifetime": NOW - 500, "flags": SEEN}))
    assert look(node).findings == ()


def test_family_starved(node: TableDir) -> None:
    for i in range(60):
        node.maps[TCP6].update(key6(1000 + i), entry(lifetime=NOW - 90_000, src_sec_id=ID))
    found = look(node)
    assert checks(found) == {"family-starved", "gc-backlog"}
    (starved,) = [finding for finding in found.findings if finding.check == "family-starved"]
    assert "IPv4 and not IPv6" in starved.summary


def test_clock_mismatch(node: TableDir) -> None:
    # Written in another clock: every lifetime and report is far ahead of this one.
    offset = 16_777_216
    table = node.maps[ANY]
    for key, _ in list(table.items()):
        table.update(key, entry(lifetime=NOW + offset + 60, last_tx_report=NOW + offset, src_sec_id=ID))
    found = look(node)
    assert checks(found) == {"clock-mismatch"}
    assert found.findings[0].severity is Severity.CRITICAL
    assert found.skipped["gc-backlog"] == "the table's clock is another one"


def test_table_memory(node: TableDir) -> None:
    total = sum(look_facts(node).table_bytes.values())
    assert total > 5 * 1024 * 56
    found = only(node, "table-memory", memory_bytes=total * 5)
    assert found.evidence["bytes"] == total
    assert look(node, memory_bytes=total * 50).findings == ()


def look_facts(node: TableDir):
    with open_source(str(node.path), SourceOptions(now=NOW)) as source:
        return gather(source, node=None, gc_interval_s=300)


def test_insertion_failures_with_the_kernels_error(node: TableDir) -> None:
    table = node.maps["ctctl_stats"]
    zeros = table.value_bytes - 8
    for stat, number in (("STAT_CT_CREATE_FAILED", 5), ("STAT_CT_CREATE_ERRNO", errno.ENOMEM)):
        index = int(layouts.CtctlStat[stat]).to_bytes(4, "little")
        table.update(index, number.to_bytes(8, "little") + bytes(zeros))
    found = only(node, "insertion-failed")
    assert found.evidence["failed"] == 5
    assert "ENOMEM (Cannot allocate memory)" in found.summary


def test_backend_gone(node: TableDir) -> None:
    node.maps[BACKENDS].delete((7).to_bytes(4, "little"))
    found = only(node, "backend-gone")
    assert found.evidence["backend_ids"] == [7]
    assert found.evidence["examples"] == [f"SVC TCP {POD}:45000 -> {VIP}:80"]


def test_backend_terminating(node: TableDir) -> None:
    backend(node, 7, state=1)
    assert only(node, "backend-terminating").evidence["backend_ids"] == [7]


def test_half_closed(node: TableDir) -> None:
    put_many(node, TCP, 60, lambda i: (key4(POD, 100 + i, PEER, 80), {"flags": SEEN | TX, "lifetime": NOW + 7000}))
    found = only(node, "half-closed")
    assert found.evidence["half_closed"] == 110
    assert found.evidence["top"] == {PEER: 110}


def test_syn_only_by_source(node: TableDir) -> None:
    put_many(node, TCP, 120, lambda i: (key4("203.0.113.9", 100 + i, PEER, 80, flags=1), {"flags": 0}))
    related(node, "203.0.113.9", PEER, 1)
    found = only(node, "syn-only")
    assert list(found.evidence["sources"].items()) == [("203.0.113.9", 120), (POD, 2)]


def test_snat_missing(node: TableDir) -> None:
    node.maps[NAT].delete(keys.nat_key(key4(CLIENT, 46000, POD, 8000), dsr=True))
    found = only(node, "snat-missing")
    assert found.severity is Severity.CRITICAL
    assert found.evidence["examples"] == [f"OUT TCP {CLIENT}:46000 -> {POD}:8000"]


def test_snat_orphans(node: TableDir) -> None:
    node.maps[TCP].delete(key4(POD, 47000, "8.8.8.8", 443))
    assert look(node).findings == (), "two of three, which the next GC takes"
    for port in range(25):
        forward = keys.nat_key(key4(POD, 50000 + port, "8.8.8.8", 443), dsr=False)
        node.maps[NAT].update(forward, nat4("10.0.0.1", 50000 + port))
    assert only(node, "snat-orphans").evidence["orphans"] == 27


def test_shadowed(node: TableDir) -> None:
    put(node, TCP, key4(CLIENT, 48000, POD, 8000), flags=SEEN | NODE_PORT | RX | TX, lifetime=NOW + 5)
    found = only(node, "shadowed")
    assert found.evidence["examples"] == [f"OUT TCP {CLIENT}:48000 -> {POD}:8000"]


def test_related_gone(node: TableDir) -> None:
    node.maps[ANY].delete(key4(POD, 0, PEER, 0, proto=1, flags=2))
    found = only(node, "related-gone")
    assert found.evidence["examples"] == [f"OUT TCP {POD}:40001 -> {PEER}:80"]


def test_identity_zero(node: TableDir) -> None:
    put(node, TCP, key4("10.64.0.99", 1, PEER, 80, flags=1), flags=SEEN, src_sec_id=0)
    assert only(node, "identity-0").evidence["sources"] == {"10.64.0.99": 1}


def doctor(*args: object) -> subprocess.CompletedProcess[str]:
    return run_ctctl("doctor", *args)


def test_command_line(node: TableDir, tmp_path: Path) -> None:
    where = ("--from", node.path, "--now", NOW)
    healthy = doctor(*where)
    assert healthy.returncode == 0, healthy.stderr
    assert "healthy, 21 checks (2 not possible here)" in healthy.stdout
    put(node, TCP, key4("10.64.0.99", 1, PEER, 80, flags=1), flags=SEEN, src_sec_id=0)
    found = doctor(*where)
    assert found.returncode == 3
    assert "warning identity-0 cilium_ct4_global" in found.stdout
    document = json.loads(doctor(*where, "-o", "json").stdout)
    assert document["schema"] == "ctctl/doctor/v1"
    assert [finding["check"] for finding in document["findings"]] == ["identity-0"]
    assert document["findings"][0]["evidence"]["entries"] == 1
    assert document["findings"][0]["advice"]


def test_what_mends_is_told_of_the_tables_that_were_looked_at(node: TableDir, tmp_path: Path) -> None:
    """A machine has others, which ``ctctl gc`` alone would take; of a dump it is the node's business."""
    for port in range(1, 40):
        put(node, TCP, key4(POD, port, PEER, 80), lifetime=1)
    document = json.loads(doctor("--from", node.path, "--now", NOW, "-o", "json").stdout)
    mends = [command for finding in document["findings"] for command in finding["mend"]]
    assert mends
    assert {f"--from {node.path}" in command for command in mends if command.startswith("ctctl ")} == {True}
    snapshot = tmp_path / "node.ctsnap"
    with open_source(str(node.path), SourceOptions(now=NOW)) as source, snapshot.open("wb") as stream:
        write_snapshot(source, source.tables, lambda table: table.read(), stream)
    document = json.loads(doctor("--from", snapshot, "--now", NOW, "-o", "json").stdout)
    mends = [command for finding in document["findings"] for command in finding["mend"]]
    assert mends
    assert not any("--from" in command for command in mends)


def test_trend_of_a_growing_table(node: TableDir) -> None:
    with open_source(str(node.path), SourceOptions(now=NOW)) as source:
        table = source.tables[0]
        read, calls = table.read, []

        def growing():
            # Between the two counts a hundred connections begin.
            if calls:
                put_many(node, TCP, 100, lambda i: (key4(POD, 1 + i, PEER, 80), {"flags": SEEN}))
            calls.append(1)
            return read()

        table.read = growing
        facts = gather(source, node=None, gc_interval_s=300, sample_s=0.05)
    assert facts.growth[TCP] > 100
    assert facts.growth[TCP6] == 0


def test_works_on_a_snapshot(node: TableDir, tmp_path: Path) -> None:
    put(node, TCP, key4("10.64.0.99", 1, PEER, 80, flags=1), flags=SEEN, src_sec_id=0)
    snapshot = tmp_path / "tables.ctctl"
    with open_source(str(node.path), SourceOptions(now=NOW)) as source, snapshot.open("wb") as stream:
        write_snapshot(source, source.tables, lambda table: table.read(), stream)
    found = doctor("--from", snapshot, "--now", NOW, "-o", "json")
    assert found.returncode == 3, found.stderr
    document = json.loads(found.stdout)
    assert [finding["check"] for finding in document["findings"]] == ["identity-0"]
    assert "insertion-failed" in document["sources"][0]["skipped"]


def test_works_on_a_sysdump() -> None:
    (archive,) = (Path(__file__).resolve().parents[1] / "data/samples/archives").glob("cilium-sysdump-*.zip")
    done = doctor("--from", archive, "-o", "json")
    document = json.loads(done.stdout)
    # One of its tables is cut short: partial data comes before findings.
    assert done.returncode == 5, done.stderr
    assert {source["node"] for source in document["sources"]} == {"cilium-7xk2p", "cilium-q9fzd", "cilium-wb4nt"}
    found = {(finding["node"], finding["check"]) for finding in document["findings"]}
    assert {("cilium-7xk2p", "backend-gone"), ("cilium-wb4nt", "snat-missing")} <= found
    assert all("needs live tables" in source["skipped"]["table-memory"] for source in document["sources"])
