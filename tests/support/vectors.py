"""The conformance vectors of packets, and what of them this kernel can be held to."""

from __future__ import annotations

import functools
from pathlib import Path

from ctctl.kernel.map import Map, MapType
from ctctl.simulate.scenario import one_cpu
from tests.conformance.run import load, run

_FOLDER = Path(__file__).resolve().parents[1] / "conformance"
_PACKETS = [*(_FOLDER / "vectors").glob("*.json"), *(_FOLDER / "vectors-2").rglob("*.json.xz")]
#: Those of sockets are calls: test_sockets.py.
VECTORS = sorted(path for path in _PACKETS if path.parent.name != "socket")
#: Steps whose recording depends on what no scenario can say: there the kernel's routes were made to fail.
_NO_ROUTE = {"snat6_misc": "step 12 "}


def name_of(vector: Path) -> str:
    """What it is called in reports."""
    return vector.name.split(".json")[0]


def differences(vector: Path, command: list[str]) -> list[str]:
    """What the command says otherwise than the recording, without what is known."""
    known = _NO_ROUTE.get(name_of(vector))
    return [line for line in run(vector, command, None) if not (known and line.startswith(known))]


#: How many entries a full table of eight gave away at once where the vectors were recorded: Linux 6.16, two CPUs.
_GIVEN_AWAY = 2
_OF_EIGHT = "what a full table of eight gives away at once is this kernel's own (docs/reference/kernel.md, LRU tables)"


@functools.cache
def _gives_away() -> int:
    """Entries that a full table of eight makes room by on this kernel with its CPUs."""
    with one_cpu(), Map.create("ctctl_eight", MapType.LRU_HASH, 4, 4, 8) as table:
        for number in range(9):
            table.update(number.to_bytes(4, "little"), bytes(4))
        return 9 - sum(1 for _ in table.items())


def incomparable(vector: Path) -> str | None:
    """Why a recording cannot be held to on this kernel; None where it can."""
    sizes = load(vector)["config"]["map_max_entries"].values()
    return _OF_EIGHT if 8 in sizes and _gives_away() != _GIVEN_AWAY else None
