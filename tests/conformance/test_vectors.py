"""Every conformance vector through the real command: what Cilium 1.16's own datapath did, packet by packet."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conformance.run import run

HERE = Path(__file__).parent
VECTORS = sorted([*(HERE / "vectors").glob("*.json"), *(HERE / "vectors-2").rglob("*.json.xz")])
COMMAND = [sys.executable, "-m", "ctctl"]

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def differences(request: pytest.FixtureRequest) -> dict[Path, list[str]]:
    """What differs in each vector that is asked for, run two at a time: a process each."""
    asked = sorted({item.callspec.params["vector"] for item in request.session.items if item.module is request.module})
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda vector: run(vector, COMMAND, None), asked)
        return dict(zip(asked, found, strict=True))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name.split(".json")[0])
def test_vector(vector: Path, differences: dict[Path, list[str]]) -> None:
    assert differences[vector] == []
