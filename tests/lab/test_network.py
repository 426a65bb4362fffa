"""Namespaces, processes and the lock, without a datapath."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctctl.errors import BusyError, KernelError, NotFoundError, UnsupportedError
from ctctl.kernel.netns import run_in_netns
from ctctl.lab import namespaces, network, processes
from ctctl.lab.cgroups import remove_cgroups
from ctctl.lab.lock import locked
from ctctl.lab.topology import MEMBERS, Topology
from tests.lab.conftest import remains
from tests.support.children import line_of, started
from tests.support.names import unique_name
from tests.support.wait import PATIENCE_S, PATIENCE_WORD, wait_for

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def wired() -> Iterator[Topology]:
    """The network of a lab, no datapath."""
    topology = Topology(unique_name("n"))
    try:
        network.build(topology)
        yield topology
    finally:
        processes.kill_all(topology)
        for member in MEMBERS:
            namespaces.remove(topology.netns(member))
        remove_cgroups(topology)
        assert remains(topology) == []


@pytest.mark.parametrize(
    ("member", "address"),
    [
        ("pod1", "10.64.0.64"),
        ("pod1", "10.64.1.36"),
        ("pod4", "10.64.0.36"),
        ("client", "10.64.1.64"),
        ("pod1", "172.191.0.1"),
    ],
)
def test_everybody_reaches_everybody(wired: Topology, member: str, address: str) -> None:
    done = processes.run(wired, member, ["ping", "-n", "-c1", "-W", PATIENCE_WORD, address])
    assert "1 received" in done.stdout


@pytest.mark.parametrize("member", ["pod2", "node-a", "router"])
def test_a_namespace_that_was_removed_is_made_anew(wired: Topology, member: str) -> None:
    """With it go the far ends of its devices: at once, a moment later, or not while a program is in it."""
    within = processes.spawn(wired, member, ["sleep", "600"])
    try:
        subprocess.run(["ip", "netns", "del", wired.netns(member)], check=True)
        network.build(wired)
        for source, address in (("pod1", "10.64.0.64"), ("pod3", "10.64.0.64"), ("client", "10.64.0.36")):
            done = processes.run(wired, source, ["ping", "-n", "-c1", "-W", PATIENCE_WORD, address])
            assert "1 received" in done.stdout
    finally:
        within.kill()
        within.wait(PATIENCE_S)


def test_full_packets_cross_the_node_network_with_room_for_geneve(wired: Topology) -> None:
    """1500 bytes between pods, 1562 on the node network, nothing fragmented."""
    processes.run(wired, "pod1", ["ping", "-n", "-c1", "-W", PATIENCE_WORD, "-Mdo", "-s1472", "10.64.1.36"])
    processes.run(wired, "node-a", ["ping", "-n", "-c1", "-W", PATIENCE_WORD, "-Mdo", "-s1534", "10.1.0.2"])


def test_building_again_repairs_what_is_missing_and_leaves_the_rest(wired: Topology) -> None:
    before = {member: namespaces.inode(wired.netns(member)) for member in MEMBERS}
    namespaces.with_route(wired.netns("node-a"), lambda ip: ip.link("del", index=ip.link_lookup(ifname="lxc-pod1")[0]))
    namespaces.with_route(wired.netns("router"), lambda ip: ip.route("del", dst="172.190.0.0/24"))
    network.build(wired)
    assert {member: namespaces.inode(wired.netns(member)) for member in MEMBERS} == before
    processes.run(wired, "client", ["ping", "-n", "-c1", "-W", PATIENCE_WORD, "10.64.0.36"])
    routes = namespaces.with_route(wired.netns("router"), lambda ip: [r.get("dst") for r in ip.get_routes(family=2)])
    assert "172.190.0.0" in routes


def test_nothing_is_in_the_hosts_namespace(wired: Topology) -> None:
    names = [path.name for path in Path("/sys/class/net").iterdir()]
    assert not [name for name in names if name.startswith(("lxc-pod", "to-node"))]


def test_an_empty_mount_point_of_a_crash_is_replaced() -> None:
    name = f"ctctl-{unique_name('m')}-pod1"
    namespaces.namespace_path(name).touch()
    try:
        assert not namespaces.is_live(name)
        namespaces.ensure(name)
        assert namespaces.is_live(name)
    finally:
        assert namespaces.remove(name)
    assert not namespaces.remove(name)


def test_a_helper_that_does_not_answer_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyroute2's own error has no number then, and "Success" is no reason."""

    def create(_name: str) -> None:
        raise TimeoutError("no response from the child")

    monkeypatch.setattr("pyroute2.netns.create", create)
    with pytest.raises(KernelError, match=r"make network namespace \S+: Connection timed out \(ETIMEDOUT\)"):
        namespaces.ensure(unique_name("silent"))


