"""Lakes: what is collected is what was there, once, whole or not at all; every question's answer is known."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from ctctl.cli.schemas import SCHEMAS
from ctctl.decode.columns import CtColumns
from ctctl.fleet import collect as collecting
from ctctl.fleet import tables
from ctctl.fleet.lake import Lake, bounded
from ctctl.model.tuples import Direction
from ctctl.out.files import WriteError
from ctctl.tables.show.arrow import pyarrow, schema_of
from tests.support.children import run_ctctl, started
from tests.support.fleet import MADE, A, B, Node, Row, flow, small_fleet
from tests.support.samples import ROOT

pytest.importorskip("pyarrow", reason="lakes need pyarrow (ctctl[fleet])")
pytest.importorskip("duckdb", reason="questions need DuckDB (ctctl[fleet])")


def ctctl(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = run_ctctl(*words)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def rows(*words: object, code: int = 0) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in ctctl(*words, "-o", "jsonl", code=code).stdout.splitlines()]
    for one in found:
        jsonschema.validate(one, SCHEMAS[one["schema"]])
        del one["schema"]
    return found


def collected(folder: Path, nodes: list[Node], lake: str = "lake") -> str:
    where = str(folder / lake)
    froms = [word for node in nodes for word in ("--from", str(node.write(folder)))]
    ctctl("fleet", "collect", where, *froms)
    return where


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    return collected(tmp_path_factory.mktemp("fleet"), small_fleet())


def ask(lake: str, name: str, *more: object, code: int = 5) -> list[dict[str, Any]]:
    return rows("fleet", "ask", name, "--lake", lake, *more, code=code)


def test_what_left_and_never_came(lake: str) -> None:
    found = ask(lake, "out-without-in")
    missing = [
        (row["node"], row["src_port"], row["missing_on"], row["src_name"])
        for row in found
        if row["verdict"] == "missing"
    ]
    assert missing == [("node-a", 1001, "node-b", "shop/client"), ("node-a", 1004, "node-b", None)]
    unknown = {(row["src_port"], row["node"], row["why"]) for row in found if row["verdict"] == "unknown"}
    assert (1002, "node-a", "no conntrack table of that node was collected") in unknown
    assert any(node == "node-c" and "what left its pods is not known" in why for _, node, why in unknown)


@pytest.mark.parametrize(
    ("later_s", "idle_s", "remaining_s", "verdict"),
    [
        (60, 0, 300, "missing"),  # it was there when the other node was looked at
        (400, 0, 300, "unknown"),  # by then it could have expired
        (-60, 10, 300, "unknown"),  # it may have come up after the other node was looked at
        (-60, 120, 300, "missing"),  # its last packet was seen before the other node was looked at
    ],
)
def test_a_verdict_needs_both_nodes_at_one_time(
    tmp_path: Path, later_s: int, idle_s: int, remaining_s: int, verdict: str
) -> None:
    lost = Row(flow(A, 1, B, 80), remaining=remaining_s, idle=idle_s)
    where = collected(tmp_path, [Node("a", [lost], [A]), Node("b", [], [B], made=MADE + later_s)])
    assert [row["verdict"] for row in ask(where, "out-without-in", code=0)] == [verdict]


def test_a_collection_that_is_not_whole_proves_nothing(tmp_path: Path) -> None:
    a = Node("a", [Row(flow(A, 1, B, 80))], [A]).write(tmp_path)
    b = Node("b", [Row(flow(B, 5, A, 80), Direction.IN)] * 1, [B]).write(tmp_path)
    whole = b.read_bytes()
    b.write_bytes(whole[:-30])
    where = str(tmp_path / "lake")
    assert "cut off" in ctctl("fleet", "collect", where, "--from", a, "--from", b, code=5).stderr
    (row,) = [row for row in ask(where, "out-without-in") if row["src_port"] == 1]
    assert (row["verdict"], row["why"]) == ("unknown", "that node's collection is not complete")


def test_backends_that_are_gone(lake: str) -> None:
    found = ask(lake, "gone-backends")
    assert [
        (row["node"], row["backend_id"], row["entries"], row["expired"]) for row in found if row["verdict"] == "gone"
    ] == [("node-a", 8, 1, 1)]
    assert [row["node"] for row in found if row["verdict"] == "unknown"] == ["node-c"]


def test_ports_of_snat(lake: str) -> None:
    found = ask(lake, "snat-ports")
    counts = {(row["remote"], row["ports"], row["entries"]) for row in found if row["node"] == "node-a"}
    assert counts == {("198.51.100.1", 2, 3), ("198.51.100.2", 1, 1)}
    assert [row["why"] for row in found if row["node"] == "node-c"] == ["unknown: no SNAT table was collected"]


def test_who_talks_most(lake: str) -> None:
    first = ask(lake, "top-talkers")[0]
    assert (first["src"], first["direction"], first["entries"], first["name"]) == (A, "OUT", 5, "shop/client")


def test_a_sorted_answer_is_of_all_rows(tmp_path: Path) -> None:
    """More rows than are shown: the first by another field may be any of them."""
    many = [Row(flow(f"10.1.{number // 250}.{number % 250 + 1}", 1, B, 80)) for number in range(1100)]
    where = collected(tmp_path, [Node("a", [*many, Row(flow("9.9.9.9", 1, B, 80), remaining=-5)], [A])])
    assert [row["src"] for row in ask(where, "top-talkers", "--sort", "-expired", "--limit", 1, code=0)] == ["9.9.9.9"]
    for more in ((), ("--sort", "-expired")):
        done = ctctl("fleet", "ask", "top-talkers", "--lake", where, "-o", "csv", "--no-headers", *more)
        assert (len(done.stdout.splitlines()), "the first 1000 rows" in done.stderr) == (1000, True)


def test_numbers_that_no_table_holds_are_unknown(tmp_path: Path) -> None:
    """A listing is a text: whatever it says, the rest of it is collected. A word of 64 bits is one of the table's."""
    (tmp_path / "nat-list.txt").write_bytes((ROOT / "cilium-dbg-1.16.4/nat-list.txt").read_bytes())
    where = str(tmp_path / "lake")
    assert ctctl("fleet", "collect", where, "--from", tmp_path / "nat-list.txt").returncode == 0
    done = ctctl("fleet", "sql", "SELECT max(needs_ct) AS n FROM nat", "--lake", where, "-o", "jsonl")
    assert json.loads(done.stdout)["n"] == 2**64 - 1
    found = tables._array([1, 2**70, -1, None], schema_of({"n": "uint64"}).field("n").type).to_pylist()
    assert found == [1, None, None, None]


