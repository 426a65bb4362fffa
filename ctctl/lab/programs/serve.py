"""What every pod of the lab runs: HTTP on TCP and an answer to every datagram, both with the pod's name.

    serve.py NAME PORT

``GET /`` answers ``NAME``; ``GET /bytes/N`` answers N bytes. Connections stay open until the client
closes or asks for ``Connection: close``. A datagram is answered with ``NAME`` and what it held.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import socket
import sys
import typing

BACKLOG = 4096
#: Every address of the pod, of both families: the namespace is its own.
ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104
CHUNK = 1 << 16
MAX_BYTES = 1 << 30


class Answer(asyncio.DatagramProtocol):
    """Answers datagrams."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked by class: asyncio's own datagram transport is none by inheritance in 3.11.
        self.transport = typing.cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | typing.Any, int]) -> None:
        assert self.transport is not None
        self.transport.sendto(self.name.encode() + b" " + data, addr)


async def _serve(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        while True:
            request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            close = "HTTP/1.0" in request.split("\r\n", 1)[0] or "connection: close" in request.lower()
            wanted = re.match(r"GET /bytes/(\d{1,10}) ", request)
            length = min(int(wanted[1]), MAX_BYTES) if wanted else len(name) + 1
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n"
            head += "Connection: close\r\n\r\n" if close else "\r\n"
            if not wanted:
                # In one piece: a client that reads once has it all.
                writer.write(f"{head}{name}\n".encode())
            else:
                writer.write(head.encode())
                for start in range(0, length, CHUNK):
                    writer.write(b"x" * min(CHUNK, length - start))
                    await writer.drain()
            await writer.drain()
            if close:
                break
    with contextlib.suppress(ConnectionError):
        writer.close()
        await writer.wait_closed()


def bound(family: socket.AddressFamily, kind: socket.SocketKind, port: int) -> socket.socket:
    """A socket of one family only: a program of IPv4 is to be seen with IPv4 sockets."""
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((ANY[family], port))
    sock.setblocking(False)
    return sock


async def main(name: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    servers = []
    for family in ANY:
        # A kernel may have no IPv6.
        with contextlib.suppress(OSError):
            datagrams = bound(family, socket.SOCK_DGRAM, port)
            await loop.create_datagram_endpoint(lambda: Answer(name), sock=datagrams)
            stream = bound(family, socket.SOCK_STREAM, port)
            servers.append(await asyncio.start_server(lambda r, w: _serve(name, r, w), sock=stream, backlog=BACKLOG))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def allow_many_connections() -> None:
    """A descriptor a connection: up to the hard limit, since a thousand clients may come at once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    allow_many_connections()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], int(sys.argv[2])))
