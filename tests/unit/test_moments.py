"""Listings of one node before and after: kept apart, and not called two nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctctl.tables.sources.base import Source
from ctctl.tables.sources.moments import moments_of
from tests.support import captures
from tests.support.listings import read, read_text

LINES = captures.text("cilium-1.19-dsr-node1", "cli/ct-list-global.txt").splitlines()
OTHER = [line for line in LINES if line.startswith("TCP OUT")]


def said(source: Source) -> list[str]:
    return [note for note in source.notes if "moments of one node" in note]


def test_what_tail_printed_of_two_moments(tmp_path: Path) -> None:
    text = "\n".join(["==> ct.before <==", *LINES[:100], "", "==> ct.after <==", *LINES[20:], ""])
    with read_text(tmp_path / "x", text) as found:
        assert sorted({str(table.node) for table in found.tables}) == ["after", "before"]
        assert len(said(found)) == 1
        both = sum(bool(line) for line in LINES[20:100])
        assert f"{both} entries are in all of them" in said(found)[0]
        assert "ctctl ct diff FILE FILE" in said(found)[0]


@pytest.mark.parametrize(
    ("names", "shared", "told"),
    [
        (("ct.pre", "ct.post"), True, True),
        (("ct.pre", "ct.post"), False, True),
        (("ct.old", "ct.new"), True, True),
        (("ct.old-server", "ct.new-server"), False, False),
        (("ct.a", "ct.b"), True, False),
    ],
)
def test_names_and_entries_tell_together(names: tuple[str, str], shared: bool, told: bool, tmp_path: Path) -> None:
    """A node may be called "old" as well: then entries that are in both decide."""
    half = len(OTHER) // 2
    parts = (OTHER, OTHER) if shared else (OTHER[:half], OTHER[half:])
    for name, part in zip(names, parts, strict=True):
        (tmp_path / name).write_text("\n".join(part) + "\n")
    with read(tmp_path) as found:
        assert len({table.node for table in found.tables}) == 2
        assert bool(said(found)) is told
        assert all("no entry is in all of them" in note for note in said(found)) is not shared or not told


def test_names_that_differ_only_in_when() -> None:
    names = ["n1-before", "n1-after", "n2-before", "n2-after", "n3-before", "n4", "before-after", "x.2"]
    assert list(moments_of(names)) == [["n1-before", "n1-after"], ["n2-before", "n2-after"]]
