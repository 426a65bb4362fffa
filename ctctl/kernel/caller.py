"""One connect() of a real socket, for a simulation of what a node's socket programs make of it.

    CGROUP tcp|udp SOURCE PORT DESTINATION PORT

Run as a process of its own (``kernel.child``), it is in that cgroup, and in a network namespace of its own where no
device is up: nothing leaves. It prints the cookie of its namespace, waits for a line, calls, and says so.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from ipaddress import ip_address
from pathlib import Path

from ctctl.errors import CtctlError
from ctctl.kernel.netns import netns_cookie, run_in_new_netns

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
#: (level, option) by IP version: the address that it binds to is on no device (ip(7); IPV6_FREEBIND of linux/in6.h)
_FREEBIND = {4: (socket.IPPROTO_IP, 15), 6: (socket.IPPROTO_IPV6, 78)}


def main() -> int:
    """The process. 1, with what is in the way on stderr, where there is no such socket."""
    cgroup, kind, source, source_port, destination, port = sys.argv[1:]
    try:
        (Path(cgroup) / "cgroup.procs").write_text("0")
        run_in_new_netns(_call, kind, (source, int(source_port)), (destination, int(port)))
    except (CtctlError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _call(kind: str, source: tuple[str, int], destination: tuple[str, int]) -> None:
    version = ip_address(source[0]).version
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, _KINDS[kind]) as made:
        made.setblocking(False)
        made.setsockopt(*_FREEBIND[version], 1)
        made.bind(source)
        print(netns_cookie(), flush=True)
        if not sys.stdin.readline():
            return
        # There is no way to anywhere: what it was for has happened by then.
        with contextlib.suppress(OSError):
            made.connect(destination)
        print("called", flush=True)
