"""Run a scenario: packets and changes in turn on private maps, each step's outcome held to what it expects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctctl.config.node import NodeFile
from ctctl.config.service import Backend, assign_ids, check_services
from ctctl.errors import CtctlError
from ctctl.kernel.cpus import one_cpu
from ctctl.simulate.expect import differences
from ctctl.simulate.frame import frame_of
from ctctl.simulate.journey import with_ifindexes
from ctctl.simulate.kept import simulator_for
from ctctl.simulate.scenario_changes import apply_operation, collect_garbage
from ctctl.simulate.scenario_file import (
    AdvanceStep,
    AnyStep,
    GcStep,
    OpStep,
    PacketStep,
    Scenario,
    ServiceStep,
    load_scenario,
)
from ctctl.simulate.simulator import SimulatedTables, Simulator, StepResult


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step that ran: the clock, the tables after it, and for a packet what became of it.

    ``failures`` are the expectations that do not hold, one sentence each.
    """

    step: AnyStep
    now: int
    tables: SimulatedTables
    result: StepResult | None = None
    failures: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """The step's place in the file, from 1."""
        return self.step.step.number

    @property
    def title(self) -> str:
        """The step's remark in the file, else what it does if it is no packet."""
        step = self.step
        words = {AdvanceStep: "the clock moves", GcStep: "garbage collection", ServiceStep: "service changed"}
        return step.step.note or words.get(type(step), step.op if isinstance(step, OpStep) else "")


#: a record's JSON form, which expectations are about
Describe = Callable[[StepRecord], dict[str, Any]]


def run(path: str | Path, describe: Describe, *, node: str | None = None) -> Iterator[StepRecord]:
    """Run the scenario file at ``path``: a record for every step, in order.

    ``describe`` gives the JSON form of a record. Raises ConfigError before anything runs, CtctlError
    with the step's line when one cannot be run.
    """
    yield from run_scenario(load_scenario(path, node), describe)


def run_scenario(scenario: Scenario, describe: Describe) -> Iterator[StepRecord]:
    """Run a scenario that is loaded already."""
    # Which entry a full LRU table evicts depends on the CPU that needs the room.
    with one_cpu(), simulator_for(with_ifindexes(scenario.node), len(scenario.steps)) as simulator:
        for step in scenario.steps:
            simulator.advance(step.step.advance)
            try:
                result = _take(simulator, step)
            except CtctlError as error:
                where = f"{scenario.node.path}:{step.step.line}: step {step.step.number}"
                error.args = (f"{where}: {error}",)
                raise
            record = StepRecord(step, simulator.now, simulator.tables(), result)
            yield replace(record, failures=_failures(record, describe))


def _failures(record: StepRecord, describe: Describe) -> tuple[str, ...]:
    expect = record.step.step.expect
    return tuple(differences(expect, describe(record))) if expect else ()


def _take(simulator: Simulator, step: AnyStep) -> StepResult | None:
    match step:
        case PacketStep():
            return _send(simulator, step)
        case ServiceStep():
            simulator.configure(with_backends(simulator.nf, step.name, step.backends))
        case OpStep():
            simulator.load()
            apply_operation(simulator, step.op, step.args)
        case GcStep():
            collect_garbage(simulator, step.endpoint)
        case AdvanceStep():
            pass
    return None


def _send(simulator: Simulator, step: PacketStep) -> StepResult:
    endpoint = simulator.nf.endpoint(step.endpoint) if step.endpoint else None
    frame = step.frame
    if frame is None:
        assert step.packet is not None
        frame = frame_of(simulator.nf, step.hook, step.packet, endpoint)
    return simulator.run(
        step.hook,
        frame,
        endpoint=endpoint,
        identity=step.identity,
        mark=step.mark,
        geneve=step.geneve,
        random=step.random,
    )


def with_backends(nf: NodeFile, name: str, backends: tuple[Backend, ...]) -> NodeFile:
    """The node file with other backends for every frontend called ``name``. Raises ConfigError."""
    services = assign_ids(
        replace(service, backends=backends) if service.name == name else service for service in nf.services
    )
    check_services(services, nf.path)
    return replace(nf, services=services)
