"""Diagrams and captures of traces: who sent what to whom, and packets that another reader understands."""

from __future__ import annotations

import io
from dataclasses import replace
from ipaddress import IPv4Address
from xml.etree import ElementTree

import pytest
from scapy.layers.inet import IP, TCP
from scapy.utils import rdpcap

from ctctl.events.brief import doings
from ctctl.events.explain import explain
from ctctl.events.lines import packet_words
from ctctl.model.entry import CtEntry, CtFlags
from ctctl.model.event import (
    CtResult,
    Endpoint,
    Hook,
    HookEvent,
    LookupDirection,
    LookupKind,
    LookupRecord,
    Verdict,
    Why,
)
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.packet.dissect import dissect
from ctctl.packet.frame import build_frame
from ctctl.packet.text import parse_packet_text
from ctctl.trace.mermaid import mermaid
from ctctl.trace.picture import CaptureTrace, DiagramTrace, rebuilt
from ctctl.trace.sequence import Exchange, Message, Note, Remark, build
from ctctl.trace.svg import svg

SPACE = "{http://www.w3.org/2000/svg}"
CLIENT, VIP, POD = "172.191.0.1", "172.190.0.17", "10.64.1.36"


def flow(src: str, sport: int, dst: str, dport: int) -> FlowTuple:
    return FlowTuple(6, IPv4Address(src), sport, IPv4Address(dst), dport)


TO_VIP = flow(CLIENT, 40000, VIP, 80)
TO_POD = flow(CLIENT, 40000, POD, 8000)


def event(hook: Hook, node: str, tuple_in: FlowTuple, tuple_out: FlowTuple | None = None, **fields) -> HookEvent:
    given = {"verdict": Verdict.PASS, "tcp_flags": 2, "packet_length": 74, "device": "eth0", **fields}
    return HookEvent(5_000_000_000, 5, hook, 7, tuple_in, tuple_out or tuple_in, node=node, **given)


REMOTE = IPv4Address("10.1.0.2")
STORY = [
    event(
        Hook.FROM_NETDEV,
        "node-a",
        TO_VIP,
        TO_POD,
        tunnel_remote=REMOTE,
        tunnel_vni=2,
        dsr=Endpoint(IPv4Address(VIP), 80),
    ),
    event(Hook.FROM_OVERLAY, "node-b", TO_POD, tunnel_remote=IPv4Address("10.1.0.1"), tunnel_vni=2),
    event(Hook.TO_CONTAINER, "node-b", TO_POD, device="lxc<1>"),
    event(Hook.FROM_CONTAINER, "node-b", TO_POD.reversed(), tcp_flags=0x12),
    event(Hook.TO_NETDEV, "node-b", TO_POD.reversed(), TO_VIP.reversed(), tcp_flags=0x12),
]


def arrows(events: list[HookEvent]) -> list[tuple[str, str, str]]:
    return [(item.source, item.target, item.text) for item in build(events).parts if isinstance(item, Message)]


def test_packet_goes_from_hand_to_hand_and_each_hand_over_is_drawn_once() -> None:
    assert arrows(STORY) == [
        (CLIENT, "node-a", f"tcp {CLIENT}:40000 > {VIP}:80 S"),
        ("node-a", "node-b", f"Geneve: tcp {CLIENT}:40000 > {POD}:8000 S"),
        ("node-b", POD, f"tcp {CLIENT}:40000 > {POD}:8000 S"),
        (POD, "node-b", f"tcp {POD}:8000 > {CLIENT}:40000 S."),
        ("node-b", CLIENT, f"tcp {VIP}:80 > {CLIENT}:40000 S."),
    ]
    assert build(STORY).lifelines == [CLIENT, "node-a", "node-b", POD]


@pytest.mark.parametrize(
    ("hook", "words"),
    [(Hook.FROM_NETDEV, "Geneve to"), (Hook.FROM_CONTAINER, "Geneve to"), (Hook.FROM_OVERLAY, "Geneve from")],
)
def test_what_goes_into_the_tunnel_goes_to_its_end_translated_or_not(hook: Hook, words: str) -> None:
    for after in (TO_VIP, TO_POD):
        assert f"{words} 10.1.0.2" in " ".join(
            doings(event(hook, "node-a", TO_VIP, after, tunnel_remote=REMOTE, tunnel_vni=2))
        )


