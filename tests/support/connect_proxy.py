"""An HTTP proxy that lets TLS through: ``CONNECT``, as those at the edge of a private cluster do."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import BinaryIO

from tests.support.wait import PATIENCE_S


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    asked: list[str]


class _Handler(socketserver.StreamRequestHandler):
    rbufsize = 0  # what comes behind the request is not ours

    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        method, target, _version = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(f"{method} {target}")
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as there:
            there.settimeout(None)
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_copy, args=(there.makefile("rb", 0), self.connection))
            back.start()
            _copy(self.rfile, there)
            back.join()


def _copy(source: BinaryIO, to: socket.socket) -> None:
    with contextlib.suppress(OSError):  # one of them is gone: so is the other
        while data := source.read(64 << 10):
            to.sendall(data)
    with contextlib.suppress(OSError):
        to.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def connect_proxy() -> Iterator[tuple[str, list[str]]]:
    """Its URL on this machine, and what it was asked for."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", server.asked
        finally:
            server.shutdown()
            thread.join(PATIENCE_S)
