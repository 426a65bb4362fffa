"""Connections, hook events, nf_conntrack, names and clocks: the parts of the ct commands that need no kernel."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np
import pytest

from ctctl.ct.flow import read_flow
from ctctl.ct.get import get
from ctctl.ct.hook_events import events_of
from ctctl.ct.report import Connection, CtEventKind
from ctctl.ct.sentence import explain
from ctctl.decode.ct import decode_entry, encode_key, encode_value
from ctctl.errors import CtctlError, NotFoundError, UsageError
from ctctl.model.clock import Clock, parse_clock
from ctctl.model.entry import CtEntry, CtFlags, CtState, Layout
from ctctl.model.event import CtResult, Hook, HookEvent, LookupDirection, LookupKind, LookupRecord, Verdict, Why
from ctctl.model.nat import NatEntry
from ctctl.model.row import CtRow
from ctctl.model.service import Backend, RevNat, ServiceSlot, SocketNat
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.tables.open import open_source
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.show.entry import ct_view, row_record
from ctctl.tables.show.lines import json_lines
from ctctl.tables.show.rowform import EntryForm
from ctctl.tables.sources.base import CtTable, Source, SourceOptions
from ctctl.tables.sources.clocks import Shown, Told, clock_by_reports, clock_of_document, objection, told_by
from ctctl.tables.sources.listings import Listings
from ctctl.tables.sources.nf import record_of
from tests.support.children import run_ctctl

NOW = 5000
CLIENT, VIP, POD = IPv4Address("192.0.2.1"), IPv4Address("172.16.0.1"), IPv4Address("10.0.0.2")


def entry(flow: FlowTuple, flags: int = 0, tuple_flags: int = 0, **changes: object) -> CtEntry:
    blank = decode_entry(encode_key(flow, tuple_flags), bytes(56), keep_raw=False)
    return replace(blank, flags=CtFlags(flags), **{"lifetime": NOW + 60, **changes})  # type: ignore[arg-type]


def source_of(entries: list[CtEntry], listings: Listings) -> Source:
    keys = np.array([list(encode_key(e.tuple, e.tuple_flags)) for e in entries], dtype=np.uint8)
    values = np.array([list(encode_value(e, Layout.V1_16)) for e in entries], dtype=np.uint8)
    table = CtTable("cilium_ct4_global", 4, Layout.V1_16, lambda: iter([(keys, values)]), now=NOW)
    return Source("test", tables=[table], listings=lambda _node: listings)


def flow(text: str) -> FlowTuple:
    (asked,) = read_flow(text)
    assert asked.exact is not None
    return asked.exact


def only(source: Source, text: str) -> Connection:
    (found,) = get(source, text)
    return found


def test_flows_are_read_both_ways() -> None:
    assert str(flow("tcp 10.0.0.1:5 > 10.0.0.2:80")) == "TCP 10.0.0.1:5 -> 10.0.0.2:80"
    assert flow("tcp [fd00::1]:5 -> [fd00::2]:80").dst_port == 80
    assert flow("icmp 10.0.0.1 > 10.0.0.2").src_port == 0
    for wrong in (
        "tcp 10.0.0.1:5",
        "tpc 1.1.1.1:1 > 2.2.2.2:2",
        "tcp 1.1.1.1:99999 > 2.2.2.2:2",
        "tcp 1.1.1.1:1 > [::1]:2",
        "",
    ):
        with pytest.raises(UsageError):
            read_flow(wrong)


def service_world() -> Source:
    """A client of a VIP behind rev-NAT 15: service entry, translated OUT entry, related, SNAT record."""
    translated = flow("tcp 192.0.2.1:5000 > 10.0.0.2:8000")
    entries = [
        entry(flow("tcp 192.0.2.1:5000 > 172.16.0.1:80"), 0x10, 4, backend_id=19, rev_nat=15),
        entry(translated, 0x10, 0, rev_nat=15),
        entry(flow("icmp 192.0.2.1 > 10.0.0.2"), 0, 2, related=True, rev_nat=15),
        entry(flow("tcp 192.0.2.9:1 > 10.0.0.2:8000"), 0x10),
    ]
    listings = Listings(
        backends=[Backend(19, POD, 6, 8000, "active")],
        rev_nats=[RevNat(15, VIP, 80)],
        nat_entries=[NatEntry("cilium_snat_v4_external", translated.reversed(), Direction.OUT, False, "SRC", VIP, 80)],
    )
    return source_of(entries, listings)


@pytest.mark.parametrize(
    "asked",
    ["tcp 192.0.2.1:5000 > 172.16.0.1:80", "tcp 192.0.2.1:5000 > 10.0.0.2:8000", "tcp 10.0.0.2:8000 > 192.0.2.1:5000"],
)
def test_a_connection_is_found_by_any_of_its_tuples(asked: str) -> None:
    found = only(service_world(), asked)
    assert [member.role for member in found.members] == ["service", "out", "related"]
    assert found.backend is not None
    assert found.backend.backend_id == 19
    assert found.service == "172.16.0.1:80"
    assert [nat.to_addr for nat in found.nat] == [VIP]
    assert found.state == "established"


def dsr_world() -> Source:
    """The backend's node of a DSR connection: only the SNAT entry says what the client talks to."""
    translated = flow("tcp 192.0.2.1:5000 > 10.0.0.2:8000")
    slots = [ServiceSlot(VIP, 80, "external", slot, 16, backend_id=number) for slot, number in ((0, None), (1, 20))]
    listings = Listings(
        services=slots,
        backends=[Backend(19, POD, 6, 8000, "active"), Backend(20, POD, 6, 8000, "active")],
        rev_nats=[RevNat(15, POD, 80), RevNat(16, VIP, 80)],
        nat_entries=[NatEntry("cilium_snat_v4_external", translated.reversed(), Direction.OUT, False, "SRC", VIP, 80)],
    )
    return source_of([entry(translated, 0x90), entry(translated, 0x410, 1)], listings)


