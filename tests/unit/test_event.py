"""Events: words equal to the header's, decoding, explanations, JSON."""

from __future__ import annotations

import gc
import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, TextIO

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.abi import layouts
from ctctl.abi.words import reason_name
from ctctl.cli.schemas import SCHEMAS
from ctctl.decode.ct import encode_key
from ctctl.errors import DecodeError
from ctctl.events.decode import decode_event
from ctctl.events.explain import DROP_SENTENCES, explain
from ctctl.events.filter import EventFilter
from ctctl.events.lines import packet_words
from ctctl.events.record import EVENT_SCHEMA, event_record
from ctctl.model import event as model
from ctctl.model.recent import Recent, RecentSet
from ctctl.model.tuples import FlowTuple
from ctctl.packet.text import parse_flow_text
from ctctl.tables.query.filter import Filter
from ctctl.trace.decode_probe import decode_probe_event
from ctctl.trace.show import TableTrace
from ctctl.trace.show_probe import PROBE_SCHEMA, probe_record
from ctctl.trace.story import StoryBook

POD, VIP, BACKEND = (IPv4Address(text) for text in ("10.64.0.36", "10.68.174.146", "10.64.0.98"))
Why = model.Why
SIZE = len(bytes(layouts.ctctl_event()))


def room(address: IPv4Address | IPv6Address) -> tuple[int, ...]:
    """An event's room for an address, IPv4's in the first 4 bytes."""
    return tuple(address.packed.ljust(16, b"\0"))


def packet_tuple(flow: FlowTuple) -> layouts.ipv6_ct_tuple:
    return layouts.ipv6_ct_tuple(
        saddr=room(flow.src), daddr=room(flow.dst), sport=flow.src_port, dport=flow.dst_port, nexthdr=flow.proto
    )


def probe_tuple(flow: FlowTuple) -> layouts.ipv6_ct_tuple:
    """The packet's own orientation: the source port is the packet's. IPv4 stands in the first 4 bytes."""
    ends = flow.dst.packed.ljust(16, b"\0") + flow.src.packed.ljust(16, b"\0")
    ports = flow.dst_port.to_bytes(2, "big") + flow.src_port.to_bytes(2, "big")
    return layouts.ipv6_ct_tuple.from_buffer_copy(ends + ports + bytes((flow.proto, 0)))


def room_of_key(key: bytes) -> bytes:
    """An event's room for a table's key."""
    return key if len(key) == 38 else key[:4] + bytes(12) + key[4:8] + bytes(12) + key[8:]


def raw_event(flow: FlowTuple, out: FlowTuple | None = None, **fields: Any) -> layouts.ctctl_event:
    family = 1 if flow.src.version == 4 else 2
    raw = layouts.ctctl_event(time_ns=1_000_000_000_000, now_s=1000, hook=1, family=family, **fields)
    setattr(raw, "in", packet_tuple(flow))
    raw.out = packet_tuple(out or flow)
    return raw


def add_lookup(
    raw: layouts.ctctl_event,
    flow: FlowTuple,
    *,
    kind: int,
    why: int,
    result: int = 0,
    tuple_flags: int = 0,
    before: dict[str, int] | None = None,
    after: dict[str, int] | None = None,
) -> None:
    record = raw.lookup[raw.nr_lookups]
    record.tuple = layouts.ipv6_ct_tuple.from_buffer_copy(room_of_key(encode_key(flow, tuple_flags)))
    record.kind, record.why, record.result = kind, why, result
    record.before = layouts.ct_entry(**(before or {}))
    record.after = layouts.ct_entry(**(after or {}))
    raw.nr_lookups += 1


TO_POD = FlowTuple(6, POD, 54260, BACKEND, 8000)
TO_VIP = FlowTuple(6, POD, 54260, VIP, 80)


@pytest.mark.parametrize(
    ("words", "enum", "prefix"),
    [
        (model.Hook, layouts.CtctlHook, "HOOK_"),
        (model.Verdict, layouts.CtctlVerdict, "VERDICT_"),
        (model.LookupKind, layouts.CtctlLookupKind, "LOOKUP_"),
        (model.LookupDirection, layouts.CtctlCtDir, "CT_DIR_"),
        (model.CtResult, layouts.CtctlCtResult, "CT_RESULT_"),
    ],
)
def test_words_are_those_of_the_header(words, enum, prefix) -> None:
    names = {name.removeprefix(prefix).lower() for name in enum.__members__} - {"none", "max"}
    assert {word.value for word in words} == names


