"""The recorded calls of sockets, made again by real sockets in a cgroup with our programs on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.run import load
from tests.support.socket_story import replay

pytestmark = pytest.mark.kernel

STORIES = sorted((Path(__file__).parent / "vectors-2" / "socket").glob("*.json.xz"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.name.split(".json")[0])
def test_story(path: Path) -> None:
    assert replay(load(path)) == []
