"""Probes that tell the truth: IPv6, what is in a tunnel, what the datapath itself says of a drop."""

from __future__ import annotations

import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from ctctl.abi import pins
from ctctl.decode.ct import encode_key
from ctctl.decode.nat import encode_nat_key
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.netns import run_in_netns
from ctctl.model.drops import CountedDrop
from ctctl.model.tuples import FlowTuple
from ctctl.node import records as rec
from ctctl.packet.frame import build_frame
from ctctl.packet.text import parse_flow_text, parse_packet_text
from ctctl.trace.probe import ProbeTrace
from ctctl.trace.probe_event import ProbeEvent, ProbeKind
from ctctl.trace.probe_points import find_points
from ctctl.trace.probe_request import ProbeRequest, probe_request
from ctctl.trace.probe_tables import NodeTables
from ctctl.trace.show_probe import ProbeTable, probe_ending
from tests.support.foreign import CLIENT, CLIENT_PORT, PORT, SERVER, ForeignNet, foreign_net, foreign_program, pinned
from tests.support.net import ip
from tests.support.sentences import held_by, sentences, unsaid
from tests.support.tracing import over
from tests.support.wait import PATIENCE_S

pytestmark = pytest.mark.kernel

CLIENT6, SERVER6 = "fd99::1", "fd99::2"


@pytest.fixture(scope="module")
def net() -> Iterator[ForeignNet]:
    with foreign_net() as found:
        for netns, device, address in (
            (found.client, "veth-c", CLIENT6),
            (found.server, found.device, SERVER6),
        ):
            ip("-n", netns, "address", "add", f"{address}/64", "dev", device, "nodad")
        yield found


def sent(net: ForeignNet, family: int, data: bytes, target: tuple[str, int], port: int = 0) -> None:
    def send() -> None:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.bind(("", port))
            one.sendto(data, target)

    run_in_netns(net.client, send)


def traced(net: ForeignNet, flow: str, action: Callable[[], None], tables: Path | None = None) -> list[ProbeEvent]:
    """The packets and drops of a flow at the server while ``action`` runs."""
    request = probe_request(
        find_points(namespaces=[net.server]), parse_flow_text(flow), [str(tables)] if tables else []
    )
    return traced_by(request, action)


def traced_by(request: ProbeRequest, action: Callable[[], None]) -> list[ProbeEvent]:
    """The same for a request."""
    with ProbeTrace(request) as tracer:
        worker = threading.Thread(target=action)
        worker.start()
        events = list(tracer.events(over(worker)))
        worker.join()
        return events


CT = (
    (pins.CT4_TCP, MapType.LRU_HASH, 14, 56),
    (pins.CT4_ANY, MapType.LRU_HASH, 14, 56),
    (pins.CT6_TCP, MapType.LRU_HASH, 38, 56),
    (pins.CT6_ANY, MapType.LRU_HASH, 38, 56),
)


def test_ipv6_with_its_entry_and_its_snat_pair(net: ForeignNet) -> None:
    flow = FlowTuple(17, IPv6Address(CLIENT6), 40006, IPv6Address(SERVER6), PORT)
    with (
        foreign_program(net, "passes"),
        pinned(*CT, (pins.SNAT6, MapType.LRU_HASH, 38, 56)) as tables,
    ):
        with Map.open_pinned(tables / pins.CT6_ANY) as table:
            table.update(encode_key(flow, 0), bytes(32) + (77).to_bytes(4, "little") + bytes(20))
        with Map.open_pinned(tables / pins.SNAT6) as table:
            value = bytes(32) + IPv6Address("fd99::9").packed + (4242).to_bytes(2, "big")
            table.update(encode_nat_key(flow, 0), value.ljust(56, b"\0"))
        packet = lambda: sent(net, socket.AF_INET6, b"six", (SERVER6, PORT), 40006)  # noqa: E731
        events = traced(net, f"udp [{CLIENT6}] > [{SERVER6}]:{PORT}", packet, tables)
        (event,) = [one for one in events if one.kind is ProbeKind.PACKET]
        assert event.flow == flow
        assert event.head[48:] == b"six"
        assert [(entry.tuple, entry.lifetime) for entry in event.entries] == [(flow, 77)]
        assert [(str(found.to_addr), found.to_port) for found in event.nat] == [("fd99::9", 4242)]
        assert (event.connection, event.leg) == (1, "request")
        # Another family, another flow.
        events = traced(net, f"udp {CLIENT} > {SERVER}:{PORT}", packet, tables)
        assert [one for one in events if one.kind is ProbeKind.PACKET] == []


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("asked", [True, False])
def test_what_snat_turns_to_the_flow_is_the_flows(net: ForeignNet, version: int, asked: bool) -> None:
    client, server, pod = (CLIENT, SERVER, "10.99.7.7") if version == 4 else (CLIENT6, SERVER6, "fd99::7:7")
    flow = FlowTuple(17, ip_address(client), 40007, ip_address(server), PORT)
    family, size = (socket.AF_INET, (14, 40)) if version == 4 else (socket.AF_INET6, (38, 56))
    table_name = pins.SNAT_TABLES[version]
    ends = [f"[{end}]" if version == 6 else end for end in (client, pod)]
    with foreign_program(net, "passes"), pinned(*CT, (table_name, MapType.LRU_HASH, *size)) as tables:
        with Map.open_pinned(tables / table_name) as table:
            value = bytes(32) + ip_address(pod).packed + (4242).to_bytes(2, "big")
            table.update(encode_nat_key(flow, 1), value.ljust(size[1], b"\0"))
        text = f"udp {ends[0]}:40007 > {ends[1]}:{4242 if asked else 4243}"
        packet = lambda: sent(net, family, b"answer", (server, PORT), 40007)  # noqa: E731
        events = [one for one in traced(net, text, packet, tables) if one.kind is ProbeKind.PACKET]
    assert [(event.flow, str(event.nat[0].to_addr)) for event in events] == ([(flow, pod)] if asked else [])