def test_why_bits_are_those_of_the_header() -> None:
    header = {name.removeprefix("WHY_"): int(bit) for name, bit in layouts.CtctlWhy.__members__.items()}
    assert {name: int(bit) for name, bit in Why.__members__.items()} == header


def test_every_drop_reason_has_a_sentence() -> None:
    reasons = {reason_name(int(number)) for number in layouts.CtctlReason} - {"ok", "max"}
    assert set(DROP_SENTENCES) == reasons


def test_hook_numbers_round_trip() -> None:
    for hook in model.Hook:
        raw = raw_event(TO_POD)
        raw.hook = layouts.CtctlHook[f"HOOK_{hook.value.upper()}"]
        assert decode_event(bytes(raw)).hook is hook


def test_event_fields_arrive_in_host_order() -> None:
    raw = raw_event(
        TO_VIP,
        TO_POD,
        ifindex=21,
        tcp_flags=2,
        packet_len=74,
        rev_nat_index=15,
        backend_id=19,
        tunnel_remote=int(IPv4Address("10.0.0.2")),
        tunnel_vni=2,
        dsr_vip=room(VIP),
        dsr_port=80,
        verdict=1,
        redirect_ifindex=7,
    )
    event = decode_event(bytes(raw), node="node-a", devices={21: "lxc1", 7: "eth0"})
    assert (event.tuple_in, event.tuple_out, event.translated) == (TO_VIP, TO_POD, True)
    assert (event.device, event.redirect_device, event.rev_nat, event.backend_id) == ("lxc1", "eth0", 15, 19)
    assert (str(event.tunnel_remote), event.tunnel_vni, str(event.dsr)) == ("10.0.0.2", 2, f"{VIP}:80")
    assert (event.verdict, event.tcp_flags, event.icmp_type) == (model.Verdict.REDIRECT, 2, None)


def test_lookup_shows_the_entry_in_its_original_direction_and_what_changed() -> None:
    raw = raw_event(TO_POD, tcp_flags=0x10)
    add_lookup(
        raw,
        TO_POD,
        kind=2,
        why=Why.HIT | Why.LONG_LIFETIME,
        result=1,
        before={"lifetime": 1060, "tx_flags_seen": 2},
        after={"lifetime": 9000, "tx_flags_seen": 0x12, "flags": 16},
    )
    (lookup,) = decode_event(bytes(raw)).lookups
    assert (lookup.flow, lookup.direction, lookup.map) == (TO_POD, "OUT", "cilium_ct4_global")
    assert {name: pair for name, pair in lookup.changes().items() if name != "flags"} == {
        "lifetime": (1060, 9000),
        "tx_flags_seen": (2, 0x12),
    }


@given(st.binary(min_size=SIZE, max_size=SIZE), st.integers(0, 8), st.integers(0, 3), st.integers(0, 9))
def test_any_bytes_end_in_an_event_or_a_decode_error(data: bytes, hook: int, verdict: int, kind: int) -> None:
    raw = layouts.ctctl_event.from_buffer_copy(data)
    raw.hook, raw.verdict = hook, verdict
    for record in raw.lookup:
        record.kind, record.dir, record.result = kind, 1, 2
    try:
        event = decode_event(bytes(raw))
    except DecodeError:
        assert hook not in range(1, 7) or verdict > 2 or (raw.nr_lookups and kind not in range(1, 7))
        return
    assert all(sentence.isprintable() for sentence in explain(event))


def test_an_event_of_ipv6() -> None:
    client, backend = IPv6Address("2001:db8::50"), IPv6Address("fd00:64::64")
    flow = FlowTuple(6, client, 40000, backend, 8080)
    raw = raw_event(flow, tcp_flags=2, dsr_vip=room(IPv6Address("2001:db8::10")), dsr_port=80)
    add_lookup(raw, flow, kind=4, why=Why.CREATED, after={"lifetime": 1060, "flags": 0x80})
    event = decode_event(bytes(raw))
    assert (event.tuple_in, str(event.dsr)) == (flow, "[2001:db8::10]:80")
    assert (event.lookups[0].flow, event.lookups[0].map) == (flow, "cilium_ct6_global")


def test_icmp_type_that_no_hook_read_is_not_made_up() -> None:
    passed_on = FlowTuple(1, IPv4Address("10.0.0.1"), 0, IPv4Address("10.0.0.2"), 0)
    event = decode_event(bytes(raw_event(passed_on)))
    assert (event.icmp_type, event.icmp_code) == (None, None)
    assert packet_words(event) == "icmp 10.0.0.1 > 10.0.0.2"
    reply = FlowTuple(1, IPv4Address("10.0.0.1"), 0, IPv4Address("10.0.0.2"), 7)
    assert packet_words(decode_event(bytes(raw_event(reply)))) == "icmp 10.0.0.1 > 10.0.0.2 echo reply id 7"
    # At a hook that translates and tracks nothing the identifier was not read: it is not 0.
    unread = replace(decode_event(bytes(raw_event(reply))), tuple_in=passed_on)
    assert packet_words(unread) == "icmp 10.0.0.1 > 10.0.0.2 echo reply"


