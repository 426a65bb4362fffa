"""Hostile files, made by rule, before commands that read them: soon over, little memory, one line; work by count."""

from __future__ import annotations

import contextlib
import gzip
import io
import subprocess
from pathlib import Path

import pytest

from ctctl.errors import CtctlError
from ctctl.tables.sources import archive
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.stream import MAX_LINE, Prefixed
from ctctl.tables.sources.unpack import FREE_WORK, WORK_A_BYTE, Budget
from tests.support import hostile
from tests.support.children import PROGRAM
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


@pytest.mark.parametrize("number", range(len(list(hostile.files()))))
def test_small_files_take_little_however_they_are_made(number: int, tmp_path: Path) -> None:
    name, make = list(hostile.files())[number]
    path = tmp_path / name
    path.write_bytes(make())
    cost = cost_of(*_COMMANDS[number % len(_COMMANDS)], "--from", path)
    assert cost.code in (0, 1, 2, 3, 5), cost.said
    assert "unexpected" not in cost.said
    assert "Traceback" not in cost.said
    assert is_soon(cost.cpu_s), (name, cost)
    assert cost.memory_bytes < MEMORY_BYTES, name


def test_work_ends_with_the_bytes_that_pay_for_it() -> None:
    """By count, not by time: a file may cost so much for itself and so much for each of its bytes."""
    for name, make in hostile.files():
        data = make()
        if name.endswith((".gz", ".xz", ".zip", ".bz2")) and len(data) < 60_000:
            walk = archive.Walk(lambda stream, path, budget: _read(stream, path.name, budget))
            with contextlib.suppress(CtctlError):
                walk.file(io.BytesIO(data), name, archive.MAX_DEPTH)
            allowed = FREE_WORK + WORK_A_BYTE * len(data)
            assert walk.budget.spent <= allowed + MAX_LINE, name  # what goes beyond was one line's


def _read(stream: Prefixed, name: str, budget: Budget) -> None:
    read_content(stream, Dump(), name, budget.spend)


def test_listings_of_real_kinds_are_read_to_their_end(tmp_path: Path) -> None:
    """60,000 entries, packed as tightly as entries of one pattern can be: three bytes each."""
    for form, words in (("ct", ("ct", "list")), ("nat", ("nat", "list"))):
        path = tmp_path / f"{form}.gz"
        path.write_bytes(gzip.compress(hostile.lines(form, 60_000), 6, mtime=0))
        done = subprocess.run(
            [PROGRAM, *words, "-o", "name", "--from", path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 60_000