def test_tunnel_to_a_node_that_was_not_watched_is_drawn() -> None:
    assert arrows(STORY[:1])[-1] == ("node-a", str(REMOTE), f"Geneve: tcp {CLIENT}:40000 > {POD}:8000 S")
    assert arrows(STORY[1:2])[0][0] == "10.1.0.1"


def test_an_answer_out_of_the_tunnel_goes_on_to_the_client() -> None:
    answer, translated = flow(POD, 8000, "10.64.0.1", 40000), TO_VIP.reversed()
    came = event(
        Hook.FROM_OVERLAY, "node-a", answer, translated, verdict=Verdict.REDIRECT, tunnel_remote=REMOTE, tunnel_vni=7
    )
    drawn = [
        (str(REMOTE), "node-a", f"Geneve: tcp {POD}:8000 > 10.64.0.1:40000 S"),
        ("node-a", CLIENT, f"tcp {VIP}:80 > {CLIENT}:40000 S"),
    ]
    assert arrows([came]) == drawn
    # Where it meets the hook on its way out, that one draws it.
    assert arrows([came, event(Hook.TO_NETDEV, "node-a", translated)]) == drawn
    # To a pod it is not sent on.
    to_pod = replace(came, mark_out=0x1000 | 0x0F00)
    assert arrows([to_pod]) == drawn[:1]


def test_drop_ends_at_the_node() -> None:
    dropped = replace(STORY[0], verdict=Verdict.DROP, reason="no_service", tunnel_remote=None)
    diagram = build([dropped])
    assert diagram.parts[-2:] == [
        Note(
            "node-a",
            "from_netdev",
            (f"tcp {CLIENT}:40000 > {VIP}:80 S", f"translated to {CLIENT}:40000 > {POD}:8000"),
            True,
        ),
        Message("node-a", "node-a", "dropped at from_netdev: no_service", dropped=True),
    ]
    assert "p1-xp1: dropped at from_netdev: no_service" in mermaid(diagram)


def test_mermaid_text_has_no_syntax_from_outside() -> None:
    text = mermaid(build(STORY, verbose=True))
    assert text.startswith("sequenceDiagram\n")
    assert "lxc#lt;1#gt;" in text
    assert text.count("Note over") == len(STORY)
    assert not any(";" in line.replace("#gt;", "").replace("#lt;", "") for line in text.splitlines())


def test_svg_is_well_formed_and_nothing_lies_outside() -> None:
    picture = ElementTree.fromstring(svg(build(STORY)))
    space = "{http://www.w3.org/2000/svg}"
    width, height = (float(picture.get(name, "0")) for name in ("width", "height"))
    texts = [element.text or "" for element in picture.iter(f"{space}text")]
    notes = [item for item in build(STORY).parts if isinstance(item, Note)]
    assert notes
    assert all(note.title in texts for note in notes)
    for box in picture.iter(f"{space}rect"):
        if box.get("class") != "page":
            x, y, w, h = (float(box.get(name, "0")) for name in ("x", "y", "width", "height"))
            assert x >= 0
            assert x + w <= width
            assert y + h <= height


def test_no_events_are_an_empty_diagram() -> None:
    assert "no events" in mermaid(build([]))
    ElementTree.fromstring(svg(build([])))


@pytest.mark.parametrize("draw", [svg, mermaid])
def test_diagram_is_written_at_the_end(draw) -> None:
    stream = io.StringIO()
    trace = DiagramTrace(stream, draw)
    for one in STORY:
        trace.event(one, 1)
    assert stream.getvalue() == ""
    trace.finish()
    assert stream.getvalue() == draw(build(STORY, clock=lambda _ns: "second 5 of the clock"))