@pytest.mark.parametrize("asked", ["tcp 192.0.2.1:5000 > 172.16.0.1:80", "tcp 172.16.0.1:80 > 192.0.2.1:5000"])
def test_a_dsr_connection_is_found_by_the_address_its_client_has(asked: str) -> None:
    found = only(dsr_world(), asked)
    assert [member.role for member in found.members] == ["out", "in"]
    assert found.service == "172.16.0.1:80"
    assert found.backend is not None
    assert found.backend.backend_id == 20
    assert len(found.nat) == 1


def test_an_unknown_connection_says_what_would_happen() -> None:
    with pytest.raises(NotFoundError, match="a packet of it would be NEW"):
        get(service_world(), "tcp 1.1.1.1:1 > 2.2.2.2:2")


@pytest.mark.parametrize(
    ("flags", "seen", "tuple_flags", "words"),
    [
        (0, (2, 0), 0, "new: only a SYN has been seen"),
        (0, (0, 0), 0, "new: no packet without SYN has been seen"),
        (0x12, (0, 0), 0, "closing: 192.0.2.1 has sent its FIN, 10.0.0.2 has not"),
        (0, (2, 0x12), 0, "new: SYN and SYN-ACK seen"),
        (0x10, (2, 0x12), 0, "established: packets without SYN"),
        (0x12, (0x1B, 0x1A), 0, "closing: 192.0.2.1 has sent its FIN, 10.0.0.2 has not"),
        (0x11, (0x1A, 0x1B), 0, "closing: 10.0.0.2 has sent its FIN, 192.0.2.1 has not"),
        (0x12, (0x1B, 0x1A), 1, "closing: 10.0.0.2 has sent its FIN, 192.0.2.1 has not"),
        (0x13, (0x1B, 0x1B), 0, "closed: both 192.0.2.1 and 10.0.0.2 have sent their FIN"),
        (0x13, (0x1E, 0x1A), 0, "closed: a RST ended it"),
        (0x13, (0x1B, 0), 4, "closed: the client (192.0.2.1) sent a FIN or RST"),
    ],
)
def test_the_sentence(flags: int, seen: tuple[int, int], tuple_flags: int, words: str) -> None:
    item = entry(
        flow("tcp 192.0.2.1:5000 > 10.0.0.2:80"), flags, tuple_flags, tx_flags_seen=seen[0], rx_flags_seen=seen[1]
    )
    state, why = explain([CtRow(item, now=NOW)])
    assert why.startswith(words)
    revived = "a SYN opens it anew" if flags & 3 == 3 else "a packet refreshes it"
    assert why.endswith(f"; expires in 1m unless {revived}")
    expired, why = explain([CtRow(replace(item, lifetime=NOW - 90), now=NOW)])
    assert expired == f"{state}, expired"
    assert "expired 1m30s ago, it still matches packets" in why
    assert "time left is unknown" in explain([CtRow(item)])[1]


