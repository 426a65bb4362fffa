"""Every conformance vector once more, at a device that is accelerated: what XDP takes is all that differs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ctctl.model.event import Hook, Verdict
from ctctl.simulate.simulator import Simulator, StepResult
from tests.conformance import run as runner
from tests.support.replay_vectors import in_one_process
from tests.support.vectors import VECTORS, differences, incomparable, name_of

pytestmark = pytest.mark.kernel

#: Packets of all recordings that XDP has to take, at least: those that go on to another node.
AT_LEAST = {"vectors": 30, "hybrid": 70, "masq_dsr": 50, "snat": 120, "snat_tunnel": 6}
FOLDERS = sorted({path.parent for path in VECTORS})

_scenario = runner.scenario
_run = Simulator.run


def accelerated(vector: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = _scenario(vector)
    document.setdefault("datapath", {}).setdefault("lb", {})["acceleration"] = "generic"
    return document


def counted(simulator: Simulator) -> int:
    """Packets that any hook counts."""
    return sum(
        int.from_bytes(value[at : at + 8], "little")
        for _, value in simulator.maps["ctctl_metrics"].items()
        for at in range(0, len(value), 16)
    )


def watched(taken: Counter[str]) -> Any:
    def run(simulator: Simulator, hook: Hook, frame: bytes, **how: Any) -> StepResult:
        if hook is not Hook.FROM_NETDEV and hook is not Hook.XDP_NETDEV:
            return _run(simulator, hook, frame, **how)
        simulator.load(hook)
        before, tables = counted(simulator), simulator.tables()
        result = _run(simulator, hook, frame, **how)
        if hook is Hook.XDP_NETDEV and result.verdict is Verdict.PASS:
            # As it came: not a byte, entry, counter or event of it.
            assert (result.frame, result.events) == (frame, ())
            assert (counted(simulator), simulator.tables()) == (before, tables)
        else:
            assert counted(simulator) == before + 1
            taken[result.hook] += hook is Hook.FROM_NETDEV
        return result

    return run


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_vectors_at_an_accelerated_device(folder: Path) -> None:
    taken: Counter[str] = Counter()
    with (
        in_one_process(),
        mock.patch.object(runner, "scenario", accelerated),
        mock.patch.object(Simulator, "run", watched(taken)),
    ):
        paths = [path for path in VECTORS if path.parent == folder and not incomparable(path)]
        found = {name_of(path): differences(path, ["ctctl"]) for path in paths}
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert taken[Hook.XDP_NETDEV] >= AT_LEAST.get(folder.name, 0)
