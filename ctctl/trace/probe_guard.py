"""Takes a trace's clsact filters off when the trace ends, in whatever way: a process of its own.

A TCX link goes with the process that has it; a filter stays. So a trace that attaches filters starts this first,
and holds the other end of its standard input: at the end of that the filters go, by name.

Its words are NAME FD…, the descriptors of network namespaces. It writes "ready" once it listens.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Final

from ctctl.errors import CtctlError
from ctctl.kernel import tc
from ctctl.kernel.netns import run_in_netns

#: What the name of every probe's filter begins with; a node's begins ``ctctl/``.
PREFIX: Final = "ctctl-probe/"


def process_name() -> str:
    """This process, as no other is called that lives or lived: its namespace of processes, its number and its start."""
    pid = os.getpid()
    return f"{_pid_namespace()}.{pid}.{_started(pid)}"


def is_over(name: str) -> bool:
    """Whether the process that a filter is named after has ended; of another namespace of processes nobody knows."""
    namespace, _, process = name.removeprefix(PREFIX).partition("/")[0].partition(".")
    pid, _, started = process.partition(".")
    return name.startswith(PREFIX) and namespace == _pid_namespace() and pid.isdigit() and _started(int(pid)) != started


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").stat().st_ino)


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks (field 22 of proc(5), stat); empty: there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def remove(name: str, added: set[int]) -> None:
    """Take off this namespace's filters of that name, and the clsact qdiscs ``added`` that nobody else uses.

    Raises KernelError.
    """
    for found in tc.list_filters():
        if found.name == name:
            tc.detach_filter(found)
    for ifindex in added:
        tc.remove_clsact(ifindex)


def sweep() -> int:
    """Take off filters in this namespace of traces that were killed together with their guard; how many."""
    left = [found for found in tc.list_filters() if is_over(found.name)]
    return sum(tc.detach_filter(found) for found in left)


def main() -> int:
    """The guard; 1: something could not be taken off."""
    name, *descriptors = sys.argv[1:]
    # Whatever ends the trace, also for its whole group or terminal, must not end this one first.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        print("ready", flush=True)
    added: dict[str, set[int]] = {one: set() for one in descriptors}
    for line in sys.stdin:
        where, _, ifindex = line.partition(" ")
        added[where].add(int(ifindex))
    failed = []
    for one in descriptors:
        try:
            run_in_netns(f"/proc/self/fd/{one}", remove, name, added[one])
        except CtctlError as error:
            failed.append(str(error))
    with contextlib.suppress(OSError):
        sys.stderr.write("; ".join(failed))
    return 1 if failed else 0
