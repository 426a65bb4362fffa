"""The program that every pod runs (``programs/serve.py``): started, and asked whether it answers."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import IO

from ctctl.kernel.netns import run_in_netns
from ctctl.lab import processes
from ctctl.lab.topology import SERVE_PORT, Topology
from ctctl.lab.wait import wait_until

_SERVER = Path(__file__).parent / "programs" / "serve.py"
_READY_S = 60.0


def start(topology: Topology, member: str, *, output: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start it in a member's namespace; it answers with the member's name."""
    argv = (sys.executable, "-I", "-S", str(_SERVER), member, str(SERVE_PORT))
    return processes.spawn(topology, member, argv, output=output)


def is_ready(topology: Topology, member: str, within_s: float = _READY_S) -> bool:
    """Whether it answers, waited for."""
    return wait_until(partial(answers, topology, member), within_s)


def answers(topology: Topology, member: str) -> bool:
    """Whether it accepts now, asked from inside the namespace, past every hook."""

    def connect() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", SERVE_PORT), timeout=1):
            return True
        return False

    return run_in_netns(topology.netns(member), connect)