def test_short_event_is_refused() -> None:
    with pytest.raises(DecodeError, match=f"has {SIZE} bytes, this one 10"):
        decode_event(bytes(10))


CLOSED = {"flags": 3, "lifetime": 1010, "backend_id": 19}

EXPLAINED = [
    (
        "masqueraded by another port",
        {"tcp_flags": 2},
        {"kind": 6, "why": Why.SNAT_CREATED | Why.SNAT_PORT_TAKEN},
        [
            "a pair of SNAT entries is written; the port was taken by another flow to the same end, so it got another",
            "passed on to the stack",
        ],
    ),
    (
        "no port is free",
        {"tcp_flags": 2, "verdict": 2, "reason": 23},
        {"kind": 6, "why": Why.SNAT_EXHAUSTED},
        [
            "no free port of the node's address was found in 128 tries",
            "dropped (nat_no_mapping): no port of the node's address is free for this destination",
        ],
    ),
    (
        "new connection",
        {"tcp_flags": 2},
        {"kind": 2, "why": Why.CREATED | Why.RELATED_CREATED | Why.POLICY_ALLOWED, "after": {"lifetime": 1060}},
        [
            "no entry in either direction: a new connection",
            "an OUT entry is written, and the ICMP related entry beside it",
            "lifetime 60 s",
            "policy was asked and allows it",
            "passed on to the stack",
        ],
    ),
    (
        "SYN on a closed service entry",
        {"tcp_flags": 2},
        {
            "kind": 1,
            "tuple_flags": 4,
            "why": Why.HIT | Why.REOPENED | Why.BACKEND_MAGLEV,
            "before": CLOSED,
            "after": {"lifetime": 1060, "backend_id": 24},
        },
        [
            "SYN on a closed service entry: a new backend is chosen (backend 24 from the Maglev table)",
            "passed on to the stack",
        ],
    ),
    (
        "backend gone",
        {"tcp_flags": 0x10},
        {
            "kind": 1,
            "tuple_flags": 4,
            "result": 2,
            "why": Why.HIT | Why.BACKEND_GONE | Why.BACKEND_RANDOM,
            "before": {"backend_id": 19, "lifetime": 5000},
            "after": {"backend_id": 20, "lifetime": 5000},
        },
        [
            "backend 19 of the service entry is gone: a new backend is chosen (backend 20 at random)",
            "passed on to the stack",
        ],
    ),
    (
        "second FIN",
        {"tcp_flags": 0x11},
        {
            "kind": 2,
            "result": 2,
            "why": Why.HIT | Why.CLOSED | Why.POLICY_SKIPPED,
            "before": {"flags": 2, "lifetime": 9000},
            "after": {"flags": 3, "lifetime": 1010},
        },
        [
            "OUT entry of the other direction found: a reply",
            "FIN: both closing bits are set: lifetime 10 s",
            "reply: policy is not asked",
            "passed on to the stack",
        ],
    ),
    (
        "dead entry",
        {"tcp_flags": 0x10},
        {"kind": 2, "result": 1, "why": Why.HIT | Why.DEAD, "before": CLOSED, "after": CLOSED},
        [
            "OUT entry of the packet's own direction found: established",
            "both closing bits were set before: the packet changes nothing in it",
            "passed on to the stack",
        ],
    ),
    (
        "policy denies",
        {"tcp_flags": 2, "verdict": 2, "reason": 10},
        {"kind": 2, "why": Why.POLICY_DENIED},
        [
            "no entry in either direction: a new connection",
            "no entry is written",
            "policy was asked and denies it",
            "dropped (policy): no policy rule allows this connection, or one denies it",
        ],
    ),
]


@pytest.mark.parametrize(("name", "fields", "lookup", "sentences"), EXPLAINED, ids=[case[0] for case in EXPLAINED])
def test_explanations(name, fields, lookup, sentences) -> None:
    raw = raw_event(TO_POD, **fields)
    add_lookup(raw, TO_POD, **lookup)
    assert explain(decode_event(bytes(raw))) == sentences


