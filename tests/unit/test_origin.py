"""Of which boot entries are that are brought back: what is not known is not taken for this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctctl.ct.change import origin_remarks
from ctctl.errors import UsageError
from ctctl.tables.sources.base import Source
from ctctl.tables.writer.journal import Contents
from ctctl.tables.writer.undo import check_origin

HERE = "5d6a0b5e-0000-4000-8000-000000000001"


def source(boot: str | None) -> Source:
    return Source("here", boot_id=boot)


@pytest.mark.parametrize("there", [HERE, None])
def test_a_journal_or_a_machine_without_a_boot_is_taken_on_somebodys_word(there: str | None) -> None:
    journal = Contents(Path("gone"), boot_id=None if there else HERE, time="2026-11-26T10:00:00+00:00")
    who = "gone names no boot" if there else "this kernel names no boot"
    with pytest.raises(
        UsageError, match=rf"^{who}.*not known, so nothing .* written at 2026-11-26T10:00:00.*add --same-boot"
    ):
        check_origin(journal, source(there))
    check_origin(journal, source(there), same_boot=True)


def test_a_word_is_no_match_for_two_names() -> None:
    journal = Contents(Path("gone"), boot_id="another")
    with pytest.raises(UsageError, match="of another boot"):
        check_origin(journal, source(HERE), same_boot=True)
    check_origin(Contents(Path("gone"), boot_id=HERE), source(HERE))


@pytest.mark.parametrize(("boots", "word"), [((None, HERE), "names no boot"), (("another", HERE), "of another boot")])
def test_a_snapshot_is_only_spoken_of(boots: tuple[str | None, str], word: str) -> None:
    snapshot, target = map(source, boots)
    (remark,) = origin_remarks(snapshot, target)
    assert word in remark
    assert len(origin_remarks(snapshot, target, same_boot=True)) == (boots[0] is not None)
    assert origin_remarks(source(HERE), target) == []