def test_capture_is_read_by_scapy_with_a_comment_a_hook(tmp_path) -> None:
    path = tmp_path / "flow.pcapng"
    frame = build_frame(parse_packet_text(f"tcp {CLIENT}:40000 > {POD}:8000 S len=5"))
    with path.open("wb") as stream:
        trace = CaptureTrace(stream, wall_offset_ns=1_700_000_000_000_000_000)
        trace.event(STORY[0], 1)
        trace.event(STORY[1], 1, frame)
        trace.finish()
    came, first, second = rdpcap(str(path))
    assert (came[IP].dst, came[TCP].dport, came.direction) == (VIP, 80, 1)
    assert (first[IP].dst, first[TCP].dport, float(first.time)) == (POD, 8000, 1_700_000_005.0)
    assert first.direction == 2
    assert bytes(second) == frame
    assert (first.wirelen, second.wirelen) == (74, len(frame))
    assert came.comment.startswith(b"as it came to from_netdev")
    assert (first.comment or b"").startswith(b"from_netdev pass, connection 1")
    comments = path.read_bytes()
    assert b"from_netdev pass, connection 1\ndestination translated" in comments
    assert comments.count(b"headers rebuilt from the event") == 2
    assert b"node-a:eth0" in comments


@pytest.mark.parametrize("one", STORY)
def test_rebuilt_headers_are_those_of_the_packet_that_left(one: HookEvent) -> None:
    packet = dissect(rebuilt(one, one.tuple_out))
    assert (packet.src, packet.src_port, packet.dst, packet.dst_port) == (
        one.tuple_out.src,
        one.tuple_out.src_port,
        one.tuple_out.dst,
        one.tuple_out.dst_port,
    )
    assert packet.tcp_flags == one.tcp_flags


def test_tunnel_packets_outside_of_the_flow_are_not_drawn() -> None:
    nothing = FlowTuple(0, IPv4Address(0), 0, IPv4Address(0), 0)
    outer = event(Hook.TO_NETDEV, "node-a", nothing)
    assert build([STORY[0], outer, *STORY[1:]]) == build(STORY)
    assert packet_words(outer) == "packet outside of any flow"


def changed() -> HookEvent:
    kept = CtFlags.RxClosing | CtFlags.SeenNonSyn
    before = CtEntry("cilium_ct4_global", TO_POD, Direction.IN, False, 1, kept, 8005, 0, 2, 2, 2, 5, 5)
    added = CtFlags.TxClosing | CtFlags.FromTunnel | CtFlags.DSRInternal
    record = LookupRecord(
        LookupKind.CT,
        LookupDirection.EGRESS,
        CtResult.REPLY,
        "cilium_ct4_global",
        TO_POD,
        Direction.IN,
        related=False,
        why=Why.HIT,
        before=before,
        after=replace(before, lifetime=15, flags=kept | added),
    )
    return replace(STORY[3], lookups=(record,))


def test_a_change_is_said_in_the_words_of_the_trace_and_no_note_is_wide() -> None:
    note = next(item for item in build([changed()]).parts if isinstance(item, Note))
    assert note.lines == ("IN +TxClosing +DSRInternal +FromTunnel, 8000 s → 10 s",)
    drawn = [element.text or "" for element in ElementTree.fromstring(svg(build([changed()]))).iter(f"{SPACE}text")]
    assert max(map(len, drawn)) <= 50


def test_hooks_that_only_pass_it_on_are_drawn_when_asked_for() -> None:
    quiet, all_of_it = build(STORY), build(STORY, verbose=True)
    titles = [part.title for part in quiet.parts if isinstance(part, Note)]
    assert titles == ["from_netdev", "from_overlay", "to_netdev"]
    assert sum(isinstance(part, Note) for part in all_of_it.parts) == len(STORY)
    assert [part for part in quiet.parts if isinstance(part, Message)] == [
        part for part in all_of_it.parts if isinstance(part, Message)
    ]