def test_columns_that_are_called_alike_keep_their_own_values(lake: str) -> None:
    done = run_ctctl("fleet", "sql", "SELECT 1 AS n, 2 AS n, [3] AS a, 4 AS n_2", "--lake", lake, "-o", "jsonl")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert {name: value for name, value in row.items() if name != "schema"} == {
        "n": 1,
        "n_3": 2,
        "a": "[3]",
        "n_2": 4,
    }


def test_skew_and_backlog(lake: str) -> None:
    skew = {row["node"]: row for row in ask(lake, "skew")}
    assert (skew["node-a"]["entries"], skew["node-b"]["entries"], skew["node-a"]["mean"]) == (9, 2, 5.5)
    assert skew["node-c"]["entries"] is None
    late = {row["node"]: row for row in ask(lake, "expired")}
    assert (late["node-a"]["expired"], late["node-a"]["oldest_s"], late["node-b"]["expired"]) == (2, 10, 0)
    assert late["node-c"]["expired"] is None


def test_a_time_that_is_unknown_is_no_backlog(tmp_path: Path) -> None:
    where = collected(tmp_path, [Node("a", [Row(flow(A, 1, B, 80), remaining=-50)], [A], now=None)])
    (row,) = ask(where, "expired", code=0)
    assert row["expired"] is None
    assert "does not say when" in row["why"]


