"""Much traffic: iperf3 through services, a thousand connections at once, datagrams in fragments."""

from __future__ import annotations

import json
import resource
import selectors
import socket
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ctctl.kernel.netns import run_in_netns
from ctctl.lab import datapaths, processes
from ctctl.lab.nodefile import NO_MODE, backend_id
from ctctl.lab.session import Session
from ctctl.lab.show import StoryWriter
from ctctl.lab.topology import CLIENT_IP, IPERF_PORT, SERVE_PORT, Topology
from ctctl.model.entry import CtEntry, CtFlags, CtState
from ctctl.model.tuples import Direction
from tests.lab.conftest import iperf_server
from tests.support.lab_modes import change_to
from tests.support.wait import PATIENCE_S, PATIENCE_WORD, wait_for

pytestmark = pytest.mark.lab

PARALLEL = 1000
CLOSED = CtFlags.RxClosing | CtFlags.TxClosing | CtFlags.SeenNonSyn
WORLD = 2


class _NoEvents:
    def events(self) -> list[Any]:
        return []


@pytest.fixture
def session(lab: Topology) -> Session:
    pins = {node.name: datapaths.pin_dir(lab, node.name) for node in lab.nodes}
    made = Session(lab, pins, StoryWriter(sys.stdout), _NoEvents(), lambda _states, _without: None)
    made.empty_tables()
    return made


def _buffer() -> str:
    """The size of a socket's buffers that this machine allows, a megabyte at the most: iperf3 ends if it gets less."""
    allowed = [int(Path(f"/proc/sys/net/core/{way}mem_max").read_text()) for way in "rw"]
    return str(min(1 << 20, *allowed))


def _fragments(lab: Topology) -> dict[str, int]:
    """How many packets each node has taken apart or put together, of both families (RFC 4293 counters)."""
    counted = {}
    for node in lab.nodes:
        four, six = run_in_netns(
            lab.netns(node.name),
            lambda: [Path("/proc/thread-self/net", name).read_text().splitlines() for name in ("snmp", "snmp6")],
        )
        names, values = (line.split() for line in four if line.startswith("Ip:"))
        table = {f"Ip{name}": value for name, value in zip(names, values, strict=True)}
        table |= dict(line.split() for line in six)
        counted[node.name] = sum(int(table[f"{ip}{name}"]) for ip in ("Ip", "Ip6") for name in _TAKEN_APART)
    return counted


_TAKEN_APART = ("FragCreates", "ReasmReqds")
_KINDS = ("tcp", "tcp-reverse", "udp")


def _iperf3(lab: Topology, member: str, address: str, kind: str, room: int) -> None:
    """A real load with packets of ``room`` bytes behind their header: nothing is fragmented, and datagrams are not
    lost in numbers.
    """
    datagrams = ["-u", "-b", "10M", "-l", str(room - 8), "-w", _buffer()]
    extra = {"tcp": [], "tcp-reverse": ["-R"], "udp": datagrams}[kind]
    before = _fragments(lab)
    with iperf_server(lab, "pod3"):
        argv = ["iperf3", "-c", address, "-p", str(IPERF_PORT), "-t", "1", "-J", *extra]
        report = json.loads(processes.run(lab, member, argv, timeout_s=PATIENCE_S).stdout)
    assert "error" not in report
    if kind == "udp":
        assert report["end"]["sum"]["packets"] > 500
        assert report["end"]["sum"]["lost_percent"] < 10
    else:
        # The rest is TCP's header with timestamps.
        assert report["start"]["tcp_mss_default"] == room - 32
        assert report["end"]["sum_received"]["bits_per_second"] > 50e6
    assert _fragments(lab) == before


@pytest.mark.parametrize(
    ("member", "address"), [("pod1", "10.68.0.90"), ("client", "172.190.0.21")], ids=["clusterip", "loadbalancer-dsr"]
)
@pytest.mark.parametrize("kind", _KINDS)
def test_iperf3(lab: Topology, member: str, address: str, kind: str) -> None:
    _iperf3(lab, member, address, kind, 1500 - 20)


