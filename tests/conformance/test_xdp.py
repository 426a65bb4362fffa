"""Every conformance vector once more, at a device that is accelerated: what XDP takes is all that differs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ctctl.model.event import Hook
from tests.support.accelerated import accelerated
from tests.support.replay_vectors import in_one_process
from tests.support.vectors import VECTORS, differences, incomparable, name_of

pytestmark = pytest.mark.kernel

#: Packets of all recordings that XDP has to take, at least: those that go on to another node.
AT_LEAST = {
    "vectors": 30,
    "hybrid": 70,
    "masq_dsr": 50,
    "snat": 120,
    "snat_tunnel": 9,
    "snat6": 120,
    "v6": 25,
    "masq6": 6,
}
FOLDERS = sorted({path.parent for path in VECTORS})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_vectors_at_an_accelerated_device(folder: Path) -> None:
    taken: Counter[str] = Counter()
    with in_one_process(), accelerated(taken):
        paths = [path for path in VECTORS if path.parent == folder and not incomparable(path)]
        found = {name_of(path): differences(path, ["ctctl"]) for path in paths}
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert taken[Hook.XDP_NETDEV] >= AT_LEAST.get(folder.name, 0)