def test_a_flow_on_every_node(lake: str) -> None:
    found = ask(lake, "flow", "--flow", f"tcp {A}:1000 > {B}:80")
    assert [(row["node"], row["direction"]) for row in found] == [("node-a", "OUT"), ("node-b", "IN")]
    back = ask(lake, "flow", "--flow", f"tcp {B}:80 > {A}:1000")
    assert [row["node"] for row in back] == ["node-a", "node-b"]
    six = ask(lake, "flow", "--flow", "tcp [fd00::1]:1003 > [fd00::2]:80")
    assert [(row["node"], row["src"]) for row in six] == [("node-a", "fd00::1"), ("node-b", "fd00::1")]


def test_growth_between_collections(tmp_path: Path) -> None:
    where = collected(tmp_path, [Node("a", [Row(flow(A, 1, B, 80))], [A])])
    assert "only one" in ask(where, "growth", code=0)[0]["why"]
    again = [Row(flow(A, port, B, 80)) for port in range(1, 4)]
    collected(tmp_path, [Node("a", again, [A], made=MADE + 3600, boot="boot-2")])
    (row,) = ask(where, "growth", code=0)
    assert (row["before_entries"], row["after_entries"], row["growth"], row["rebooted"]) == (1, 3, 2, True)
    assert rows("fleet", "sql", "SELECT count(*) AS n FROM ct_latest", "--lake", where) == [{"n": 3}]
    assert rows("fleet", "sql", "SELECT count(*) AS n FROM ct", "--lake", where) == [{"n": 4}]


def test_who_is_hurt(lake: str) -> None:
    found = ask(lake, "node-loss", "--node", "node-b")
    hurt = {(row["hurt_node"], row["peer"], row["pod"], row["connections"]) for row in found if row["why"] is None}
    assert hurt == {("node-a", A, B, 3), ("node-a", "fd00::1", "fd00::2", 2)}
    assert [row["hurt_node"] for row in found if row["why"]] == ["node-c"]


def test_a_node_that_lacks_a_table_is_named(lake: str) -> None:
    said = ctctl("fleet", "ask", "skew", "--lake", lake, code=5).stderr
    assert "default/node-c: no ct table was collected" in said


def test_the_same_twice_is_once(tmp_path: Path) -> None:
    nodes = [Node("a", [Row(flow(A, 1, B, 80))], [A])]
    where = collected(tmp_path, nodes)
    before = {path: path.stat().st_mtime_ns for path in Path(where).rglob("*.*")}
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy(tmp_path / "a.ctsnap", moved / "other-name.ctsnap")
    done = ctctl("fleet", "collect", f"file://{where}", "--from", moved / "other-name.ctsnap")
    assert "already there" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in Path(where).rglob("*.*")} == before


def test_the_same_with_something_said_of_it_replaces_what_was_there(tmp_path: Path) -> None:
    """As a question's own advice has it: collect it with --now. Once more with nothing said is the same again."""
    listed = tmp_path / "a-ct-list.txt"
    lines = (ROOT / "cilium-dbg-1.16.4/ct-list-global.txt").read_text().splitlines(keepends=True)
    listed.write_text("".join(lines))
    where = str(tmp_path / "lake")
    ctctl("fleet", "collect", where, "--from", listed)
    assert "collect it with --now" in ask(where, "expired", code=0)[0]["why"]
    for more in (("--now", 3_000_000), ("--now", 3_000_000, "--at", "2026-01-15T10:15:30Z")):
        (row,) = rows("fleet", "collect", where, "--from", listed, *more)
        assert row["status"] == "collected"
        for again in (more, ()):
            (same,) = rows("fleet", "collect", where, "--from", listed, *again)
            assert (same["status"], same["collected_at"]) == ("already there", row["collected_at"])
    assert row["collected_at"] == "2026-01-15T10:15:30Z"
    (file,) = Path(where).rglob("*.parquet")
    file.unlink()  # by another one who replaces the same: what is gone already stops nobody
    (row,) = rows("fleet", "collect", where, "--from", listed, "--now", 3_000_000, "--at", "2026-01-15T11:15:30Z")
    assert row["status"] == "collected"
    (found,) = ask(where, "expired", code=0)
    assert (found["why"], found["expired"] > 0) == (None, True)
    assert len(list(Path(where).rglob("*.parquet"))) == 1
    assert rows("fleet", "sql", "SELECT count(*) AS n FROM ct", "--lake", where) == [{"n": found["entries"]}]


