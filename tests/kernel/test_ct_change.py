"""Live tables: deleted, restored, exported, compared with what they were. Private maps in a private bpffs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctctl.ct.change import Outcome, delete, plan_delete, snapshot_records
from ctctl.ct.differing import differing
from ctctl.ct.export import export_snapshot
from ctctl.ct.report import Change
from ctctl.tables.query.filter import Filter
from ctctl.tables.sources.base import Source
from ctctl.tables.sources.open import open_source
from ctctl.tables.writer.journal import Journal
from ctctl.tables.writer.restore import restore
from ctctl.tables.writer.targets import ForeignTablesError, check_owner, open_targets
from ctctl.tables.writer.undo import undo
from tests.support.gctables import TableDir, contents, entry, key4, table_dir
from tests.support.live_tables import fill_small, listed, live_tables, run

pytestmark = pytest.mark.kernel


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[TableDir]:
    with live_tables(tmp_path) as made:
        yield made


def test_delete_takes_the_snat_pair_along_and_import_brings_all_back(tables: TableDir, tmp_path: Path) -> None:
    fill_small(tables)
    nat = tables.maps["cilium_snat_v4_external"]
    before, nat_before = contents(tables.maps["cilium_ct4_global"]), contents(nat)
    snapshot_file, undo_file = tmp_path / "before.ctsnap", tmp_path / "undo.jsonl"
    with open_source(str(tables.path)) as source:
        plan = plan_delete(source, Filter.parse("src == 192.0.2.1"))
        assert len(plan) == 1
        assert len(plan.nat_entries()) == 1
        done = Outcome()
        with open_targets(source, allow_foreign=False) as targets:
            export_snapshot(source, snapshot_file)
            with Journal.create(undo_file, command="test", source="here", node=None) as journal:
                delete(plan, targets, journal, done)
        assert (done.deleted, done.nat_deleted) == (1, 1)
    assert contents(nat) == {}
    assert len(contents(tables.maps["cilium_ct4_global"])) == 3
    with (
        open_source(str(tables.path)) as target,
        open_source(str(snapshot_file)) as snapshot,
        open_targets(target, allow_foreign=False) as targets,
    ):
        outcome = restore(snapshot_records(snapshot, target), targets.maps())
        assert (outcome.restored, outcome.present, outcome.nat) == (2, 4, 1)
        again = undo(undo_file, targets.maps()).restored
        assert (again.restored, again.present) == (0, 2)
    assert contents(tables.maps["cilium_ct4_global"]) == before
    assert contents(nat) == nat_before


def test_the_commands_that_change_ask_first(tables: TableDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill_small(tables)
    table = tables.maps["cilium_ct4_global"]
    where = ("--from", str(tables.path))
    assert "needs a filter" in run("ct", "delete", *where, code=2).stderr
    preview = run("ct", "delete", "--to-port", "443", "--dry-run", *where)
    assert "1 entry" in preview.stderr
    assert "10.0.0.3:1002" in preview.stdout
    assert "needs --yes" in run("ct", "delete", "--to-port", "443", *where, code=2, stdin="y\n").stderr
    assert len(contents(table)) == 4
    done = run("ct", "delete", "--to-port", "443", "--yes", *where)
    assert "undo with: ctctl gc undo /" in done.stderr
    assert len(contents(table)) == 3
    run("ct", "flush", "--yes", "--undo-file", "all.jsonl", *where)
    assert contents(table) == {}
    run("ct", "import", "all.jsonl", "--yes", *where)
    assert len(contents(table)) == 3


def test_tables_of_another_owner_need_the_users_word(tmp_path: Path) -> None:
    with table_dir(tmp_path, own=False) as made:
        table = made.create("cilium_ct4_global")
        table.update(key4("10.0.0.1", 1, "10.0.0.2", 2), entry(lifetime=1))
        with open_source(str(made.path)) as source:
            assert source.foreign
            with pytest.raises(ForeignTablesError, match="--allow-foreign"):
                check_owner(source, allow_foreign=False)
            assert check_owner(source, allow_foreign=True)
        refused = run("ct", "flush", "--yes", "--from", str(made.path), code=4)
        assert "--allow-foreign" in refused.stderr
        assert len(contents(table)) == 1
        run("ct", "flush", "--yes", "--undo-file", "-", "--allow-foreign", "--from", str(made.path))
        assert contents(table) == {}


def counted(first: Source, second: Source) -> dict[Change, int]:
    """How many entries were removed, added and changed."""
    found = Counter[Change]()
    for kind in (kind for kinds in differing(first, second) for kind in kinds):
        found[kind.change] += sum(map(len, kind.batches()))
    return dict(+found)


def test_snapshot_of_a_live_table_and_diff(tables: TableDir, tmp_path: Path) -> None:
    fill_small(tables)
    path = tmp_path / "before.ctsnap"
    with open_source(str(tables.path)) as source:
        assert export_snapshot(source, path) == 5
    tables.maps["cilium_ct4_global"].delete(key4("10.0.0.1", 1001, "10.0.0.2", 80))
    with open_source(str(path)) as old, open_source(str(tables.path)) as new:
        assert counted(old, new) == {Change.REMOVED: 1}
        assert counted(old, old) == {}
        assert len(old.listings(None).nat) == 1
    assert "1001" in run("ct", "diff", str(path), str(tables.path), code=3).stdout
    # The node's name came along, so that the snapshot says what it is of.
    assert {e["node"] for e in listed("--from", str(path))} == {tables.path.name}


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "ctsnap"])
def test_exports_of_tables_without_a_match(tables: TableDir, tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which an emulator's image does without")
    fill_small(tables)
    file = tmp_path / f"x.{suffix}"
    assert "1 entry written" in run("ct", "export", str(file), "icmp", "--from", str(tables.path)).stderr
    assert b"10.0.0.2" in file.read_bytes() or suffix == "ctsnap"
