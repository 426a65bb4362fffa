"""Every conformance vector through the real command: what Cilium 1.16's own datapath did, packet by packet."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conformance.run import run

HERE = Path(__file__).parent
VECTORS = sorted([*(HERE / "vectors").glob("*.json"), *(HERE / "vectors-2").rglob("*.json.xz")])
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


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_vector(vector: Path) -> None:
    assert differences(vector, COMMAND) == []
