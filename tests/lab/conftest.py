"""A lab of this run's own for the tests that only use one, and what a lab may leave behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctctl.lab.cgroups import lab_cgroup
from ctctl.lab.cluster import down, up
from ctctl.lab.nodefile import BPF, NO_MODE
from ctctl.lab.processes import find_program, lab_pids, spawn
from ctctl.lab.topology import IPERF_PORT, MEMBERS, Topology
from tests.support.children import run_ctctl
from tests.support.lab_modes import change_to
from tests.support.names import unique_name
from tests.support.wait import PATIENCE_S, wait_for


def ctctl(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    done = run_ctctl(*args)
    if check and done.returncode:
        raise AssertionError(f"ctctl {' '.join(args)}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def remains(topology: Topology) -> list[str]:
    """Everything of a lab that is on this machine."""
    found = [f"netns {name}" for name in map(topology.netns, MEMBERS) if Path("/run/netns", name).exists()]
    found += [f"process {pid} {Path(f'/proc/{pid}/cmdline').read_bytes()!r}" for pid in lab_pids(topology)]
    pins = Path("/sys/fs/bpf/ctctl")
    found += [f"pin {path}" for path in pins.glob(f"{topology.name}-*")] if pins.is_dir() else []
    places = (topology.state_dir, topology.lock_path, lab_cgroup(topology))
    found += [f"file {path}" for path in places if path is not None and path.exists()]
    links = sorted(path.name for path in Path("/sys/class/net").iterdir())
    return found + [f"link {name}" for name in links if name.startswith(("lxc-pod", "to-node"))]


@contextmanager
def iperf_server(lab: Topology, pod: str) -> Iterator[None]:
    process = spawn(lab, pod, [find_program("iperf3"), "-s", "-p", str(IPERF_PORT)])
    try:
        wait_for(lambda: _listens(process.pid, IPERF_PORT), what="iperf3 to listen")
        yield
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def _listens(pid: int, port: int) -> bool:
    """Whether someone listens on the port in the namespace of ``pid`` (proc(5): local address, state 0A)."""
    tables = [path for name in ("tcp", "tcp6") if (path := Path(f"/proc/{pid}/net/{name}")).exists()]
    sockets = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    return any(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in sockets)


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
def lab_in_some_mode() -> Iterator[Topology]:
    """One lab that is up, in the mode that the last test left it in; CTCTL_LAB_TUNNEL=device: with geneve."""
    topology = Topology(unique_name("lab"))
    try:
        up(topology, lambda _line: None, tunnel=os.environ.get("CTCTL_LAB_TUNNEL", BPF))
        yield topology
    finally:
        down(topology)
        assert remains(topology) == []


@pytest.fixture
def lab(lab_in_some_mode: Topology) -> Topology:
    """The same as it was built: shared by all tests that do not take it down."""
    change_to(lab_in_some_mode, NO_MODE)
    return lab_in_some_mode
