"""What people have: every case of tests/data/cases, the listings of captured nodes, and what is like them."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ctctl.abi import pins
from ctctl.decode.ct import decode_entry
from ctctl.decode.nat import decode_nat
from ctctl.errors import CtctlError, DecodeError
from ctctl.model.entry import Layout
from ctctl.model.tuples import Direction
from ctctl.tables.show.cilium import cilium_line
from ctctl.tables.sources.base import SourceOptions
from ctctl.tables.sources.several import open_several
from tests.support import captures
from tests.support.children import run_ctctl
from tests.support.listings import case, entries, listed, read

#: Files whose names look like listings and are none of those that are read.
OTHERS = ("map-list.txt", "bpftool-net.json")
LAYOUTS = {"1.14": Layout.V1_14, "1.16": Layout.V1_16, "1.18": Layout.V1_18, "1.19": Layout.V1_19}


def lines_of(path: Path) -> list[str]:
    return [line.rstrip() + " " for line in path.read_text().splitlines() if line.strip()]


# ---- captured nodes


def written(capture: str, name: str, folder: Path) -> Path:
    path = folder / Path(name).name
    path.write_bytes(captures.files(capture)[name])
    return path


@pytest.mark.parametrize("capture", captures.NAMES)
@pytest.mark.parametrize("form", ["json", "yaml", "txt"])
def test_a_capture_read_back_has_the_entries_of_its_maps(capture: str, form: str, tmp_path: Path) -> None:
    layout = LAYOUTS[capture.split("-")[1]]
    expected = captures.conntrack(capture)
    with read(written(capture, f"cli/ct-list-global.{form}", tmp_path)) as source:
        assert not source.partial
        got = {(entry.map, entry.key): (entry, table) for entry, table in entries(source)}
        assert got.keys() == expected.keys()
        for (name, key), (entry, table) in got.items():
            truth = decode_entry(key, expected[name, key], layout, name)
            assert cilium_line(entry, table.layout) == cilium_line(truth, table.layout)
            if form != "txt":
                assert entry.value == expected[name, key]
                continue
            for field in ("backend_id", "flags", "lifetime", "rev_nat", "src_sec_id", "packets", "rx_bytes"):
                assert getattr(entry, field) == getattr(truth, field) or (
                    field == "backend_id" and truth.direction is not Direction.SVC
                )


@pytest.mark.parametrize("capture", captures.NAMES)
@pytest.mark.parametrize("form", ["json", "txt"])
def test_the_nat_list_of_a_capture(capture: str, form: str, tmp_path: Path) -> None:
    expected = {
        (entry.tuple, entry.direction, entry.xlate, entry.to_addr, entry.to_port)
        for name in pins.SNAT_TABLES.values()
        for entry in (decode_nat(key, value, name) for key, value in captures.pinned(capture).get(name, {}).items())
    }
    with read(written(capture, f"cli/nat-list.{form}", tmp_path)) as source:
        assert not source.partial
        found = source.listings(None).nat
        assert {(e.tuple, e.direction, e.xlate, e.to_addr, e.to_port) for e in found} == expected
        assert len(found) == len(expected)


@pytest.mark.parametrize("capture", captures.NAMES)
def test_the_other_listings_of_a_capture(capture: str, tmp_path: Path) -> None:
    counts = {
        "lb-list.txt": ("services", (pins.LB4_SERVICES, pins.LB6_SERVICES)),
        "lb-list.frontends.json": ("services", (pins.LB4_SERVICES, pins.LB6_SERVICES)),
        "lb-list.backends.txt": ("backends", (pins.LB4_BACKENDS, pins.LB6_BACKENDS)),
        "lb-list.backends.json": ("backends", (pins.LB4_BACKENDS, pins.LB6_BACKENDS)),
        "lb-list.revnat.txt": ("rev_nats", (pins.LB4_REVERSE_NAT, pins.LB6_REVERSE_NAT)),
        "lb-list.source-ranges.json": ("source_ranges", (pins.LB4_SOURCE_RANGE, pins.LB6_SOURCE_RANGE)),
        "endpoint-list.txt": ("endpoints", (pins.ENDPOINTS,)),
        "ipcache-list.json": ("ipcache", (pins.IPCACHE, pins.IPCACHE_V2)),
    }
    for name, (kind, tables) in counts.items():
        with read(written(capture, f"cli/{name}", tmp_path)) as source:
            assert not source.partial, name
            count = sum(len(captures.pinned(capture).get(table, {})) for table in tables)
            assert len(getattr(source.listings(None), kind)) == count, name


@pytest.mark.parametrize("capture", captures.NAMES)
def test_every_file_of_a_capture_is_read_or_is_no_listing_of_ours(capture: str, tmp_path: Path) -> None:
    for name in captures.files(capture):
        if not name.startswith(("cli/", "cmd/")):
            continue
        path = written(capture, name, tmp_path)
        with contextlib.suppress(DecodeError), read(path) as source:
            assert not source.partial, name
        done = run_ctctl("lb", "list", "--from", path) if path.name in OTHERS else None
        assert done is None or (done.returncode, done.stderr.count("\n")) == (1, 1), name


@pytest.mark.parametrize("capture", captures.NAMES)
def test_what_an_agent_says_about_its_node(capture: str, tmp_path: Path) -> None:
    for name in ("cmd/status-verbose.txt", "cmd/agent-runtime-config.json"):
        with read(written(capture, name, tmp_path)) as source:
            facts = source.facts(None)
            assert facts.capacity[pins.CT4_TCP].value in (221723, 221724)
            assert facts.capacity[pins.CT6_ANY].value in (110861, 110862)
            assert str(facts.clock) == "ktime"
    assert facts.timeouts_s["regular_tcp"].value == (21600 if "1.14" in capture else 8000)
    assert facts.timeouts_s["service_tcp_grace"].value == 60
    assert "CTMapEntriesTimeoutTCP" in facts.timeouts_s["regular_tcp"].evidence


def test_a_folder_with_everything_of_a_capture_is_one_node(tmp_path: Path) -> None:
    capture = captures.NAMES[-1]
    for name, data in captures.files(capture).items():
        if name.startswith(("cli/", "cmd/")):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    with read(tmp_path) as source:
        assert not source.partial
        assert source.nodes() == []
        table = next(table for table in source.tables if table.name == pins.CT4_TCP)
        assert table.max_entries == 221723
        assert table.capacity_evidence
        assert "assumed" not in table.clock.evidence


# ---- what people paste


def test_a_service_entry_as_it_was_written_up_to_1_14() -> None:
    with read(case("03") / "ct.txt") as source:
        found = {str(entry.tuple): entry for entry, _ in entries(source)}
        assert listed(source) == lines_of(case("03") / "ct.txt")
    service = next(entry for entry in found.values() if entry.direction is Direction.SVC)
    assert (str(service.tuple.src), service.tuple.src_port) == ("10.72.3.2", 58842)
    assert (str(service.tuple.dst), service.tuple.dst_port) == ("10.72.32.1", 80)
    assert service.backend_id == 21


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize("told", ["--layout", "its version", "its own text"])
def test_what_1_14_and_1_15_write_alike_is_1_14s_where_something_says_so(form: str, told: str, tmp_path: Path) -> None:
    files = captures.files("cilium-1.14-snat-node1")
    path = written("cilium-1.14-snat-node1", f"cli/ct-list-global.{form}", tmp_path)
    expected = sorted(filter(None, files["cli/ct-list-global.txt"].decode().splitlines()))
    if told == "its version":
        written("cilium-1.14-snat-node1", "cmd/version.txt", tmp_path)
    elif told == "its own text":
        (tmp_path / "ct.txt").write_text(next(line for line in expected if " service " in line))
    said = ["--layout", "1.14"] if told == "--layout" else []
    done = run_ctctl("ct", "list", "-o", "cilium", "--from", path if said else tmp_path, *said)
    assert done.returncode == 0, done.stderr
    assert sorted(filter(None, done.stdout.splitlines())) == expected
    with read(path) as source:  # alone it is the newer one's, of whose entries it may be
        assert {table.layout for table in source.tables} == {Layout.V1_15}


def test_a_listing_that_contradicts_itself_is_said_to() -> None:
    with read(case("04") / "ct.txt") as source:
        assert [table.now for table in source.tables] == [None]
        assert any("contradicts itself" in note and "not shifted" in note for note in source.notes)
        assert source.tables[0].now_at_least == 16817036


def test_a_single_line_proves_no_clock(tmp_path: Path) -> None:
    with read(case("19") / "dump47396.txt") as source:
        assert source.tables[0].now == 750
        assert "assumed" in source.tables[0].clock.evidence


def test_a_report_after_the_listings_own_time_contradicts_it(tmp_path: Path) -> None:
    line = (case("19") / "dump47396.txt").read_text().splitlines()[0]
    path = tmp_path / "x"
    path.write_text(
        line.replace("LastTxReport=702", "LastTxReport=90702").replace("LastRxReport=465", "LastRxReport=90702")
    )
    with read(path) as source:
        assert source.tables[0].now is None
        assert any("contradicts itself" in note for note in source.notes)


def test_snat_entries_of_every_version() -> None:
    for folder in ("cilium-bugtool", "fixed"):
        with read(case("05") / folder) as source:
            assert [entry.age_s for entry in source.listings(None).nat] == [97878, 97878]
    with read(case("09") / "nat-hostlocal-3.txt") as source:
        assert [entry.to_port for entry in source.listings(None).nat] == [32768, 32769, 32770]
        assert {entry.needs_ct for entry in source.listings(None).nat} == {None}


def test_28232_snat_entries_in_little_time(tmp_path: Path) -> None:
    path = tmp_path / "nat-ago.txt.gz"
    lines = [
        f"TCP OUT 10.0.3.{p % 200 + 1}:{p} -> 203.0.113.10:443 XLATE_SRC 192.0.2.5:{p} Created=2719514sec NeedsCT=1\n"
        for p in range(32768, 61000)
    ]
    path.write_bytes(gzip.compress("".join(lines).encode()))
    with read(path) as source:
        assert len(source.listings(None).nat) == 28232


def test_dsr_entries_of_1_19() -> None:
    with read(case("06") / "ct.txt") as source:
        assert listed(source) == lines_of(case("06") / "ct.txt")
        entry = next(entry for entry, _ in entries(source) if entry.nat_addr)
        assert (entry.nat_addr, entry.nat_port, entry.backend_id) == ("172.19.0.5", None, None)


def test_the_nat_port_of_a_listing_whose_builds_order_is_plain(tmp_path: Path) -> None:
    text = (case("06") / "ct.txt").read_text()
    path = tmp_path / "ct.txt"
    path.write_text(text.replace("NatPort=30587", "NatPort=30080"))  # 32885 the other way round
    with read(path) as source:
        assert next(entry.nat_port for entry, _ in entries(source) if entry.nat_addr) == 30080


def test_frontends_with_an_empty_left_column() -> None:
    for name in ("lb.txt", "lb-noprompt.txt", "bugtool"):
        with read(case("07") / name) as source:
            found = source.listings(None).services
            assert len(found) == 7
            assert {(str(slot.addr), slot.port, slot.scope) for slot in found} == {("192.0.2.100", 443, "internal")}
            assert sorted(slot.slot for slot in found) == [0, 4, 6, 7, 8, 9, 10]
            assert not source.partial
    for name, count in (("lb.txt", 8), ("lb.json", 4)):
        with read(case("11") / name) as source:
            assert len(source.listings(None).services) == count
            assert not source.partial


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (".frontends", "192.168.61.11:30081 via backend 3 at 10.61.1.102:8000"),
        (".frontends .backends", "192.168.61.11:30081 via backend 3 at 10.61.1.102:8000"),
        (".backends", "192.168.61.11:30081 via backend 3 at 10.61.1.102:8000"),
        ("", "192.168.61.11:30081 via backend 3"),
        ("-.frontends .backends", "192.168.61.11:30081 via backend 3 at 10.61.1.102"),
        ("-.backends", "rev-NAT 14 via backend 3 at 10.61.1.102"),
    ],
)
@pytest.mark.parametrize("form", ["txt", "json"])
def test_a_connections_backend_is_told_as_far_as_the_listings_go(
    beside: str, said: str, form: str, tmp_path: Path
) -> None:
    """No version prints ports in ``--backends``, nor numbers of backends beside services: never a port 0."""
    capture = "cilium-1.19-snat-node1"
    for name in [*([] if beside.startswith("-") else [""]), *beside.removeprefix("-").split()]:
        written(capture, f"cli/lb-list{name}.{form}", tmp_path)
    written(capture, "cli/ct-list-global.txt", tmp_path)
    done = run_ctctl("ct", "get", "tcp 192.168.61.1:57522 > 192.168.61.11:30081", "--from", tmp_path)
    assert f"service {said}" in map(str.strip, done.stdout.splitlines())
    assert ("shows no numbers of backends" in done.stdout) is (not beside)


def test_backends_of_1_14_and_1_15_are_no_counters() -> None:
    for folder in ("bugtool", "bugtool14"):
        with read(case("07") / folder) as source:
            found = {entry.backend_id for entry, _ in entries(source)}
            assert found == {4711, 101}
            assert {backend.backend_id for backend in source.listings(None).backends} == {101, 102}


def test_aligned_columns_and_several_listings_in_one_file() -> None:
    with read(case("13") / "ct-asposted.txt") as source:
        assert len(listed(source)) == 3
        assert {str(slot.addr) for slot in source.listings(None).services} == {"::", "0.0.0.0"}
        assert not source.partial
    with read(case("27") / "notes.txt") as source:
        assert len(listed(source)) == 2
        assert len(source.listings(None).nat) == 3
        assert not source.partial


@pytest.mark.parametrize("name", ["conntrack-L.txt", "proc-nf_conntrack.txt"])
def test_netfilters_own_text(name: str) -> None:
    with read(case("15") / name) as source:
        found = {entry.tuple.src_port: entry for entry, _ in entries(source)}
        assert {port: entry.state.value for port, entry in found.items()} == {
            48931: "new",
            60000: "established",
            60001: "new",
        }
        assert {row.remaining(0) for row in found.values()} == {30, 431999, 119}
        assert {entry.rx_packets for entry in found.values()} == {None}
        assert {(e.xlate, str(e.to_addr), e.to_port) for e in source.listings(None).nat} == {
            ("DST", "10.11.4.22", 8125),
            ("SRC", "172.18.0.2", 45815),
            ("SRC", "172.18.0.2", 45816),
        }


def test_netfilters_events_are_no_table(tmp_path: Path) -> None:
    """What a line says has ended is no entry of its own, and that another may have ended is said."""
    line = (
        "udp 17 30 src=10.0.0.1 dst=10.0.0.2 sport={0} dport=53 [UNREPLIED]"
        " src=10.0.0.2 dst=10.0.0.1 sport=53 dport={0}"
    )
    events = [("NEW", 1), ("UPDATE", 2), ("DESTROY", 3)]
    file = tmp_path / "events.txt"
    file.write_text("".join(f"    [{word}] {line.format(port)}\n" for word, port in events))
    with read(file) as source:
        assert {entry.tuple.src_port for entry, _ in entries(source)} == {1, 2}
        (said,) = source.partial
    assert said.startswith("3 event(s) of conntrack -E that are no table: what has ended since may be among these")


@pytest.mark.parametrize("apart", [False, True])
def test_netfilters_time_is_its_own(apart: bool, tmp_path: Path) -> None:
    """It counts from its listing: a listing of Cilium beside it has no time by that, nor it by that one's ``--now``."""
    netfilter = (case("15") / "conntrack-L.txt").read_text()
    cilium = captures.files("cilium-1.16-snat-node1")["cli/ct-list-global.txt"].decode()
    if apart:
        (tmp_path / "conntrack-L.txt").write_text(netfilter)
        (tmp_path / "ct-list-global.txt").write_text(cilium)
    else:
        (tmp_path / "notes.txt").write_text(f"$ conntrack -L\n{netfilter}$ cilium bpf ct list global\n{cilium}")
    with read(tmp_path) as source:
        times = {table.name: table.now for table in source.tables}
        assert times.pop("nf_conntrack4") == 0
        assert set(times.values()) == {None}
    with read(tmp_path, now=5400) as source:
        times = {table.name: table.now for table in source.tables}
        assert times.pop("nf_conntrack4") == 0
        assert set(times.values()) == {5400}
    with read(case("15") / "conntrack-L.txt", now=100) as source:  # by itself: as of so much later
        assert {table.now for table in source.tables} == {100}