@pytest.mark.parametrize("bit", list(Why))
@pytest.mark.parametrize("kind", list(layouts.CtctlLookupKind)[1:])
def test_every_bit_of_every_lookup_is_explained(bit: Why, kind: int) -> None:
    raw = raw_event(TO_POD, tcp_flags=2)
    add_lookup(raw, TO_POD, kind=int(kind), why=int(bit), before={"lifetime": 1}, after={"lifetime": 1010})
    event = decode_event(bytes(raw))
    assert len(explain(event)) >= 2
    assert event.lookups[0].why.names() == [str(bit.name).lower()]


def test_unknown_why_bits_are_kept() -> None:
    raw = raw_event(TO_POD)
    add_lookup(raw, TO_POD, kind=2, why=1 << 31 | 1)
    assert decode_event(bytes(raw)).lookups[0].why.names() == ["hit", "bit31"]


def test_json_of_an_event_is_plain_and_in_host_order() -> None:
    raw = raw_event(TO_VIP, TO_POD, tcp_flags=0x12, ifindex=21, backend_id=19)
    add_lookup(raw, TO_VIP, kind=1, why=int(Why.CREATED), tuple_flags=4, after={"lifetime": 1060, "backend_id": 19})
    event = decode_event(bytes(raw), node="node-a", devices={21: "lxc1"})
    record = json.loads(json.dumps(event_record(event, wall_offset_ns=0, connection=3, raw=True)))
    assert (record["time"], record["node"], record["hook"]) == (
        "1970-01-01T00:16:40.000000Z",
        "node-a",
        "from_container",
    )
    assert (record["tcp_flags"], record["connection"], record["verdict"]) == ("SA", 3, "pass")
    assert record["tuple_out"] == {
        "proto": 6,
        "proto_name": "TCP",
        "src": "10.64.0.36",
        "src_port": 54260,
        "dst": "10.64.0.98",
        "dst_port": 8000,
    }
    (lookup,) = record["lookups"]
    assert (lookup["kind"], lookup["why"], lookup["before"], lookup["changes"]) == ("service", ["created"], None, {})
    assert (lookup["key"]["direction"], lookup["after"]["backend_id"], lookup["after"]["remaining"]) == ("SVC", 19, 60)
    assert len(bytes.fromhex(lookup["after"]["value_hex"])) == 56
    assert event_record(event)["time"] is None


def test_table_block_marks_what_changed() -> None:
    raw = raw_event(TO_VIP, TO_POD, tcp_flags=0x10, ifindex=21)
    add_lookup(
        raw,
        TO_POD,
        kind=2,
        why=int(Why.HIT | Why.LONG_LIFETIME),
        result=1,
        before={"lifetime": 1050},
        after={"lifetime": 9000, "flags": 16},
    )
    stream = io.StringIO()
    table = TableTrace(stream, color=False, wall_offset_ns=0, verbose=True)
    event = decode_event(bytes(raw), node="node-a", devices={21: "lxc\x1b[31m1"})
    table.event(event, 1)
    table.event(event, 1)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert text.count("connection 1") == 1
    assert "00:16:40.000000  node-a  from_container on lxc\\x1b[31m1" in text
    assert "changed  lifetime 50 s → 8000 s  flags [] → [SeenNonSyn]" in text
    assert f"translate  dst {VIP}:80 → {BACKEND}:8000" in text


def test_story_joins_vip_backend_and_reply_across_nodes() -> None:
    book = StoryBook(parse_flow_text(f"tcp {POD} > {VIP}:80"))
    stranger = FlowTuple(6, POD, 1, BACKEND, 9999)
    steps = [
        (TO_VIP, TO_POD, 1),
        (TO_POD, TO_POD, 1),
        (TO_POD.reversed(), TO_VIP.reversed(), 1),
        (stranger, stranger, None),
        (FlowTuple(6, POD, 54261, VIP, 80), FlowTuple(6, POD, 54261, BACKEND, 8000), 2),
        (FlowTuple(6, BACKEND, 8000, POD, 54261), FlowTuple(6, BACKEND, 8000, POD, 54261), 2),
    ]
    assert [book.admit(decode_event(bytes(raw_event(flow, out)))) for flow, out, _ in steps] == [n for *_, n in steps]
    assert book.connections == 2


@pytest.fixture
def nowhere() -> Iterator[TextIO]:
    """A stream that holds nothing of what is written."""
    with Path(os.devnull).open("w") as stream:
        yield stream