def test_processes_are_found_by_namespace_alone(wired: Topology) -> None:
    """As after a crash: started by nobody who remembers it."""
    environment = {key: value for key, value in os.environ.items() if key != processes.MARK}
    stray = run_in_netns(
        wired.netns("pod2"), lambda: subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
    )
    assert stray.pid in processes.lab_pids(wired)
    assert processes.kill_all(wired) == 1
    assert stray.wait(PATIENCE_S) == -signal.SIGKILL


def test_processes_are_found_when_the_namespace_has_no_name_any_more() -> None:
    topology = Topology(unique_name("p"))
    namespaces.ensure(topology.netns("pod1"))
    process = processes.spawn(topology, "pod1", ["sleep", "600"])
    namespaces.remove(topology.netns("pod1"))
    assert processes.lab_pids(topology) == [process.pid]
    processes.kill_all(topology)
    assert process.wait(PATIENCE_S) == -signal.SIGKILL
    remove_cgroups(topology)
    assert remains(topology) == []


def test_processes_outside_are_never_touched(wired: Topology) -> None:
    """Also when they inherited the lab's mark, from a shell that lab exec started."""
    environment = {**os.environ, processes.MARK: wired.name}
    with started("sleep", "600", env=environment) as outside:
        assert processes.lab_pids(wired) == []
        assert processes.kill_all(wired) == 0
        assert outside.poll() is None


def test_a_program_that_is_not_installed_names_its_package(wired: Topology, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UnsupportedError, match="apt-get install iputils-ping"):
        processes.run(wired, "pod1", ["ping", "10.64.1.36"])
    with pytest.raises(UnsupportedError, match="apt-get install curl iperf3"):
        processes.require_programs(["curl", "iperf3"])


def test_a_program_that_hangs_is_ended(wired: Topology) -> None:
    with pytest.raises(processes.ProgramError, match="not done after"):
        processes.run(wired, "pod1", ["sleep", "600"], timeout_s=0.2)
    assert processes.lab_pids(wired) == []


def test_a_program_that_fails_says_so(wired: Topology) -> None:
    with pytest.raises(processes.ProgramError, match=r"curl http://10\.64\.1\.36:1/ in pod1: exit status 7"):
        processes.run(wired, "pod1", ["curl", "http://10.64.1.36:1/"])


def test_exec_needs_a_lab() -> None:
    topology = Topology(unique_name("e"))
    with pytest.raises(NotFoundError, match="is not up"):
        processes.interactive(topology, "pod1", ["true"])
    with pytest.raises(NotFoundError, match="no network namespace"):
        processes.run(topology, "pod1", ["true"])
    assert remains(topology) == []


def test_one_lock_holder_at_a_time_and_no_file_after_the_last() -> None:
    topology = Topology(unique_name("k"))
    order: list[str] = []
    with locked(topology):
        with pytest.raises(BusyError, match=topology.name), locked(topology, wait_s=0.1):
            pass
        waiting = threading.Thread(target=lambda: _take(topology, order))
        waiting.start()
        order.append("first")
    waiting.join(PATIENCE_S)
    assert order == ["first", "second"]
    assert not topology.lock_path.exists()


def _take(topology: Topology, order: list[str]) -> None:
    with locked(topology, wait_s=PATIENCE_S, remove=True):
        order.append("second")


def test_the_lock_dies_with_its_holder() -> None:
    topology = Topology(unique_name("d"))
    code = (
        "import signal, sys\nfrom ctctl.lab.lock import locked\nfrom ctctl.lab.topology import Topology\n"
        "with locked(Topology(sys.argv[1])):\n print('held', flush=True)\n signal.pause()\n"
    )
    with started(sys.executable, "-c", code, topology.name) as holder:
        assert line_of(holder, holder.stdout) == "held\n"
    with locked(topology, wait_s=0, remove=True):
        pass
    assert not topology.lock_path.exists()


def test_servers_answer_http_and_datagrams(wired: Topology) -> None:
    server = Path(processes.__file__).parent / "programs" / "serve.py"
    process = processes.spawn(wired, "pod3", [sys.executable, "-I", "-S", str(server), "pod3", "8000"])
    try:
        url = "http://10.64.1.36:8000"
        ask = ["curl", "-sS", "--max-time", PATIENCE_WORD, f"{url}/"]
        answer = wait_for(lambda: processes.run(wired, "pod1", ask, check=False).stdout, what="the server")
        assert answer == "pod3\n"
        counted = processes.run(wired, "pod1", [*ask[:-1], "-o/dev/null", "-w%{size_download}", f"{url}/bytes/3000000"])
        assert counted.stdout == "3000000"
    finally:
        processes.kill_all(wired)
        process.wait(PATIENCE_S)
