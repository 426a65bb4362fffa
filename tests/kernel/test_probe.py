"""Probes in front of foreign programs: they see every packet, and nothing changes for anybody."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ctctl.abi import pins
from ctctl.btf import Btf, Kind
from ctctl.btf.vmlinux import kernel_enum
from ctctl.decode.ct import encode_key
from ctctl.errors import CtctlError, NotFoundError, UnsupportedError, UsageError
from ctctl.kernel.link import AttachedProgram, Direction, has_tcx, query_tcx
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.netns import run_in_netns
from ctctl.kernel.tc import attach_filter, detach_filter, list_filters
from ctctl.model.tuples import FlowTuple
from ctctl.node.attach import AttachMode
from ctctl.packet.text import parse_flow_text
from ctctl.trace.probe import ProbeTrace, kernel_drop_reasons
from ctctl.trace.probe_event import ProbeEvent, ProbeKind, return_code_name
from ctctl.trace.probe_guard import PREFIX, process_name
from ctctl.trace.probe_points import ProbePoint, describe_points, find_points
from ctctl.trace.probe_request import probe_request
from tests.support.children import line_of, run_ctctl
from tests.support.foreign import (
    CLIENT,
    CLIENT_PORT,
    OTHER,
    PORT,
    PROGRAMS,
    SERVER,
    ForeignNet,
    foreign_net,
    foreign_program,
    pinned,
)
from tests.support.net import tc
from tests.support.tracing import over, tracing
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = pytest.mark.kernel

FLOW = f"udp {CLIENT}:{CLIENT_PORT} > {SERVER}:{PORT}"
#: What a datagram to SERVER comes to behind each program.
OUTCOME = {"passes": SERVER, "drops": None, "redirects": None, "rewrites": OTHER}
#: How the foreign program is attached and how the probe in front of it: a filter runs after every TCX program.
WAYS = [("tcx", "tcx"), ("clsact", "tcx"), ("clsact", "tc")]
CODES = {"passes": "TC_ACT_OK", "drops": "TC_ACT_SHOT", "redirects": "TC_ACT_REDIRECT", "rewrites": "TC_ACT_OK"}


@pytest.fixture(scope="module")
def net() -> Iterator[ForeignNet]:
    with foreign_net() as found:
        yield found


def received(net: ForeignNet, kind: str) -> str | None:
    """What came of a datagram: waited for where one must come."""
    return net.received(0.3 if OUTCOME[kind] is None else PATIENCE_S)


def chain(net: ForeignNet) -> list[int]:
    """The programs of the server's ingress in the order they run."""
    filters = [one.prog_id for one in run_in_netns(net.server, list_filters, net.ifindex)]
    return [one.prog_id for one in run_in_netns(net.server, _tcx_of, net.ifindex)] + filters


def _tcx_of(ifindex: int) -> list[AttachedProgram]:
    return query_tcx(ifindex, Direction.INGRESS) if has_tcx() else []


def traced(
    net: ForeignNet, action, tables: Path | None = None, flow: str = FLOW, attach: AttachMode = AttachMode.auto
) -> tuple[list[ProbeEvent], list[str]]:
    """The events while ``action`` runs, and the notes."""
    points = find_points(namespaces=[net.server], attach=attach)
    return traced_at(points, action, tables, flow)


def traced_at(
    points: Sequence[ProbePoint], action, tables: Path | None = None, flow: str = FLOW
) -> tuple[list[ProbeEvent], list[str]]:
    """The same at these points."""
    with ProbeTrace(probe_request(points, parse_flow_text(flow), [str(tables)] if tables else [])) as tracer:
        worker = threading.Thread(target=action)
        worker.start()
        events = list(tracer.events(over(worker)))
        worker.join()
        assert tracer.lost() == 0
        return events, tracer.summary.notes


@pytest.mark.parametrize(("via", "tcx"), WAYS)
@pytest.mark.parametrize("kind", PROGRAMS)
def test_foreign_program_works_the_same_with_a_probe_in_front(net: ForeignNet, kind: str, via: str, tcx: str) -> None:
    with foreign_program(net, kind, via) as program:
        net.send()
        assert received(net, kind) == OUTCOME[kind]
        (point,) = find_points(namespaces=[net.server], attach=AttachMode(tcx))
        (ref,) = point.programs
        assert (ref.id, ref.name, ref.via) == (program.info.id, f"foreign_program_that_{kind}", via)
        outcome: list[str | None] = []
        during: list[int] = []

        def send_and_receive() -> None:
            during.extend(chain(net))
            net.send(b"traced")
            outcome.append(received(net, kind))

        events, _ = traced(net, send_and_receive, attach=AttachMode(tcx))
        assert outcome == [OUTCOME[kind]]
        assert (len(during), during[1:]) == (2, [program.info.id])
        assert chain(net) == [program.info.id]
        before = [event for event in events if event.kind is ProbeKind.PACKET]
        assert [(str(event.flow.dst), event.egress, event.device) for event in before] == [(SERVER, False, net.device)]
        assert before[0].head[28:] == b"traced"
        assert before[0].programs == point.programs
        drops = {event.reason for event in events if event.kind is ProbeKind.FREED}
        assert ("tc_ingress" in drops) == (kind == "drops")
        net.send()
        assert received(net, kind) == OUTCOME[kind]
    assert chain(net) == []


