"""Live tables: read, filtered in the kernel, counted, watched. Private maps in a private bpffs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctctl.abi import layouts
from ctctl.ct.arrange import rows
from ctctl.ct.events import events
from ctctl.ct.report import CtEventKind
from ctctl.ct.stats import count, stats, stats_of
from ctctl.ct.top import By, top
from ctctl.ct.watch import Watch
from ctctl.decode.columns import CtColumns, record_types
from ctctl.decode.ct import decode_entry
from ctctl.errors import KernelError, NotFoundError
from ctctl.kernel.clock import monotonic_s
from ctctl.kernel.map import Map, MapType
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.query.predicate import mask_of
from ctctl.tables.rows import matching
from ctctl.tables.scan import scan, scan_stats
from ctctl.tables.sources.base import SourceOptions
from ctctl.tables.sources.listings import Listings
from ctctl.tables.sources.open import open_source
from tests.support.children import PROGRAM
from tests.support.drawn import expressions
from tests.support.gctables import TableDir, contents, entry, key4, table_dir
from tests.support.live_tables import DSR, SEEN, fill_small, listed, live_tables, run
from tests.support.needs import lacking
from tests.support.otheruser import other_user

pytestmark = pytest.mark.kernel


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[TableDir]:
    with live_tables(tmp_path) as made:
        yield made


def test_list_of_a_node_of_ours(tables: TableDir) -> None:
    fill_small(tables)
    found = listed("--from", str(tables.path))
    assert len(found) == 5
    assert {entry["node"] for entry in found} == {tables.path.name}
    assert [e["src_port"] for e in listed("--from", str(tables.path), "--state", "established", "--identity", "7")] == [
        1000
    ]
    assert [e["map"] for e in listed("--from", str(tables.path), "related")] == ["cilium_ct_any4_global"]
    assert [e["direction"] for e in listed("--from", str(tables.path), "--expired")] == ["IN"]
    assert len(listed("--from", str(tables.path / "cilium_ct4_global"))) == 4
    assert len(listed("--from", str(tables.path), "--map", "cilium_ct_any4_global")) == 1
    ordered = listed("--from", str(tables.path), "--sort", "-remaining", "--limit", "2")
    assert [e["src_port"] for e in ordered] == [1000, 0]


def test_reading_needs_no_write_access(tables: TableDir) -> None:
    fill_small(tables)
    with open_source(str(tables.path)) as source:
        for table in source.tables:
            assert table.live is not None
            with pytest.raises(KernelError):
                table.live.update(bytes(table.live.info.key_size), bytes(56))


def test_missing_nodes_and_tables_are_named(tables: TableDir, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'cilium_ct_any4_global'"):
        open_source(str(tables.path), SourceOptions(map="cilium_ct_any4"))
    empty = tables.path.parent / "empty"
    empty.mkdir()
    assert "no conntrack table is pinned there" in run("ct", "list", "--from", str(empty), code=1).stderr
    assert "no such file" in run("ct", "list", "--from", str(tmp_path / "nothing"), code=1).stderr


def test_a_table_of_another_layout_is_named(tables: TableDir) -> None:
    fill_small(tables)
    whole = run("ct", "list", "--from", str(tables.path), "-o", "name").stdout
    other = tables.path / "cilium_ct_any6_global"
    other.unlink(missing_ok=True)
    with Map.create("other", MapType.HASH, 38, 48, 8) as table:
        table.pin(other)
    said = run("ct", "list", "--from", str(tables.path), "-o", "name", code=5)
    assert "cilium_ct_any6_global is not a conntrack table: a map of type 1" in said.stderr
    assert said.stdout == whole
    alone = run("ct", "list", "--from", str(other), code=1)
    assert "keys of 38 and values of 48 bytes" in alone.stderr
    assert alone.stderr.count("\n") == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=expressions, seed=st.integers(0, 2**16))
def test_the_kernel_and_numpy_agree(tables: TableDir, text: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name, family in (("cilium_ct4_global", 4), ("cilium_ct6_global", 6)):
        live = tables.maps[name]
        for key in list(contents(live)):
            live.delete(key)
        width = 14 if family == 4 else 38
        keys = rng.integers(0, 4, (200, width), dtype=np.uint8)
        keys[:, -2] = rng.choice([1, 6, 17], 200)
        keys[:, -1] = rng.integers(0, 8, 200)
        keys[:50, 0 : (width - 6) // 2] = (
            list(b"\x0a\x40\x00\x24") if family == 4 else list(b"\xfd" + bytes(14) + b"\x01")
        )
        values = np.zeros(200, record_types(family)[1])
        for field in ("flags", "rev_nat", "src_sec_id", "word8", "word16", "word0", "tx_flags_seen"):
            values[field] = rng.integers(0, 32 if field == "flags" else 4, 200)
        values["lifetime"], values["last_tx_report"] = 1000 + rng.integers(-3, 4, 200), 1000 + rng.integers(-3, 4, 200)
        live.update_batch(keys, values.view(np.uint8).reshape(200, 56))
    with open_source(str(tables.path), SourceOptions(now=1000)) as source:
        for table in source.tables:
            predicate = Filter.parse(text).bind(table.context())
            if isinstance(predicate, bool):
                continue
            found = scan(table, predicate)
            assert found is not None
            expected = set()
            for columns in table.columns():
                expected |= {bytes(key) for key in columns.keys[mask_of(predicate, columns)]}
            assert {bytes(key) for key in found.keys} == expected


def test_a_filter_that_matches_too_much_is_read_by_batches(tables: TableDir) -> None:
    tables.fill("cilium_ct4_global", 500, np.random.default_rng(3))
    with open_source(str(tables.path / "cilium_ct4_global")) as source:
        table = source.tables[0]
        predicate = Filter.parse("tcp").bind(table.context())
        assert scan(table, predicate, room=100) is None
        assert sum(len(columns) for columns in matching(table, Filter.parse("tcp"))) == 500


def test_kernel_statistics_are_those_of_batches(tables: TableDir) -> None:
    rng = np.random.default_rng(5)
    tables.fill("cilium_ct4_global", 800, rng, now=monotonic_s() + 20000)
    tables.fill("cilium_ct6_global", 300, rng, now=monotonic_s() + 20000)
    for hz in (None, 250):
        with open_source(str(tables.path), SourceOptions(now=monotonic_s() + 19000)) as source:
            for table in source.tables:
                table.clock = type(table.clock)(hz)
                kernel = scan_stats(table)
                assert kernel is not None
                assert list(kernel) == list(count(table, EVERYTHING))
            totals = {found.map: found for found in stats(source)}
            assert totals["cilium_ct4_global"].entries == 800
            assert totals["cilium_ct4_global"].engine == "kernel"
            assert totals["cilium_ct4_global"].capacity == 4096
            some = next(iter(stats(source, Filter.parse("out"))))
            assert some.entries == some.by_direction["OUT"] == totals["cilium_ct4_global"].by_direction["OUT"]


def test_an_entry_lives_through_the_second_of_its_lifetime(tables: TableDir) -> None:
    """Cilium's GC takes what is before now: the entry whose lifetime is now counts as alive, by every way to count."""
    table, now = tables.maps["cilium_ct4_global"], 5000
    for port, lifetime in enumerate((now - 1, now, now + 1), 1):
        table.update(key4("10.0.0.1", port, "10.0.0.2", 80), entry(lifetime=lifetime, flags=SEEN))
    with open_source(str(tables.path / "cilium_ct4_global"), SourceOptions(now=now)) as source:
        (by_kernel,) = stats(source)
        by_batch = stats_of(source.tables[0], count(source.tables[0], EVERYTHING), "batch")
        (some,) = stats(source, Filter.parse("out"))
        (talker,) = top(source, By.src)
        expired = [row.entry.tuple.src_port for row in rows(source, Filter.parse("expired"))]
        live = {row.entry.tuple.src_port for row in rows(source, Filter.parse("live"))}
        shown = {row.entry.tuple.src_port: row.expired for row in rows(source, EVERYTHING)}
    for found in (by_kernel, by_batch, some):
        assert (found.entries, found.expired) == (3, 1)
        assert found.remaining is not None
        assert found.overdue is not None
        assert found.remaining[:2] == (1, 1)
        assert found.overdue[:2] == (0, 1)
    assert by_kernel.engine == "kernel"
    assert talker.expired == 1
    assert (expired, live) == ([1], {2, 3})
    assert shown == {1: True, 2: False, 3: False}
    command = ("--from", str(tables.path), "--map", "cilium_ct4_global", "--now", str(now))
    assert [e["src_port"] for e in listed(*command) if e["expired"]] == [1]


