"""Serving a registry over HTTP at /metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

from ctctl.errors import CtctlError, NotFoundError, UsageError
from ctctl.kernel.stopping import Stop
from ctctl.metrics.library import prometheus
from ctctl.metrics.tables import TablesCollector

DEFAULT_PORT = 9966
_LOOPBACK = "127.0.0.1"


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[V6]:PORT``, ``:PORT`` (every address) or ``PORT`` (this machine only). Raises UsageError."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host = _LOOPBACK
    host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"  # noqa: S104 - ":PORT" asks for every address
    if not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise UsageError(f"{text!r} is no address to serve on; write for example {_LOOPBACK}:{DEFAULT_PORT}")
    return host, int(port)


@contextlib.contextmanager
def serving(registry: Any, address: str) -> Iterator[WSGIServer]:
    """Serve ``registry`` in a thread of its own while the context lasts. Port 0 takes a free one.

    Raises UsageError for a bad address, CtctlError if it cannot be listened on.
    """
    host, port = parse_address(address)
    try:
        server, thread = prometheus().start_http_server(port, host, registry=registry)
    except OSError as error:
        raise CtctlError(f"cannot serve metrics on {address}: {error.strerror or error}") from None
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def scrape(path: Path) -> str:
    """One scrape of the tables at ``path``, in Prometheus' text form. Raises NotFoundError."""
    text: str = prometheus().generate_latest(_registry(path)).decode()
    return text


def serve_tables(path: Path, address: str, stop: Stop, *, on_listening: Callable[[str], None]) -> None:
    """Serve what the tables at ``path`` hold, reading them when scraped, until ``stop`` is set."""
    with serving(_registry(path), address) as server:
        on_listening(f"{parse_address(address)[0]}:{server.server_port}")
        stop.wait()


def _registry(path: Path) -> Any:
    if not path.is_dir():
        raise NotFoundError(f"no directory of pinned tables at {path}")
    registry = prometheus().CollectorRegistry()
    registry.register(TablesCollector(path))
    return registry
