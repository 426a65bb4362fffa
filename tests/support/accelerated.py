"""The conformance vectors at a device that is accelerated: packets come to XDP first, and what it takes is all that
differs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from ctctl.model.event import Hook, Verdict
from ctctl.simulate.simulator import Simulator, StepResult
from tests.conformance import run as runner

#: Where packets come to a node by its device, those of the tunnel among them.
AT_DEVICE = frozenset({Hook.FROM_NETDEV, Hook.FROM_OVERLAY})

_scenario = runner.scenario
_run = Simulator.run


@contextmanager
def accelerated(taken: Counter[str]) -> Iterator[None]:
    """Inside, the runner's nodes are accelerated, and what XDP passes on is looked at; ``taken`` counts by hook."""
    with (
        mock.patch.object(runner, "scenario", _accelerated),
        mock.patch.object(Simulator, "run", _watched(taken)),
    ):
        yield


def _accelerated(vector: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = _scenario(vector)
    document.setdefault("datapath", {}).setdefault("lb", {})["acceleration"] = "generic"
    return document


def _counted(simulator: Simulator) -> int:
    """Packets that any hook counts."""
    return sum(
        int.from_bytes(value[at : at + 8], "little")
        for _, value in simulator.maps["ctctl_metrics"].items()
        for at in range(0, len(value), 16)
    )


def _watched(taken: Counter[str]) -> Any:
    def run(simulator: Simulator, hook: Hook, frame: bytes, **how: Any) -> StepResult:
        if hook not in {*AT_DEVICE, Hook.XDP_NETDEV}:
            return _run(simulator, hook, frame, **how)
        simulator.load(hook)
        before, tables = _counted(simulator), simulator.tables()
        result = _run(simulator, hook, frame, **how)
        if hook is Hook.XDP_NETDEV and result.verdict is Verdict.PASS:
            # As it came: not a byte, entry, counter or event of it.
            assert (result.frame, result.events) == (frame, ()), "XDP passed on what it had touched or told"
            assert (_counted(simulator), simulator.tables()) == (before, tables), "XDP left something of what it passed"
        else:
            assert _counted(simulator) == before + 1, "a packet at the device was not counted once"
            taken[result.hook] += hook in AT_DEVICE
        return result

    return run