def test_what_is_already_there_and_not_whole_is_said_to_be_so(tmp_path: Path) -> None:
    cut = Node("a", [Row(flow(A, port, B, 80)) for port in range(1, 400)], [A]).write(tmp_path)
    cut.write_bytes(cut.read_bytes()[:-20])
    where = tmp_path / "lake"
    (first,) = rows("fleet", "collect", where, "--from", cut, code=5)
    (again,) = rows("fleet", "collect", where, "--from", cut, code=5)
    assert (first["status"], again["status"]) == ("partly", "already there")
    assert first["problem"] == again["problem"] is not None


def test_what_is_damaged_of_one_node_is_not_said_of_another(tmp_path: Path) -> None:
    """An archive of a sysdump that was unpacked: its own name says whose it is."""
    with zipfile.ZipFile(ROOT / "archives/cilium-sysdump-20261122-141124.zip") as archive:
        archive.extractall(tmp_path / "sysdump")
    found = {
        row["node"]: row for row in rows("fleet", "collect", tmp_path / "lake", "--from", tmp_path / "sysdump", code=5)
    }
    assert found["cilium-7xk2p"]["problem"] is None
    cut = "cilium-bugtool-cilium-wb4nt-20261122-141124.tar.gz: the tar archive is cut off"
    assert [node for node, row in found.items() if cut in (row["problem"] or "")] == ["cilium-wb4nt"]


def test_a_run_that_is_killed_leaves_no_half_collection(tmp_path: Path) -> None:
    """Killed at any point, then run again: the lake holds each source once, and nothing else is read."""
    paths = [Node(f"n{number}", [Row(flow(A, number + 1, B, 80))] * 1, [A]).write(tmp_path) for number in range(6)]
    where = tmp_path / "lake"
    words = [word for path in paths for word in ("--from", str(path))]
    with started(sys.executable, "-m", "ctctl", "fleet", "collect", str(where), *words) as child:
        while child.poll() is None and not list(where.glob("_collections/*.json")):
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
    whole = len(list(where.glob("_collections/*.json")))
    assert rows("fleet", "sql", "SELECT count(*) AS n FROM ct", "--lake", where) == [{"n": whole}]
    ctctl("fleet", "collect", where, *words)
    assert rows("fleet", "sql", "SELECT count(*) AS n, count(DISTINCT node) AS m FROM ct", "--lake", where) == [
        {"n": 6, "m": 6}
    ]


def test_what_cannot_be_collected_is_named_and_stops_no_other(tmp_path: Path) -> None:
    good = Node("a", [Row(flow(A, 1, B, 80))], [A]).write(tmp_path)
    bad = tmp_path / "bad.txt"
    bad.write_text("no table\n")
    done = ctctl("fleet", "collect", tmp_path / "lake", "--from", bad, "--from", good, code=5)
    assert "failed" in done.stdout
    assert "collected" in done.stdout
    assert "bad.txt" in done.stderr


def test_what_the_system_says_of_a_source_is_not_told_as_the_lakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(Node(name, [Row(flow(A, 1, B, 80))], [A]).write(tmp_path)) for name in ("a", "b", "c")]
    said = iter([OSError(errno.EIO, "bad disk"), PermissionError(errno.EACCES, "not yours", "member")])
    whole = collecting.row_groups

    def read(batches: Iterator[CtColumns]) -> Iterator[CtColumns]:
        for error in said:
            raise error
        return whole(batches)

    monkeypatch.setattr(collecting, "row_groups", read)
    outcomes = list(collecting.collect(Lake(str(tmp_path / "lake")), paths, collecting.Wanted()))
    assert [one.problem for one in outcomes] == [f"{paths[0]}: bad disk", "member: not yours", None]
    assert [one.refused for one in outcomes] == [False, True, False]
    assert len(list((tmp_path / "lake/ct").rglob("*.*"))) == 1, "half files stay"


