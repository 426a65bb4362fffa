"""Every conformance vector through the real command: what Cilium 1.16's own datapath did, packet by packet."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conformance.run import run
from tests.support.replay_vectors import in_one_process

HERE = Path(__file__).parent
PACKETS = [*(HERE / "vectors").glob("*.json"), *(HERE / "vectors-2").rglob("*.json.xz")]
#: Those of sockets are calls: test_sockets.py.
VECTORS = sorted(path for path in PACKETS if path.parent.name != "socket")
#: Steps whose recording depends on what no scenario can say: there the kernel's routes were made to fail.
NO_ROUTE = {"snat6_misc": "step 12 "}
COMMAND = [sys.executable, "-m", "ctctl"]

pytestmark = pytest.mark.kernel


def name_of(vector: Path) -> str:
    return vector.name.split(".json")[0]


def differences(vector: Path, command: list[str]) -> list[str]:
    """What the command says otherwise than the recording, without what is known."""
    known = NO_ROUTE.get(name_of(vector))
    return [line for line in run(vector, command, None) if not (known and line.startswith(known))]


FOLDERS = sorted({path.parent for path in VECTORS})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_vectors(folder: Path) -> None:
    with in_one_process():
        found = {name_of(path): differences(path, ["ctctl"]) for path in VECTORS if path.parent == folder}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_first_two_vectors_by_the_command(folder: Path) -> None:
    for path in [path for path in VECTORS if path.parent == folder][:2]:
        assert differences(path, COMMAND) == [], name_of(path)
