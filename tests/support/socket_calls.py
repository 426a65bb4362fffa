"""Calls of real sockets, one line of JSON each: run beside a test, in a cgroup and a network namespace of its own.

    socket_calls.py CGROUP ADDRESS…        the addresses go to the loopback device, which the default route leads to

Nothing of ctctl is imported: it is the program that a datapath is about.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
from ipaddress import IPv6Address, ip_address
from pathlib import Path

SO_COOKIE, SO_NETNS_COOKIE = 57, 71
TIMEOUT_S = 1.0
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
#: enough to come by a cookie with any remainder; other sockets of the CPU take some
TRIES = 10_000


def number(sock: socket.socket, option: int) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, option, 8), sys.byteorder)


class Caller:
    """The sockets by name, and what they answered."""

    def __init__(self) -> None:
        self.sockets: dict[str, socket.socket] = {}
        self.listening: set[str] = set()

    def call(self, said: dict) -> dict:
        """One call; ``result`` as the recordings have it."""
        if said["call"] == "socket":
            self.sockets[said["socket"]] = self.make(said)
            return {"ok": True}
        sock = self.sockets[said["socket"]]
        try:
            result = getattr(self, said["call"])(sock, said)
        except TimeoutError:
            return {"ok": False, "errno": "timeout"}
        except OSError as error:
            result = {"ok": False, "errno": errno.errorcode[error.errno]}
        else:
            result["ok"] = True
        if peer := self.kernel_peer(sock):
            result["kernel_peer"] = peer
        return result

    def make(self, said: dict) -> socket.socket:
        wanted = said.get("cookie_mod_60")
        for _ in range(TRIES):
            made = socket.socket(FAMILIES[said["family"]], KINDS[said["type"]])
            made.settimeout(TIMEOUT_S)
            if wanted is None or number(made, SO_COOKIE) % 60 == wanted:
                return made
            made.close()
        raise RuntimeError(f"no socket with cookie % 60 == {wanted}")

    def listen(self, sock: socket.socket, said: dict) -> dict:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(self.address(said["to"]))
        if sock.type == socket.SOCK_STREAM:
            sock.listen(16)
        self.listening.add(said["socket"])
        return {}

    def bind(self, sock: socket.socket, said: dict) -> dict:
        sock.bind(self.address(said["to"]))
        return {}

    def connect(self, sock: socket.socket, said: dict) -> dict:
        sock.connect(self.address(said["to"]))
        return {}

    def send(self, sock: socket.socket, _said: dict) -> dict:
        sock.send(b"x")
        return {}

    def sendto(self, sock: socket.socket, said: dict) -> dict:
        sock.sendto(b"x", self.address(said["to"]))
        return {}

    def recvfrom(self, sock: socket.socket, _said: dict) -> dict:
        _, sender = sock.recvfrom(100)
        return {"from": self.words(*sender[:2])}

    def getpeername(self, sock: socket.socket, _said: dict) -> dict:
        return {"peer": self.words(*sock.getpeername()[:2])}

    def address(self, text: str) -> tuple[str, int]:
        host, _, port = text.rpartition(":")
        named = re.fullmatch(r"<port of (\w+)>", port)
        return host.strip("[]"), self.sockets[named[1]].getsockname()[1] if named else int(port)

    def words(self, host: str, port: int) -> str:
        owner = next(
            (
                name
                for name, sock in self.sockets.items()
                if port and name not in self.listening and sock.getsockname()[1] == port
            ),
            None,
        )
        shown = f"<port of {owner}>" if owner else str(port)
        return f"[{host}]:{shown}" if ":" in host else f"{host}:{shown}"

    def kernel_peer(self, sock: socket.socket) -> str | None:
        """What /proc/net says the socket is connected to."""
        six = sock.family == socket.AF_INET6
        table = ("tcp" if sock.type == socket.SOCK_STREAM else "udp") + ("6" if six else "")
        inode = str(os.fstat(sock.fileno()).st_ino)
        for line in Path("/proc/thread-self/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] == inode:
                words, _, port = fields[2].partition(":")
                packed = b"".join(
                    int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8)
                )
                host = ip_address(packed)
                mapped = host.ipv4_mapped if isinstance(host, IPv6Address) else None
                return self.words(f"::ffff:{mapped}" if mapped else str(host), int(port, 16))
        return None


def settle(cgroup: Path, addresses: list[str]) -> None:
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))
    # Cookies are handed out a CPU at a time.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    commands = ["link set lo up", "route add 0.0.0.0/0 dev lo", "route add ::/0 dev lo"]
    commands += [f"addr add {address}/{32 if '.' in address else 128} dev lo nodad" for address in addresses]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


def main() -> None:
    settle(Path(sys.argv[1]), sys.argv[2:])
    caller = Caller()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_one:
        print(json.dumps({"netns_cookie": number(any_one, SO_NETNS_COOKIE)}), flush=True)
    for line in sys.stdin:
        said = json.loads(line)
        result = caller.call(said)
        cookie = number(caller.sockets[said["socket"]], SO_COOKIE)
        print(json.dumps({"result": result, "cookie": cookie}), flush=True)


if __name__ == "__main__":
    main()
