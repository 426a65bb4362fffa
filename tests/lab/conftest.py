"""A lab of this run's own for the tests that only use one, and what a lab may leave behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctctl.lab.cluster import down, up
from ctctl.lab.processes import lab_pids
from ctctl.lab.topology import MEMBERS, Topology
from tests.support.names import unique_name

CTCTL = (sys.executable, "-m", "ctctl")


def ctctl(*args: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    done = subprocess.run([*CTCTL, *args], capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        raise AssertionError(f"ctctl {' '.join(args)}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def remains(topology: Topology) -> list[str]:
    """Everything of a lab that is on this machine."""
    found = [f"netns {name}" for name in map(topology.netns, MEMBERS) if Path("/run/netns", name).exists()]
    found += [f"process {pid} {Path(f'/proc/{pid}/cmdline').read_bytes()!r}" for pid in lab_pids(topology)]
    pins = Path("/sys/fs/bpf/ctctl")
    found += [f"pin {path}" for path in pins.glob(f"{topology.name}-*")] if pins.is_dir() else []
    found += [f"file {path}" for path in (topology.state_dir, topology.lock_path) if path.exists()]
    links = sorted(path.name for path in Path("/sys/class/net").iterdir())
    return found + [f"link {name}" for name in links if name.startswith(("lxc-pod", "to-node"))]


@pytest.fixture
def fresh_lab() -> Iterator[Topology]:
    """The name of a lab that is not up; taken down afterwards, whatever became of it."""
    topology = Topology(unique_name("l"))
    try:
        yield topology
    finally:
        down(topology)
        assert remains(topology) == []


@pytest.fixture(scope="session")
def lab() -> Iterator[Topology]:
    """One lab that is up, shared by all tests that do not take it down."""
    topology = Topology(unique_name("lab"))
    try:
        up(topology, lambda _line: None)
        yield topology
    finally:
        down(topology)
        assert remains(topology) == []