@pytest.mark.parametrize("name", ["btf.txt", "bugtool.md", "dump.json", "hex-prompt.txt", "hex.txt", "lookup.json"])
def test_bpftools_forms(name: str) -> None:
    with read(case("17") / name) as source:
        assert [str(entry.tuple) for entry, _ in entries(source)] == ["TCP 10.64.0.36:54260 -> 10.64.0.64:8000"]
        assert not source.partial


def test_kubectls_first_line_hides_nothing() -> None:
    for path in sorted(case("18").iterdir()):
        with read(path) as source:
            listings = source.listings(None)
            found = len(listed(source)) + len(listings.nat) + len(listings.services)
            assert found + len(listings.ipcache) + len(listings.endpoints) > 0, path.name
            # Only files that are cut off are partial.
            assert bool(source.partial) <= (path.stat().st_size >= 4200), path.name


def test_the_shells_map_dump() -> None:
    with read(case("25") / "dump.txt") as source:
        listings = source.listings(None)
        assert [(b.backend_id, b.port, b.state) for b in listings.backends] == [
            (1, 80, "active"),
            (2, 80, "terminating"),
        ]
        assert [(slot.slot, slot.backend_id) for slot in listings.services] == [(0, None), (1, 1), (2, 2)]
        assert [(r.rev_nat, r.port) for r in listings.rev_nats] == [(1, 80)]


