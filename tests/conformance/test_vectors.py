"""Every conformance vector through the real command: what Cilium 1.16's own datapath did, packet by packet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conformance.run import run

HERE = Path(__file__).parent
VECTORS = sorted([*(HERE / "vectors").glob("*.json"), *(HERE / "vectors-2").rglob("*.json.xz")])
COMMAND = [sys.executable, "-m", "ctctl"]

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[Path, Future[list[str]]]]:
    """What differs in each vector that is asked for: run two at a time, a process each, in the tests' order."""
    asked = [item.callspec.params["vector"] for item in request.session.items if item.module is request.module]
    with ThreadPoolExecutor(2) as pool:
        yield {vector: pool.submit(run, vector, COMMAND, None) for vector in asked}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name.split(".json")[0])
def test_vector(vector: Path, outcomes: dict[Path, Future[list[str]]]) -> None:
    assert outcomes[vector].result() == []
