"""``ctctl trace FLOW`` without more: it finds out what is there, and says so."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctctl.events.record import EVENT_SCHEMA
from ctctl.kernel.netns import run_in_netns
from ctctl.trace.show_probe import PROBE_SCHEMA
from tests.support.captures import NAMES, CapturedNode, captured_node
from tests.support.children import CTCTL, line_of, started
from tests.support.foreign import CLIENT, CLIENT_PORT, PORT, SERVER, ForeignNet, foreign_net, foreign_program
from tests.support.names import unique_name
from tests.support.net import ip
from tests.support.tracing import tracing_by
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = pytest.mark.kernel

FLOW = f"udp {CLIENT}:{CLIENT_PORT} > {SERVER}:{PORT}"


@pytest.fixture(scope="module")
def net() -> Iterator[ForeignNet]:
    with foreign_net() as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def machine() -> Iterator[CapturedNode]:
    """A machine where no node of ours is loaded, whoever else tests on this one: its maps are a Cilium's.

    No network namespace of this one has a name there.
    """
    with captured_node(NAMES[0], agent=True) as captured:
        there(captured, "mkdir", "-p", "/run/netns")
        _MACHINE.append(captured)
        yield captured
        _MACHINE.clear()


_MACHINE: list[CapturedNode] = []


def there(machine: CapturedNode, *words: str) -> None:
    subprocess.run(["nsenter", "-t", str(machine.pid), "-m", *words], check=True, timeout=PATIENCE_S)


def in_namespace(name: str, *words: str) -> tuple[str, ...]:
    """The command on that machine, in a network namespace of this one."""
    return ("nsenter", "-t", str(_MACHINE[0].pid), "-m", f"--net=/run/netns/{name}", *CTCTL, *words)


def in_server(net: ForeignNet, *words: str) -> tuple[str, ...]:
    """The same in the server's."""
    return in_namespace(net.server, *words)


@contextmanager
def named_there(namespace: str) -> Iterator[None]:
    """A network namespace of this machine has its name on that one too."""
    wanted = Path(f"/run/netns/{namespace}").stat().st_ino
    with started("ip", "netns", "exec", namespace, "sleep", "infinity") as inside:
        entered = Path(f"/proc/{inside.pid}/ns/net")
        wait_for(lambda: entered.stat().st_ino == wanted, what="the process is in the namespace")
        there(_MACHINE[0], "ln", "-s", str(entered), f"/run/netns/{namespace}")
        try:
            yield
        finally:
            there(_MACHINE[0], "rm", f"/run/netns/{namespace}")


def traced(
    net: ForeignNet, *words: str, text: bool = True, wait_s: float = PATIENCE_S
) -> tuple[str | bytes, list[str]]:
    """What it wrote about one datagram, and what it said before; ``wait_s`` for the datagram, if it arrives."""
    said: list[str] = []
    with started(*in_server(net, "trace", FLOW, *words), text=text) as process:
        while line := line_of(process, process.stderr):
            said.append(line if isinstance(line, str) else line.decode())
            if said[-1].startswith("ready"):
                break
        net.send(b"hello")
        net.received(wait_s)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
        said += (err if isinstance(err, str) else err.decode()).splitlines()
    return out, said


def test_probes_where_only_somebody_elses_programs_are(net: ForeignNet) -> None:
    with foreign_program(net, "passes"):
        out, said = traced(net, "-o", "jsonl")
    assert said[0] == f"tracing by probes before somebody else's programs on {net.device}\n"
    assert [json.loads(line)["kind"] for line in str(out).splitlines()] == ["packet"]


def test_programs_in_another_namespace_are_found_where_here_are_none(net: ForeignNet) -> None:
    command = in_namespace(net.client, "trace", FLOW, "-o", "jsonl", "--count", "1")
    with foreign_program(net, "passes"), named_there(net.server), tracing_by(*command) as trace:
        place = f"{net.server}/{net.device}"
        assert trace.messages[0] == f"tracing by probes before somebody else's programs on {place}\n"
        net.send()
        assert [json.loads(line)["node"] for line in trace.rest().splitlines()] == [net.server]


