"""Every conformance vector through the real command: what Cilium 1.16's own datapath did, packet by packet."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conformance.run import run

HERE = Path(__file__).parent
VECTORS = sorted([*(HERE / "vectors").glob("*.json"), *(HERE / "vectors-2").rglob("*.json.xz")])
COMMAND = [sys.executable, "-m", "ctctl"]

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name.split(".json")[0])
def test_vector(vector: Path) -> None:
    assert run(vector, COMMAND, None) == []