@pytest.mark.parametrize("kind", PROGRAMS)
def test_return_codes_by_fexit(net: ForeignNet, kind: str) -> None:
    with foreign_program(net, kind) as program:
        events, notes = traced(net, net.send)
        if missing := [note for note in notes if note.startswith("no return codes")]:
            assert "EPERM" in missing[0] or "fexit" in missing[0]
            if os.environ.get("CTCTL_REQUIRE_FEXIT") == "1":
                pytest.fail(missing[0])
            pytest.skip(missing[0])
        returns = [event for event in events if event.kind is ProbeKind.RETURN]
        assert [(event.program_id, return_code_name(event.code or 0)) for event in returns] == [
            (program.info.id, CODES[kind])
        ]
        assert returns[0].program is not None
        assert returns[0].program.name == f"foreign_program_that_{kind}"
        received(net, kind)


@pytest.fixture
def tables() -> Iterator[Path]:
    """Conntrack tables of a foreign datapath."""
    with pinned(*((name, MapType.LRU_HASH, 14, 56) for name in (pins.CT4_TCP, pins.CT4_ANY))) as directory:
        yield directory


def test_probe_shows_the_entry_as_it_stands(net: ForeignNet, tables: Path) -> None:
    flow = FlowTuple(17, *_ends())
    key = encode_key(flow, 0)
    value = bytearray(56)
    value[32:36] = (1234567).to_bytes(4, "little")
    value[44:48] = (3096).to_bytes(4, "little")
    with foreign_program(net, "passes"), Map.open_pinned(tables / "cilium_ct_any4_global") as table:
        events, _ = traced(net, net.send, tables)
        assert events[0].entries == ()
        table.update(key, bytes(value))
        events, _ = traced(net, net.send, tables)
        (entry,) = next(event for event in events if event.kind is ProbeKind.PACKET).entries
        assert (entry.tuple, entry.lifetime, entry.src_sec_id) == (flow, 1234567, 3096)
        assert dict(table.items()) == {key: bytes(value)}
    net.received(PATIENCE_S)
    net.received(PATIENCE_S)


def _ends():
    from ipaddress import IPv4Address

    return IPv4Address(CLIENT), CLIENT_PORT, IPv4Address(SERVER), PORT


OBJECTS = f"""
kind: Pod
metadata: {{name: asking, namespace: shop}}
status: {{podIP: "{CLIENT}"}}
---
kind: Pod
metadata: {{name: serving, namespace: shop}}
status: {{podIP: "{SERVER}"}}
"""


@pytest.mark.parametrize(
    "words",
    [
        (f"udp asking:{CLIENT_PORT} > serving:{PORT}",),
        ("--filter", "src == shop/asking"),
        ("--filter", "dst == serving"),
    ],
)
def test_pods_by_name_on_a_node_that_knows_none(net: ForeignNet, words: tuple[str, ...], tmp_path: Path) -> None:
    """By files: in a trace as in every other command."""
    objects = tmp_path / "objects.yaml"
    objects.write_text(OBJECTS)
    with (
        foreign_program(net, "passes", "tcx" if has_tcx() else "clsact"),
        tracing("--probe", *words, "--names", objects, "--netns", net.server, "-o", "jsonl", "--count", "1") as trace,
    ):
        net.send()
        found = json.loads(line_of(trace.process, trace.process.stdout))
        assert (found["tuple"]["src"], found["tuple"]["dst"]) == (CLIENT, SERVER)
    net.received(PATIENCE_S)


@pytest.mark.parametrize(
    "words", [("udp asking > servin",), ("--filter", "src == askin"), ("--filter", "service == serving")]
)
def test_a_name_that_nothing_has_is_said_before_anybody_waits(
    net: ForeignNet, words: tuple[str, ...], tmp_path: Path
) -> None:
    objects = tmp_path / "objects.yaml"
    objects.write_text(OBJECTS)
    with foreign_program(net, "passes", "tcx" if has_tcx() else "clsact"):
        done = run_ctctl("trace", "--probe", *words, "--names", objects, "--netns", net.server)
    assert done.returncode == 2, done.stderr
    assert "ready" not in done.stderr


def test_other_flows_are_not_reported(net: ForeignNet) -> None:
    with foreign_program(net, "passes"):
        events, _ = traced(net, lambda: net.send(port=PORT + 1))
        assert [event for event in events if event.kind is ProbeKind.PACKET] == []


def test_without_programs_or_devices_it_says_so(net: ForeignNet) -> None:
    with pytest.raises(CtctlError, match="no device carries a BPF program"):
        find_points(namespaces=[net.server])
    with pytest.raises(NotFoundError, match="no-such-device"):
        find_points(["no-such-device"], [net.server])
    points = find_points([net.device], [net.server])
    assert [str(point.direction) for point in points] == ["ingress", "egress"]
    filters = "" if has_tcx() else "a clsact filter "
    assert describe_points(points)[0] == f"{net.server}/{net.device} ingress: {filters}before nothing"


