"""Metrics over HTTP: a page only where there is data, and few, short connections."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from wsgiref.simple_server import WSGIServer

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from ctctl.decode.ct import TUPLE_IN
from ctctl.decode.nat import encode_nat_key
from ctctl.errors import UsageError
from ctctl.metrics import serve
from ctctl.metrics.serve import serving
from ctctl.metrics.tables import REMOTES, TablesCollector
from ctctl.model.tuples import FlowTuple
from tests.support.children import CTCTL
from tests.support.gctables import TableDir, nat4, table_dir
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = pytest.mark.kernel


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TableDir]:
    with table_dir(tmp_path) as made:
        made.create("cilium_ct4_global")
        made.fill("cilium_ct4_global", 40, np.random.default_rng(1))
        yield made


def test_no_data_is_said_and_not_served_as_a_page(node: TableDir, tmp_path: Path) -> None:
    empty = node.path.parent / "nothing-here"
    empty.mkdir()
    done = subprocess.run(
        [*CTCTL, "metrics", "serve", "--once", "--from", str(empty)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "no data: no table is pinned there" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def request(server: WSGIServer, text: str) -> bytes:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=PATIENCE_S) as connection:
        connection.sendall(text.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_pages(node: TableDir) -> None:
    collector = TablesCollector(node.path, fresh_s=0)
    registry = CollectorRegistry()
    registry.register(collector)
    with serving(registry, "127.0.0.1:0") as server:
        assert request(server, "GET /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200")
        page = request(server, "GET /metrics HTTP/1.0\r\n\r\n")
        head = request(server, "HEAD /metrics HTTP/1.0\r\n\r\n")
        assert head.endswith(b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % len(page.partition(b"\r\n\r\n")[2]) in head
        assert request(server, "GET /elsewhere HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 404")
        assert request(server, "POST /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 405")
        for name in list(node.maps):
            (node.path / name).unlink()
        gone = request(server, "GET /metrics HTTP/1.0\r\n\r\n")
        assert gone.startswith(b"HTTP/1.0 503")
        assert b"no data" in gone
    with serving(CollectorRegistry(), "127.0.0.1:0") as server:
        assert request(server, "GET /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 503")


def test_ports_of_snat_by_egress_and_remote(node: TableDir) -> None:
    """The fullest towards one remote end, whatever else the table holds; and a share of the range."""
    node.create("cilium_snat_v4_external")
    table = node.maps["cilium_snat_v4_external"]
    egress, remote, other = "192.0.2.1", ip_address("198.51.100.7"), ip_address("198.51.100.8")
    for number in range(100):
        flow = FlowTuple(6, ip_address("10.0.0.9"), 1000 + number, remote, 443)
        table.update(encode_nat_key(flow, 0), nat4(egress, 40000 + number))
        table.update(
            encode_nat_key(FlowTuple(6, remote, 443, ip_address(egress), 40000 + number), TUPLE_IN),
            nat4("10.0.0.9", 1000 + number),
        )
    for number in range(2 * REMOTES):
        flow = FlowTuple(17, ip_address("10.0.0.9"), 53, other, 1 + number)
        table.update(encode_nat_key(flow, 0), nat4(egress, 50000))
    registry = CollectorRegistry()
    registry.register(TablesCollector(node.path))
    labels = {"egress": egress, "remote": "198.51.100.7", "remote_port": "443", "protocol": "TCP"}
    assert registry.get_sample_value("ctctl_snat_ports", labels) == 100
    assert registry.get_sample_value("ctctl_snat_port_pressure", labels) == pytest.approx(100 / (65536 - 32768))
    (ports,) = [family for family in registry.collect() if family.name == "ctctl_snat_ports"]
    assert len(ports.samples) == REMOTES


def test_connections_are_few_and_short(node: TableDir, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    registry.register(TablesCollector(node.path))
    with serving(registry, "127.0.0.1:0") as server, contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.server_port), timeout=PATIENCE_S))
            for _ in range(serve.MOST_CONNECTIONS)
        ]
        wait_for(lambda: len(server._open) == serve.MOST_CONNECTIONS)
        assert b" 503 " in request(server, "GET /metrics HTTP/1.0\r\n\r\n").splitlines()[0]
        # Nobody says anything, and all are left when their time is over.
        monkeypatch.setattr(serve, "WHOLE_S", 0.0)
        assert [connection.recv(1) for connection in silent] == [b""] * len(silent)
        wait_for(lambda: not server._open)
        monkeypatch.setattr(serve, "WHOLE_S", 600.0)
        assert b" 200 " in request(server, "GET /metrics HTTP/1.0\r\n\r\n").splitlines()[0]


class Broken:
    """A collector with a fault."""

    def collect(self) -> Iterator[object]:
        raise ValueError("odd")


def test_a_fault_is_an_answer_and_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Broken())  # type: ignore[arg-type]
    with serving(registry, "127.0.0.1:0") as server:
        answer = request(server, "GET /metrics HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 500")
    assert b"unexpected ValueError: odd" in answer
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("told", "where"), [("0", "127.0.0.1"), ("127.0.0.2:0", "127.0.0.2"), ("[::1]:0", "::1"), (":0", "0.0.0.0")]
)
def test_it_listens_where_it_was_told_to_and_nowhere_else(told: str, where: str) -> None:
    with serving(CollectorRegistry(), told) as server:
        assert server.socket.getsockname()[0] == where
        for other in ("127.0.0.1", "127.0.0.2"):
            with socket.socket() as client:
                client.settimeout(PATIENCE_S)
                reached = client.connect_ex((other, server.server_port)) == 0
            assert reached == (where in (other, "0.0.0.0"))


@pytest.mark.parametrize("address", ["a..b:1", "[::1:5", "a" * 300 + ":1", "127.0.0.1\0:1", "127.0.0.1:70000"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError), serving(CollectorRegistry(), address):
        pass
