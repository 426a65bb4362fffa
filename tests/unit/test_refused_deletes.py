"""A run of which the kernel refused a deletion has not done what it was asked: it is not complete, and ends with 5."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import typer

from ctctl.cli.deleting import _carry_out
from ctctl.ct import change
from ctctl.gc.orphans import Purged
from ctctl.gc.report import Report, Row, TableReport
from ctctl.gc.run import GcOptions, _report, _Run
from ctctl.gc.show import report_document, summary
from ctctl.model.entry_class import EntryClass
from ctctl.model.tuples import Direction
from ctctl.tables.writer import targets


def report(refused: int, purged: Purged | None = None) -> Report:
    rows = (Row("ct", "ipv4", EntryClass(6, Direction.OUT, related=False), alive=5, expired=3, deleted=2, skipped=1),)
    table = TableReport("ct", "ipv4", "TCP", 16, rows, 2, 0, complete=True, duration_s=0.1, refused=refused)
    source = SimpleNamespace(description="test", partial=[], tables=[])
    return _report(_Run(source, None, GcOptions(), 5, (), []), [table], purged, 0.1)  # type: ignore[arg-type]


def test_a_collection_that_was_refused_something_is_not_complete() -> None:
    assert report(0).complete
    assert not report(2).complete
    assert report(0, Purged(count=1)).complete
    assert not report(0, Purged(count=1, refused=1)).complete
    assert report_document(report(2))["complete"] is False


def test_what_was_refused_is_told_once_and_as_what_it_is() -> None:
    assert "3 expired, 2 deleted, 1 skipped, 2 SNAT entries along (" in str(summary(report(0))[0])
    lines = summary(report(2))
    assert "1 skipped (of these and of SNAT entries the kernel refused to delete 2), 2 SNAT" in str(lines[0])
    assert " ".join(map(str, lines)).count("refused") == 1
    assert not any("stopped before the end" in str(line) for line in lines)


@pytest.mark.parametrize(("refused", "code"), [(0, None), (1, 5)])
def test_a_delete_that_was_refused_something_ends_with_5(
    refused: int, code: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def delete(_plan: object, _targets: object, _journal: object, outcome: change.Outcome, **_how: object) -> None:
        outcome.deleted, outcome.refused = 2, refused

    monkeypatch.setattr(change, "delete", delete)
    opened = nullcontext(SimpleNamespace(foreign=False))
    monkeypatch.setattr(targets, "open_targets", lambda *_args, **_how: opened)
    plan = SimpleNamespace(source=None)
    with nullcontext() if code is None else pytest.raises(typer.Exit) as ended:
        _carry_out("ct delete", plan, "-", allow_foreign=False, shown=False)  # type: ignore[arg-type]
    assert (ended.value.exit_code if ended else None) == code
    assert ("1 stayed: the kernel refused" in capsys.readouterr().err) == bool(refused)