def test_what_the_system_says_of_the_lake_is_told_as_the_lakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, _data: object) -> int:
            raise OSError(errno.ENOSPC, "no room")

    class Disk:
        def open_output_stream(self, _path: str) -> Any:
            return pyarrow().PythonFile(Full(), mode="w")

    lake = Lake(str(tmp_path / "lake"))
    monkeypatch.setattr(lake, "_fs", Disk())
    with pytest.raises(WriteError, match=f"^{tmp_path}/lake: .*no room"), lake.file("ct/file", tables.TABLES["ct"]):
        pass
    assert not list((tmp_path / "lake/ct").iterdir())


def test_numbers_join_and_texts_are_theirs(lake: str) -> None:
    sql = (
        "SELECT e.node, c.dst, c.dst_hi, c.dst_lo, c.family FROM ct c JOIN endpoints e ON e.family = c.family"
        " AND e.addr_hi = c.dst_hi AND e.addr_lo = c.dst_lo WHERE c.direction = 'OUT'"
    )
    found = rows("fleet", "sql", sql, "--lake", lake, code=5)
    assert {(row["node"], row["dst"]) for row in found} == {
        ("node-b", B),
        ("node-b", "fd00::2"),
        ("node-c", "10.0.3.1"),
    }
    for row in found:
        number = (row["dst_hi"] % 2**64) << 64 | row["dst_lo"] % 2**64
        assert number == int(ip_address(row["dst"]))


def test_times_are_those_of_the_collection(lake: str) -> None:
    sql = "SELECT DISTINCT collected_at, expires_at, remaining_s, boot_id FROM ct WHERE node = 'node-b'"
    (row,) = rows("fleet", "sql", sql, "--lake", lake, code=5)
    assert row == {
        "collected_at": "2026-01-15T10:00:02Z",
        "expires_at": "2026-01-15T10:05:02Z",
        "remaining_s": 300,
        "boot_id": "boot-1",
    }


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", "SQL: "),
        ("SELECT nothing FROM ct", "SQL: "),
        ("SELECT * FROM ctt", "SQL: "),
        ("", "no SELECT"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("COPY (SELECT 1) TO 'evil.csv'", "no SELECT"),
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO 'evil.csv'", "no SELECT"),
        ("ATTACH 'evil.db'", "no SELECT"),
        ("INSTALL httpfs", "no SELECT"),
    ],
)
def test_sql_that_is_none(lake: str, sql: str, said: str) -> None:
    assert said in ctctl("fleet", "sql", sql, "--lake", lake, code=2).stderr
    assert not list(Path().glob("evil.*"))


@pytest.mark.parametrize(
    ("sql", "code"),
    [("EXPLAIN SELECT 1", 0), ("explain analyze FROM ct", 0), ("PIVOT ct ON state", 5), ("DESCRIBE ct", 0)],
)
def test_sql_that_asks_is_answered(lake: str, sql: str, code: int) -> None:
    assert ctctl("fleet", "sql", sql, "--lake", lake, code=code).stdout


def test_rows_that_were_not_collected_are_not_none(lake: str, tmp_path: Path) -> None:
    lacks = "default/node-c: no ct table was collected"
    for sql in ("SELECT count(*) FROM CT_latest", "WITH x AS (FROM ct) SELECT (SELECT count(*) FROM x)"):
        assert lacks in ctctl("fleet", "sql", sql, "--lake", lake, code=5).stderr
    named_elsewhere = "SELECT count(*) AS ct, 'ct' FROM collections"
    ctctl("fleet", "sql", named_elsewhere, "--lake", lake)
    bare = Node("a", [Row(flow(A, 1, B, 80))], None, backends=None, nat=None)
    where = collected(tmp_path, [bare])
    full = Node("a", [Row(flow(A, 1, B, 80))], [A], made=MADE + 60)
    collected(tmp_path, [full])
    assert rows("fleet", "sql", "SELECT count(*) AS n FROM ct", "--lake", where) == [{"n": 2}]
    assert rows("fleet", "sql", "SELECT count(*) AS n FROM nat_latest", "--lake", where) == [{"n": 0}]
    said = ctctl("fleet", "sql", "SELECT count(*) FROM nat", "--lake", where, code=5).stderr
    assert "default/a at 2026-01-15T10:00:00Z: no nat table was collected" in said