def test_iperf3_v6(lab: Topology) -> None:
    with ExitStack() as stack:
        stack.callback(change_to, lab, NO_MODE)  # tables of IPv6
        change_to(lab, {"ipv6": True})
        for member, address in (("pod1", "fd00:68::90"), ("client", "fd00:190::21")):
            for kind in _KINDS:
                _iperf3(lab, member, address, kind, 1500 - 40)


def _connect_all(lab: Topology, member: str, address: tuple[str, int], stack: ExitStack) -> list[socket.socket]:
    """A thousand connections, all open at once."""

    def start() -> list[socket.socket]:
        made = []
        for _ in range(PARALLEL):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(address)
            made.append(sock)
        return made

    sockets = run_in_netns(lab.netns(member), start)
    _each(sockets, selectors.EVENT_WRITE, lambda sock: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    return sockets


def _each(
    sockets: list[socket.socket], event: int, act: Any, timeout_s: float = PATIENCE_S
) -> dict[socket.socket, Any]:
    """``act`` on each socket once it is ready; all must be within the time."""
    results: dict[socket.socket, Any] = {}
    deadline = time.monotonic() + PATIENCE_S
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, event)
        while len(results) < len(sockets):
            assert time.monotonic() < deadline, f"{len(sockets) - len(results)} of {len(sockets)} are not done"
            for key, _ in selector.select(1):
                results[key.fileobj] = act(key.fileobj)
                selector.unregister(key.fileobj)
    return results


def _by_source(entries: list[CtEntry], direction: Direction) -> dict[int, CtEntry]:
    """TCP entries of one direction by the client's port, of which each may be there once."""
    found: dict[int, CtEntry] = {}
    for entry in entries:
        if entry.tuple.proto == 6 and entry.direction is direction and not entry.related:
            assert entry.tuple.src_port not in found
            found[entry.tuple.src_port] = entry
    return found


