"""A connect() on a simulated node: a real socket's, in a cgroup that has the node's programs (bpf/sock.bpf.c) on it.

There is no test run for programs of sockets (bpf(2) refuses it), so that a socket takes its place: of a process in a
cgroup and a network namespace that are made for it and go away with it. The tables are the simulation's.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ctctl.errors import UnsupportedError
from ctctl.kernel.cgroup import cgroup2_mount
from ctctl.kernel.child import own_command
from ctctl.kernel.link import CgroupLink
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.model.event import Hook, Verdict
from ctctl.model.tuples import TCP, UDP, end_text
from ctctl.node.slots import SOCKET_HOOKS, object_name
from ctctl.node.tables import rodata
from ctctl.packet.frame import build_frame
from ctctl.simulate.simulator import Simulator, StepResult

if TYPE_CHECKING:
    from ctctl.kernel.program import Program
    from ctctl.packet.spec import PacketSpec

_KINDS: Final = {TCP: "tcp", UDP: "udp"}
_NUMBERS: Final = count(1)
#: The cookie of no network namespace.
_NOBODY: Final = 0
#: What a program of a cgroup returns: that the call goes on, or does not (bpf/sock.bpf.c).
_PROCEED, _REFUSE = "1", "0"


def is_balanced(simulator: Simulator, packet: PacketSpec) -> bool:
    """Whether the node has programs that see the call by which this packet's connection begins."""
    datapath = simulator.nf.datapath
    return datapath.lb.socket is not None and packet.proto in _KINDS and (datapath.ipv6 or packet.dst.version == 4)


def connect(simulator: Simulator, packet: PacketSpec, *, of_host: bool) -> StepResult | None:
    """Have a socket of a pod (``of_host``: of the node itself) connect to where the packet goes.

    None where the programs leave the call as it is. The result's ``frame`` is the packet that goes where the call
    goes then. Raises UnsupportedError where this machine lets no such socket be made, KernelError.
    """
    simulator.load()
    with _cgroup(packet) as cgroup, _caller(packet, cgroup) as caller:
        cookie = int(_line(caller, packet))
        host = cookie if of_host else _NOBODY
        with (
            _program(simulator, packet.dst.version, host) as (program, hook),
            CgroupLink.attach(program, cgroup, hook),
        ):
            events = simulator.heard(lambda: _call(caller, packet))
    if not events:
        return None
    event = events[-1]
    flow, refused = event.tuple_out, event.verdict is Verdict.DROP
    return StepResult(
        hook=Hook.CONNECT,
        verdict=event.verdict,
        reason=event.reason,
        return_code=_REFUSE if refused else _PROCEED,
        frame=build_frame(packet if refused else replace(packet, dst=flow.dst, dst_port=flow.dst_port)),
        mark=0,
        events=events,
    )


def beyond(packet: PacketSpec, why: str) -> UnsupportedError:
    """What is said where there is no such call."""
    name = f"{_KINDS[packet.proto]} {end_text(packet.src, packet.src_port)} > {end_text(packet.dst, packet.dst_port)}"
    return UnsupportedError(
        f"cannot simulate {name}: its node turns connections at connect(), before there is a packet, and {why};"
        " simulate the packet to a backend, or say --with lb.socket=false"
    )


@contextlib.contextmanager
def _cgroup(packet: PacketSpec) -> Iterator[Path]:
    """A cgroup of its own, below this process's."""
    mount = cgroup2_mount()
    if mount is None:
        raise beyond(packet, "no cgroup2 file system is mounted here")
    place = mount / f"ctctl-call-{os.getpid()}-{next(_NUMBERS)}"
    try:
        place.mkdir()
    except OSError as error:
        raise beyond(packet, f"no cgroup can be made ({place}: {error.strerror})") from None
    try:
        yield place
    finally:
        place.rmdir()


@contextlib.contextmanager
def _caller(packet: PacketSpec, cgroup: Path) -> Iterator[subprocess.Popen[str]]:
    """The process that calls, ended with the block."""
    ends = (str(packet.src), str(packet.src_port), str(packet.dst), str(packet.dst_port))
    command = own_command("ctctl.kernel.caller", str(cgroup), _KINDS[packet.proto], *ends)
    pipe = subprocess.PIPE
    caller = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        yield caller
    finally:
        caller.kill()
        caller.communicate()


def _line(caller: subprocess.Popen[str], packet: PacketSpec) -> str:
    assert caller.stdout is not None
    line = caller.stdout.readline()
    if not line:
        why = caller.communicate()[1].strip().rpartition("\n")[2]
        raise beyond(packet, f"no socket can call ({why})")
    return line


def _call(caller: subprocess.Popen[str], packet: PacketSpec) -> None:
    assert caller.stdin is not None
    caller.stdin.write("\n")
    caller.stdin.flush()
    _line(caller, packet)


@contextlib.contextmanager
def _program(simulator: Simulator, version: int, host: int) -> Iterator[tuple[Program, str]]:
    """The node's connect program of one IP version, loaded with the simulation's tables, and its hook."""
    wanted, hook = SOCKET_HOOKS[version][0]
    with BpfObject.open(OBJECTS / f"{object_name('sock', version)}.bpf.o") as bpf:
        for name in bpf.program_names():
            if name != wanted:
                bpf.disable_program(name)
        settings = {**rodata(simulator.nf, version=version), "cfg_sim": 1, "cfg_host_netns_cookie": host}
        for name in bpf.config_names() & settings.keys():
            bpf.set_config(name, settings[name])
        simulator.maps.share(bpf)
        bpf.load()
        simulator.maps.adopt(bpf)
        yield bpf.program(wanted), hook
