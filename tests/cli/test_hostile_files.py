"""Hostile files, made by rule, before commands that read them: soon over, little memory, one line; work by count."""

from __future__ import annotations

import contextlib
import gzip
import io
from pathlib import Path

import pytest

from ctctl.config import budget
from ctctl.config.budget import Budget
from ctctl.errors import CtctlError
from ctctl.tables.sources import archive
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.stream import MAX_LINE, Prefixed
from tests.support import hostile
from tests.support.children import run_ctctl
from tests.support.cost import MEMORY_BYTES, cost_of, is_soon

#: What reads a source in the most different ways; each of the files made here meets one of them.
_COMMANDS = (
    ("ct", "list", "-o", "jsonl"),
    ("nat", "list"),
    ("doctor",),
    ("ct", "top"),
    ("lb", "list"),
    ("ct", "stats"),
)


_FILES = dict(hostile.files())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def made(name: str, folder: Path) -> Path:
    """The file of that name, made once."""
    path = folder / name
    if not path.exists():
        path.write_bytes(_FILES[name]())
    return path


@pytest.mark.parametrize("number", range(len(_FILES)))
def test_small_files_take_little_however_they_are_made(number: int, folder: Path) -> None:
    name = list(_FILES)[number]
    path = made(name, folder)
    cost = cost_of(*_COMMANDS[number % len(_COMMANDS)], "--from", path)
    assert cost.code in (0, 1, 2, 3, 5), cost.said
    assert "unexpected" not in cost.said
    assert "Traceback" not in cost.said
    assert is_soon(cost.cpu_s), (name, cost)
    assert cost.memory_bytes < MEMORY_BYTES, name


def test_work_ends_with_the_bytes_that_pay_for_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By count, not by time: a file may cost so much for itself and so much for each of its bytes."""
    # Whatever the prices are: with low ones more files reach them, and sooner.
    free, a_byte = 20_000, 1
    monkeypatch.setattr(budget, "FREE_WORK", free)
    monkeypatch.setattr(budget, "WORK_A_BYTE", a_byte)
    for name in _FILES:
        if not name.endswith((".gz", ".xz", ".zip", ".bz2")):
            continue
        data = made(name, folder).read_bytes()
        if len(data) < 60_000:
            walk = archive.Walk(lambda stream, path, budget: _read(stream, path.name, budget))
            with contextlib.suppress(CtctlError):
                walk.file(io.BytesIO(data), name, archive.MAX_DEPTH)
            allowed = free + a_byte * len(data)
            assert walk.budget.spent <= allowed + MAX_LINE, name  # what goes beyond was one line's


def _read(stream: Prefixed, name: str, budget: Budget) -> None:
    read_content(stream, Dump(), name, budget.spend)


def test_listings_of_real_kinds_are_read_to_their_end(tmp_path: Path) -> None:
    """60,000 entries, packed as tightly as entries of one pattern can be: three bytes each."""
    for form, words in (("ct", ("ct", "list")), ("nat", ("nat", "list"))):
        path = tmp_path / f"{form}.gz"
        path.write_bytes(gzip.compress(hostile.lines(form, 60_000), 6, mtime=0))
        done = run_ctctl(*words, "-o", "name", "--from", path)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 60_000