def test_top_counts_what_list_shows(tables: TableDir) -> None:
    fill_small(tables)
    with open_source(str(tables.path)) as source:
        by_src = {talker.key: talker.entries for talker in top(source, By.src)}
        assert by_src == {"10.0.0.1": 3, "10.0.0.3": 1, "192.0.2.1": 1}
        assert [(t.key, t.entries) for t in top(source, By.pair, limit=1)] == [("10.0.0.1 -> 10.0.0.2", 3)]
        assert {t.key: t.entries for t in top(source, By.port, Filter.parse("tcp"))} == {"80": 3, "443": 1}


def test_the_first_rows_by_a_number_are_the_first_of_all(tables: TableDir) -> None:
    tables.fill("cilium_ct4_global", 900, np.random.default_rng(9), now=monotonic_s())
    tables.fill("cilium_ct_any4_global", 400, np.random.default_rng(10), now=monotonic_s())
    with open_source(str(tables.path)) as source:
        for sort in ("remaining", "-remaining", "src_port", "-dst_port"):
            name, descending = sort.removeprefix("-"), sort.startswith("-")

            def number(row: object, name: str = name) -> int:
                entry = row.entry  # type: ignore[attr-defined]
                return int(entry.lifetime if name == "remaining" else getattr(entry.tuple, name))

            every = sorted((number(row) for row in rows(source, EVERYTHING)), reverse=descending)
            chosen = sorted((number(row) for row in rows(source, EVERYTHING, sort=sort, limit=25)), reverse=descending)
            assert chosen[:25] == every[:25]