@pytest.mark.parametrize(
    ("lifetime", "shown", "remaining", "expired"),
    [
        (NOW + 90, "1m30s", 90, False),
        (NOW, "0s", 0, False),
        (NOW - 1, "expired 1s ago", -1, True),
        (NOW - 90, "expired 1m30s ago", -90, True),
    ],
)
def test_time_left_and_time_over_are_never_taken_for_one_another(
    lifetime: int, shown: str, remaining: int, expired: bool
) -> None:
    row = CtRow(entry(flow("tcp 192.0.2.1:5000 > 10.0.0.2:80"), 0x10, lifetime=lifetime), now=NOW)
    (column,) = (column for column in ct_view().columns if column.name == "remaining")
    assert column.text is not None
    assert (column.text(row), column.value(row)) == (shown, remaining)
    record = row_record(row)
    assert (record["remaining"], record["expired"]) == (remaining, expired)
    source = source_of([row.entry], Listings())
    table = source.tables[0]
    (line,) = json_lines()(EntryForm(table)).lines(next(table.columns()))
    text = line.decode()
    assert (json.loads(text)["remaining"], json.loads(text)["expired"]) == (remaining, expired)
    (state,) = (column for column in ct_view().columns if column.name == "state")
    assert state.text is not None
    assert state.text(row).endswith(" over") is expired


def lookup(before: CtEntry | None, after: CtEntry | None) -> LookupRecord:
    return LookupRecord(
        LookupKind.CT,
        LookupDirection.EGRESS,
        CtResult.NEW,
        "cilium_ct4_global",
        flow("tcp 192.0.2.1:5000 > 10.0.0.2:80"),
        Direction.OUT,
        False,
        Why(0),
        before=before,
        after=after,
    )


def test_events_of_hooks() -> None:
    path = flow("tcp 192.0.2.1:5000 > 10.0.0.2:80")
    new, seen, fin = entry(path), entry(path, 0x10), entry(path, 0x12)
    refreshed = replace(seen, lifetime=NOW + 99, packets=5, last_tx_report=NOW)

    def kinds(*lookups: LookupRecord, wanted: Filter = EVERYTHING) -> list[CtEventKind]:
        event = HookEvent(7 * 10**9, NOW, Hook.FROM_CONTAINER, 1, path, path, Verdict.PASS, lookups=lookups, node="a")
        return [found.kind for found in events_of(event, wanted)]

    assert kinds(lookup(None, new)) == [CtEventKind.NEW]
    assert kinds(lookup(new, seen), lookup(seen, fin)) == [CtEventKind.UPDATE, CtEventKind.CLOSING]
    assert kinds(lookup(fin, new)) == [CtEventKind.NEW]
    assert kinds(lookup(seen, refreshed), lookup(None, None)) == []
    assert kinds(lookup(None, new), wanted=Filter.parse("udp")) == []


# ---- clocks