@pytest.mark.parametrize(
    ("listing", "table", "title"),
    [
        ("ct-list-global.json", "nat", "the SNAT table"),
        ("ct-list-global.json", "ipcache", "the identity table (ipcache)"),
        ("nat-list.txt", "ct", "the conntrack table"),
    ],
)
def test_sql_of_a_table_that_the_source_does_not_show(listing: str, table: str, title: str) -> None:
    source = ROOT / "cilium-dbg-1.16.4" / listing
    said = ctctl("ct", "sql", f"SELECT count(*) FROM {table}", "--from", source, code=5).stderr
    assert f"does not show {title}: unknown" in said


def test_sql_of_a_source_without_any_table(tmp_path: Path) -> None:
    bare = tmp_path / "bpftool.txt"
    bare.write_text("key: 0a 40 00 24 0a 40 00 40  value: 00 00 00 00 00 00 00 00\nFound 1 element\n")
    said = ctctl("ct", "sql", "SELECT count(*) FROM ct", "--from", bare, code=1).stderr
    assert f"{bare} shows no table that SQL is asked of" in said
    assert "ctctl-sql-" not in said


def test_questions_are_listed_and_their_names_mended() -> None:
    assert [row["name"] for row in rows("fleet", "ask")] == [
        "out-without-in",
        "gone-backends",
        "snat-ports",
        "top-talkers",
        "skew",
        "expired",
        "flow",
        "growth",
        "node-loss",
    ]
    assert "did you mean 'skew'" in ctctl("fleet", "ask", "skw", "--lake", "x", code=2).stderr
    assert "give --flow" in ctctl("fleet", "ask", "flow", "--lake", "x", code=2).stderr
    assert "SELECT" in ctctl("fleet", "ask", "skew", "--show-sql").stdout


@pytest.mark.parametrize(
    ("option", "value", "taker"),
    [
        ("--node", "a", "node-loss"),
        ("--flow", "tcp 10.0.0.1:1 > 10.0.0.2:2", "flow"),
        ("--first-port", "1", "snat-ports"),
    ],
)
def test_what_a_question_is_not_told_is_refused(option: str, value: str, taker: str) -> None:
    """The busiest of all nodes are no answer to who asks for those of one."""
    said = ctctl("fleet", "ask", "top-talkers", "--lake", "x", option, value, code=2).stderr
    assert f"{option} goes with {taker}, not with top-talkers" in said


