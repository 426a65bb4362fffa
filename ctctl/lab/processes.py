"""Processes of the lab: started in a member's namespace, found again without a record, ended.

A process belongs to the lab if it is in one of the lab's namespaces, or was started by the lab
(its environment says so) and is in none of the host's. ``lab down`` needs no file to find them.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ctctl.errors import CtctlError, NotFoundError, UnsupportedError
from ctctl.kernel.netns import netns_id, run_in_netns
from ctctl.lab import namespaces
from ctctl.lab.cgroups import ensure_cgroup
from ctctl.lab.topology import MEMBERS, Topology

#: In the environment of every process the lab starts.
MARK = "CTCTL_LAB_PROCESS"

#: Debian package of each ordinary program the lab may run.
PACKAGES = {"curl": "curl", "ping": "iputils-ping", "iperf3": "iperf3"}

_KILL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program left: exit status and its output, decoded leniently."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


class ProgramError(CtctlError):
    """A program of the lab ended otherwise than it had to, or did not end in time."""


def find_program(name: str) -> str:
    """The path of an ordinary program.

    Raises:
        UnsupportedError: it is not installed; names the Debian package.
    """
    path = shutil.which(name)
    if path is None:
        package = PACKAGES.get(name, name)
        raise UnsupportedError(f"the lab needs the program {name}: apt-get install {package}")
    return path


def require_programs(names: Sequence[str]) -> None:
    """Raise one ``UnsupportedError`` that names every missing package."""
    missing = [PACKAGES.get(name, name) for name in names if shutil.which(name) is None]
    if missing:
        raise UnsupportedError(f"the lab needs programs that are not installed: apt-get install {' '.join(missing)}")


def in_cgroup(topology: Topology, member: str, argv: Sequence[str]) -> list[str]:
    """The command by which a program starts in its member's cgroup, before it has any socket.

    Raises NotFoundError where the member has no namespace: then nothing is made.
    """
    netns_id(topology.netns(member))
    cgroup = ensure_cgroup(topology, member)
    if cgroup is None:
        return list(argv)
    return ["sh", "-c", f'echo $$ > {shlex.quote(str(cgroup / "cgroup.procs"))}; exec "$@"', "sh", *argv]


def spawn(
    topology: Topology, member: str, argv: Sequence[str], *, output: IO[bytes] | int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a program in a member's namespace, in a session of its own; stdout and stderr go to ``output``."""
    environment = {**os.environ, MARK: topology.name}
    command = in_cgroup(topology, member, argv)

    def inside() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )

    # A child is in the namespace of the thread that started it.
    process: subprocess.Popen[bytes] = run_in_netns(topology.netns(member), inside)
    return process


def run(
    topology: Topology, member: str, argv: Sequence[str], *, timeout_s: float = 20.0, check: bool = True
) -> Finished:
    """Run a program in a member's namespace to its end.

    Raises:
        ProgramError: it did not end within ``timeout_s`` (it is killed), or with ``check`` its status was not 0.
        UnsupportedError: the program is not installed.
    """
    command = in_cgroup(topology, member, (find_program(argv[0]), *argv[1:]))

    def inside() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            env={**os.environ, MARK: topology.name},
            check=False,
        )

    try:
        done = run_in_netns(topology.netns(member), inside)
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{' '.join(argv)} in {member}: not done after {timeout_s:g} s") from None
    finished = Finished(
        tuple(argv), done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
    if check and finished.returncode:
        said = finished.stderr.strip() or finished.stdout.strip() or "(no output)"
        raise ProgramError(f"{' '.join(argv)} in {member}: exit status {finished.returncode}: {said.splitlines()[-1]}")
    return finished


def interactive(topology: Topology, member: str, argv: Sequence[str]) -> int:
    """Run a program in a member's namespace on this terminal; its exit status, 128 + N if signal N ended it.

    Raises:
        UnsupportedError: the program is not installed.
        NotFoundError: the namespace is not there.
    """
    program = find_program(argv[0])
    name = topology.netns(member)
    if not namespaces.is_live(name):
        raise NotFoundError(f"the lab {topology.name!r} is not up: there is no namespace {name}")
    command = in_cgroup(topology, member, (program, *argv[1:]))
    environment = {**os.environ, MARK: topology.name}
    process = run_in_netns(name, lambda: subprocess.Popen(command, env=environment))
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            continue  # the terminal sent it to the program too, which decides
        return status if status >= 0 else 128 - status


def lab_pids(topology: Topology) -> list[int]:
    """Every live process of the lab, except this one and its ancestors."""
    return _Membership.of(topology).pids()


def count_in(inode: int) -> int:
    """How many processes are in the network namespace with this inode."""
    return len(_Membership(frozenset({inode}), b"\0", inode).pids())


def kill_all(topology: Topology) -> int:
    """End every process of the lab and wait until it is gone; how many there were.

    Raises:
        ProgramError: one survived SIGKILL for ten seconds.
    """
    membership = _Membership.of(topology)
    ended = 0
    # Again until none is found: a shell that was killed late may have started another program.
    while pids := membership.pids():
        ended += sum(_kill(pid, membership) for pid in pids)
    return ended


def _kill(pid: int, membership: _Membership) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # The number may have been given to another process since it was listed.
        if not membership.has(pid):
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        if not select.select([handle], [], [], _KILL_TIMEOUT_S)[0]:
            raise ProgramError(f"process {pid} of the lab does not end; see /proc/{pid}/stack")
        return True
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class _Membership:
    """What tells that a process belongs to a lab: its namespace, or its environment outside of the host's."""

    inodes: frozenset[int]
    mark: bytes
    host: int

    @classmethod
    def of(cls, topology: Topology) -> _Membership:
        inodes = (namespaces.inode(topology.netns(member)) for member in MEMBERS)
        return cls(
            frozenset(inode for inode in inodes if inode is not None),
            f"{MARK}={topology.name}".encode(),
            Path("/proc/self/ns/net").stat().st_ino,
        )

    def has(self, pid: int) -> bool:
        """False too for a process that is ending: its namespace cannot be read any more."""
        try:
            inode = Path(f"/proc/{pid}/ns/net").stat().st_ino
            if inode in self.inodes:
                return True
            return inode != self.host and self.mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False

    def pids(self) -> list[int]:
        mine = _own_line()
        numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return sorted(pid for pid in numbers if pid not in mine and self.has(pid))


def _own_line() -> set[int]:
    """This process and its ancestors: ``ctctl lab exec node-a -- ctctl lab down`` must be able to finish."""
    line = set()
    pid = os.getpid()
    while pid > 1:
        line.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return line
