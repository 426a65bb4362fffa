"""Every conformance vector through the real command: what Cilium 1.16's own datapath did, packet by packet."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conformance.run import run

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.json"))
COMMAND = [sys.executable, "-m", "ctctl"]

#: What a vector's "about" says it was recorded with, where its "config" says something else: as it
#: stands such a vector asks for two outcomes of one input (others with that config hold the other).
RECORDED_WITH = {"aggflags_pod_tcp": {"report_flags": 0x07}}

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def differences(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What differs in each vector that is asked for, run two at a time: a process each."""
    asked = {item.callspec.params["vector"] for item in request.session.items if item.module is request.module}
    vectors = sorted(_as_recorded(vector, tmp_path_factory) for vector in asked)
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda vector: run(vector, COMMAND, None), vectors)
        return {vector.stem: lines for vector, lines in zip(vectors, found, strict=True)}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.stem)
def test_vector(vector: Path, differences: dict[str, list[str]]) -> None:
    assert differences[vector.stem] == []


def _as_recorded(vector: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if vector.stem not in RECORDED_WITH:
        return vector
    document = json.loads(vector.read_text())
    document["config"] |= RECORDED_WITH[vector.stem]
    corrected = tmp_path_factory.mktemp("vectors") / vector.name
    corrected.write_text(json.dumps(document))
    return corrected