def test_drop_reasons_have_the_kernels_names() -> None:
    """libbpf finds what reading the whole of the kernel's BTF finds, without its second of work."""
    found = Btf(Path("/sys/kernel/btf/vmlinux").read_bytes()).find("skb_drop_reason", Kind.ENUM)
    assert found is not None
    assert kernel_enum("skb_drop_reason") == {value.value: value.name for value in found.values}
    assert kernel_enum("no_such_enum") == {}
    assert "tc_ingress" in kernel_drop_reasons().values()


@pytest.mark.parametrize(("via", "tcx"), WAYS)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_probes_are_gone_however_the_command_ends(net: ForeignNet, how: signal.Signals, via: str, tcx: str) -> None:
    with foreign_program(net, "passes", via) as program:
        with tracing("--probe", FLOW, "--netns", net.server, "--attach", tcx, "-o", "jsonl") as trace:
            during = chain(net)
            assert (len(during), during[1:]) == (2, [program.info.id])
            net.send()
            # One that a test before had sent may be freed only now: the kernel defers that to another CPU.
            lines = iter(lambda: line_of(trace.process, trace.process.stdout), "")
            assert any(json.loads(line)["kind"] == "packet" for line in lines)
            trace.process.send_signal(how)
            status = trace.process.wait(PATIENCE_S)
        wait_for(lambda: chain(net) == [program.info.id])
        assert status == (130 if how is signal.SIGINT else -how)
    net.received(PATIENCE_S)


def test_filters_of_a_killed_trace_and_its_killed_guard_go_with_the_next(net: ForeignNet) -> None:
    name = f"{PREFIX}{Path('/proc/self/ns/pid').stat().st_ino}.{os.getpid()}"
    with foreign_program(net, "passes", "clsact") as program:
        # This process lives: the first is another that had its number, the second this one's, the third a stranger's.
        for at, left in enumerate((f"{name}.1/a", f"{PREFIX}{process_name()}/b", f"{PREFIX}1.1.1/c")):
            at_once = {"name": left, "priority": 2, "handle": at + 1}
            run_in_netns(net.server, lambda a=at_once: attach_filter(program, net.ifindex, Direction.INGRESS, **a))
        traced(net, lambda: None, attach=AttachMode.tc)
        filters = run_in_netns(net.server, list_filters, net.ifindex)
        assert [one.name.rpartition("/")[2] for one in filters if one.name.startswith(PREFIX)] == ["c", "b"]
        for one in filters:
            if one.name.startswith(PREFIX):
                run_in_netns(net.server, detach_filter, one)


def test_a_filter_goes_in_front_of_whatever_is_first(net: ForeignNet) -> None:
    ingress, everything = ("-n", net.server), ("u32", "match", "u32", "0", "0")
    place = ("dev", net.device, "ingress")
    tc(*ingress, "qdisc", "add", "dev", net.device, "clsact")
    try:
        # Of another kind and far back, as firewalls have them; then one that takes the very first place.
        tc(*ingress, "filter", "add", *place, "protocol", "all", "prio", "7", *everything)
        (point, _) = find_points([net.device], [net.server], AttachMode.tc)
        events, _ = traced_at([point], net.send)
        assert [str(event.flow.dst) for event in events] == [SERVER]
        tc(*ingress, "filter", "add", *place, "protocol", "all", "prio", "1", *everything)
        with pytest.raises(UnsupportedError, match="nothing goes in front of its u32 filter, which has priority 1"):
            traced_at([point], net.send)
        assert run_in_netns(net.server, list_filters, net.ifindex) == []
        assert tc(*ingress, "filter", "show", *place).count("match 00000000/00000000") == 2
    finally:
        tc(*ingress, "qdisc", "del", "dev", net.device, "clsact")
    net.received(PATIENCE_S)


def test_a_qdisc_that_was_not_there_goes_again(net: ForeignNet) -> None:
    points = find_points([net.device], [net.server], AttachMode.tc)
    before = tc("-n", net.server, "qdisc", "show", "dev", net.device)
    during: list[str] = []
    traced_at(points, lambda: during.append(tc("-n", net.server, "qdisc", "show", "dev", net.device)))
    assert "clsact" in during[0]
    assert tc("-n", net.server, "qdisc", "show", "dev", net.device) == before


@pytest.mark.tcx
def test_a_filter_behind_tcx_programs_is_refused(net: ForeignNet) -> None:
    with (
        foreign_program(net, "passes", "tcx"),
        pytest.raises(UsageError, match="would not see what foreign_program_that_passes"),
    ):
        find_points(namespaces=[net.server], attach=AttachMode.tc)


def test_other_traces_probes_are_nobodys_programs(net: ForeignNet) -> None:
    points = find_points([net.device], [net.server])
    with ProbeTrace(probe_request(points, parse_flow_text(FLOW))):
        assert [point.programs for point in find_points([net.device], [net.server])] == [(), ()]
        with pytest.raises(UsageError, match="no device carries a BPF program"):
            find_points(namespaces=[net.server])