@pytest.mark.parametrize("missing", ["pyarrow", "duckdb"])
def test_without_the_extra_one_line_says_how_to_get_it(tmp_path: Path, missing: str) -> None:
    """The real command with the module's import refused, as where it is not installed."""
    block = (
        f"import sys; sys.modules[{missing!r}] = None\nfrom ctctl.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    path = Node("a", [Row(flow(A, 1, B, 80))], [A]).write(tmp_path)
    where = str(tmp_path / "lake")
    if missing == "duckdb":
        ctctl("fleet", "collect", where, "--from", path)
    words = (
        ["fleet", "sql", "SELECT 1", "--lake", where]
        if missing == "duckdb"
        else ["ct", "export", "x.parquet", "--from", str(path)]
    )
    done = subprocess.run(
        [sys.executable, "-c", block, *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'ctctl[fleet]'" in done.stderr
    assert not (tmp_path / "x.parquet").exists()


def test_one_source_in_sql() -> None:
    source = ROOT / "cilium-dbg-1.16.4/ct-list-global.json"
    counts = {
        row["state"]: row["n"]
        for row in rows("ct", "sql", "SELECT state, count(*) AS n FROM ct GROUP BY state", "--from", source)
    }
    listed = [
        json.loads(line)["state"] for line in ctctl("ct", "list", "-o", "jsonl", "--from", source).stdout.splitlines()
    ]
    assert counts == {state: listed.count(state) for state in set(listed)}


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("gs://b/lake", "gs://b/lake?retry_limit_seconds=30"),
        ("gs://b/lake?project_id=p", "gs://b/lake?project_id=p&retry_limit_seconds=30"),
        ("gs://b/lake?retry_limit_seconds=5", "gs://b/lake?retry_limit_seconds=5"),
        ("s3://b/lake?region=r", "s3://b/lake?region=r"),
    ],
)
def test_a_store_that_does_not_answer_is_not_tried_for_ever(url: str, asked: str) -> None:
    assert bounded(url) == asked


def test_a_file_of_a_lake_is_private_while_it_is_written(tmp_path: Path) -> None:
    """Whose connections there were is nobody's business in those minutes either."""
    before = os.umask(0)
    try:
        with Lake(str(tmp_path / "lake"))._whole("ct/file") as stream:
            stream.write(b"who talks to whom")
            (part,) = (tmp_path / "lake/ct").iterdir()
            assert part.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert (tmp_path / "lake/ct/file").stat().st_mode & 0o777 == 0o600


def test_a_group_of_rows_is_of_one_direction_by_the_end_that_is_elsewhere(tmp_path: Path) -> None:
    """A reader passes over groups by their least and greatest address: an own pod's would not tell them apart."""
    from pyarrow import parquet

    far = [f"10.2.{number // 250}.{number % 250 + 1}" for number in np.random.default_rng(2).permutation(600)]
    made = [Row(flow(A, 1, end, 80)) for end in far]
    made += [Row(flow(end, 1, A, 80), Direction.IN) for end in far]
    made += [Row(flow(A, 1, end, 80), Direction.SVC, backend=7) for end in far]
    where = collected(tmp_path, [Node("a", made, [A])])
    (path,) = Path(where).glob("ct/**/*.parquet")
    file = parquet.ParquetFile(path)
    assert file.num_row_groups == 3
    for at, (direction, end) in enumerate((("OUT", "dst_lo"), ("IN", "src_lo"), ("SVC", "dst_lo"))):
        group = file.read_row_group(at, columns=["direction", end])
        assert set(group["direction"].to_pylist()) == {direction}
        assert group[end].to_pylist() == sorted(group[end].to_pylist())


def test_the_time_in_the_names_of_an_archives_files_counts_before_that_of_the_file(tmp_path: Path) -> None:
    """A bugtool that was called otherwise and copied is as old as it was."""
    (renamed := tmp_path / "node1.tar.xz").write_bytes(
        (ROOT.parents[2] / "examples/cilium-bugtool.tar.xz").read_bytes()
    )
    lake = str(tmp_path / "lake")
    ctctl("fleet", "collect", lake, "--from", renamed)
    (one,) = rows("fleet", "list", "--lake", lake)
    assert one["collected_at"].startswith("2026-11-25T19:14:31")
    assert one["time_evidence"] == "a name in it"


def test_clusters_of_one_lake_are_told_apart(tmp_path: Path) -> None:
    """One address in two clusters is two pods, whatever the clusters are called."""
    names, lake = ["o'brien/eu", 'a"b=c'], str(tmp_path / "lake")
    for number, name in enumerate(names, 1):
        given = [Row(flow(A, port, B, 80)) for port in range(1, number + 1)]
        (folder := tmp_path / str(number)).mkdir()
        ctctl("fleet", "collect", lake, "--from", Node("a", given, [A, B]).write(folder), "--cluster", name)
    counted = rows("fleet", "sql", "SELECT cluster, count(*) AS n FROM ct_latest GROUP BY cluster", "--lake", lake)
    assert {row["cluster"]: row["n"] for row in counted} == {names[0]: 1, names[1]: 2}
    talkers = ask(lake, "top-talkers", code=0)
    assert [(row["cluster"], row["src"], row["entries"]) for row in talkers] == [(names[1], A, 2), (names[0], A, 1)]
    chosen = rows("fleet", "sql", "SELECT count(*) AS n FROM ct WHERE cluster = 'o''brien/eu'", "--lake", lake)
    assert chosen == [{"n": 1}]
