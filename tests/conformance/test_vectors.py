"""Every conformance vector through the real command: what Cilium 1.16's own datapath did, packet by packet."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.replay_vectors import in_one_process
from tests.support.vectors import VECTORS, differences, incomparable, name_of

COMMAND = [sys.executable, "-m", "ctctl"]

pytestmark = pytest.mark.kernel


FOLDERS = sorted({path.parent for path in VECTORS})


def of_folder(folder: Path) -> list[Path]:
    return [path for path in VECTORS if path.parent == folder and not incomparable(path)]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_vectors(folder: Path) -> None:
    with in_one_process():
        found = {name_of(path): differences(path, ["ctctl"]) for path in of_folder(folder)}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_first_vector_by_the_command(folder: Path) -> None:
    for path in of_folder(folder)[:1]:
        assert differences(path, COMMAND) == [], name_of(path)