def test_capacity_clock_and_timeouts_of_a_sysdump() -> None:
    with read(case("31") / "sysdump") as source:
        assert source.nodes() == ["x"]
        table = source.tables[0]
        assert (table.max_entries, table.capacity_evidence) == (131072, "status --verbose")
        assert table.clock.evidence == "ktime by status --verbose"
        facts = source.facts("x")
        assert facts.version is not None
        assert facts.version.value == "1.16.4"
        assert facts.pressure[pins.CT4_TCP].value == 0.992141
        assert facts.timeouts_s["regular_tcp"].value == 7200
        assert "config map" in facts.timeouts_s["regular_tcp"].evidence


# ---- what is partial, and what is not


def test_a_damaged_line_is_partial_data_by_name(tmp_path: Path) -> None:
    text = (case("03") / "ct.txt").read_text().splitlines()
    path = tmp_path / "ct.txt"
    for damaged in (
        text[0][:120],
        text[0].replace("10.72.3.2", "10.72.3.999"),
        text[0].replace("expires=", "expires=x"),
    ):
        path.write_text("\n".join([damaged, *text]))
        with read(path) as source:
            assert len(listed(source)) == 3
            assert any("1 line(s) that are no entry" in said for said in source.partial), damaged
        assert run_ctctl("ct", "list", "--from", path).returncode == 5