def test_a_listing_stops_when_nobody_reads(tables: TableDir) -> None:
    big = tables.add("cilium_ct_any6_global", Map.create("big", MapType.LRU_HASH, 38, 56, 1 << 17))
    rng = np.random.default_rng(12)
    big.update_batch(rng.integers(0, 256, (40_000, 38), dtype=np.uint8), np.zeros((40_000, 56), np.uint8))
    done = subprocess.run(
        f"{PROGRAM} ct list -o cilium --from {tables.path} | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}",
        shell=True,
        capture_output=True,
        text=True,
        executable="/bin/bash",
        check=True,
    )
    assert done.stdout.strip() == "0"
    assert done.stderr.count("\n") <= 1  # the note about the layout
    listing = run("ct", "list", "-o", "jsonl", "--from", str(tables.path / "cilium_ct_any6_global"))
    assert len(listing.stdout.splitlines()) == len(contents(big))


def test_events_between_two_looks(tables: TableDir) -> None:
    now = fill_small(tables)
    tcp = tables.maps["cilium_ct4_global"]

    def change(_seconds: float) -> None:
        tcp.update(key4("10.0.0.9", 9, "10.0.0.2", 80), entry(lifetime=now + 60_000))
        tcp.update(key4("10.0.0.1", 1000, "10.0.0.2", 80), entry(lifetime=now + 100_000, flags=SEEN | 1, src_sec_id=7))
        tcp.update(key4("192.0.2.1", 5000, "10.0.0.2", 80), entry(lifetime=now + 55_000, flags=SEEN | DSR))
        tcp.delete(key4("10.0.0.1", 1001, "10.0.0.2", 80))

    with open_source(str(tables.path)) as source:
        found = list(events(source, rounds=1, wait=change))
        assert {(event.kind, event.row.entry.tuple.src_port) for event in found} == {
            (CtEventKind.NEW, 9),
            (CtEventKind.CLOSING, 1000),
            (CtEventKind.DESTROY, 1001),
        }
        closing = next(event for event in found if event.kind is CtEventKind.CLOSING)
        assert closing.fields["flags"] == (SEEN, SEEN | 1)


def test_watch_marks_what_changed(tables: TableDir) -> None:
    now = fill_small(tables)
    tcp = tables.maps["cilium_ct4_global"]
    with open_source(str(tables.path)) as source:
        source.partly, source.listings = None, lambda _node: Listings(names={"10.0.0.2": "web"})
        watch = Watch(source, Filter.parse("tcp"), sort=None, limit=None)
        first = watch.look()
        assert {marked.mark for marked in first} == {""}
        assert all(marked.row.names.get("10.0.0.2") == "web" for marked in first)
        tcp.update(key4("10.0.0.9", 9, "10.0.0.2", 80), entry(lifetime=now + 60_000))
        tcp.delete(key4("10.0.0.1", 1001, "10.0.0.2", 80))
        tcp.update(key4("10.0.0.1", 1000, "10.0.0.2", 80), entry(lifetime=now + 100_000, flags=SEEN | 1))
        marks = {marked.row.entry.tuple.src_port: marked.mark for marked in watch.look()}
        assert marks == {1000: "closing", 1001: "gone", 1002: "", 5000: "", 9: "new"}