def test_clocks_by_what_lines_show() -> None:
    assert told_by([], None) == Told()
    found = told_by([Shown(NOW + 5, 5, 0), Shown(NOW - 7, -7, 0)], None)
    assert found.clock is not None
    assert (found.clock.hz, found.now, found.proven) == (None, NOW, True)
    for hz in (100, 250, 300, 1000):
        now = 19_733_895
        lines = [Shown(t, (t << 8) // hz - (now << 8) // hz, 0) for t in range(now - 4000, now + 4000, 37)]
        told = told_by(lines, None)
        assert told.clock is not None
        assert told.now is not None
        assert told.clock.hz == hz
        assert told.clock.seconds(told.now) == (now << 8) // hz
    assert told_by([Shown(10, 5, 0), Shown(20, 5, 0), Shown(30, 9, 0)], None).contradiction
    single = told_by([Shown(NOW + 5, 5, 0)], None)
    assert (single.now, single.proven) == (NOW, False)
    assert told_by([Shown(NOW + 5, 5, 0)], Clock(250, "said")).clock == Clock(250, "said")


@pytest.mark.parametrize("age_s", [-6, 10 * 86400 + 1])
def test_a_clock_that_the_reports_speak_against(age_s: int) -> None:
    assert objection(Clock(), 2_000_000, 2_000_000 - age_s)
    nearer = age_s + (1 if age_s < 0 else -1)
    assert objection(Clock(), 2_000_000, 2_000_000 - nearer) is None
    assert objection(Clock(), 2_000_000, 0) is None


SAMPLES = Path(__file__).parents[1] / "data/samples/cilium-dbg-1.16.4"


@pytest.mark.parametrize(("name", "wrong"), [("ktime", "jiffies:250"), ("jiffies-250", "ktime")])
def test_a_given_clock_that_the_files_speak_against_is_said(tmp_path: Path, name: str, wrong: str) -> None:
    listing = SAMPLES / f"ct-list-global.time-diff-{name}.txt"
    snapshot = str(tmp_path / "snapshot")
    assert run_ctctl("ct", "export", snapshot, "--from", listing).returncode == 0
    for file in (str(listing), snapshot):
        with open_source(file, SourceOptions(clock=parse_clock(wrong))) as source:
            assert len([note for note in source.notes if f"--clock {wrong} was given, and" in note]) == 1
        with open_source(file, SourceOptions(clock=parse_clock(name.replace("-", ":")))) as source:
            assert [note for note in source.notes if "was given" in note] == []


def test_clocks_by_the_latest_report() -> None:
    assert clock_by_reports([], 1000, 4000, 250) is None
    ktime = clock_by_reports([990, 5], 1000, 4000, 250)
    assert ktime is not None
    assert (ktime[0].hz, ktime[1]) == (None, 1000)
    jiffies = clock_by_reports([3999], 1000, 4000, 250)
    assert jiffies is not None
    assert (jiffies[0].hz, jiffies[1]) == (250, 4000)
    assert clock_by_reports([9999], 1000, 4000, 250) is None


@pytest.mark.parametrize(
    ("document", "hz"), [({"ClockSource": 0, "KernelHz": 250}, None), ({"ClockSource": 1, "KernelHz": 100}, 100)]
)
def test_clocks_by_the_agents_configuration(document: dict[str, object], hz: int | None) -> None:
    clock = clock_of_document(document, "here")
    assert clock is not None
    assert clock.hz == hz
    assert "here" in clock.evidence


@pytest.mark.parametrize(
    "document", [{}, {"ClockSource": 1}, {"ClockSource": "x"}, {"ClockSource": 1, "KernelHz": "x"}]
)
def test_no_configuration_is_no_clock(document: dict[str, object]) -> None:
    assert clock_of_document(document, "here") is None


# ---- nf_conntrack


def nf_tuple(src: str, sport: int, dst: str, dport: int, proto: int = 6) -> dict[str, object]:
    return {
        "CTA_TUPLE_IP": {"CTA_IP_V4_SRC": src, "CTA_IP_V4_DST": dst},
        "CTA_TUPLE_PROTO": {"CTA_PROTO_NUM": proto, "CTA_PROTO_SRC_PORT": sport, "CTA_PROTO_DST_PORT": dport},
    }


@pytest.mark.parametrize(
    ("state", "expected"), [(1, CtState.NEW), (3, CtState.ESTABLISHED), (4, CtState.CLOSING), (7, CtState.CLOSED)]
)
def test_kernel_states_become_ours(state: int, expected: CtState) -> None:
    attributes = {
        "CTA_TUPLE_ORIG": nf_tuple("10.0.0.1", 5, "10.0.0.2", 80),
        "CTA_TUPLE_REPLY": nf_tuple("10.0.0.2", 80, "10.0.0.1", 5),
        "CTA_PROTOINFO": {"CTA_PROTOINFO_TCP": {"CTA_PROTOINFO_TCP_STATE": state}},
        "CTA_TIMEOUT": 30,
        "CTA_COUNTERS_ORIG": {"CTA_COUNTERS_PACKETS": 3, "CTA_COUNTERS_BYTES": 300},
    }
    record = record_of(attributes, NOW)
    assert record is not None
    family, key, value, nat = record
    found = decode_entry(key, value, Layout.V1_15)
    assert (family, found.state, found.lifetime, found.rx_packets, found.rx_bytes) == (4, expected, NOW + 30, 3, 300)
    assert str(found.tuple) == "TCP 10.0.0.1:5 -> 10.0.0.2:80"
    assert nat is None


def test_translated_kernel_connections_have_a_nat_record() -> None:
    original = nf_tuple("10.0.0.1", 5, "8.8.8.8", 53, 17)
    masqueraded = record_of(
        {"CTA_TUPLE_ORIG": original, "CTA_TUPLE_REPLY": nf_tuple("8.8.8.8", 53, "1.2.3.4", 777, 17)}, NOW
    )
    assert masqueraded is not None
    assert masqueraded[3] is not None
    assert (masqueraded[3].xlate, str(masqueraded[3].to_addr), masqueraded[3].to_port) == ("SRC", "1.2.3.4", 777)
    redirected = record_of(
        {"CTA_TUPLE_ORIG": original, "CTA_TUPLE_REPLY": nf_tuple("9.9.9.9", 54, "10.0.0.1", 5, 17)}, NOW
    )
    assert redirected is not None
    assert redirected[3] is not None
    assert (redirected[3].xlate, str(redirected[3].to_addr)) == ("DST", "9.9.9.9")
    assert record_of({}, NOW) is None


def test_the_kernels_own_table_can_be_asked() -> None:
    from ctctl.tables.sources.open import open_source

    try:
        source = open_source("nf")
    except CtctlError as error:
        pytest.skip(str(error))
    with source:
        assert {table.name for table in source.tables} == {"nf_conntrack4", "nf_conntrack6"}
        assert all(table.now is not None for table in source.tables)


# ---- ct get: as the tools print it, any port, hairpins, several nodes, what an entry cannot see


@pytest.mark.parametrize(
    "text",
    [
        "TCP OUT 192.0.2.1:5000 -> 10.0.0.2:8000",
        "TCP SVC 192.0.2.1:5000 -> 10.0.0.2:8000 expires=17 Packets=0 Bytes=0 Flags=0x0010 [ SeenNonSyn ]",
        "TCP IN 192.0.2.1:5000 -> 10.0.0.2:8000 XLATE_DST 10.0.0.9:80 Created=3sec ago",
        "TCP    OUT  192.0.2.1:5000  10.0.0.2:8000  closing   5h59m50s  TxClosing",
        "tcp 192.0.2.1:5000 (web) > 10.0.0.2:8000 (default/pod-1)",
        "TCP OUT 192.0.2.1:5000 -> 10.0.0.2:8000 service expires=1",
        "tcp 192.0.2.1:5000>10.0.0.2:8000 S seq 1000 ack 0 len 0",
        "6 192.0.2.1:5000 -> 10.0.0.2:8000",
    ],
)
def test_flows_are_read_as_the_tools_print_them(text: str) -> None:
    assert str(flow(text)) == "TCP 192.0.2.1:5000 -> 10.0.0.2:8000"


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("[fd00::1]:80", {("fd00::1", 80)}),
        ("fd00::1:80", {("fd00::1", 80), ("fd00::1:80", None)}),
        ("fd00:10:244:1::df65:45948", {("fd00:10:244:1::df65", 45948)}),
        ("fd00::1", {("fd00::1", None)}),
        ("[fd00::1]", {("fd00::1", None)}),
        ("[fd00::1]:0", {("fd00::1", None)}),
        ("1:2:3:4:5:6:7:8:80", {("1:2:3:4:5:6:7:8", 80)}),
        ("1:2:3:4:5:6:7:80", {("1:2:3:4:5:6:7:80", None)}),
    ],
)
def test_ipv6_ends_with_and_without_brackets(text: str, ends: set[tuple[str, int | None]]) -> None:
    found = {(str(asked.src.address), asked.src.port) for asked in read_flow(f"tcp {text} > [fd00::9]:1")}
    assert found == ends


