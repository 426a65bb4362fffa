"""Every conformance vector through the real command: what Cilium 1.16's own datapath did, packet by packet."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conformance.run import run

HERE = Path(__file__).parent
PACKETS = [*(HERE / "vectors").glob("*.json"), *(HERE / "vectors-2").rglob("*.json.xz")]
#: Those of sockets are calls: test_sockets.py.
VECTORS = sorted(path for path in PACKETS if path.parent.name != "socket")
#: Steps whose recording depends on what no scenario can say: there the kernel's routes were made to fail.
NO_ROUTE = {"snat6_misc": "step 12 "}
COMMAND = [sys.executable, "-m", "ctctl"]

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name.split(".json")[0])
def test_vector(vector: Path) -> None:
    known = NO_ROUTE.get(vector.name.split(".json")[0])
    assert [line for line in run(vector, COMMAND, None) if not (known and line.startswith(known))] == []