def test_watch_says_of_nothing_beyond_its_limit_that_it_is_gone_or_new(tables: TableDir) -> None:
    now = fill_small(tables)
    tcp = tables.maps["cilium_ct4_global"]
    with open_source(str(tables.path)) as source:
        watch = Watch(source, Filter.parse("tcp"), sort="-remaining", limit=2)
        first = [marked.row.entry.tuple for marked in watch.look()]
        other = next(one.row.entry for one in Watch(source, Filter.parse("tcp"), sort="-remaining", limit=9).look()[2:])
        ahead = entry(lifetime=now + 900_000)
        tcp.update(key4(str(other.tuple.src), other.tuple.src_port, str(other.tuple.dst), other.tuple.dst_port), ahead)
        # It was there before, and so is the one that it stands before now.
        assert [(marked.row.entry.tuple, marked.mark) for marked in watch.look()] == [(other.tuple, ""), (first[0], "")]
        tcp.delete(key4(str(first[0].src), first[0].src_port, str(first[0].dst), first[0].dst_port))
        marks = {marked.row.entry.tuple: marked.mark for marked in watch.look()}
        assert marks == {other.tuple: "", first[1]: "", first[0]: "gone"}


def test_get_joins_the_entries_of_a_connection(tables: TableDir) -> None:
    fill_small(tables)
    done = run("ct", "get", "tcp 192.0.2.1:5000 > 10.0.0.2:80", "--from", str(tables.path), "-o", "json")
    found = json.loads(done.stdout)
    assert found["state"] == "established"
    assert [member["role"] for member in found["entries"]] == ["out"]
    assert [entry["to_addr"] for entry in found["snat"]] == ["172.16.0.1"]
    for asked in ("tcp 192.0.2.1:5000 > 172.16.0.1:80", "tcp 172.16.0.1:80 > 192.0.2.1:5000"):
        by_vip = json.loads(run("ct", "get", asked, "--from", str(tables.path), "-o", "json").stdout)
        assert [member["role"] for member in by_vip["entries"]] == ["out"]
        assert [entry["to_addr"] for entry in by_vip["snat"]] == ["172.16.0.1"]
    missing = run("ct", "get", "tcp 1.2.3.4:5 > 10.0.0.2:80", "--from", str(tables.path), code=1)
    assert "a packet of it would be NEW" in missing.stderr


def test_tables_of_other_clusters_in_an_array_of_maps(tables: TableDir) -> None:
    inner = Map.create("inner", MapType.LRU_HASH, 14, 56, 64)
    outer = Map.create("outer", MapType.ARRAY_OF_MAPS, 4, 4, 8, inner=inner)
    with inner, outer:
        inner.update(key4("10.0.0.1", 1, "10.0.0.2", 2), entry(lifetime=1))
        outer.update((5).to_bytes(4, "little"), inner.fd.to_bytes(4, "little"))
        outer.pin(tables.path / "cilium_per_cluster_ct_tcp4")
        found = listed("--from", str(tables.path), "--expired")
        assert [e["map"] for e in found] == ["cilium_per_cluster_ct_tcp4[5]"]


def test_bpftool_shows_the_same_records(tables: TableDir, tmp_path: Path) -> None:
    bpftool = shutil.which("bpftool") or next(map(str, Path("/usr/sbin").glob("bpftool")), None)
    if bpftool is None:
        lacking("bpftool is not installed")
    fill_small(tables)
    name = tables.path / "cilium_ct4_global"
    for flags in ([], ["-j"], ["-p"]):
        dump = tmp_path / "dump"
        dump.write_bytes(
            subprocess.run([bpftool, *flags, "map", "dump", "pinned", name], capture_output=True, check=True).stdout
        )
        with open_source(str(dump)) as source:
            found: dict[bytes, bytes] = {}
            for table in source.tables:
                for columns in table.columns():
                    found |= dict(zip(map(bytes, columns.keys), map(bytes, columns.values), strict=True))
            assert found == contents(tables.maps["cilium_ct4_global"])


def test_reading_while_the_table_changes(tables: TableDir) -> None:
    """Entries that stay are neither lost nor doubled while others come and go."""
    tables.fill("cilium_ct4_global", 1500, np.random.default_rng(21))
    live = tables.maps["cilium_ct4_global"]
    stable = set(contents(live))
    stop = threading.Event()
    keys = [key4("172.16.0.1", port, "10.0.0.2", 80) for port in range(200)]

    def churn() -> None:
        while not stop.is_set():
            for key in keys:
                live.update(key, entry(lifetime=1))
            for key in keys:
                live.delete(key)

    worker = threading.Thread(target=churn)
    worker.start()
    try:
        with open_source(str(tables.path / "cilium_ct4_global")) as source:
            for _ in range(5):
                seen = [bytes(key) for columns in source.tables[0].columns() for key in columns.keys]
                kept = [key for key in seen if key in stable]
                assert len(kept) == len(set(kept)) == len(stable)
    finally:
        stop.set()
        worker.join()


