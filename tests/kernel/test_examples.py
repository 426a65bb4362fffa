"""The examples tell the lab's stories; each must come out as it says it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctctl.simulate.scenario import run
from ctctl.simulate.scenario_file import PacketStep, load_scenario
from ctctl.simulate.show_scenario import step_record

FILES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
EXAMPLES = [path for path in FILES if "\nsteps:" in path.read_text()]

pytestmark = pytest.mark.kernel


def test_the_stories_are_all_there() -> None:
    stories = {"pod-to-pod", "clusterip", "clusterip-affinity", "hairpin", "nodeport", "dsr-intermediate"}
    stories |= {"dsr-backend", "icmp-error", "no-backend", "backend-drain"}
    assert stories <= {path.stem for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path) -> None:
    records = list(run(path, lambda record: step_record(record, raw=True)))
    assert [failure for record in records for failure in record.failures] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_packet_of_an_example_expects_something(path: Path) -> None:
    scenario = load_scenario(path)
    assert scenario.node.name == path.stem
    assert all(step.step.expect and step.step.note for step in scenario.steps if isinstance(step, PacketStep))
