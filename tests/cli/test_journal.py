"""Attacks on the journal: what was deleted is in it and comes back, whatever happened to command, disk or file."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shlex
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ctctl.kernel.map import Map, MapType
from ctctl.tables import pairs
from tests.support.children import CTCTL, go_on, started, stopped_before
from tests.support.children import run_ctctl as ctctl
from tests.support.gctables import CT, TableDir, contents, entry, key4, nat4, random_keys, table_dir
from tests.support.terminal import on_terminal
from tests.support.wait import PATIENCE_S, wait_for
from tests.support.writing import (
    NAME,
    SNAT,
    Refresher,
    alive,
    answer_after,
    count_of,
    fill,
    freeze,
    run_undo,
    small_disk,
)

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("own_directory")]


@pytest.mark.parametrize("engine", ["batch", "kernel", "per-key"])
def test_more_pairs_than_a_snapshot_holds_come_back(tmp_path: Path, engine: str) -> None:
    # The journal and what reads it are the same for every engine: one has the number that was once too much.
    count = {"batch": 30_000, "kernel": 210_000, "per-key": 3_000}[engine]
    with table_dir(tmp_path) as node:
        table, nat = node.create(NAME, 2 * count), node.create(SNAT, 4 * count)
        fill(table, count)
        keys = np.concatenate([batch.keys.copy() for batch in table.batches()])
        forward = np.concatenate([keys[:, 4:8], keys[:, 0:4], keys[:, 8:]], axis=1)
        values = np.zeros((count, 40), np.uint8)
        values[:, 32:36] = (1, 2, 3, 4)
        values[:, 36:38] = 7
        nat.update_batch(forward, values)
        before = count_of(table), count_of(nat)
        done = ctctl("gc", "--yes", "--engine", engine, "--undo", "big", "--from", node.path)
        assert done.returncode == 0, done.stderr
        assert (count_of(table), count_of(nat)) == (0, 0)
        assert run_undo(done.stderr).returncode == 0
        assert (count_of(table), count_of(nat)) == before == (count, count)


def test_a_snapshot_holds_every_pair(tmp_path: Path) -> None:
    """However many: they are written as they lie, a batch at a time, and come back the same way."""
    count = 210_000
    with table_dir(tmp_path) as node:
        node.create(NAME, 64)
        nat = node.create(SNAT, 2 * count)
        keys = np.concatenate([random_keys(count, CT[NAME], np.random.default_rng(3))])
        nat.update_batch(keys, np.tile(np.frombuffer(nat4("1.2.3.4", 5), np.uint8), (count, 1)))
        there = count_of(nat)
        done = ctctl("ct", "export", "all.ctsnap", "--from", node.path)
        assert (done.returncode, "without" in done.stderr) == (0, False), done.stderr
        for batch in list(nat.drain()):
            assert len(batch)
        done = ctctl("ct", "import", "all.ctsnap", "--from", node.path, "--yes")
        assert (done.returncode, count_of(nat)) == (0, there), done.stderr
        assert there > 200_000


def test_flush_keeps_every_pair_too(node: TableDir) -> None:
    keys = fill(node.maps[NAME], 9000, lifetime=alive())
    for key in keys:
        node.maps[SNAT].update(pairs.nat_key(key, dsr=False), nat4("1.2.3.4", 99))
    before = contents(node.maps[NAME]), contents(node.maps[SNAT])
    done = ctctl("ct", "flush", "--yes", "--from", node.path)
    assert (contents(node.maps[NAME]), contents(node.maps[SNAT])) == ({}, {}), done.stderr
    assert "9000 entries and 9000 SNAT records deleted" in done.stderr
    assert run_undo(done.stderr).returncode == 0
    assert before == (contents(node.maps[NAME]), contents(node.maps[SNAT]))


@pytest.mark.parametrize(
    "command",
    [
        ("gc", "--yes", "--undo"),
        ("gc", "--yes", "--engine", "kernel", "--undo"),
        ("gc", "--yes", "--engine", "per-key", "--undo"),
        ("ct", "flush", "--yes", "--undo-file"),
    ],
    ids=" ".join,
)
def test_a_full_disk_stops_the_deletions_it_cannot_record(
    node: TableDir, tmp_path: Path, command: tuple[str, ...]
) -> None:
    table = node.maps[NAME]
    fill(table, 30_000)
    before = contents(table)
    with small_disk(tmp_path / "disk", 4096) as disk:
        done = ctctl(*command, disk / "journal", "--from", node.path)
        assert done.returncode == 1, (done.returncode, done.stderr)
        assert "No space left" in done.stderr
        left = contents(table)
        assert 0 < len(left) < 30_000
        recorded = (disk / "journal").read_text().count('"value_hex"')
        assert recorded >= 30_000 - len(left)
        assert f"{30_000 - len(left)} " in done.stderr.replace("expired", "")
        assert run_undo(done.stderr).returncode == 0
    assert contents(table) == before


@pytest.mark.parametrize("engine", ["batch", "kernel", "per-key"])
def test_a_run_ends_where_the_audit_log_does(node: TableDir, tmp_path: Path, engine: str) -> None:
    """It is written after the deletions: what went is said, with how much of it has no line, and can be undone."""
    table = node.maps[NAME]
    fill(table, 20_000)
    before = contents(table)
    with small_disk(tmp_path / "disk", 256) as disk:
        audit = ("--audit", disk / "log")
        assert ctctl("gc", "--dry-run", *audit, "--from", node.path).returncode == 0
        assert not (disk / "log").exists()
        done = ctctl("gc", "--yes", "--engine", engine, *audit, "--undo", "gone", "--from", node.path)
        gone, lines = 20_000 - count_of(table), (disk / "log").read_bytes().splitlines()
        assert (done.returncode, 0 < len(lines) < gone < 20_000) == (1, True), done.stderr
        assert all(json.loads(line)["reason"] == "expired" for line in lines)  # no half one
        said = f"cannot write {disk}/log: No space left on device: {gone - len(lines)} deletions are not in it"
        assert said in done.stderr.splitlines()[-1]
        assert f"{gone} deleted" in done.stderr
        assert run_undo(done.stderr).returncode == 0
    assert contents(table) == before


def test_orphans_that_went_before_the_disk_was_full_are_said(node: TableDir, tmp_path: Path) -> None:
    nat = node.maps[SNAT]
    node.create("cilium_ct_any4_global", 64)
    keys = random_keys(20_000, CT[NAME], np.random.default_rng(3))
    nat.update_batch(keys, np.tile(np.frombuffer(nat4("1.2.3.4", 5), np.uint8), (len(keys), 1)))
    before = contents(nat)
    with small_disk(tmp_path / "disk", 1024) as disk:
        done = ctctl("gc", "--yes", "--orphans", "--undo", disk / "gone", "--from", node.path)
        gone = len(before) - count_of(nat)
        assert (done.returncode, 0 < gone < len(before)) == (1, True), done.stderr
        assert f"{gone} SNAT entries purged by themselves" in done.stderr
        assert run_undo(done.stderr).returncode == 0
    assert contents(nat) == before


def test_nothing_is_kept_where_nowhere_was_said(node: TableDir) -> None:
    for command in (("gc", "--endpoint", "10.0.0.1"), ("gc",), ("ct", "flush")):
        node.maps[NAME].update(key4("10.0.0.1", 1, "10.0.0.2", 80), entry(lifetime=0))
        done = ctctl(*command, "--yes", "--undo", "-", "--from", node.path)
        assert (done.returncode, count_of(node.maps[NAME]), "undo with" in done.stderr) == (0, 0, False), done.stderr
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("command", [("ct", "flush"), ("gc",), ("gc", "--undo", "gone")], ids=" ".join)
def test_want_of_descriptors_is_no_older_kernel(node: TableDir, command: tuple[str, ...]) -> None:
    """Without room for a program nothing is deleted: to do it by system calls is for kernels that run none."""
    fill(node.maps[NAME], 5)
    statuses = []
    for room in (14, 16, 17, 19, 60):
        words = ["prlimit", f"--nofile={room}", *CTCTL, *command, "--yes", "--from", str(node.path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert "system calls" not in done.stderr, room
        assert count_of(node.maps[NAME]) == (5 if done.returncode else 0), (room, done.stderr)
        statuses.append(done.returncode)
        Path("gone").unlink(missing_ok=True)
    assert (1 in statuses, statuses[-1]) == (True, 0)


def test_no_room_for_the_first_line_deletes_nothing(node: TableDir, tmp_path: Path) -> None:
    fill(node.maps[NAME], 100)
    with small_disk(tmp_path / "disk", 4) as disk:
        (disk / "filler").write_bytes(b"x" * 4096)
        for command in (("gc", "--yes", "--undo"), ("ct", "flush", "--yes", "--undo-file")):
            done = ctctl(*command, disk / "journal", "--from", node.path)
            assert (done.returncode, len(contents(node.maps[NAME]))) == (1, 100), done.stderr


@pytest.mark.parametrize("signal_number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("engine", ["batch", "kernel"])
def test_what_a_signal_stops_is_all_in_the_journal(node: TableDir, engine: str, signal_number: int) -> None:
    table = node.maps[NAME]
    fill(table, 30_000)
    before = contents(table)
    command = [*CTCTL, "gc", "--yes", "--engine", engine, "--undo", "journal", "--from", str(node.path)]
    with started(*command, "--rate", "2000") as process:
        wait_for(lambda: count_of(table) < 30_000, what="first deletions")
        process.send_signal(signal_number)
        _, said = process.communicate(timeout=PATIENCE_S)
    left = count_of(table)
    assert 0 < left < 30_000
    if signal_number != signal.SIGKILL:
        assert process.returncode == 130, said
        assert f"{30_000 - left} deleted" in said
    undone = ctctl("gc", "undo", "journal", "--from", node.path, "--yes", "-o", "json")
    assert undone.returncode == 0, undone.stderr
    assert contents(table) == before
    found = json.loads(undone.stdout)
    assert found["finished"] is (signal_number != signal.SIGKILL)
    assert found["restored"] == 30_000 - left


def test_a_flush_stopped_by_a_signal_says_what_it_did(node: TableDir) -> None:
    table = node.maps[NAME]
    fill(table, 60_000)
    before = count_of(table)
    with started(*CTCTL, "ct", "flush", "--yes", "--from", node.path) as process:
        wait_for(lambda: count_of(table) < before, what="first deletions")
        process.send_signal(signal.SIGHUP)
        _, said = process.communicate(timeout=PATIENCE_S)
    left = count_of(table)
    assert f"{before - left} entries and 0 SNAT records deleted" in said
    assert process.returncode == (130 if left else 0), said
    assert run_undo(said).returncode == 0
    assert count_of(table) == before


@pytest.mark.parametrize("cut", [1, 2, 40, 150])
def test_a_cut_last_line_is_said_and_the_rest_restored(node: TableDir, cut: int) -> None:
    table = node.maps[NAME]
    keys = fill(table, 10)
    done = ctctl("ct", "flush", "--yes", "--undo-file", "journal", "--from", node.path)
    assert done.returncode == 0, done.stderr
    whole = Path("journal").read_bytes()
    body = whole[: whole.rindex(b'{"done"')]
    Path("journal").write_bytes(body[: len(body) - cut])
    done = ctctl("gc", "undo", "journal", "--from", node.path, "--yes")
    missing = 0 if cut <= 1 else 1
    assert len(contents(table)) == len(keys) - missing
    assert f"{len(keys) - missing} entries restored" in done.stdout
    assert ("cut off" in done.stderr, done.returncode) == (True, 5), done.stderr


def test_damaged_lines_cost_only_themselves(node: TableDir) -> None:
    fill(node.maps[NAME], 10)
    assert ctctl("ct", "flush", "--yes", "--undo-file", "journal", "--from", node.path).returncode == 0
    lines = Path("journal").read_bytes().splitlines(keepends=True)
    lines[3] = b"\xff\xfe\n"
    lines[5] = b'{"map": "cilium_ct4_global", "key_hex": "zz", "value_hex": ""}\n'
    lines[6] = b'{"map": "cilium_ct4_global", "key_hex": "00", "value_hex": "00"}\n'
    lines.insert(7, b"x" * 100_000 + b"\n")
    Path("journal").write_bytes(b"".join(lines))
    done = ctctl("gc", "undo", "journal", "--from", node.path, "--yes")
    assert (done.returncode, len(contents(node.maps[NAME]))) == (5, 7), done.stderr


@pytest.mark.parametrize(
    "line",
    [
        b'{"stayed": "cilium_ct4_global", "key_hex": "zz"}',
        b'{"stayed": "cilium_ct4_global"}',
        b'{"stayed": "cilium_ct4_global", "key_hex": "%s"}' % (b"ab" * 14),
        b'{"steyed": "cilium_ct4_global", "key_hex": "%s"}' % (b"ab" * 14),
        b"{}",
        b"[]",
    ],
)
def test_a_line_that_says_nothing_is_counted_whatever_it_was(node: TableDir, line: bytes) -> None:
    """The word that an entry stayed is worth a line too: damaged, the entry may come back, and that is said."""
    fill(node.maps[NAME], 10)
    assert ctctl("ct", "flush", "--yes", "--undo-file", "journal", "--from", node.path).returncode == 0
    lines = Path("journal").read_bytes().splitlines(keepends=True)
    Path("journal").write_bytes(b"".join([*lines[:-1], line + b"\n", lines[-1]]))
    done = ctctl("gc", "undo", "journal", "--from", node.path, "--yes", "-o", "json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["restored"], document["damaged"]) == (5, 10, 1), done.stderr
    assert "1 lines of journal are damaged" in done.stderr


def test_undo_leaves_what_stayed_and_what_is_there(node: TableDir) -> None:
    """An entry that was not deleted after all is not brought back once it went by itself."""
    table = node.maps[NAME]
    key, other = key4("10.0.0.1", 1, "10.0.0.2", 80), key4("10.0.0.1", 2, "10.0.0.2", 80)
    for each in (key, other):
        table.update(each, entry(lifetime=0))
    command = [*CTCTL, "ct", "delete", "expired", "--undo-file", "journal", "--from", str(node.path)]
    assert answer_after(command, lambda: table.update(key, entry(lifetime=alive())))[0] == 0
    table.delete(key)
    assert ctctl("gc", "undo", "journal", "--from", node.path, "--yes").returncode == 0
    assert list(contents(table)) == [other]


def test_what_stayed_at_first_and_went_later_comes_back(node: TableDir) -> None:
    """A flush looks again at what a packet refreshed: the journal holds the entry twice, once as one that stayed."""
    table = node.maps[NAME]
    for turn in range(5):
        keys = fill(table, 30_000, lifetime=alive())
        numbers = itertools.count()
        with Refresher(table, keys[::3], lambda n=numbers: entry(lifetime=alive(), packets=next(n))):  # type: ignore[misc]
            done = ctctl("ct", "flush", "--yes", "--undo-file", f"journal{turn}", "--from", node.path)
        assert done.returncode == 0, done.stderr
        gone = set(keys) - contents(table).keys()
        done = ctctl("gc", "undo", f"journal{turn}", "--from", node.path, "--yes")
        assert (done.returncode, gone - contents(table).keys()) == (0, set()), done.stderr
        if b'"stayed"' in Path(f"journal{turn}").read_bytes():
            return
    pytest.fail("no packet came in time: the test shows nothing")


def test_an_snat_pair_that_stayed_with_one_and_went_with_another_comes_back(tmp_path: Path) -> None:
    """Two entries with one pair (a damaged table): the second finds it gone, and that takes nothing from the first."""
    from ctctl.tables.writer.journal import Journal, open_journal, records

    def matrix(data: bytes) -> np.ndarray:
        return np.frombuffer(data, np.uint8).reshape(1, -1)

    key, old, new = (bytes([n]) * size for n, size in ((1, 14), (2, 40), (3, 40)))
    with Journal.create(tmp_path / "journal", command="gc", source="", node=None) as journal:
        journal.planned((SNAT, matrix(key), matrix(old)), (SNAT, matrix(key), matrix(old)))
        journal.gone(1, (SNAT, matrix(key)))
        journal.planned((SNAT, matrix(key), matrix(new)))
        journal.gone(0, (SNAT, matrix(key)))
    assert [record.value for record in records(open_journal(tmp_path / "journal"))] == [old]


def test_a_full_table_throws_out_nothing_for_an_undo(tmp_path: Path) -> None:
    with table_dir(tmp_path) as node:
        table = node.create(NAME, 64)
        fill(table, 20)
        assert ctctl("ct", "export", "snapshot", "--format", "snapshot", "--from", node.path).returncode == 0
        assert ctctl("ct", "flush", "--yes", "--undo-file", "journal", "--from", node.path).returncode == 0
        living = random_keys(60, CT[NAME], np.random.default_rng(77))
        living[:, 4] = 99
        for key in living:
            table.update(bytes(key), entry(lifetime=alive()))
        there = contents(table).keys()
        for command in (("gc", "undo", "journal"), ("ct", "import", "snapshot")):
            done = ctctl(*command, "--from", node.path, "--yes")
            assert there <= contents(table).keys()
            assert (done.returncode, "full" in done.stderr) == (5, True), done.stderr


def test_printed_undo_works_with_several_nodes(tmp_path: Path) -> None:
    from tests.support.nodes import make_node

    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(make_node()) for _ in range(2)]
        for made in nodes:
            Path(f"{made.name}.yaml").write_text(made.text())
            stack.callback(ctctl, "unload", "--node", made.name, "--yes")
            done = ctctl("load", "-f", f"{made.name}.yaml", "--netns", made.name)
            assert done.returncode == 0, done.stderr
        with Map.open_pinned(nodes[1].dir / NAME) as table:
            fill(table, 7, lifetime=alive())
            done = ctctl("ct", "flush", "--yes", "--node", nodes[1].name)
            assert (done.returncode, contents(table)) == (0, {}), done.stderr
            back = run_undo(done.stderr)
            assert (back.returncode, len(contents(table))) == (0, 7), back.stderr
            # And without being told: the journal knows its node.
            ctctl("ct", "flush", "--yes", "--node", nodes[1].name, "--undo-file", "again")
            back = ctctl("gc", "undo", "again", "--yes")
            assert (back.returncode, len(contents(table))) == (0, 7), back.stderr


def test_two_nodes_are_not_changed_at_once(node: TableDir, tmp_path: Path) -> None:
    """Their tables have the same names: a journal of both could not be brought back."""
    fill(node.maps[NAME], 5)
    assert ctctl("ct", "export", "five.ctsnap", "--from", node.path).returncode == 0
    with table_dir(tmp_path) as other:
        fill(other.create(NAME), 5)
        both = ("--from", node.path, "--from", other.path)
        for command in (("ct", "flush"), ("ct", "delete", "expired"), ("ct", "import", "five.ctsnap")):
            for more in ("--yes", "--dry-run"):
                done = ctctl(*command, more, *both)
                assert (done.returncode, "several nodes" in done.stderr) == (2, True), (command, done.stderr)
        assert len(contents(node.maps[NAME])) == len(contents(other.maps[NAME])) == 5


def per_cluster(node: TableDir, stack: contextlib.ExitStack, clusters: int) -> list[Map]:
    """A table for each of so many clusters, with an entry in it."""
    inner = [stack.enter_context(Map.create("inner", MapType.LRU_HASH, 14, 56, 8)) for _ in range(clusters)]
    outer = stack.enter_context(Map.create("outer", MapType.ARRAY_OF_MAPS, 4, 4, clusters + 1, inner=inner[0]))
    for number, table in enumerate(inner, 1):
        outer.update(number.to_bytes(4, "little"), table.fd.to_bytes(4, "little"))
        table.update(key4("10.0.0.1", number, "8.8.8.8", 53), entry(lifetime=alive()))
    outer.pin(node.path / "cilium_per_cluster_ct_tcp4")
    return inner


def test_a_journal_of_many_tables_comes_back(node: TableDir) -> None:
    """Its first line names them all."""
    with contextlib.ExitStack() as stack:
        tables = per_cluster(node, stack, 100)
        before = [contents(table) for table in tables]
        done = ctctl("ct", "flush", "--yes", "--allow-foreign", "--undo-file", "many", "--from", node.path)
        assert (done.returncode, [contents(table) for table in tables]) == (0, [{}] * 100), done.stderr
        assert len(Path("many").read_bytes().splitlines()[0]) > 4096
        back = run_undo(done.stderr)
        assert (back.returncode, [contents(table) for table in tables]) == (0, before), back.stderr


@pytest.mark.parametrize("command", [("gc",), ("ct", "flush")], ids=" ".join)
def test_the_printed_undo_can_be_copied_from_a_narrow_terminal(node: TableDir, command: tuple[str, ...]) -> None:
    """As it is shown, whatever the names have in them, into the plainest shell."""
    table = node.maps[NAME]
    table.update(key4("10.0.0.1", 1, "10.0.0.2", 80), entry(lifetime=0))
    odd = Path('it\'s  a "strange" $place\nof 100% \u202e \\')
    odd.mkdir()
    Path("link").symlink_to(node.path)
    undo = ("--undo", odd / f"{command[-1]}\tgone")
    status, lines = on_terminal([*CTCTL, *command, "--yes", *map(str, undo), "--from", "link"], columns=50)
    shown = "\n".join(lines)
    assert (status, count_of(table)) == (0, 0), shown
    Path("link").unlink()
    head = json.loads((odd / f"{command[-1]}\tgone").read_text().splitlines()[0])
    assert head["source"] == str(node.path)  # the place, not a name that goes
    start = shown.index("undo with: ctctl ") + len("undo with: ctctl ")
    assert shown.index("--from", start) > shown.index("\n", start)  # it took more than a line
    words = shown[start : shown.index("--yes", start) + len("--yes")]
    done = subprocess.run(["sh", "-c", f"{shlex.join(CTCTL)} {words}"], capture_output=True, text=True, check=False)
    assert (done.returncode, count_of(table)) == (0, 1), (words, done.stderr)


@pytest.mark.parametrize("what", ["undo", "import"])
def test_a_restore_that_ends_early_says_what_it_did(node: TableDir, what: str) -> None:
    """By a signal, and where a table stops taking entries."""
    table = node.maps[NAME]
    fill(table, 60_000, lifetime=alive())
    node.maps[SNAT].update(key4("10.0.0.9", 9, "8.8.8.8", 99), nat4("6.6.6.6", 6))
    assert ctctl("ct", "export", "snapshot", "--format", "snapshot", "--from", node.path).returncode == 0
    assert ctctl("ct", "flush", "--yes", "--undo-file", "journal", "--from", node.path).returncode == 0
    command = {"undo": ("gc", "undo", "journal"), "import": ("ct", "import", "snapshot")}[what]
    where = ("ctctl.tables.writer.restore:_created", 20_000)
    with stopped_before(*where, *command, "--yes", "--from", node.path) as process:
        go_on(process, signal.SIGTERM)
        told = "".join(process.communicate(timeout=PATIENCE_S))
    there = count_of(table)
    assert 0 < there < 60_000
    assert (process.returncode, f"{there} entries " in told, "stopped before the end" in told) == (130, True, True)
    freeze(table)
    done = ctctl(*command, "--yes", "--from", node.path)
    assert (done.returncode, count_of(table)) == (4, there), done.stderr
    assert "0 entries " in done.stdout + done.stderr
    assert "Operation not permitted" in done.stderr.splitlines()[-1]


# ---- files


def test_files_are_private_and_follow_no_link(node: TableDir) -> None:
    fill(node.maps[NAME], 5)
    victim = Path("victim")
    victim.write_text("precious")
    for name in ("out.ctsnap.part", "out.jsonl.part", "undo.part", "undo"):
        Path(name).symlink_to(victim.absolute())
    for name in ("out.ctsnap", "out.jsonl", "out.csv"):
        assert ctctl("ct", "export", name, "--from", node.path).returncode == 0
        assert Path(name).stat().st_mode & 0o777 == 0o600
    done = ctctl("ct", "flush", "--yes", "--undo-file", "undo", "--from", node.path)
    assert (done.returncode, len(contents(node.maps[NAME]))) == (1, 5), done.stderr
    done = ctctl("gc", "--yes", "--audit", "undo", "--from", node.path)
    assert (done.returncode, len(contents(node.maps[NAME]))) == (1, 5), done.stderr
    assert victim.read_text() == "precious"
    done = ctctl("ct", "flush", "--yes", "--undo-file", "new", "--from", node.path)
    assert Path("new").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in Path.cwd().iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("form", ["snapshot", "jsonl", "csv"])
def test_no_half_file_stays_behind_on_a_full_disk(node: TableDir, tmp_path: Path, form: str) -> None:
    fill(node.maps[NAME], 60_000, packets=1)
    with small_disk(tmp_path / "disk", 256) as disk:
        (disk / "out").write_text("the old one")
        done = ctctl("ct", "export", disk / "out", "--format", form, "--from", node.path)
        assert (done.returncode, "No space left" in done.stderr) == (1, True), done.stderr
        assert [path.name for path in disk.iterdir()] == ["out"]
        assert (disk / "out").read_text() == "the old one"


def with_a_full_stdout(*words: object) -> tuple[int, str]:
    """The status of a command, and what it said beside what nobody could read."""
    command = [*CTCTL, *map(str, words)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("form", ["table", "json"])
def test_what_was_done_is_said_where_stdout_is_full(node: TableDir, form: str) -> None:
    fill(node.maps[NAME], 20)
    status, said = with_a_full_stdout("gc", "--yes", "--undo", "gone", "-o", form, "--from", node.path)
    assert (status, count_of(node.maps[NAME])) == (1, 0)
    assert "20 deleted" in said
    assert "cannot write: No space left on device" in said
    (line,) = re.findall(r"undo with: ctctl (.*)", said)
    status, said = with_a_full_stdout(*shlex.split(line), "-o", form)
    assert (status, count_of(node.maps[NAME])) == (1, 20)
    assert "20 entries restored" in said
