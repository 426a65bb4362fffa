"""Serving a registry over HTTP at /metrics.

Answers 503 with the reason where there is no data: an empty page would look like a node without traffic.
Connections are few and short: each has a time to be read and one to be over, and there is a most of them.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ctctl.errors import CtctlError, NotFoundError, UsageError
from ctctl.kernel.stopping import Stop
from ctctl.metrics.library import prometheus
from ctctl.metrics.tables import TablesCollector

DEFAULT_PORT = 9966
_LOOPBACK = "127.0.0.1"
#: Seconds that a client may take between two pieces of its request, and for the whole.
IDLE_S = 10.0
WHOLE_S = 30.0
#: Connections at a time; Prometheus needs one.
MOST_CONNECTIONS = 16
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_TEXT = "text/plain; charset=utf-8"

Respond = Callable[[str, list[tuple[str, str]]], object]


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[V6]:PORT``, ``:PORT`` (every address) or ``PORT`` (this machine only). Raises UsageError."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host = _LOOPBACK
    paired = host.startswith("[") == host.endswith("]")
    host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"  # noqa: S104 - ":PORT" asks for every address
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if not paired or not host.isprintable() or not is_port:
        raise UsageError(f"{text!r} is no address to serve on; write for example {_LOOPBACK}:{DEFAULT_PORT}")
    return host, int(port)


class _Handler(WSGIRequestHandler):
    """One request. A client that is silent for too long is left."""

    timeout = IDLE_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        """Nothing: a line a scrape tells nobody anything."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread a connection, up to ``MOST_CONNECTIONS``, none longer than ``WHOLE_S``."""

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, *args: Any, **named: Any) -> None:
        self._open: dict[int, tuple[socket.socket, float]] = {}
        self._lock = threading.Lock()
        super().__init__(*args, **named)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            room = len(self._open) < MOST_CONNECTIONS
            if room:
                self._open[id(request)] = (request, time.monotonic())
        if room:
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.settimeout(0.1)
            request.sendall(_BUSY)
        self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(id(request), None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Twice a second: leave those that take too long."""
        now = time.monotonic()
        with self._lock:
            late = [request for request, since in self._open.values() if now - since > WHOLE_S]
        for request in late:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that left is no event."""


@contextlib.contextmanager
def serving(registry: Any, address: str) -> Iterator[WSGIServer]:
    """Serve ``registry`` in a thread of its own while the context lasts. Port 0 takes a free one.

    Raises UsageError for a bad address, CtctlError if it cannot be listened on.
    """
    host, port = parse_address(address)
    encoder = prometheus().exposition.choose_encoder

    def answer(environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        return _answer(registry, encoder, environ, respond)

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        kind = type("_Server", (_Server,), {"address_family": family})
        server: WSGIServer = make_server(host, port, answer, kind, handler_class=_Handler)
    except OSError as error:
        raise CtctlError(f"cannot serve metrics on {address}: {error.strerror or error}") from None
    except UnicodeError:  # what no name of a host can be is told by the encoding of names
        raise UsageError(f"cannot serve metrics on {address[:80]!r}: no name of a host") from None
    thread = threading.Thread(target=server.serve_forever, name="ctctl-metrics", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(registry: Any, choose: Any, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
    """The page for one request (WSGI)."""

    def plain(status: str, text: str) -> Iterable[bytes]:
        body = f"{text}\n".encode()
        respond(status, [("Content-Type", _TEXT), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return plain("405 Method Not Allowed", "only GET")
    if environ["PATH_INFO"].rstrip("/") not in ("", "/metrics"):
        return plain("404 Not Found", "see /metrics")
    encode, kind = choose(environ.get("HTTP_ACCEPT"))
    try:
        page: bytes = encode(registry)
    except CtctlError as error:
        return plain("503 Service Unavailable", str(error))
    except Exception as error:  # who scrapes is told; a traceback a scrape tells nobody anything
        return plain("500 Internal Server Error", f"unexpected {type(error).__name__}: {error}; please report this")
    if not any(line and not line.startswith(b"#") for line in page.splitlines()):
        return plain("503 Service Unavailable", "no data yet")
    respond("200 OK", [("Content-Type", kind), ("Content-Length", str(len(page)))])
    return [page] if environ["REQUEST_METHOD"] == "GET" else []


def scrape(path: Path) -> str:
    """One scrape of the tables at ``path``, in Prometheus' text form. Raises CtctlError where there is no data."""
    text: str = prometheus().generate_latest(_registry(path)).decode()
    return text


def serve_tables(path: Path, address: str, stop: Stop, *, on_listening: Callable[[str], None]) -> None:
    """Serve what the tables at ``path`` hold, reading them when scraped, until ``stop`` is set.

    Raises CtctlError at once where there is no data: who starts it should know why.
    """
    with serving(_registry(path), address) as server:
        on_listening(f"{parse_address(address)[0]}:{server.server_port}")
        stop.wait()


def _registry(path: Path) -> Any:
    if not path.is_dir():
        raise NotFoundError(f"no directory of pinned tables at {path}")
    collector = TablesCollector(path)
    collector.counts()
    registry = prometheus().CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry
