"""Every conformance vector through the real command: what Cilium 1.16's own datapath did, packet by packet."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conformance.run import run

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.json"))
COMMAND = [sys.executable, "-m", "ctctl"]

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def differences(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """What differs in each vector that is asked for, run two at a time: a process each."""
    asked = {item.callspec.params["vector"] for item in request.session.items if item.module is request.module}
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda vector: run(vector, COMMAND, None), vectors := sorted(asked))
        return {vector.stem: lines for vector, lines in zip(vectors, found, strict=True)}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.stem)
def test_vector(vector: Path, differences: dict[str, list[str]]) -> None:
    assert differences[vector.stem] == []
