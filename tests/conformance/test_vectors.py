"""Every conformance vector through the real command: what Cilium 1.16's own datapath did, packet by packet."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

from ctctl.kernel.map import Map, MapType
from ctctl.simulate.scenario import one_cpu
from tests.conformance.run import load, run
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


#: How many entries a full table of eight gave away at once where the vectors were recorded: Linux 6.16, two CPUs.
GIVEN_AWAY = 2
OF_EIGHT = "what a full table of eight gives away at once is this kernel's own (docs/reference/kernel.md, LRU tables)"


@functools.cache
def gives_away() -> int:
    """Entries that a full table of eight makes room by on this kernel with its CPUs."""
    with one_cpu(), Map.create("ctctl_eight", MapType.LRU_HASH, 4, 4, 8) as table:
        for number in range(9):
            table.update(number.to_bytes(4, "little"), bytes(4))
        return 9 - sum(1 for _ in table.items())


def incomparable(vector: Path) -> str | None:
    """Why a recording cannot be held to on this kernel; None where it can."""
    sizes = load(vector)["config"]["map_max_entries"].values()
    return OF_EIGHT if 8 in sizes and gives_away() != GIVEN_AWAY else None


FOLDERS = sorted({path.parent for path in VECTORS})


def of_folder(folder: Path) -> list[Path]:
    return [path for path in VECTORS if path.parent == folder and not incomparable(path)]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_vectors(folder: Path) -> None:
    with in_one_process():
        found = {name_of(path): differences(path, ["ctctl"]) for path in of_folder(folder)}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_first_two_vectors_by_the_command(folder: Path) -> None:
    for path in of_folder(folder)[:2]:
        assert differences(path, COMMAND) == [], name_of(path)
