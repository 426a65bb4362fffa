"""``ctctl gc`` as a user types it, on tables of its own in a bpffs of its own."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ctctl.gc.perkey import lifetime_of
from ctctl.tables import pairs as keys
from tests.support.children import CTCTL, run_ctctl, started
from tests.support.gctables import NOW, TableDir, contents, entry, key4, nat4, reverse_nat_value, table_dir
from tests.support.terminal import typed
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("own_directory")]

AT = ("--now", str(NOW))


def ctctl(*args: object, **more: object) -> subprocess.CompletedProcess[str]:
    # NOW has not come yet, so a run that is not a dry one needs a yes.
    if args[0] == "gc" and AT[0] in args and "--dry-run" not in args and "stdin" not in more:
        args = (*args, "--yes")
    return run_ctctl(*args, **more)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TableDir]:
    """An own node with both IPv4 tables half expired and an SNAT table."""
    with table_dir(tmp_path) as made:
        for seed, name in enumerate(("cilium_ct4_global", "cilium_ct_any4_global")):
            made.create(name)
            made.fill(name, 500, np.random.default_rng(seed))
        made.create("cilium_snat_v4_external")
        yield made


def test_dry_run_reports_and_changes_nothing(node: TableDir) -> None:
    before = {name: contents(table) for name, table in node.maps.items()}
    done = ctctl("gc", "--dry-run", "--from", node.path, *AT, "-o", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    expired = sum(
        lifetime_of(v) < NOW for t in ("cilium_ct4_global", "cilium_ct_any4_global") for v in before[t].values()
    )
    assert (report["schema"], report["dry_run"], report["complete"]) == ("ctctl/gc-report/v1", True, True)
    assert (report["alive"], report["expired"], report["deleted"], report["skipped"]) == (1000 - expired, expired, 0, 0)
    assert sum(row["expired"] for row in report["rows"]) == expired
    assert {m["map"] for m in report["maps"]} == {"cilium_ct4_global", "cilium_ct_any4_global"}
    assert before == {name: contents(table) for name, table in node.maps.items()}


@pytest.mark.parametrize("engine", ["batch", "kernel", "per-key"])
def test_run_deletes_what_the_dry_run_announced(node: TableDir, engine: str) -> None:
    plan = json.loads(ctctl("gc", "--dry-run", "--from", node.path, *AT, "-o", "json").stdout)
    done = ctctl("gc", "--from", node.path, *AT, "--engine", engine, "-o", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["engine"], report["deleted"], report["skipped"]) == (engine, plan["expired"], 0)
    left = [v for t in ("cilium_ct4_global", "cilium_ct_any4_global") for v in contents(node.maps[t]).values()]
    assert len(left) == plan["alive"]
    assert all(lifetime_of(v) >= NOW for v in left)
    ratio = max(m["deleted"] / m["max_entries"] for m in report["maps"])
    assert report["ratio"] == pytest.approx(ratio)
    assert report["next_interval_s"] == 300  # about 6 %: unchanged


def test_table_output_has_a_row_a_class_and_the_summary_on_stderr(node: TableDir) -> None:
    done = ctctl("gc", "--from", node.path, *AT)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["MAP", "PROTOCOL", "DIRECTION", "ALIVE", "EXPIRED", "DELETED", "SKIPPED"]
    assert any(line.split()[:3] == ["cilium_ct4_global", "TCP", "SVC"] for line in lines)
    assert "next interval 5m" in done.stderr
    assert "deleted" in done.stderr


def test_foreign_tables_need_the_flag_and_yes(tmp_path: Path) -> None:
    with table_dir(tmp_path, own=False) as cilium:
        table = cilium.create("cilium_ct4_global")
        cilium.fill("cilium_ct4_global", 50, np.random.default_rng(2), expired=1.0)
        assert ctctl("gc", "--dry-run", "--from", cilium.path, *AT).returncode == 0
        refused = ctctl("gc", "--from", cilium.path, *AT, "--yes")
        assert (refused.returncode, len(contents(table))) == (4, 50)
        assert "--allow-foreign" in refused.stderr
        unasked = ctctl("gc", "--from", cilium.path, *AT, "--allow-foreign", stdin=subprocess.DEVNULL)
        assert (unasked.returncode, len(contents(table))) == (2, 50)
        assert ctctl("gc", "--from", cilium.path, *AT, "--allow-foreign", "--yes").returncode == 0
        assert contents(table) == {}


def test_a_foreign_table_is_read_with_its_own_clock(tmp_path: Path) -> None:
    from ctctl.kernel.clock import jiffies_units, monotonic_s

    units = jiffies_units()
    if units is None:
        pytest.skip("this kernel does not show jiffies")
    with table_dir(tmp_path, own=False) as cilium:
        table = cilium.create("cilium_ct4_global")
        for i in range(20):
            times = {"lifetime": units + (50 if i % 2 else -50), "last_tx_report": units - 60 + i}
            table.update(key4("10.0.0.1", 1 + i, "10.0.0.2", 80), entry(**times))
        for more in ((), ("--clock", "jiffies:250"), ("--clock", "jiffies:1000")):
            plan = json.loads(ctctl("gc", "--dry-run", *more, "--from", cilium.path, "-o", "json").stdout)
            assert (plan["expired"], plan["alive"]) == (10, 10)
            assert abs(plan["now"] - jiffies_units()) < 40
        # Reports of no clock at all: nothing may be deleted on a guess.
        for key in contents(table):
            table.update(key, entry(lifetime=5, last_tx_report=monotonic_s() + 77_777_777))
        refused = ctctl("gc", "--from", cilium.path, "--allow-foreign", "--yes")
        assert (refused.returncode, len(contents(table))) == (1, 20), refused.stderr
        assert "--clock" in refused.stderr


def test_endpoint_by_the_name_it_was_loaded_with(node: TableDir) -> None:
    node.record(endpoints={"10.64.9.9": "pod9"})
    key = key4("10.64.9.9", 1, "10.64.0.2", 80)
    node.maps["cilium_ct4_global"].update(key, entry(lifetime=NOW + 50))
    done = ctctl("gc", "--from", node.path, "--endpoint", "pod9", "--yes", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)["deleted"]) == (0, 1), done.stderr
    assert key not in contents(node.maps["cilium_ct4_global"])
    unknown = ctctl("gc", "--from", node.path, "--endpoint", "pod8", "--yes")
    assert "did you mean 'pod9'" in unknown.stderr


def test_a_terminal_is_asked(node: TableDir) -> None:
    for answer, status in ((b"n\n", 1), (b"y\n", 0)):
        with typed(answer) as terminal:
            done = ctctl("gc", "--from", node.path, *AT, stdin=terminal)
        assert done.returncode == status, done.stderr
        left = len(contents(node.maps["cilium_ct4_global"]))
        assert (left == 500) is (status == 1)


def test_endpoint_scrub_takes_everything_of_the_pod_and_nothing_else(node: TableDir) -> None:
    table, nat = node.maps["cilium_ct4_global"], node.maps["cilium_snat_v4_external"]
    pod, live = "10.64.9.9", NOW + 50
    mine = [
        key4(pod, 1, "10.64.0.2", 80),
        key4("10.64.0.2", 2, pod, 80, flags=1),
        key4(pod, 3, "172.16.0.1", 80, flags=4),
    ]
    near = key4("10.64.9.90", 1, "10.64.99.9", 80)
    for key in (*mine, near):
        table.update(key, entry(lifetime=live))
    nat.update(keys.nat_key(mine[0], dsr=False), nat4("10.0.0.1", 99))
    nat.update(keys.nat_key(near, dsr=False), nat4("10.0.0.1", 98))
    before = contents(table)
    done = ctctl("gc", "--from", node.path, "--endpoint", pod, "--yes", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert contents(table) == {k: v for k, v in before.items() if k not in mine}
    assert list(contents(nat)) == [keys.nat_key(near, dsr=False)]
    assert json.loads(done.stdout)["deleted"] == 3


def test_unknown_endpoint_name_says_so(node: TableDir) -> None:
    done = ctctl("gc", "--from", node.path, "--endpoint", "nobody", "--yes")
    assert done.returncode == 1
    assert done.stderr.startswith("ctctl: no endpoint 'nobody'")
    assert len(done.stderr.splitlines()) == 1


def test_orphans_go_and_pairs_stay(node: TableDir) -> None:
    nat, table = node.maps["cilium_snat_v4_external"], node.maps["cilium_ct4_global"]
    ct_key = key4("10.64.0.3", 1234, "8.8.8.8", 443)
    table.update(ct_key, entry(lifetime=NOW + 9))
    forward = keys.nat_key(ct_key, dsr=False)
    value = nat4("10.0.0.1", 50000)
    kept = {forward, keys.reverse_nat_key(forward, value)}
    nat.update(forward, value)
    nat.update(keys.reverse_nat_key(forward, value), reverse_nat_value(forward, value))
    dsr = key4("192.0.2.1", 40000, "10.64.0.3", 80)
    table.update(dsr, entry(lifetime=NOW + 9, flags=0x80))
    kept.add(keys.nat_key(dsr, dsr=True))
    nat.update(keys.nat_key(dsr, dsr=True), nat4("172.16.0.10", 80))
    nat.update(key4("9.9.9.9", 1, "7.7.7.7", 2, proto=17), nat4("1.1.1.1", 1))
    nat.update(key4("9.9.9.9", 1, "7.7.7.7", 2, flags=1), nat4("1.1.1.1", 1))
    plan = json.loads(ctctl("gc", "--dry-run", "--orphans", "--from", node.path, *AT, "-o", "json").stdout)
    assert (plan["orphans"], len(contents(nat))) == (2, 5)
    report = json.loads(ctctl("gc", "--orphans", "--from", node.path, *AT, "-o", "json").stdout)
    assert report["orphans"] == 2
    assert set(contents(nat)) == kept


@pytest.mark.parametrize("engine", ["batch", "kernel", "per-key"])
def test_audit_log_and_undo(node: TableDir, tmp_path: Path, engine: str) -> None:
    table, nat = node.maps["cilium_ct4_global"], node.maps["cilium_snat_v4_external"]
    out = key4("10.64.0.3", 1234, "8.8.8.8", 443)
    table.update(out, entry(lifetime=NOW - 5, flags=0x10))
    forward, value = keys.nat_key(out, dsr=False), nat4("10.0.0.1", 50000)
    nat.update(forward, value)
    nat.update(keys.reverse_nat_key(forward, value), reverse_nat_value(forward, value))
    before = {name: contents(made) for name, made in node.maps.items()}
    audit, undo = tmp_path / "audit.jsonl", tmp_path / "undo.jsonl"
    done = ctctl("gc", "--from", node.path, *AT, "--engine", engine, "--audit", audit, "--undo", undo, "-o", "json")
    assert done.returncode == 0, done.stderr
    deleted = json.loads(done.stdout)["deleted"]
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert sum(line["reason"] == "expired" for line in lines) == deleted
    assert sum(line["reason"] == "snat-pair" for line in lines) == 2
    (mine,) = [line for line in lines if line["key_hex"] == out.hex()]
    assert mine["entry"] == "OUT TCP 10.64.0.3:1234 -> 8.8.8.8:443"
    assert (mine["map"], mine["lifetime"], mine["now"], mine["state"]) == (
        "cilium_ct4_global", NOW - 5, NOW, "established",
    )  # fmt: skip
    assert undo.stat().st_mode & 0o077 == 0
    reborn = next(k for k, v in before["cilium_ct_any4_global"].items() if lifetime_of(v) < NOW)
    node.maps["cilium_ct_any4_global"].update(reborn, entry(lifetime=NOW + 1))
    plan = ctctl("gc", "undo", undo, "--from", node.path, "--dry-run", "-o", "json")
    assert json.loads(plan.stdout)["restored"] == deleted + 2 - 1
    back = ctctl("gc", "undo", undo, "--from", node.path, "--yes", "-o", "json")
    assert json.loads(back.stdout) == {
        "schema": "ctctl/gc-restored/v1", "restored": deleted + 1, "present": 1, "dry_run": False,
        "full": 0, "left_out": 0, "damaged": 0, "cut": False, "finished": True, "stopped": False,
    }  # fmt: skip
    before["cilium_ct_any4_global"][reborn] = entry(lifetime=NOW + 1)
    assert before == {name: contents(made) for name, made in node.maps.items()}
    again = ctctl("gc", "--from", node.path, *AT, "--undo", undo)
    assert (again.returncode, "exists" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--metrics", "9966"), "goes with --interval"),
        (("--interval", "often"), "not a duration"),
        (("--interval", "5s", "--endpoint", "10.0.0.1"), "single run"),
        (("--interval", "5s", "--now", "7"), "--now goes not with --interval"),
        (("--explain", "--interval", "5s"), "--interval goes not with --explain"),
        (("--explain", "--orphans"), "--orphans goes not with --explain"),
        (("--backend", "7", "--audit", "log", "--rate", "5"), "--rate, --audit go not with --backend"),
        (("--backend", "7", "--endpoint", "10.0.0.1"), "--endpoint goes not with --backend"),
        (("--engine", "kernel", "--endpoint", "10.0.0.1"), "--endpoint goes not with --engine kernel"),
        (("--backend", "7", "--interval", "5s"), "--interval goes not with --backend"),
        (("--backend", "7", "--engine", "kernel", "--orphans"), "--orphans, --engine go not with --backend"),
        (("--rate", "0"), "--rate"),
        (("--engine", "bach"), "batch"),
    ],
)
def test_mistakes_are_usage_errors(node: TableDir, arguments: tuple[str, ...], word: str) -> None:
    done = ctctl("gc", "--from", node.path, *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert word in done.stderr


def test_undo_refuses_what_is_no_undo_file(node: TableDir, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    for text in ("", "x\n", '{"schema": "other"}\n', '{"schema": "ctctl/gc-undo/v1"}\n{"map": "a"}\n'):
        wrong.write_text(text)
        done = ctctl("gc", "undo", wrong, "--from", node.path, "--yes", "--same-boot")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_explain_says_why(node: TableDir) -> None:
    table = node.maps["cilium_ct4_global"]
    for key in contents(table):
        table.delete(key)
    table.update(key4("10.0.0.1", 1, "10.0.0.2", 80), entry(lifetime=NOW - 30, flags=0x13))
    table.update(key4("10.0.0.1", 2, "10.0.0.2", 80), entry(lifetime=NOW - 10, flags=0x13))
    table.update(key4("10.0.0.1", 3, "10.0.0.2", 80, flags=4), entry(lifetime=NOW + 7000, flags=0x10))
    done = ctctl("gc", "--explain", "--from", node.path, "--map", "cilium_ct4_global", *AT, "-o", "json")
    first, second = json.loads(done.stdout)["classes"]
    assert (first["fate"], first["count"], first["state"], first["timeout"]) == ("go", 2, "closed", "regular-tcp-fin")
    assert (first["least_s"], first["most_s"]) == (10, 30)
    assert first["why"] == "expired 10 to 30 s ago, regular-tcp-fin ran out without a packet"
    assert (second["fate"], second["direction"], second["timeout"]) == ("stay", "SVC", "service-tcp")
    assert second["why"] == "7000 s left of service-tcp"


def test_everything_in_json_has_a_schema(node: TableDir, tmp_path: Path) -> None:
    import jsonschema

    from ctctl.cli.schemas import SCHEMAS

    audit, undo = tmp_path / "audit", tmp_path / "undo"
    workload = Path(__file__).resolve().parents[2] / "examples/workload.yaml"
    commands = (
        ("gc", "--dry-run", "--from", node.path, *AT),
        ("gc", "--explain", "--from", node.path, *AT),
        ("gc", "--from", node.path, *AT, "--audit", audit, "--undo", undo),
        ("gc", "undo", undo, "--from", node.path, "--yes"),
        ("gc", "simulate", workload, "--for", "2m"),
        ("sizing", workload, "--for", "2m"),
        ("doctor", "--from", node.path, "--now", NOW),
    )
    for command in commands:
        for form in ("json", "jsonl"):
            if command[:2] == ("gc", "--from"):
                undo.unlink(missing_ok=True)
            if command[:2] == ("gc", "undo") and form == "jsonl":
                out = ctctl(*command, "--dry-run", "-o", form).stdout
            else:
                out = ctctl(*command, "-o", form).stdout
            assert out, command
            documents = [json.loads(out)] if form == "json" else [json.loads(line) for line in out.splitlines()]
            for found in documents:
                jsonschema.validate(found, SCHEMAS[found["schema"]])
    for line in audit.read_text().splitlines():
        jsonschema.validate(json.loads(line), SCHEMAS["ctctl/gc-audit/v1"])
    jsonschema.validate(json.loads(undo.read_text().splitlines()[0]), SCHEMAS["ctctl/undo/v1"])


def test_dry_run_of_a_snapshot_is_that_of_its_table(node: TableDir, tmp_path: Path) -> None:
    snapshot = tmp_path / "tables.ctctl"
    assert ctctl("ct", "export", snapshot, "--from", node.path, *AT).returncode == 0
    for more in ((), ("--explain",)):
        live, stored = (
            json.loads(ctctl("gc", "--dry-run", *more, "--from", where, *AT, "-o", "json").stdout)
            for where in (node.path, snapshot)
        )
        for key in ("rows", "alive", "expired", "next_interval_s", "classes"):
            assert live.get(key) == stored.get(key)
    refused = ctctl("gc", "--from", snapshot, "--yes")
    assert refused.returncode == 2
    assert "no live table" in refused.stderr


def test_missing_tables_are_one_line(tmp_path: Path) -> None:
    for more in ((), ("--dry-run",), ("--explain",)):
        done = ctctl("gc", *more, "--from", tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert str(tmp_path) in done.stderr


def test_wrong_layout_is_one_line(tmp_path: Path) -> None:
    from ctctl.kernel.map import Map, MapType

    with table_dir(tmp_path) as made:
        made.add("cilium_ct4_global", Map.create("odd", MapType.LRU_HASH, 14, 48, 16))
        done = ctctl("gc", "--dry-run", "--from", made.path)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "values of 48 bytes" in done.stderr


@pytest.mark.parametrize("engine", ["batch", "kernel", "per-key"])
def test_ctrl_c_ends_with_a_true_report(node: TableDir, engine: str) -> None:
    table = node.maps["cilium_ct4_global"]
    only = ("--map", "cilium_ct4_global", "-o", "json")
    options = ("--from", node.path, *AT, "--engine", engine, "--rate", 2, "--yes", *only)
    command = [*CTCTL, "gc", *map(str, options)]
    with started(*command) as process:
        wait_for(lambda: len(contents(table)) < 500, what="first deletions")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    report = json.loads(out)
    assert report["complete"] is False
    assert 0 < report["deleted"] == 500 - len(contents(table)) < 250
    assert "interrupted" not in out
