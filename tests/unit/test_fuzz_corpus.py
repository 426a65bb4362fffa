"""Every input that the search for unexpected ends has found so far, and every hostile file, ends as it should."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support import fuzz_targets
from tests.support.fuzz_targets import DATA, TARGETS

CTCTL = Path(sys.executable).parent / "ctctl"
HOSTILE = sorted((DATA / "cases" / "hostile").iterdir())
CPU_S, MEMORY_KIB = 2.0, 300 << 10


@pytest.mark.parametrize("name", TARGETS)
def test_the_kept_corpus(name: str) -> None:
    with tarfile.open(DATA / "fuzz" / f"{name}.tar.xz") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None
            fuzz_targets.run(name, stream.read())


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds(name: str) -> None:
    for data in fuzz_targets.seeds(name):
        fuzz_targets.run(name, data)


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.name)
def test_hostile_files_end_soon_and_in_one_line(path: Path) -> None:
    for words in (("ct", "list"), ("nat", "list"), ("doctor",)):
        process = subprocess.Popen(
            [CTCTL, *words, "--from", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode in (0, 1, 2, 3, 5), said
        assert "unexpected" not in said
        assert "Traceback" not in said
        assert usage.ru_utime + usage.ru_stime < CPU_S, words
        assert usage.ru_maxrss < MEMORY_KIB