@pytest.mark.parametrize(
    "text",
    [
        "tcp a > b",
        "tcp 10.0.0.1:70000 > 10.0.0.2",
        "tcp 10.0.0.1 10.0.0.2",
        "tcp 1.1.1.1 > 2.2.2.2 nonsense",
        "x" * 9999,
    ],
)
def test_what_is_no_flow_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_flow(text)


def test_without_a_port_it_means_any_port() -> None:
    entries = [entry(flow(f"tcp 192.0.2.1:{port} > 10.0.0.2:80"), 0x10) for port in (5000, 5001)]
    entries.append(entry(flow("tcp 192.0.2.1:5002 > 10.0.0.2:81"), 0x10))
    source = source_of(entries, Listings())
    assert len(get(source, "tcp 192.0.2.1 > 10.0.0.2:80")) == 2
    assert len(get(source, "tcp 10.0.0.2 > 192.0.2.1")) == 3
    assert len(get(source, "ip 192.0.2.1:0 > 10.0.0.2:0")) == 3
    assert str(only(source, "tcp 192.0.2.1:5001 > 10.0.0.2").flow) == "TCP 192.0.2.1:5001 -> 10.0.0.2:80"
    with pytest.raises(NotFoundError) as caught:
        get(source, "tcp 192.0.2.1 > 10.0.0.3")
    assert "would be NEW" not in str(caught.value)