def test_columns_match_the_generated_layout() -> None:
    key_type, value_type = record_types(4)
    generated = np.dtype(layouts.ct_entry)
    names = {
        "word0": "reserved0",
        "word8": "backend_id",
        "word16": "packets",
        "word24": "bytes",
        "rev_nat": "rev_nat_index",
    }
    assert generated.itemsize == value_type.itemsize
    for name in value_type.names or ():
        assert value_type.fields[name][1] == generated.fields[names.get(name, name)][1]  # type: ignore[index]
    key = np.dtype(layouts.ipv4_ct_tuple)
    assert [key_type.fields[n][1] for n in ("daddr", "saddr", "dport", "sport")] == [  # type: ignore[index]
        key.fields[n][1]
        for n in ("daddr", "saddr", "dport", "sport")  # type: ignore[index]
    ]
    row = decode_entry(key4("10.0.0.1", 1, "10.0.0.2", 2), entry(lifetime=9, flags=SEEN))
    assert CtColumns(np.zeros((1, 14), np.uint8), np.zeros((1, 56), np.uint8)).family == 4
    assert (str(row.tuple.src), row.lifetime) == ("10.0.0.1", 9)


def test_the_default_source_is_the_node_that_is_named(tables: TableDir, tmp_path: Path) -> None:
    fill_small(tables)
    name = tables.path.name
    assert {e["node"] for e in listed("--node", name)} == {name}
    assert "did you mean" in run("ct", "list", "--node", name + "x", code=1).stderr
    with table_dir(tmp_path) as other:
        other.create("cilium_ct4_global")
        several = run("ct", "list", code=2)
        assert name in several.stderr
        assert "--node" in several.stderr


def test_rights_are_needed_and_said(tables: TableDir) -> None:
    fill_small(tables)
    mount = tables.path.parents[1]
    for words in ([], ["--from", str(tables.path)]):
        line = [*other_user(reach=[mount]), PROGRAM, "ct", "list", *words]
        done = subprocess.run(line, capture_output=True, text=True, check=False, cwd="/")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1), done.stderr
        assert done.stderr.startswith("ctctl: ")


@pytest.mark.parametrize("form", ["table", "wide", "cilium", "json", "jsonl", "yaml", "csv", "name"])
def test_a_table_without_a_match_hides_no_later_one(tables: TableDir, form: str) -> None:
    """The kernel finds nothing in the first table and something in the second."""
    fill_small(tables)
    out = run("ct", "list", "icmp", "-o", form, "--from", str(tables.path)).stdout
    assert "10.0.0.2" in out
    assert "192.0.2.1" not in out
    assert "10.0.0.2" not in run("ct", "list", "port == 1", "-o", form, "--from", str(tables.path)).stdout


def test_a_short_list_imports_nothing_slow(tables: TableDir) -> None:
    fill_small(tables)
    for words in (["-o", "table"], ["-o", "json"], ["-o", "csv"], ["--fields", "src,state"], ["--state", "closed"]):
        code = f"""
import sys
from ctctl.cli.main import main
main({["ct", "list", *words, "--from", str(tables.path)]!r})
slow = ("numpy", "yaml", "rich", "ctctl.config.node", "ctctl.abi.layouts", "ctctl.model.service")
sys.stderr.write(" ".join(name for name in slow if name in sys.modules))
"""
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert done.stderr == "", words


#: Modules of ours that a list of ten entries may import: each is half a millisecond of its start.
MODULES = 103


def test_a_short_list_starts_lean(tables: TableDir) -> None:
    """What the start of a short list costs, by what it is made of: time is another machine's another."""
    fill_small(tables)
    code = f"""
import sys
from ctctl.cli.main import main
main({["ct", "list", "--from", str(tables.path)]!r})
ours = [name for name in sys.modules if name.split(".")[0] == "ctctl"]
compiled = [
    f"{{name}}.{{one.__qualname__}}"
    for name in ours
    for one in vars(sys.modules[name]).values()
    if isinstance(one, type) and one.__module__ == name and "__dataclass_fields__" in vars(one)
    and getattr(one.__init__, "__code__", main.__code__).co_filename == "<string>"
]
later = [name for name in ("ctctl.cli.ct_change", "ctctl.cli.fleet", "ctctl.tables.sources.content") if name in ours]
print(len(ours), *compiled, *later, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    count, *slow = done.stderr.split()
    assert slow == [], "dataclasses that compile their methods, and modules of other commands"
    assert int(count) <= MODULES