@pytest.mark.parametrize(("kind", "port"), [("vxlan", 8472), ("vxlan", 4789), ("geneve", 6081)])
@pytest.mark.parametrize("inner", ["tcp 10.0.0.1:4000 > 10.0.0.2:80 S", "udp [fd00::1]:4000 > [fd00::2]:53"])
def test_what_is_in_a_tunnel(net: ForeignNet, kind: str, port: int, inner: str) -> None:
    # Eight bytes of either: flags, protocol or nothing, VNI; of Geneve with an option of 4 bytes.
    geneve = struct.pack(">BBHI", 1, 0, 0x6558, 77 << 8) + bytes(4)
    head = geneve if kind == "geneve" else struct.pack(">II", 0x08000000, 77 << 8)
    data = head + build_frame(parse_packet_text(inner))
    spec = parse_packet_text(inner)
    with foreign_program(net, "passes"):
        flow = inner.removesuffix(" S")
        events = traced(net, flow, lambda: sent(net, socket.AF_INET, data, (SERVER, port)))
        (event,) = [one for one in events if one.kind is ProbeKind.PACKET]
        assert (event.flow.src, event.flow.dst_port) == (spec.src, spec.dst_port)
        assert event.tunnel is not None
        ends = (str(event.tunnel.remote), str(event.tunnel.local))
        assert (event.tunnel.kind, *ends, event.tunnel.vni) == (kind, CLIENT, SERVER, 77)


def test_what_only_looks_like_a_tunnel(net: ForeignNet) -> None:
    with foreign_program(net, "passes"):
        empty = struct.pack(">II", 8 << 24, 0)
        for port, data in ((8472, bytes(60)), (6081, b"\1" * 60), (8472, b"\x08"), (4789, empty)):
            flow = f"udp {CLIENT} > {SERVER}:{port}"
            events = traced(net, flow, lambda d=data, p=port: sent(net, socket.AF_INET, d, (SERVER, p)))
            (event,) = [one for one in events if one.kind is ProbeKind.PACKET]
            assert (event.tunnel, event.flow.dst_port) == (None, port)


POLICY = (
    (f"{pins.CILIUM_POLICY}00042", MapType.LPM_TRIE, 12, 8),
    (pins.ENDPOINTS, MapType.HASH, 20, 48),
    (pins.IPCACHE, MapType.LPM_TRIE, 24, 12),
    (pins.CILIUM_METRICS, MapType.PERCPU_HASH, 8, 16),
)


def _fill_policy(tables: Path, *, bits: int, peers: str) -> None:
    with Map.open_pinned(tables / pins.ENDPOINTS) as table:
        table.update(rec.endpoint_key(IPv4Address(SERVER)), rec.endpoint_info(5, 42, 7777, None, None))
    with Map.open_pinned(tables / pins.IPCACHE) as table:
        from ipaddress import IPv4Network

        table.update(rec.ipcache_key(IPv4Network("0.0.0.0/0")), rec.remote_info(2, None))
        table.update(rec.ipcache_key(IPv4Network(peers)), rec.remote_info(4711, None))
    if bits:
        # Prefix (all but the last bits of the port), identity, ingress, UDP, port; value: a denial.
        first = PORT & ~((1 << 16 - bits) - 1)
        key = struct.pack("<IIBBH", 48 + bits, 4711, 0, 17, socket.htons(first))
        with Map.open_pinned(tables / f"{pins.CILIUM_POLICY}00042") as table:
            table.update(key, bytes([0, 0, 1, 0, 0, 0, 0, 0]))