HAIRPIN = [
    entry(flow("tcp 10.0.0.2:5555 > 10.96.0.9:80"), 0x12, 4, rev_nat=17, tx_flags_seen=0x1B, backend_id=3),
    entry(flow("tcp 169.254.42.1:5555 > 10.0.0.2:80"), 0x1A, 0, rev_nat=17, tx_flags_seen=0x1B),
    entry(flow("tcp 169.254.42.1:5555 > 10.0.0.2:80"), 0x1B, 1, rev_nat=17, tx_flags_seen=0x1B, rx_flags_seen=0x1B),
    entry(flow("tcp 169.254.42.1:5556 > 10.0.0.2:80"), 0x10, 1),
]


@pytest.mark.parametrize("asked", ["tcp 10.0.0.2:5555 > 10.96.0.9:80", "tcp 169.254.42.1:5555 > 10.0.0.2:80"])
def test_a_hairpin_is_found_whole(asked: str) -> None:
    found = only(source_of(HAIRPIN, Listings()), asked)
    assert [member.role for member in found.members] == ["service", "out", "in"]
    assert (found.backend_id, found.backend) == (3, None)
    assert "no packet of 10.0.0.2 was ever seen" in found.why
    assert any(note.startswith("in entry: closed: both") for note in found.notes)


def test_a_service_entry_never_tells_of_the_side_it_cannot_see() -> None:
    for flags in (0, 0x10, 0x11, 0x12, 0x13):
        item = entry(flow("tcp 192.0.2.1:5000 > 172.16.0.1:80"), flags, 4, tx_flags_seen=0x1B)
        _, why = explain([CtRow(item, now=NOW)])
        assert "172.16.0.1" not in why


def test_a_gone_backend_is_said() -> None:
    world = service_world()
    listings = world.listings(None)
    listings.backends = [Backend(20, POD, 6, 8001, "active")]
    found = only(world, "tcp 192.0.2.1:5000 > 172.16.0.1:80")
    assert (found.backend_id, found.backend) == (19, None)
    assert any("backend 19 is not in the backend table" in note for note in found.notes)
    assert {member.role for member in found.members} == {"service", "out", "related"}


