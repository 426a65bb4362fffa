"""No sentence of a live trace that nothing provokes: what is said before the first event, beside events, in pictures.

As test_sentences.py has it for what hooks tell, they are listed from the code (``tests/support/sentences.py``).
What this kernel never says is provoked by a kernel that is put in its place for a call.
"""

from __future__ import annotations

import contextlib
import errno
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from ctctl.abi import pins
from ctctl.cli import trace_listen
from ctctl.cli.main import main
from ctctl.errors import CtctlError, KernelError
from ctctl.events.stream import EventStream
from ctctl.kernel.link import has_tcx
from ctctl.kernel.map import MapType
from ctctl.kernel.tracing import TracingLink
from ctctl.model.event import HookEvent
from ctctl.node.attach import AttachMode
from ctctl.out.options import OutputOptions
from ctctl.packet.text import parse_flow_text
from ctctl.trace import probe_filters
from ctctl.trace.mermaid import mermaid
from ctctl.trace.picture import CaptureTrace, DiagramTrace
from ctctl.trace.probe import ProbeTrace
from ctctl.trace.probe_event import ProgramRef
from ctctl.trace.probe_points import ProbePoint, describe_points, find_points
from ctctl.trace.probe_request import ProbeRequest, probe_request
from ctctl.trace.show import TableTrace
from ctctl.trace.svg import svg
from tests.support.datapath import LB_VIP, NODE_IP, POD, POD2, REMOTE, VIP, node_file, send, service, simulated
from tests.support.foreign import CLIENT, CLIENT_PORT, PORT, SERVER, ForeignNet, foreign_net, foreign_program, pinned
from tests.support.gctables import table_dir
from tests.support.net import tc
from tests.support.sentences import held_by, sentences, unsaid

pytestmark = pytest.mark.kernel

FLOW = f"udp {CLIENT}:{CLIENT_PORT} > {SERVER}:{PORT}"
CT = tuple((name, MapType.LRU_HASH, 14, 56) for name in pins.OWN_CT_TABLES)
NO_PROGRAM = ProgramRef(2**31 - 1, "no_program", "0123456789abcdef", "tcx")


@pytest.fixture(scope="module")
def net() -> Iterator[ForeignNet]:
    with foreign_net() as found:
        yield found


def refusal(does: Callable[[], object]) -> str:
    with pytest.raises(CtctlError) as caught:
        does()
    return str(caught.value)


def notes(points: Sequence[ProbePoint], *tables: Path) -> list[str]:
    """What is said of a trace at these points before its first event."""
    directories = {points[0].netns_inode: tables[0]} if tables else {}
    with ProbeTrace(ProbeRequest(tuple(points), flow=parse_flow_text(FLOW), tables=directories)) as tracer:
        return tracer.summary.notes


def refuse(*_args: object, **_named: object) -> None:
    raise KernelError("attach", "probe", errno.EOPNOTSUPP)


