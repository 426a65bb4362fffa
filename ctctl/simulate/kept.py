"""Simulators that are kept for the next scenario: loading programs is nearly all of what a scenario costs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

from ctctl.simulate.maps import shape, smallest_lru
from ctctl.simulate.simulator import Simulator

if TYPE_CHECKING:
    from ctctl.config.node import NodeFile

#: A step makes at most these entries in one table: a connection's and a service's, both of a related packet too.
_ENTRIES_A_STEP = 4
#: A table in use keeps as many free entries for each CPU, and begins to evict when fewer are left for all.
_SPARE = 512

_Kept: TypeAlias = dict[tuple[tuple[str, int], ...], Simulator]
_kept: ContextVar[_Kept | None] = ContextVar("kept simulators", default=None)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Inside, scenarios with maps of one shape run one after the other in one simulator, with tables as new."""
    simulators: _Kept = {}
    before = _kept.set(simulators)
    try:
        yield
    finally:
        _kept.reset(before)
        for simulator in simulators.values():
            simulator.close()


@contextlib.contextmanager
def simulator_for(nf: NodeFile, steps: int) -> Iterator[Simulator]:
    """A simulator for so many steps: one that was kept, if there is one of this shape, else a new one."""
    simulators = _kept.get()
    # Which entry a full table evicts depends on its past: where one may become full, all are new.
    if simulators is None or steps * _ENTRIES_A_STEP + _SPARE > smallest_lru(nf):
        with Simulator(nf) as simulator:
            yield simulator
        return
    key = shape(nf)
    if key in simulators:
        simulators[key].begin(nf)
    else:
        simulators[key] = Simulator(nf)
    yield simulators[key]