def test_nothing_to_trace_is_one_line(net: ForeignNet) -> None:
    found = subprocess.run(
        in_server(net, "trace", FLOW), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith("ctctl: nothing to trace: no node is loaded")
    assert "no device of this network namespace carries a BPF program, nor of one that has a name" in line


@pytest.mark.parametrize(("form", "mark"), [("mermaid", "sequenceDiagram"), ("svg", "<svg")])
def test_pictures_of_what_probes_saw(net: ForeignNet, form: str, mark: str) -> None:
    with foreign_program(net, "drops"):
        out, _ = traced(net, "-o", form, wait_s=0.3)
    assert mark in str(out)
    assert f"{CLIENT}:{CLIENT_PORT}" in str(out)
    assert "tc_ingress" in str(out)


def test_a_capture_of_what_probes_saw(net: ForeignNet, tmp_path: Path) -> None:
    with foreign_program(net, "passes"):
        out, _ = traced(net, "-o", "pcapng", text=False)
    assert isinstance(out, bytes)
    path = tmp_path / "probe.pcapng"
    path.write_bytes(out)
    assert b"hello" in out
    assert b"request of connection 1" in out
    assert path.stat().st_size > 100


def test_flags_filter_what_probes_show(net: ForeignNet) -> None:
    with foreign_program(net, "passes"):
        out, _ = traced(net, "-o", "jsonl", "--to-port", str(PORT))
        assert len(str(out).splitlines()) == 1
        out, _ = traced(net, "-o", "jsonl", "--to-port", str(PORT + 1))
        assert str(out) == ""
        out, _ = traced(net, "-o", "jsonl", "--filter", f"dst == {SERVER} and udp")
        assert len(str(out).splitlines()) == 1


@contextmanager
def own_node(net: ForeignNet, tmp_path: Path) -> Iterator[str]:
    """A node of ours on that machine, on the server's device too."""
    name, file = unique_name("both"), tmp_path / "node.yaml"
    file.write_text(f"node: {{name: {name}, ip: {SERVER}, device: {net.device}, pod-cidr: 10.98.0.0/24}}\n")
    subprocess.run(in_server(net, "load", "-f", str(file)), check=True, timeout=PATIENCE_S)
    try:
        yield name
    finally:
        subprocess.run(in_server(net, "unload", "--node", name), check=True, timeout=PATIENCE_S)


def _until_both_listen(process: subprocess.Popen[str]) -> list[str]:
    said: list[str] = []
    while sum(line.startswith("ready") for line in said) < 2:
        said.append(line_of(process, process.stderr))
        assert said[-1], said
    return said


def test_our_hooks_and_probes_at_once(net: ForeignNet, tmp_path: Path) -> None:
    with own_node(net, tmp_path) as name, foreign_program(net, "passes"):
        with started(*in_server(net, "trace", FLOW, "-o", "jsonl")) as process:
            said = _until_both_listen(process)
            net.send()
            assert net.received(PATIENCE_S) == SERVER
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=PATIENCE_S)
        both = f"the hooks of {name} and probes before somebody else's programs on {net.device}"
        assert said[0] == f"tracing by {both}\n"
        assert {json.loads(line)["schema"] for line in out.splitlines()} == {EVENT_SCHEMA, PROBE_SCHEMA}
        # They count together, and both end when that many were shown.
        with started(*in_server(net, "trace", FLOW, "-o", "jsonl", "--count", "3")) as process:
            _until_both_listen(process)
            for _ in range(3):
                net.send()
                assert net.received(PATIENCE_S) == SERVER
            out, _ = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, len(out.splitlines())) == (0, 3)


@pytest.fixture(scope="module")
def pods(net: ForeignNet) -> Callable[[], None]:
    """Sends from the address of that Cilium's pod default/p1 to that of default/p2, which lead there."""
    first, second = "10.61.1.101", "10.61.1.102"
    for netns, device, own, other in (
        (net.client, "veth-c", first, second),
        (net.server, net.device, second, first),
    ):
        ip("-n", netns, "address", "add", f"{own}/32", "dev", device)
        ip("-n", netns, "route", "add", f"{other}/32", "dev", device, "src", own)

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind((first, 0))
            one.sendto(b"named", (second, PORT))

    return lambda: run_in_netns(net.client, send)


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ((f"udp p1 > p2:{PORT}",), 1),
        ((f"udp default/p1 > default/p2:{PORT}",), 1),
        ((f"udp p2 > p2:{PORT}",), 0),
        (("--from-ip", "p1"), 1),
        (("--filter", "dst == default/p2 and udp"), 1),
        (("--filter", "src == default/p2"), 0),
    ],
)
def test_pods_by_name(net: ForeignNet, pods: Callable[[], None], words: tuple[str, ...], seen: int) -> None:
    command = in_server(net, "trace", *words, "-o", "jsonl")
    with foreign_program(net, "passes"), tracing_by(*command) as trace:
        pods()
        assert net.received(PATIENCE_S) == "10.61.1.102"
        assert len(trace.stop()) == seen


def test_a_name_that_nobody_has_is_one_line(net: ForeignNet) -> None:
    with foreign_program(net, "passes"):
        place = in_server(net, "trace", f"udp p1 > p7:{PORT}")
        found = subprocess.run(place, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert found.returncode == 2
    assert found.stderr.splitlines()[-1].startswith("ctctl: unknown name 'p7'; did you mean ")
