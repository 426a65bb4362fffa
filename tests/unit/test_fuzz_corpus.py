"""Every input that the search for unexpected ends has found so far, and every hostile file, ends as it should."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.support import fuzz_targets
from tests.support.cost import MEMORY_BYTES, cost_of, is_soon
from tests.support.fuzz_targets import DATA, TARGETS

HOSTILE = sorted((DATA / "cases" / "hostile").iterdir())


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
        cost = cost_of(*words, "--from", path)
        assert cost.code in (0, 1, 2, 3, 5), cost.said
        assert "unexpected" not in cost.said
        assert "Traceback" not in cost.said
        assert is_soon(cost.cpu_s), (words, cost)
        assert cost.memory_bytes < MEMORY_BYTES