def two_nodes() -> Source:
    """NodePort by SNAT: node a has service, OUT and the SNAT pair, node b has what arrives there."""
    client = flow("tcp 192.0.2.1:5000 > 192.168.0.11:30080")
    translated, there = flow("tcp 192.0.2.1:5000 > 10.0.2.3:8000"), flow("tcp 10.0.1.52:6000 > 10.0.2.3:8000")
    node_a = source_of(
        [entry(client, 0x10, 4, backend_id=2, rev_nat=3), entry(translated, 0x30, 0, rev_nat=3)], Listings()
    )
    node_b = source_of([entry(there, 0x10, 1)], Listings())
    router = IPv4Address("10.0.1.52")
    listings = {
        "a": Listings(
            backends=[Backend(2, IPv4Address("10.0.2.3"), 6, 8000)],
            rev_nats=[RevNat(3, IPv4Address("192.168.0.11"), 30080)],
            nat_entries=[
                NatEntry("cilium_snat_v4_external", translated, Direction.OUT, False, "SRC", router, 6000),
                NatEntry("cilium_snat_v4_external", there.reversed(), Direction.IN, False, "DST", CLIENT, 5000),
            ],
        ),
        "b": Listings(backends=[Backend(2, IPv4Address("10.9.9.9"), 6, 1)]),
    }
    tables = [replace(node_a.tables[0], node="a"), replace(node_b.tables[0], node="b")]
    return Source("two", tables=tables, listings=lambda node: listings.get(node or "a", Listings()))


@pytest.mark.parametrize(
    "asked",
    [
        "tcp 192.0.2.1:5000 > 192.168.0.11:30080",
        "tcp 192.0.2.1:5000 > 10.0.2.3:8000",
        "tcp 10.0.1.52:6000 > 10.0.2.3:8000",
        "TCP IN 10.0.2.3:8000 -> 10.0.1.52:6000 XLATE_DST 192.0.2.1:5000",
        "tcp 10.0.1.52 > 10.0.2.3",
    ],
)
def test_snat_legs_and_other_nodes_belong_to_it(asked: str) -> None:
    found = only(two_nodes(), asked)
    assert [(member.role, member.row.node) for member in found.members] == [("service", "a"), ("out", "a"), ("in", "b")]
    assert len(found.nat) == 2
    assert found.service == "192.168.0.11:30080"
    assert found.backend is not None
    assert str(found.backend.addr) == "10.0.2.3"
    assert found.why.endswith("(on a)")


def test_socket_lb_leaves_no_service_entry() -> None:
    translated = flow("tcp 10.0.0.9:5000 > 10.0.0.2:8000")
    slots = [ServiceSlot(VIP, 80, "external", 1, 15, backend_id=19)]
    listings = Listings(services=slots, backends=[Backend(19, POD, 6, 8000)], rev_nats=[RevNat(15, VIP, 80)])
    found = only(source_of([entry(translated, 0x10)], listings), "tcp 10.0.0.9:5000 > 172.16.0.1:80")
    assert [member.role for member in found.members] == ["out"]
    assert "no service entry" in found.notes[0]
    listings.sockets = [SocketNat(7, POD, 8000, VIP, 80, 15)]
    source = source_of([entry(translated, 0x10), entry(flow("tcp 10.0.0.9:5001 > 10.0.0.3:8000"), 0x10)], listings)
    assert [one.flow.src_port for one in get(source, "tcp 10.0.0.9 > 172.16.0.1:80")] == [5000]
    assert "sockets that connected to 172.16.0.1:80" in only(source, str(translated)).notes[0]
    assert only(source, "tcp 10.0.0.9:5001 > 10.0.0.3:8000").notes == ()


def test_snat_entries_alone_are_an_answer() -> None:
    host = flow("tcp 192.168.0.11:5000 > 192.0.2.9:443")
    address = IPv4Address("192.168.0.11")
    nat = [NatEntry("cilium_snat_v4_external", host, Direction.OUT, False, "SRC", address, 5000)]
    world = service_world()
    world.listings = lambda _node: Listings(nat_entries=nat)
    found = only(world, "tcp 192.168.0.11:5000 > 192.0.2.9:443")
    assert (found.state, found.members, len(found.nat)) == ("none", (), 1)


def test_related_entries_are_no_entry_of_the_flow_that_is_asked_for() -> None:
    """They are of two addresses, whatever flows between them: of a flow without an entry they say nothing."""
    related = entry(flow("icmp 10.0.0.9 > 10.0.0.3"), tuple_flags=2, related=True)
    source = source_of([related], Listings())
    exact, any_port = only(source, "tcp 10.0.0.9:5001 > 10.0.0.3:8000"), only(source, "tcp 10.0.0.9 > 10.0.0.3:8000")
    for found in (exact, any_port):
        assert (found.state, [member.role for member in found.members]) == ("none", ["related"])
        assert found.why.startswith("none: no entry of it here")
    assert "a packet of it would be NEW" in exact.why
    assert "would be NEW" not in any_port.why
    for asked in ("icmp 10.0.0.9 > 10.0.0.3", "ip 10.0.0.9 > 10.0.0.3"):
        assert only(source, asked).state == "new"


