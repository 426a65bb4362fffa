"""Every input that the search for unexpected ends has found so far, and every hostile file, ends as it should."""

from __future__ import annotations

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


MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, code)
"""


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.name)
def test_hostile_files_end_soon_and_in_one_line(path: Path) -> None:
    for words in (("ct", "list"), ("nat", "list"), ("doctor",)):
        # A process starts with its parent's peak memory: only a small parent can measure a small child.
        command = [sys.executable, "-c", MEASURE, CTCTL, *words, "--from", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        cpu_s, memory_kib, code = done.stdout.split()
        assert int(code) in (0, 1, 2, 3, 5), done.stderr
        assert "unexpected" not in done.stderr
        assert "Traceback" not in done.stderr
        assert float(cpu_s) < CPU_S, words
        assert int(memory_kib) < MEMORY_KIB