def test_a_listing_of_before_1_6_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "ct.txt"
    path.write_text(
        "TCP OUT 10.0.0.1:80 -> 10.0.0.2:1000 expires=5 rx_packets=1 rx_bytes=2 tx_packets=0 tx_bytes=0 flags=0\n"
    )
    with pytest.raises(DecodeError, match=r"before 1\.6"):
        read(path)


def test_the_real_bugtool_is_whole() -> None:
    done = run_ctctl("ct", "list", "--from", captures.BUGTOOL, "-o", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert len(document["entries"]) > 100
    assert not document["partial"]
    with read(captures.BUGTOOL) as source:
        assert {table.layout for table in source.tables} == {Layout.V1_19}
        assert {table.max_entries for table in source.tables} == {221723, 110861}
        assert {table.now for table in source.tables} != {None}


@pytest.mark.parametrize(
    ("number", "file", "layout"),
    [
        ("23", "ct.txt", None),
        ("24", "est-21600.txt", None),
        ("24", "est-8000.txt", None),
        ("34", "line.txt", "1.18"),
        ("35", "ct.txt", None),
        ("37", "svc.txt", None),
        ("37", "svc14.txt", "1.14"),
    ],
)
def test_listings_of_the_cases_are_read_whole(number: str, file: str, layout: str | None) -> None:
    """Every line is an entry, and is written again as it was: what is said of it rests on that."""
    path = case(number) / file
    done = run_ctctl("ct", "list", "--from", path, "-o", "cilium")
    assert done.returncode == 0, done.stderr
    expected = [re.sub(r" \(remaining: -?\d+ sec\(s\)\)", "", line) for line in lines_of(path)]
    assert sorted(line for line in done.stdout.splitlines() if line) == sorted(expected)
    source = read(path)
    assert layout is None or {str(table.layout) for table in source.tables if table.count} == {layout}
    timed = "remaining:" in path.read_text()
    assert all((table.now is not None) == timed for table in source.tables if table.count)


def test_the_node_file_of_a_case_is_no_listing() -> None:
    done = run_ctctl("ct", "list", "--from", case("33") / "all.yaml")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


# ---- several nodes


def test_a_folder_of_anything_has_the_node_as_a_column(tmp_path: Path) -> None:
    for name, number in (("n1-ct.txt", "03"), ("n2-ct.txt", "06"), ("notes.md", None)):
        (tmp_path / name).write_text((case(number) / "ct.txt").read_text() if number else "nothing of interest\n")
    with read(tmp_path) as source:
        assert source.nodes() == ["n1", "n2"]
        assert {(table.node, table.count) for table in source.tables} == {("n1", 3), ("n2", 2)}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    shutil.move(tmp_path / "n1-ct.txt", tmp_path / "a" / "ct.txt")
    shutil.move(tmp_path / "n2-ct.txt", tmp_path / "b" / "ct.txt")
    with read(tmp_path) as source:
        assert source.nodes() == ["a", "b"]
    with read(tmp_path, node="b") as source:
        assert [table.count for table in source.tables] == [2]


WAYS = {
    "a folder around all": ("incident/n1/ct.txt", "incident/n2/ct.txt", "incident/readme.txt"),
    "a must-gather": ("mg/x/pods/kube-system/n1/agent/ct-list.txt", "mg/x/pods/kube-system/n2/agent/ct-list.txt"),
    "deep on one side": ("incident/n1/ct.txt", "incident/n1/more/nat.txt", "incident/n2/cmd/ct.txt"),
    "folders of one node": ("n1/tcp/ct.txt", "n1/any/nat.txt", "n2/tcp/ct.txt"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_nodes_are_told_where_ways_part(way: str, packed: bool, tmp_path: Path) -> None:
    """What is around all of them is of none: no two nodes become one."""
    texts = {
        "ct": (case("03") / "ct.txt", case("06") / "ct.txt"),
        "nat": (case("05") / "fixed/cmd/cilium-bpf-nat-list.md",),
    }
    for name in WAYS[way]:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = path.stem.split("-")[0]
        path.write_text(texts[kind]["n2" in name].read_text() if kind in texts else "nothing\n")
    source = tmp_path / "in"
    if packed:
        source = Path(shutil.make_archive(str(tmp_path / "incident-7"), "gztar", tmp_path / "in"))
    with read(source) as found:
        assert found.nodes() == ["n1", "n2"]
        assert {(table.node, table.count) for table in found.tables} == {("n1", 3), ("n2", 2)}
        assert len(found.listings("n1").nat) == (2 if any("nat" in name for name in WAYS[way]) else 0)
        assert not found.listings("n2").nat


@pytest.mark.parametrize(
    ("first", "second"), [("worker-0", "worker-1"), ("10.0.0.1", "10.0.0.2"), ("ip-10-0-0-1.ec2", "ip-10-0-0-2.ec2")]
)
def test_a_number_is_part_of_a_nodes_name(first: str, second: str, tmp_path: Path) -> None:
    """In names of files, and where a file itself names its machines."""
    texts = [(case(number) / "ct.txt").read_text() for number in ("03", "06")]
    for name, text in zip((first, second), texts, strict=True):
        (tmp_path / f"{name}-ct-list-7.txt").write_text(text)
    with read(tmp_path) as found:
        assert found.nodes() == [first.removesuffix(".ec2"), second.removesuffix(".ec2")]
        assert sorted(table.count or 0 for table in found.tables) == [2, 3]
    pasted = tmp_path / "in"
    pasted.mkdir()
    prompts = (f"{name} | CHANGED | rc=0 >>\n{text}" for name, text in zip((first, second), texts, strict=True))
    (pasted / "paste.txt").write_text("\n".join(prompts))
    with read(pasted) as found:
        assert found.nodes() == [first, second]
        assert sorted(table.count or 0 for table in found.tables) == [2, 3]


@pytest.mark.parametrize("first", ["ip-10-0-0-1", "lb-1", "agent-0", "services", "out/agent-0", "lb-1/cmd"])
def test_a_folder_called_like_a_listing_may_be_a_node(first: str, tmp_path: Path) -> None:
    second = first.replace("1/", "2/").removesuffix("1").removesuffix("0") + ("" if "/cmd" in first else "2")
    for folder, number in ((first, "03"), (second, "06")):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(case(number) / "ct.txt", tmp_path / folder / "ct.txt")
    with read(tmp_path) as found:
        assert len(found.nodes()) == 2
        assert sorted(table.count or 0 for table in found.tables) == [2, 3]


@pytest.mark.parametrize(
    "names",
    [
        ("ct-a-101501.txt", "nat-a-101502.txt", "ct-b-101503.txt", "nat-b-101504.txt"),
        ("ct_a_1700000000", "nat_a_1700000001", "ct_b_1700000002", "nat_b_1700000003"),
        ("a_2026-01-01T10-15-01_ct", "a_2026-01-01T10-15-02_nat", "b_2026-01-01T10-15-03_ct", "b_20260101-101504_nat"),
        ("a.html", "nat-a.csv", "b.html", "nat-b.txt"),
    ],
)
def test_when_a_file_was_made_is_no_part_of_a_nodes_name(names: tuple[str, ...], tmp_path: Path) -> None:
    nat = case("05") / "fixed/cmd/cilium-bpf-nat-list.md"
    for name, source in zip(names, (case("03") / "ct.txt", nat, case("06") / "ct.txt", nat), strict=True):
        shutil.copy(source, tmp_path / name)
    with read(tmp_path) as found:
        assert found.nodes() == ["a", "b"]
        assert all(len(found.listings(node).nat) == 2 for node in ("a", "b"))


def test_a_machine_that_comes_again_loses_nothing(tmp_path: Path) -> None:
    """Where its own records name another node than the prompts do, and are not all behind one prompt."""
    records = [json.loads(line) | {"node": "X"} for line in _own_lines(tmp_path, case("03") / "ct.txt")]
    records += [json.loads(line) | {"node": None} for line in _own_lines(tmp_path, case("06") / "ct.txt")]
    text = "".join(f"root@m{n}:~# cat {n}\n{json.dumps(record)}\n" for n, record in enumerate(records))
    path = tmp_path / "paste.txt"
    path.write_text(text)
    with read(path) as found:
        assert sum(table.count or 0 for table in found.tables) == len(records)
        assert {table.node: table.count for table in found.tables}["X"] == 3


def _own_lines(folder: Path, listing: Path) -> list[str]:
    done = run_ctctl("ct", "list", "--from", str(listing), "-o", "jsonl")
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["ct.txt", "a/ct.txt", "a/b/c/ct.txt", "cmd/a/b/ct-n1.txt"])
def test_one_node_has_no_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    shutil.copy(case("03") / "ct.txt", path)
    with read(tmp_path / "in") as found:
        assert found.nodes() == []
        assert sum(table.count or 0 for table in found.tables) == 3


def test_archives_with_the_same_folder_in_them_are_two_nodes(tmp_path: Path) -> None:
    for node, number in (("n1", "03"), ("n2", "06")):
        (tmp_path / node / "dump").mkdir(parents=True)
        shutil.copy(case(number) / "ct.txt", tmp_path / node / "dump" / "ct.txt")
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.make_archive(str(tmp_path / "in" / node), "zip", tmp_path / node)
    with read(tmp_path / "in") as found:
        assert {(table.node, table.count) for table in found.tables} == {("n1.zip", 3), ("n2.zip", 2)}


def test_several_sources_at_once(tmp_path: Path) -> None:
    first, second, nat = tmp_path / "n1-ct.txt", tmp_path / "n2-ct.txt", tmp_path / "nat.txt"
    shutil.copy(case("03") / "ct.txt", first)
    shutil.copy(case("06") / "ct.txt", second)
    shutil.copy(case("05") / "fixed" / "cmd" / "cilium-bpf-nat-list.md", nat)
    done = run_ctctl("ct", "list", "--from", first, "--from", second, "-o", "jsonl")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["node"] for line in done.stdout.splitlines()] == ["n1"] * 3 + ["n2"] * 2
    with open_several([str(first), str(nat)], SourceOptions()) as source:  # parts of one node
        assert source.nodes() == []
        assert len(source.listings(None).nat) == 2
        assert len(listed(source)) == 3
    with open_several([str(first), str(second), str(tmp_path / "none")], SourceOptions(node="n2")) as source:
        assert len(listed(source)) == 2
        assert any("none" in said for said in source.partial)
    same = tmp_path / "x"
    same.mkdir()
    shutil.copy(first, same / "ct.txt")
    (tmp_path / "y").mkdir()
    shutil.copy(second, tmp_path / "y" / "ct.txt")
    snapshot = tmp_path / "n3.ctsnap"
    assert run_ctctl("ct", "export", snapshot, "--from", first).returncode == 0
    with open_several([str(same), str(tmp_path / "y"), str(snapshot)], SourceOptions()) as source:
        assert {table.node for table in source.tables} == {"x", "y", "n3"}
        assert len(listed(source)) == 8
    assert run_ctctl("ct", "list", "--from", tmp_path / "none", "--from", tmp_path / "no").returncode == 1


@pytest.mark.parametrize(
    ("ways", "names"),
    [
        (("n1/ct.txt", "n2/ct.txt"), {"n1", "n2"}),
        (("n1/cmd/ct.txt", "n2/cmd"), {"n1", "n2"}),
        (("n1/cmd", "n2/cmd"), {"n1", "n2"}),
        (("n1/ct.txt", "n2"), {"n1", "n2"}),
        (("web-ct.txt", "more/ct.txt"), {"web", "more"}),
        (("a/n1-ct.txt", "b/n1-ct.txt"), {"a", "b"}),
        (("a/n1-ct.txt", "a/n1.json"), {"n1-ct.txt", "n1.json"}),
        (("cli/ct.txt", "cmd"), {"ct", "cmd"}),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_several_are_called_by_where_their_ways_part(
    ways: tuple[str, str], names: set[str], inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However they are written: what is around all of them, be it up to the root, is of none."""
    around = tmp_path / "incident"
    for way in ways:
        path = around / way if Path(way).suffix else around / way / "ct.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            path.write_bytes(captures.files("cilium-1.16-snat-node1")["cli/ct-list-global.json"])
        else:
            shutil.copy(case("03") / "ct.txt", path)
    if inside:
        monkeypatch.chdir(around)
    with open_several([way if inside else str(around / way) for way in ways], SourceOptions()) as source:
        found = set(source.nodes())
    assert found == (
        names if len({Path(way).parent for way in ways}) > 1 else {name.removeprefix("a/") for name in names}
    )


def test_several_pipes_are_read_as_several_files(tmp_path: Path) -> None:
    """What a shell makes of ``<(command)``: text, an archive, a snapshot."""
    first, second = case("03") / "ct.txt", case("06") / "ct.txt"
    kept = tmp_path / "kept.ctsnap"
    assert run_ctctl("ct", "export", kept, "--from", second).returncode == 0
    for other, rows in ((second.read_bytes(), 2), (gzip.compress(second.read_bytes()), 2), (kept.read_bytes(), 2)):
        with ExitStack() as stack:
            ends = [stack.enter_context(piped(data)) for data in (first.read_bytes(), other)]
            with open_several([f"/dev/fd/{end}" for end in ends], SourceOptions()) as source:
                assert len(listed(source)) == 3 + rows
                assert len(source.nodes()) == 2


@contextlib.contextmanager
def piped(data: bytes) -> Iterator[int]:
    """The reading end of a pipe that has so little in it that nobody waits."""
    end, into = os.pipe()
    with os.fdopen(into, "wb") as writer:
        writer.write(data)
    yield end
    os.close(end)


def test_one_bad_member_never_hides_the_rest(tmp_path: Path) -> None:
    shutil.copy(case("03") / "ct.txt", tmp_path / "ct.txt")
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04" + b"\xff" * 400)
    (tmp_path / "y.gz").write_bytes(gzip.compress(b"a" * 1000)[:20])
    (tmp_path / "z.json").write_text("{" * 1000)
    with read(tmp_path) as source:
        assert len(listed(source)) == 3
        assert any("x.zip" in said for said in source.partial)
        assert any("y.gz" in said for said in source.partial)


def test_nothing_known_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing\n")
    for path in (tmp_path, tmp_path / "x"):
        with pytest.raises(CtctlError) as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_ct"),
    [
        ("key: 0a 40 00 24 0a 40 00 40  value: 00 00 00 00 00 00 00 00\nFound 1 element\n", False),
        ('[{"key": ["0x0a", "0x40"], "value": ["0x00", "0x00", "0x00", "0x00"]}]\n', False),
        ("Found 0 elements\n", True),
        ("[]\n", True),
    ],
)
def test_a_dump_of_another_map_is_no_empty_conntrack_table(tmp_path: Path, text: str, is_ct: bool) -> None:
    """One without any elements may be of a conntrack table; what has other elements is none."""
    (path := tmp_path / "dump.txt").write_text(text)
    done = run_ctctl("ct", "list", "--from", path)
    assert (done.returncode == 0) == is_ct, done.stderr
    assert ("has no conntrack table" in done.stderr) == (not is_ct)