def test_a_related_entry_names_no_service_of_another_connection() -> None:
    """It is of every connection between its addresses: its index is that of the latest."""
    related = entry(flow("icmp 10.0.0.9 > 10.0.0.2"), tuple_flags=2, related=True, rev_nat=15)
    listings = Listings(backends=[Backend(19, POD, 6, 8000)], rev_nats=[RevNat(15, VIP, 80)])
    source = source_of([entry(flow("tcp 10.0.0.9:5000 > 10.0.0.2:9")), related], listings)
    found = only(source, "tcp 10.0.0.9:5000 > 10.0.0.2:9")
    assert (found.service, found.backend_id) == (None, None)
    assert only(source, "icmp 10.0.0.9 > 10.0.0.2").service == "172.16.0.1:80"


def test_related_entries_hide_no_translated_connection() -> None:
    """A flow known by SNAT entries alone is found also where an ICMP related entry has its two addresses."""
    inner = flow("tcp 10.0.0.9:5000 > 192.0.2.9:443")
    related = entry(flow("icmp 192.168.0.11 > 192.0.2.9"), tuple_flags=2, related=True)
    nat = [NatEntry("cilium_snat_v4_external", inner, Direction.OUT, False, "SRC", IPv4Address("192.168.0.11"), 5000)]
    source = source_of([entry(inner), related], Listings(nat_entries=nat))
    found = only(source, "tcp 192.168.0.11:5000 > 192.0.2.9:443")
    assert found.members[0].role == "out"
    assert found.members[0].row.entry.tuple == inner


def test_a_dsr_entry_of_1_19_is_found_by_its_vip() -> None:
    item = entry(flow("tcp 192.0.2.1:5000 > 10.0.0.2:8000"), 0x90, nat_addr="172.16.0.1", nat_port=80)
    keys = np.array([list(encode_key(item.tuple, 0))], dtype=np.uint8)
    values = np.array([list(encode_value(item, Layout.V1_19))], dtype=np.uint8)
    table = CtTable("cilium_ct4_global", 4, Layout.V1_19, lambda: iter([(keys, values)]), now=NOW)
    listings = Listings(rev_nats=[RevNat(16, VIP, 80)])
    source = Source("test", tables=[table], listings=lambda _node: listings)
    for asked in ("tcp 192.0.2.1:5000 > 172.16.0.1:80", "tcp 192.0.2.1 > 172.16.0.1"):
        assert only(source, asked).service == "172.16.0.1:80"


def test_what_the_other_node_should_have_is_missing_or_unknown(tmp_path: Path) -> None:
    """OUT on one node, IN on the other: the one that is not there is named, and only where its table was read."""
    from tests.support.fleet import A, B, C, Node, Row
    from tests.support.fleet import flow as connection

    there = [Row(connection(A, port, B, 80)) for port in (1000, 1001)]
    come = [Row(connection(A, 1000, B, 80), Direction.IN), Row(connection(A, 1002, B, 80), Direction.IN)]
    late = Row(connection(A, 1003, B, 80), remaining=-5)
    nodes = [Node("node-a", [*there, late], [A]), Node("node-b", come, [B]), Node("node-c", [], [C])]
    with open_source([str(node.write(tmp_path)) for node in nodes]) as source:

        def notes(port: int) -> list[str]:
            return [note for note in only(source, f"tcp {A}:{port} > {B}:80").notes if " entry on " in note]

        assert notes(1000) == notes(1003) == []
        assert notes(1001) == [f"IN entry on node-b, whose pod {B} is: missing"]
        assert notes(1002) == [f"OUT entry on node-a, whose pod {A} is: missing"]
        source.tables = [table for table in source.tables if table.node != "node-b"]
        assert notes(1001) == [f"IN entry on node-b, whose pod {B} is: unknown, its TCP table was not read"]
