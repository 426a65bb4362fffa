"""What tests of the commands that change tables start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gctables import TableDir, table_dir
from tests.support.writing import NAME, SNAT


@pytest.fixture
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, of this test alone: journals that nobody named go there."""
    where = tmp_path / "cwd"
    where.mkdir()
    monkeypatch.chdir(where)
    return where


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TableDir]:
    """A node of ours with a TCP and an SNAT table."""
    with table_dir(tmp_path) as made:
        made.create(NAME, 1 << 16)
        made.create(SNAT, 1 << 16)
        yield made