def attaching(net: ForeignNet, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Tables that are not there or another's, programs that went away, a kernel that traces nothing."""
    slots = (pins.CILIUM_EVENTS, MapType.PERF_EVENT_ARRAY, 4, 4)
    with foreign_program(net, "passes"):
        points = find_points(namespaces=[net.server])
        yield from describe_points(points)
        yield from notes(points)
        with pinned() as nothing, pinned(*CT, slots) as agents:
            yield from notes(points, nothing)
            yield from notes(points, agents)
        (point,) = points
        gone = ProbePoint(*(getattr(point, name) for name in point.__slots__[:6]), (NO_PROGRAM,), point.attach)
        yield from notes([gone])
        with monkeypatch.context() as patch:
            patch.setattr(TracingLink, "attach", refuse)
            yield from notes(points)


def filters(net: ForeignNet, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Probes as clsact filters: behind one that nothing goes in front of, with a guard that does not do its work."""
    points = find_points([net.device], [net.server], AttachMode.tc)
    yield from describe_points(points)
    place, everything = ("dev", net.device, "ingress"), ("u32", "match", "u32", "0", "0")
    tc("-n", net.server, "qdisc", "add", "dev", net.device, "clsact")
    try:
        tc("-n", net.server, "filter", "add", *place, "protocol", "all", "prio", "1", *everything)
        yield from notes(points)
    finally:
        tc("-n", net.server, "qdisc", "del", "dev", net.device, "clsact")
    for script in ("echo no Python here >&2", "echo ready; cat > /dev/null; echo device is busy >&2; exit 1"):
        with monkeypatch.context() as patch:
            patch.setattr(probe_filters, "own_command", lambda *_, script=script: ["sh", "-c", script])
            yield refusal(lambda: notes(points))
    tc("-n", net.server, "qdisc", "del", "dev", net.device, "clsact")


def nowhere(net: ForeignNet, tmp_path: Path) -> Iterator[str]:
    """Devices, namespaces, nodes and tables that are not there."""
    yield refusal(lambda: find_points(["no-such-device"], [net.server]))
    yield refusal(lambda: find_points(namespaces=[net.server]))
    yield refusal(lambda: find_points(namespaces=["no-such-namespace"]))
    points = find_points([net.device], [net.server])
    yield refusal(lambda: probe_request(points, None, ["elsewhere=/sys/fs/bpf"]))
    if has_tcx():
        with foreign_program(net, "passes", "tcx"):
            yield refusal(lambda: find_points(namespaces=[net.server], attach=AttachMode.tc))
    yield refusal(lambda: EventStream(["no-such-node"]))
    with table_dir(tmp_path) as made:
        made.create(pins.CT4_TCP, 64)
        made.record()
        yield refusal(lambda: EventStream([made.path.name], bpffs=made.path.parents[1]))


def events_of_ours() -> list[HookEvent]:
    """A connection to a service, one that is dropped, one by DSR."""
    web, lb = service("web", VIP, 80, 7, (101, REMOTE, 8080)), service("lb", LB_VIP, 80, 8, (102, POD2, 8080))
    policy = [{"endpoint": "pod2", "direction": "ingress", "port": 8080, "protocol": "TCP"}]
    found: list[HookEvent] = []
    with simulated(node_file({}, services=[web, lb], policy=policy)) as node:
        for hook, packet in (
            ("from_container", f"tcp {POD}:1 > {VIP}:80 S"),
            ("to_container", f"tcp {POD}:1 > {POD2}:9 S"),
            ("from_netdev", f"tcp 192.0.2.50:1 > {NODE_IP}:9 S"),
        ):
            found += send(node, hook, packet).events
    return found


def pictures() -> Iterator[str]:
    """Events of our hooks in every form."""
    events = events_of_ours()
    for wall in (None, 1_700_000_000_000_000_000):
        for draw in (mermaid, svg):
            text = io.StringIO()
            picture = DiagramTrace(text, draw, wall_offset_ns=wall, verbose=True)
            for event in events:
                picture.event(event, 1)
            picture.remark("step 1: garbage collection")
            picture.finish()
            yield text.getvalue()
        data = io.BytesIO()
        capture = CaptureTrace(data, wall_offset_ns=wall or 0)
        for event in events:
            capture.event(event, 1)
        yield data.getvalue().decode(errors="replace")
    for verbose in (False, True):
        text = io.StringIO()
        table = TableTrace(text, color=False, verbose=verbose)
        for number in (1, 2, 1, *range(3, 3000)):
            table.event(events[0], number)
        table.finish(3)
        yield text.getvalue()


def chosen(net: ForeignNet, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What a trace says of where it listens: nothing is there, programs of others, hooks of ours, both."""

    def says(*words: str) -> str:
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            main(["trace", FLOW, "--for", "0.1s", *words])
        return err.getvalue()

    with foreign_program(net, "passes"):
        yield says("--probe", "--netns", net.server)
        points = find_points(namespaces=[net.server])
    place = "ctctl.trace.probe_points.foreign_points"
    for own, others in (({}, []), ({}, points), ({"node-a": _Paths()}, points)):
        with monkeypatch.context() as patch:
            patch.setattr("ctctl.node.find.own_nodes", lambda own=own: own)
            patch.setattr("ctctl.node.find.has_tables", lambda _directory: True)
            patch.setattr(place, lambda others=others: others)
            patch.setattr(f"{place}_elsewhere", list)
            yield says("-o", "svg")
    with monkeypatch.context() as patch:
        terminal = io.StringIO()
        patch.setattr(terminal, "isatty", lambda: True)
        patch.setattr("sys.stdout", terminal)
        form = trace_listen.Output(trace_listen.TraceFormat.pcapng, OutputOptions(), raw=False)
        yield refusal(lambda: trace_listen.picture_of(form))
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream := io.StringIO())
        trace_listen._say_ready(["node-a"])
        yield stream.getvalue()


class _Paths:
    """Of a node that is loaded."""

    dir = Path("/nowhere")


@pytest.fixture(scope="module")
def said(net: ForeignNet, tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(sys.stderr):
        parts = [
            *attaching(net, patch),
            *filters(net, patch),
            *nowhere(net, tmp_path_factory.mktemp("nowhere")),
            *pictures(),
            *chosen(net, patch),
        ]
    return "\n".join(parts)


@pytest.mark.parametrize("module", held_by(__file__))
def test_every_sentence_is_provoked(module: ModuleType, said: str) -> None:
    assert sentences(module)
    assert unsaid(module, said) == []