def _count_drop(tables: Path, reason: int, line: int) -> None:
    """As the datapath does, of an ingress packet, in bpf_host.c."""
    with Map.open_pinned(tables / pins.CILIUM_METRICS) as metrics:
        one = struct.pack("<QQ", 1, 60)
        metrics.update(struct.pack("<BBHBBH", reason, 1, line, 1, 0, 0), one * (metrics.value_bytes // 16))


def test_what_was_counted_long_before_a_drop_is_none_of_it() -> None:
    with pinned(*CT, *POLICY) as tables, NodeTables(tables) as opened:
        _count_drop(tables, 155, 7)
        opened.look_at_drops()
        assert [one.reason for one in opened.dropped_since()] == ["CT: Map insertion failed"]
        _count_drop(tables, 158, 8)
        opened.look_at_drops()
        opened.look_at_drops()
        _count_drop(tables, 133, 9)
        assert opened.dropped_since() == (CountedDrop("Policy denied", "bpf_host.c:9"),)
        assert opened.dropped_since() == ()


def the_drop(events: list[ProbeEvent]) -> ProbeEvent:
    """The one drop among them."""
    freed = [one for one in events if one.kind is ProbeKind.FREED]
    assert len(freed) == 1, [(one.time_ns, probe_ending(one), one) for one in events]
    return freed[0]


@pytest.mark.parametrize(
    ("bits", "peers", "rule"),
    [
        (16, f"{CLIENT}/32", f"denied by the rule for identity 4711, port {PORT}"),
        (
            12,
            f"{CLIENT}/32",
            "denied by the rule for identity 4711, ports 8992-9007",
        ),
        # An identity may be a network's, as those of CIDR policies are.
        (16, "10.99.0.0/24", f"denied by the rule for identity 4711, port {PORT}"),
        (0, f"{CLIENT}/32", f"no rule allows identity 4711 to port {PORT}"),
    ],
)
def test_a_policy_denial_is_named_with_its_rule(net: ForeignNet, bits: int, peers: str, rule: str) -> None:
    with foreign_program(net, "drops"), pinned(*CT, *POLICY) as tables:
        _fill_policy(tables, bits=bits, peers=peers)

        def count_and_send() -> None:
            # The foreign datapath counts before it drops, as Cilium does: reason 133, ingress.
            _count_drop(tables, 133, 100)
            net.send()

        events = traced(net, f"udp {CLIENT}:{CLIENT_PORT} > {SERVER}:{PORT}", count_and_send, tables)
        freed = the_drop(events)
        assert freed.dropped_by == (CountedDrop("Policy denied", "bpf_host.c:100"),)
        rule = f"ingress of endpoint 42 ({SERVER}): {rule}"
        assert freed.rule == rule
        assert probe_ending(freed) == f"dropped by the datapath: Policy denied at bpf_host.c:100 ({rule})"
        # Nothing counted: the kernel's word is the best there is.
        freed = the_drop(traced(net, f"udp {CLIENT}:{CLIENT_PORT} > {SERVER}:{PORT}", net.send, tables))
        assert probe_ending(freed) == "dropped by the kernel: tc_ingress"


def answered(net: ForeignNet, port: int) -> None:
    """A datagram from the server's PORT to a closed port of the client, and the client's word on it."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind((SERVER, 9100))
            one.connect((CLIENT, port))
            one.send(b"nobody there")
            one.settimeout(PATIENCE_S)
            with pytest.raises(ConnectionRefusedError):
                one.recv(1)

    run_in_netns(net.server, send)


def test_an_icmp_error_is_of_the_flow_that_it_quotes(net: ForeignNet) -> None:
    def action() -> None:
        answered(net, 9101)
        answered(net, 9102)

    with foreign_program(net, "passes"):
        events = traced(net, f"udp {SERVER}:9100 > {CLIENT}:9102", action)
    errors = [event for event in events if event.icmp_type is not None]
    assert {str(event.quoted) for event in errors} == {f"UDP {SERVER}:9100 -> {CLIENT}:9102"}
    assert next(event.kind for event in errors) is ProbeKind.PACKET


def test_a_drop_is_of_this_network_and_of_what_is_linked_to_it(net: ForeignNet) -> None:
    flow = f"udp {SERVER}:9100 > {CLIENT}:9103"

    def freed(events: list[ProbeEvent]) -> set[tuple[int, str | None]]:
        return {
            (event.netns, event.reason) for event in events if event.kind is ProbeKind.FREED and event.flow.proto == 17
        }

    client = Path(f"/run/netns/{net.client}").stat().st_ino
    with foreign_net() as stranger, foreign_program(net, "passes"):
        # The same addresses and ports in a network that nothing joins to this one.
        assert freed(traced(net, flow, lambda: answered(stranger, 9103))) == set()
        assert freed(traced(net, flow, lambda: answered(net, 9103))) == {(client, "no_socket")}


def test_what_only_the_agent_reads_is_said_with_what_tells_it(net: ForeignNet) -> None:
    slots = (pins.CILIUM_EVENTS, MapType.PERF_EVENT_ARRAY, 4, 4)
    with foreign_program(net, "passes"), pinned(*CT, slots) as tables:
        request = probe_request(
            find_points(namespaces=[net.server]), parse_flow_text(f"udp {CLIENT} > {SERVER}"), [str(tables)]
        )
        with ProbeTrace(request) as tracer:
            (note,) = [one for one in tracer.summary.notes if "cilium_events" in one]
    assert "its agent alone can read" in note
    assert "cilium-dbg monitor --type drop | ctctl trace --from - FLOW" in note


#: What no packet here can provoke, and why.
BEYOND = {
    "ifindex": "a return code of a program that another device has too, which takes fexit",
    "returned": "takes fexit: test_probe.py, in kernels that have it",
}


def _entry(flow: FlowTuple, flags: int) -> tuple[bytes, bytes]:
    return encode_key(flow, flags), bytes(32) + (77).to_bytes(4, "little") + bytes(20)


def _packets(net: ForeignNet) -> Iterator[ProbeEvent]:
    """With entries of every kind, from a service, an ICMP error, with a mark, in a tunnel."""
    client, server = ip_address(CLIENT), ip_address(SERVER)
    flow = FlowTuple(17, client, CLIENT_PORT, server, PORT)
    text = f"udp {CLIENT}:{CLIENT_PORT} > {SERVER}:{PORT}"
    with pinned(*CT) as tables:
        yield from traced(net, text, net.send, tables)
        with Map.open_pinned(tables / pins.CT4_ANY) as table:
            table.update(*_entry(FlowTuple(1, server, 0, client, 0), 2))
            yield from traced(net, f"udp {SERVER}:9100 > {CLIENT}:9104", lambda: answered(net, 9104), tables)
            table.update(*_entry(flow, 4))
            yield from traced(net, text, net.send, tables)
            table.delete(_entry(flow, 4)[0])
            # It is the answer of a service now.
            table.update(*_entry(flow.reversed(), 4))
            yield from traced(net, text, net.send, tables)

    def marked() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x12340F00)
            one.sendto(b"marked", (CLIENT, 9105))

    request = probe_request(find_points([net.device], [net.server]), parse_flow_text(f"udp {SERVER} > {CLIENT}:9105"))
    yield from traced_by(request, lambda: run_in_netns(net.server, marked))
    inner = build_frame(parse_packet_text("tcp 10.0.0.1:4000 > 10.0.0.2:80 S"))
    data = struct.pack(">II", 0x08000000, 77 << 8) + inner
    yield from traced(net, "tcp 10.0.0.1 > 10.0.0.2", lambda: sent(net, socket.AF_INET, data, (SERVER, 8472)))


def _drops(net: ForeignNet) -> Iterator[ProbeEvent]:
    """By the kernel alone, by either direction's policy, with and without a rule for it."""
    text = f"udp {CLIENT}:{CLIENT_PORT} > {SERVER}:{PORT}"
    everybody = struct.pack("<IIBBH", 40, 0, 1, 0, 0)
    for bits, rule in ((16, None), (12, None), (0, None), (0, everybody)):
        with pinned(*CT, *POLICY) as tables:
            _fill_policy(tables, bits=bits, peers=f"{CLIENT}/32")
            if rule is not None:
                with Map.open_pinned(tables / pins.ENDPOINTS) as table:
                    table.update(rec.endpoint_key(IPv4Address(CLIENT)), rec.endpoint_info(5, 42, 7777, None, None))
                with Map.open_pinned(tables / f"{pins.CILIUM_POLICY}00042") as table:
                    table.update(rule, bytes([0, 0, 1, 0, 0, 0, 0, 0]))

            def count_and_send(where: Path = tables) -> None:
                _count_drop(where, 133, 100)
                net.send()

            yield from traced(net, text, net.send, tables)
            yield from traced(net, text, count_and_send, tables)


def test_every_sentence_of_a_probe_is_provoked(net: ForeignNet) -> None:
    out = io.StringIO()
    tables = [ProbeTable(out, color=False, wall_offset_ns=0, verbose=verbose) for verbose in (False, True)]
    for kind, events in (("passes", _packets), ("drops", _drops)):
        with foreign_program(net, kind):
            for event in events(net):
                for table in tables:
                    table.event(event)
    for module in held_by(__file__):
        assert len(sentences(module)) > 2
        assert unsaid(module, out.getvalue(), BEYOND) == []
