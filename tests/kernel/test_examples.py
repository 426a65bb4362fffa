"""The examples tell the lab's stories; each must come out as it says it does."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from ctctl.config.node import load_node_file
from ctctl.simulate.scenario import run
from ctctl.simulate.scenario_file import PacketStep, load_scenario
from ctctl.simulate.show_scenario import step_record
from tests.support.children import run_ctctl
from tests.support.nodes import make_node

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


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_node_file_to_load(path: Path, tmp_path: Path) -> None:
    """On real interfaces of these names: every pod's hooks are attached, and nothing stays."""
    with make_node() as made:
        text, renamed = re.subn(r"(?<=name: )node-[ab]", made.name, path.read_text(), count=1)
        assert renamed == 1
        file = tmp_path / path.name
        file.write_text(text)
        loaded = run_ctctl("load", "-f", file, "--netns", made.name)
        try:
            assert loaded.returncode == 0, loaded.stderr
            (node,) = json.loads(run_ctctl("status", "--node", made.name, "-o", "json").stdout)["nodes"]
            devices = {program["interface"] for program in node["programs"]}
            wanted = load_node_file(file)
            pods = {pod.interface for pod in wanted.endpoints}
            assert devices == pods | ({wanted.node.device.name} if wanted.node.device else set())
        finally:
            assert run_ctctl("unload", "--node", made.name).returncode == 0
        assert not made.dir.exists()


#: What an example's head says to type, but for what loads a node (``test_socket_lb.py`` does).
TYPED = [
    pytest.param(command, id=f"{path.stem}: {command}")
    for path in FILES
    for line in re.findall(r"^#   (ctctl .*)$", path.read_text(), re.MULTILINE)
    for command in line.split("; ")
    if shlex.split(command)[1] not in {"load", "status", "unload"}
]


@pytest.mark.parametrize("command", TYPED)
def test_what_an_example_says_to_type(command: str) -> None:
    done = run_ctctl(*shlex.split(command)[1:], cwd=FILES[0].parents[1])
    assert done.returncode == 0, done.stderr


def test_every_example_says_what_to_type() -> None:
    assert [path.name for path in FILES if "\n#   ctctl " not in path.read_text()] == []