def test_names_and_times_stand_beside_addresses_and_packets() -> None:
    later = [replace(one, time_ns=one.time_ns + 1_500_000) for one in STORY[3:]]
    diagram = build([*STORY[:3], *later], {CLIENT: "office", POD: "shop/web-1", VIP: "shop/web"})
    assert diagram.names == {CLIENT: "office", POD: "shop/web-1"}
    assert diagram.title == f"TCP {CLIENT}:40000 -> {VIP}:80 (office -> shop/web)"
    assert [item.when for item in diagram.items if isinstance(item, Exchange)] == ["+0 s", "+0.0015 s"]
    for drawn in (svg(diagram), mermaid(diagram)):
        assert "shop/web-1" in drawn
        assert "+0.0015 s" in drawn
    assert build(STORY[2:3]).names == {POD: "lxc<1>"}, "without a name, the device of the pod"


@pytest.mark.parametrize(
    ("flow_in", "fields", "words"),
    [
        (replace(TO_VIP, proto=1, src_port=0, dst_port=0), {"icmp_type": 3, "icmp_code": 3}, "(port unreachable)"),
        (replace(TO_VIP, proto=1, src_port=0, dst_port=0), {"icmp_type": 11, "icmp_code": 0}, "(time exceeded)"),
        (TO_VIP, {"tcp_flags": 0x14}, "(reset)"),
    ],
)
def test_errors_and_refusals_are_called_what_they_are(flow_in: FlowTuple, fields: dict[str, int], words: str) -> None:
    one = event(Hook.FROM_NETDEV, "node-a", flow_in, **{"tcp_flags": None, **fields})
    assert arrows([one])[0][2].endswith(words)


def test_an_answer_that_a_hook_makes_goes_back() -> None:
    answer = FlowTuple(1, IPv4Address(VIP), 0, IPv4Address(CLIENT), 0)
    none = LookupRecord(
        LookupKind.SERVICE, LookupDirection.SERVICE, CtResult.NEW, "", TO_VIP, Direction.SVC, False, Why.NO_BACKEND
    )
    one = event(Hook.FROM_NETDEV, "node-a", TO_VIP, answer, lookups=(none,), verdict=Verdict.REDIRECT)
    assert arrows([one]) == [
        (CLIENT, "node-a", f"tcp {CLIENT}:40000 > {VIP}:80 S"),
        ("node-a", CLIENT, f"icmp {VIP} > {CLIENT} port unreachable"),
    ]


def test_a_packet_is_one_row_of_arrows_and_a_curl_fits_a_page() -> None:
    picture = svg(build(STORY))
    lines = [e for e in ElementTree.fromstring(picture).iter(f"{SPACE}line") if e.get("class") == "arrow"]
    assert len({line.get("y1") for line in lines[:3]}) == 1, "from the client to the pod in one row"
    packets = [STORY[at] for _ in range(10) for at in range(5)]
    height = float(ElementTree.fromstring(svg(build(packets))).get("height", "0"))
    assert height <= 20 * 130


def test_what_is_said_between_packets() -> None:
    diagram = build([STORY[0], Remark("step 2: the clock moves by 60 s"), STORY[1]])
    for drawn in (svg(diagram), mermaid(diagram)):
        assert "the clock moves by 60 s" in drawn
    assert [type(item) for item in diagram.items] == [Exchange, Remark, Exchange]


def test_a_picture_is_for_dark_pages_too() -> None:
    assert "prefers-color-scheme:dark" in svg(build(STORY))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"verdict": Verdict.REDIRECT, "mark_out": 0x1000}, "Geneve from"),
        ({"verdict": Verdict.REDIRECT}, "Geneve, other end"),
        ({"verdict": Verdict.REDIRECT, "mark_in": 0x1000, "mark_out": 0x1000}, "Geneve, other end"),
        ({"verdict": Verdict.DROP, "reason": "invalid"}, "Geneve, other end"),
    ],
)
def test_of_what_may_be_sent_on_into_a_tunnel_no_direction_is_said(fields: dict[str, object], words: str) -> None:
    one = event(Hook.FROM_OVERLAY, "node-b", TO_POD, tunnel_remote=REMOTE, tunnel_vni=2, **fields)
    assert f"{words} 10.1.0.2" in " ".join(doings(one))
    said = " ".join(explain(one))
    assert ("came through the tunnel from 10.1.0.2" in said) == (words == "Geneve from")
    assert ("or of the one that it was sent into, is 10.1.0.2" in said) == (words != "Geneve from")