@pytest.mark.parametrize("verbose", [False, True])
def test_what_a_trace_holds_of_what_it_saw_does_not_grow(
    monkeypatch: pytest.MonkeyPatch, nowhere: TextIO, verbose: bool
) -> None:
    """A trace of everything may run for days: numbers, headings, endings and filters know the last connections only."""
    for kind in (Recent, RecentSet):
        monkeypatch.setattr(kind.__init__, "__defaults__", (64,))
    book, wanted = StoryBook(), EventFilter(Filter.parse("state == new"))
    shown = TableTrace(nowhere, color=False, verbose=verbose)

    def run(first: int, last: int) -> int:
        for port in range(first, last):
            flow = FlowTuple(6, POD, port, BACKEND, 8000)
            event = decode_event(bytes(raw_event(flow, flow)))
            number = book.admit(event)
            assert number == port
            wanted(event, number)
            shown.event(event, number)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        settled, later = run(1, 1300), run(1300, 2500)
    finally:
        tracemalloc.stop()
    assert later - settled < 12_000  # ten bytes of each connection
    assert book.connections == 2499


def test_story_knows_the_backend_side_by_the_dsr_option() -> None:
    book = StoryBook(parse_flow_text(f"tcp any > {VIP}:80"))
    raw = raw_event(TO_POD, dsr_vip=room(VIP), dsr_port=80)
    assert book.admit(decode_event(bytes(raw))) == 1
    assert book.admit(decode_event(bytes(raw_event(TO_POD.reversed())))) == 1


def test_json_of_an_event_holds_to_its_schema() -> None:
    raw = raw_event(
        TO_VIP, TO_POD, tcp_flags=0x12, tunnel_remote=1, tunnel_vni=2, dsr_vip=room(VIP), dsr_port=80, verdict=1
    )
    add_lookup(raw, TO_VIP, kind=1, why=int(Why.HIT), tuple_flags=4, before={"lifetime": 1}, after={"lifetime": 2})
    record = event_record(decode_event(bytes(raw), node="n"), wall_offset_ns=0, connection=1, raw=True)
    line = json.loads(json.dumps({"schema": EVENT_SCHEMA, **record}))
    jsonschema.validate(line, SCHEMAS[EVENT_SCHEMA])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**line, "surprise": 1}, SCHEMAS[EVENT_SCHEMA])


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_json_of_a_probe_event_holds_to_its_schema(kind: int) -> None:
    raw = layouts.ctctl_probe_event(kind=kind, time_ns=5, mark=0x0C180F00, packet_len=74, found=0b10, head_len=4)
    raw.tuple, raw.family = probe_tuple(TO_POD), 4
    event = decode_probe_event(bytes(raw))
    assert (event.flow, event.identity, len(event.head)) == (TO_POD, 3096, 4)
    assert [(entry.tuple, entry.direction) for entry in event.entries] == [(TO_POD, "OUT")]
    line = json.loads(json.dumps({"schema": PROBE_SCHEMA, **probe_record(event, wall_offset_ns=0, raw=True)}))
    jsonschema.validate(line, SCHEMAS[PROBE_SCHEMA])


@pytest.mark.parametrize(
    ("bit", "direction", "reply"), [(0, "SVC", False), (2, "IN", False), (3, "OUT", True), (4, "IN", True)]
)
def test_probe_entries_are_shown_in_their_original_direction(bit: int, direction: str, reply: bool) -> None:
    raw = layouts.ctctl_probe_event(kind=1, found=1 << bit)
    raw.tuple, raw.family = probe_tuple(TO_POD), 4
    (entry,) = decode_probe_event(bytes(raw)).entries
    assert (entry.direction, entry.tuple) == (direction, TO_POD.reversed() if reply else TO_POD)


def test_the_reply_goes_back_to_the_vip_only_where_it_was_translated() -> None:
    raw = raw_event(TO_POD, tcp_flags=0x12)
    add_lookup(raw, TO_POD, kind=5, result=2, why=Why.HIT | Why.DEAD, before=CLOSED, after=CLOSED)
    event = decode_event(bytes(raw))
    assert event.lookups[0].kind is model.LookupKind.REV_DNAT
    sentence = "an entry of a connection that was load balanced here was found, but nothing is translated"
    assert explain(event)[0] == sentence
    vip = replace(event.tuple_out, src=IPv4Address("192.0.2.1"), src_port=80)
    assert explain(replace(event, tuple_out=vip))[0].endswith("its source goes back to the VIP")


@pytest.mark.parametrize(
    ("hook", "words"),
    [(model.Hook.TO_NETDEV, "leaves by the device"), (model.Hook.FROM_NETDEV, "passed on to the stack")],
)
def test_what_leaves_is_not_passed_on_to_the_stack(hook: model.Hook, words: str) -> None:
    assert explain(replace(decode_event(bytes(raw_event(TO_POD))), hook=hook))[-1] == words