@pytest.mark.parametrize(("member", "service_name"), [("pod1", "web"), ("client", "lb-web")])
def test_a_thousand_connections_at_once(session: Session, lab: Topology, member: str, service_name: str) -> None:
    """All succeed, and every entry they leave at every node is the right one."""
    service = lab.service(service_name)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        sockets = _connect_all(lab, member, (service.ip, service.port), stack)
        opened = _by_source(session.entries("node-a"), Direction.SVC)
        assert len(opened) == PARALLEL
        assert {entry.state for entry in opened.values()} <= {CtState.NEW, CtState.ESTABLISHED}
        for sock in sockets:
            sock.send(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
        answers = _each(sockets, selectors.EVENT_READ, lambda sock: sock.recv(4096))
        answered = {
            sock.getsockname()[1]: body.decode().rpartition("\r\n")[2].strip() for sock, body in answers.items()
        }
    assert len(answered) == PARALLEL
    counts = Counter(answered.values())
    assert set(counts) == {backend.pod for backend in service.backends}
    # A third each, with room for the chance of a thousand hashes: six standard deviations.
    assert min(counts.values()) > PARALLEL / 3 - 90
    wait_for(lambda: _all_closed(session), what="every connection to be closed in every table")
    _check_entries(session, lab, member, service_name, answered)


def _all_closed(session: Session) -> bool:
    tcp = [entry for node in ("node-a", "node-b") for entry in session.entries(node) if entry.tuple.proto == 6]
    return all(entry.state is CtState.CLOSED for entry in tcp)


def _check_entries(session: Session, lab: Topology, member: str, service_name: str, answered: dict[int, str]) -> None:
    service, outside = lab.service(service_name), member == "client"
    source = CLIENT_IP if outside else lab.pod(member).ip
    identity = WORLD if outside else lab.pod(member).identity
    tables = {node.name: session.entries(node.name) for node in lab.nodes}
    svc = _by_source(tables["node-a"], Direction.SVC)
    out = {node: _by_source(entries, Direction.OUT) for node, entries in tables.items()}
    into = {node: _by_source(entries, Direction.IN) for node, entries in tables.items()}
    assert not _by_source(tables["node-b"], Direction.SVC)
    assert svc.keys() == answered.keys()
    for port, name in answered.items():
        pod = lab.pod(name)
        local = pod.node == "node-a"
        entry = svc[port]
        assert (str(entry.tuple.src), str(entry.tuple.dst), entry.tuple.dst_port) == (source, service.ip, service.port)
        assert (entry.backend_id, entry.rev_nat, entry.src_sec_id) == (backend_id(service, name), service.id, 0)
        # From outside, the node of the backend keeps the OUT entry: a DSR one unless it is the intermediate node.
        out_node = pod.node if outside else "node-a"
        extra = (CtFlags.NodePort if local else CtFlags.DSRInternal) if outside else CtFlags(0)
        rev_nat = service.id if local or not outside else 0
        flow = (source, port, pod.ip, SERVE_PORT)
        _check(out[out_node].pop(port), flow, CLOSED | extra, identity, rev_nat)
        tunnelled = CtFlags.FromTunnel if outside and not local else CtFlags(0)
        _check(into[pod.node].pop(port), flow, CLOSED | tunnelled, identity, 0)
        # The last ACK may come in a later second than the FIN that was reported; a report is at most 5 s old.
        assert 10 <= entry.lifetime - entry.last_tx_report <= 15
    assert not any(left for tables_left in (out, into) for left in tables_left.values())
    if outside:
        snat = {row.flow: row.to for row in session.snat("node-b")}
        vip = f"{service.ip}:{service.port}"
        remote = {port: lab.pod(name) for port, name in answered.items() if lab.pod(name).node == "node-b"}
        assert snat == {f"TCP {pod.ip}:{SERVE_PORT} -> {source}:{port}": vip for port, pod in remote.items()}


def _check(entry: CtEntry, flow: tuple[str, int, str, int], flags: CtFlags, identity: int, rev_nat: int) -> None:
    found = entry.tuple
    assert (str(found.src), found.src_port, str(found.dst), found.dst_port) == flow
    assert (entry.flags, entry.src_sec_id, entry.rev_nat) == (flags, identity, rev_nat), str(found)


@pytest.mark.parametrize(
    ("member", "address"),
    [
        ("pod1", ("10.64.1.36", SERVE_PORT)),
        ("pod1", ("10.64.0.64", SERVE_PORT)),
        ("pod1", ("10.68.0.53", 53)),
        ("client", ("172.190.0.20", 53)),
    ],
    ids=["pod", "same-node", "clusterip", "loadbalancer-dsr"],
)
def test_datagrams_in_fragments(session: Session, member: str, address: tuple[str, int]) -> None:
    """Later fragments have no ports: they must follow the first, there and back."""
    payload = bytes(range(256)) * 16
    with session.socket(member, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(address)
        for _ in range(3):
            sock.send(payload)
            assert sock.recv(8192).endswith(b" " + payload)
        port = sock.getsockname()[1]
    every = [entry for node in ("node-a", "node-b") for entry in session.entries(node)]
    found = [entry for entry in every if entry.tuple.src_port == port and entry.direction is Direction.OUT]
    assert len(found) == 1
    assert not [
        entry for entry in every if entry.tuple.proto == 17 and 0 in (entry.tuple.src_port, entry.tuple.dst_port)
    ]


@pytest.mark.parametrize(
    ("member", "address"),
    [("pod1", ("10.64.1.36", SERVE_PORT)), ("pod1", ("10.68.0.53", 53)), ("client", ("172.190.0.20", 53))],
    ids=["pod", "clusterip", "loadbalancer-dsr"],
)
def test_datagrams_that_the_device_is_to_segment(session: Session, member: str, address: tuple[str, int]) -> None:
    """UDP_SEGMENT, as QUIC sends: one buffer is ten datagrams, and stays one on its way through the hooks."""
    udp_segment, size, count = 103, 1400, 10
    pieces = [bytes([65 + number]) * size for number in range(count)]
    with session.socket(member, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_UDP, udp_segment, size)
        sock.connect(address)
        sock.send(b"".join(pieces))
        answers = [sock.recv(2048) for _ in range(count)]
    assert sorted(answer.rpartition(b" ")[2] for answer in answers) == pieces


def test_a_long_transfer_through_dsr_is_whole(lab: Topology) -> None:
    """Twenty megabytes from the backend, past the intermediate node, byte for byte."""
    size = 20_000_000
    argv = ["curl", "-sS", "--max-time", PATIENCE_WORD, f"http://172.190.0.17/bytes/{size}"]
    assert processes.run(lab, "client", argv, timeout_s=PATIENCE_S).stdout == "x" * size
