"""Hostile files, made by rule, before commands that read them: soon over, little memory, one line; work by count."""

from __future__ import annotations

import contextlib
import gzip
import io
import subprocess
import sys
from pathlib import Path

import pytest

from ctctl.errors import CtctlError
from ctctl.tables.sources import archive
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.stream import MAX_LINE, Prefixed
from ctctl.tables.sources.unpack import FREE_WORK, WORK_A_BYTE, Budget
from tests.support import hostile

CTCTL = Path(sys.executable).parent / "ctctl"
CPU_S, MEMORY_KIB = 2.0, 300 << 10
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, code)
"""

#: What reads a source in the most different ways; each of the files made here meets one of them.
_COMMANDS = (
    ("ct", "list", "-o", "jsonl"),
    ("nat", "list"),
    ("doctor",),
    ("ct", "top"),
    ("lb", "list"),
    ("ct", "stats"),
)


def _measured(*words: str | Path) -> tuple[float, int, int, str]:
    command = [sys.executable, "-c", MEASURE, CTCTL, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    cpu_s, memory_kib, code = done.stdout.split()
    return float(cpu_s), int(memory_kib), int(code), done.stderr


@pytest.fixture(scope="module")
def floor_s(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What the smallest listing takes on this machine, now."""
    path = tmp_path_factory.mktemp("floor") / "ct.txt"
    path.write_bytes(hostile.lines("ct", 1))
    return min(_measured("ct", "list", "--from", path)[0] for _ in range(3))


@pytest.mark.parametrize("number", range(len(list(hostile.files()))))
def test_small_files_take_little_however_they_are_made(number: int, floor_s: float, tmp_path: Path) -> None:
    name, make = list(hostile.files())[number]
    path = tmp_path / name
    path.write_bytes(make())
    cpu_s, memory_kib, code, said = _measured(*_COMMANDS[number % len(_COMMANDS)], "--from", path)
    assert code in (0, 1, 2, 3, 5), said
    assert "unexpected" not in said
    assert "Traceback" not in said
    # Two seconds of a quiet machine of today; a start of ctctl takes an eighth of one there.
    assert cpu_s < max(CPU_S, 15 * floor_s), name
    assert memory_kib < MEMORY_KIB, name


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
            [CTCTL, *words, "-o", "name", "--from", path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 60_000
