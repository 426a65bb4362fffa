"""The filter language: what it says, its errors, and that its three evaluators agree."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.decode.columns import CtColumns
from ctctl.decode.ct import decode_entry, encode_key, encode_value
from ctctl.errors import UsageError
from ctctl.model.clock import Clock
from ctctl.model.entry import CtEntry, CtFlags, Layout
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.tables.namebook import NameBook
from ctctl.tables.query.context import TableContext
from ctctl.tables.query.filter import Filter, slots_of
from ctctl.tables.query.flags import FilterFlags
from ctctl.tables.query.parse import parse_filter
from ctctl.tables.query.predicate import PROGRAM_LIMIT, mask_of, program_of
from tests.support.drawn import expressions
from tests.support.jump_program import run_program

NOW = 1000


def entry(**changes: object) -> CtEntry:
    fields: dict[str, object] = {
        "map": "cilium_ct4_global",
        "tuple": FlowTuple(6, IPv4Address("10.64.0.36"), 54260, IPv4Address("10.64.0.64"), 8000),
        "direction": Direction.OUT,
        "related": False,
        "tuple_flags": 0,
        "flags": CtFlags.SeenNonSyn,
        "lifetime": NOW + 20,
        "rev_nat": 15,
        "src_sec_id": 3096,
        "tx_flags_seen": 2,
        "rx_flags_seen": 0x12,
        "last_tx_report": NOW - 5,
        "last_rx_report": NOW - 50,
        "backend_id": 19,
        "packets": 7,
        "bytes": 700,
        "ifindex": 0,
    }
    return CtEntry(**{**fields, **changes})  # type: ignore[arg-type]


TRUE_ONES = [
    "",
    "proto == tcp",
    "tcp",
    "proto = 6 and dst in 10.64.0.0/16",
    "src == 10.64.0.36 && port == 8000",
    "proto == tcp and remaining < 30s and dst in 10.64.0.0/16 and not flag(RxClosing)",
    "ip in {10.0.0.1, 10.64.0.36}",
    "port in {80, 8000..8010}",
    "src_port in 54000-55000",
    "state == established",
    "established or closing",
    "direction == out",
    "not related",
    "not expired and live",
    "remaining == 20s and remaining >= 20 and remaining <= 20 and remaining > 19s and not remaining < 20s",
    "idle == 5s and idle < 6 and idle >= 5 and not idle > 5",
    "backend_id == 19 and rev_nat == 15 and identity == 3096",
    "rx_flags_seen == 0x12",
    "flag(SeenNonSyn) and not flag(seennonsyn, TxClosing)",
    "map == cilium_ct4_global",
    "dst != 10.0.0.1",
    "dst not in 10.0.0.0/16",
    "rx_packets == 0 or not rx_packets == 0",
    "family == 4",
    "10.64.0.0/24",
    "PROTO == TCP AND NOT (closed OR (expired))",
    "udp or tcp",
    "tcp or udp",
    "bytes == 700 and packets == 7",
]
FALSE_ONES = [
    "udp",
    "rx_packets == 0",
    "port == 80",
    "src == 10.64.0.64",
    "ip in fd00::/8",
    "remaining > 20s",
    "remaining < -5s",
    "state in {new, closed}",
    "not (tcp)",
    "map == cilium_ct6_global",
    "related",
    "packets > 7",
    "bytes == 0",
    "tcp and udp",
    "udp and tcp",
    "tcp and established and port == 80",
    "udp or icmp",
    "idle < 5",
    "idle == 4s",
    "idle > 5",
]


@pytest.mark.parametrize("text", TRUE_ONES)
def test_true(text: str) -> None:
    assert Filter.parse(text).matches(entry(), TableContext(now=NOW, map="cilium_ct4_global"))


@pytest.mark.parametrize("text", FALSE_ONES)
def test_false(text: str) -> None:
    assert not Filter.parse(text).matches(entry(), TableContext(now=NOW, map="cilium_ct4_global"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot == tcp", r"unknown field 'prot'; did you mean 'proto'\? \(column 1\)"),
        ("proto == tpc", r"proto: unknown protocol 'tpc'; did you mean 'tcp'\? \(column 10\)"),
        ("proto == tcp and", r"a condition is missing at the end \(column 17\)"),
        ("proto", r"expected an operator after 'proto'"),
        ("dst in 10.64.0.0/33", r"dst: '10.64.0.0/33' is not an IP address or CIDR \(column 8\)"),
        ("proto == 256", r"256 is out of range, 0 to 255"),
        ("port == 70000", r"port: 70000 is out of range, 0 to 65535 \(column 9\)"),
        ("(tcp", r"expected '\)' instead of 'the end'"),
        ("tcp udp", r"expected 'and' or 'or' before 'udp' \(column 5\)"),
        ("flag(SeenNonSin)", r"unknown flag 'SeenNonSin'; did you mean 'SeenNonSyn'\? \(column 6\)"),
        ("state == establish", r"unknown state 'establish'; did you mean 'established'\?"),
        ("remaining < 5x", r"'5x' is not a duration"),
        ("src < 10.0.0.1", r"src has no order"),
        ("dst in {1.2.3.4", r"expected ',' or '}'"),
        ("tcp and ;", r"cannot read ';' at column 9"),
        ("(" * 100 + "tcp", r"nested deeper than 64"),
        ("tcp or " * 1000 + "tcp", r"characters; at most 4096"),
        ("port in 90..80", r"range 90..80 is empty"),
        ("related == maybe", r"write true or false"),
    ],
)
def test_errors_say_what_and_where(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_filter(text)
    assert "\n" not in str(caught.value)


def test_time_needs_a_now() -> None:
    wanted = Filter.parse("expired")
    assert wanted.needs_now
    with pytest.raises(UsageError, match="--now"):
        wanted.matches(entry(), TableContext())
    assert not Filter.parse("tcp").needs_now


def test_what_a_table_lacks_is_false_not_zero() -> None:
    bare = TableContext(absent=frozenset({"ifindex"}))
    assert not Filter.parse("ifindex == 0").matches(entry(ifindex=None), bare)
    assert Filter.parse("not ifindex == 0").matches(entry(ifindex=None), bare)
    assert not Filter.parse("ifindex == 0").matches(entry(), TableContext(layout=Layout.V1_19))
    # A table that is of no named node has no node: who asks for one is told, as of any other field.
    assert TableContext().lacks("node")
    assert not TableContext(node="node-a").lacks("node")


def test_ipv4_networks_match_mapped_addresses() -> None:
    flow = FlowTuple(6, IPv6Address("::ffff:10.64.0.36"), 1, IPv6Address("fd00::1"), 2)
    assert Filter.parse("src in 10.64.0.0/24").matches(entry(tuple=flow), TableContext(family=6))
    assert Filter.parse("ip == fd00::1").matches(entry(tuple=flow), TableContext(family=6))
    assert not Filter.parse("dst in 10.64.0.0/24").matches(entry(tuple=flow), TableContext(family=6))


def test_flags_of_the_command_line() -> None:
    table = TableContext(now=NOW)
    assert (
        FilterFlags(ip=("10.64.0.0/24",), protocol=("udp,tcp",), expired=False)
        .filter("port == 8000")
        .matches(entry(), table)
    )
    assert not FilterFlags(to_port=("80",)).filter().matches(entry(), table)
    assert FilterFlags(to_port=("80",), inverted=True).filter().matches(entry(), table)
    assert FilterFlags(flag=("TxClosing", "SeenNonSyn")).filter().matches(entry(), table)
    with pytest.raises(UsageError, match="--protocol: unknown protocol 'tpc'; did you mean 'tcp'"):
        FilterFlags(protocol=("tpc",)).filter()
    with pytest.raises(UsageError, match="nothing to negate"):
        FilterFlags(inverted=True).filter()


# ---- the three evaluators

addresses4 = st.sampled_from(["10.64.0.36", "10.64.0.64", "10.0.0.1", "0.0.0.0"]).map(IPv4Address)
addresses6 = st.sampled_from(["fd00::1", "fd00::2:1", "::ffff:10.64.0.36", "::"]).map(IPv6Address)
small = st.integers(0, 3)
times = st.integers(NOW - 3, NOW + 3)


@st.composite
def entries(draw: st.DrawFn, family: int, layout: Layout) -> CtEntry:
    addresses = addresses4 if family == 4 else addresses6
    flow = FlowTuple(draw(st.sampled_from([1, 6, 17])), draw(addresses), draw(small), draw(addresses), draw(small))
    flags = draw(st.integers(0, 7))
    key = encode_key(flow, flags, family)
    blank = decode_entry(key, bytes(56), layout)
    filled = entry(
        tuple=flow,
        tuple_flags=flags,
        direction=blank.direction,
        flags=CtFlags(draw(st.integers(0, 31))),
        lifetime=draw(times),
        last_tx_report=draw(times),
        last_rx_report=draw(times),
        rev_nat=draw(small),
        src_sec_id=draw(small),
        backend_id=draw(small),
        packets=draw(small),
        bytes=draw(small),
        rx_packets=draw(small),
        rx_bytes=draw(small),
        tx_packets=draw(small),
        tx_bytes=draw(small),
        tx_flags_seen=draw(small),
    )
    return decode_entry(key, encode_value(filled, layout), layout)


@settings(max_examples=300, deadline=None)
@given(
    st.data(), expressions, st.sampled_from([4, 6]), st.sampled_from(list(Layout)), st.sampled_from([None, 250, 1000])
)
def test_columns_entries_and_kernel_program_agree(
    data: st.DataObject, text: str, family: int, layout: Layout, hz: int | None
) -> None:
    rows = data.draw(st.lists(entries(family, layout), min_size=1, max_size=8))
    table = TableContext(family=family, layout=layout, clock=Clock(hz), now=NOW)
    wanted = Filter.parse(text)
    predicate = wanted.bind(table)
    keys = np.array([list(row.key or b"") for row in rows], dtype=np.uint8)
    values = np.array([list(row.value or b"") for row in rows], dtype=np.uint8)
    mask = mask_of(predicate, CtColumns(keys, values, layout))
    program = program_of(predicate)
    for index, row in enumerate(rows):
        single = wanted.matches(row, table)
        assert bool(mask[index]) == single
        assert program is not None
        assert run_program(program, slots_of(row, layout)) == single


@given(st.integers(-20, 20), st.integers(NOW - 30, NOW + 30), st.sampled_from([None, 100, 250, 1000]))
def test_remaining_is_what_is_shown(bound: int, lifetime: int, hz: int | None) -> None:
    clock = Clock(hz)
    table = TableContext(clock=clock, now=NOW)
    row = entry(lifetime=lifetime)
    shown = clock.remaining_s(lifetime, NOW)
    assert Filter.parse(f"remaining < {bound}s").matches(row, table) == (shown < bound)
    assert Filter.parse(f"remaining == {bound}s").matches(row, table) == (shown == bound)
    assert Filter.parse("expired").matches(row, table) == row.expired(NOW)


def test_a_filter_too_long_for_the_kernel_says_so() -> None:
    text = " or ".join(f"src == 10.0.0.{number}" for number in range(PROGRAM_LIMIT + 1))
    assert program_of(Filter.parse(text).bind(TableContext())) is None


@given(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 65535))
def test_ranges_of_a_port_that_lies_in_network_order(port: int, one: int, other: int) -> None:
    """``nat_port`` is two bytes the other way round: ranges of it are made of ranges of its bytes."""
    low, high = min(one, other), max(one, other)
    value = bytearray(56)
    value[12:16] = b"\x0a\x00\x00\x01"
    value[36:38] = int(CtFlags.DSRInternal).to_bytes(2, "little")
    value[40:42] = port.to_bytes(2, "big")
    table = TableContext(layout=Layout.V1_19)
    found = decode_entry(bytes(14), bytes(value), Layout.V1_19)
    columns = CtColumns(np.zeros((1, 14), np.uint8), np.array([list(value)], np.uint8), Layout.V1_19)
    for text, wanted in ((f"nat_port in {{{low}..{high}}}", low <= port <= high), (f"nat_port == {one}", one == port)):
        assert Filter.parse(text).matches(found, table) is wanted
        assert bool(mask_of(Filter.parse(text).bind(table), columns)[0]) is wanted


@pytest.mark.parametrize(("tx", "rx"), [(0, NOW - 10), (NOW - 10, 0), (NOW - 10, NOW - 10)])
def test_idle_is_since_the_last_report_though_the_other_side_never_sent_one(tx: int, rx: int) -> None:
    table, row = TableContext(now=NOW), entry(last_tx_report=tx, last_rx_report=rx)
    for text, wanted in (("idle >= 10s", True), ("idle >= 11s", False), ("idle < 11s", True), ("idle == 10s", True)):
        assert Filter.parse(text).matches(row, table) is wanted, text


@pytest.mark.parametrize(("service", "tcp", "udp"), [("10.64.0.64:8000", True, True), ("web", True, False)])
def test_a_frontend_by_its_address_is_of_every_protocol(service: str, tcp: bool, udp: bool) -> None:
    names = NameBook()
    names.add_service("web", ["10.64.0.64"], 8000, 6)
    table, wanted = TableContext(now=NOW, names=names), FilterFlags(service=(service,)).filter()
    over_udp = replace(entry(), tuple=replace(entry().tuple, proto=17))
    elsewhere = replace(entry(), tuple=replace(entry().tuple, dst_port=8001))
    assert [wanted.matches(row, table) for row in (entry(), over_udp, elsewhere)] == [tcp, udp, False]


def _dsr(address: str, port: int, **fields: object) -> CtEntry:
    return replace(entry(**fields), flags=CtFlags.DSRInternal, nat_addr=address, nat_port=port, backend_id=None)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("nat_port == 30080", True),
        ("nat_port in 30000..30099", True),
        ("nat_port in 30081..40000", False),
        ("nat_port in 1..30079", False),
        ("nat_port in 256..65535", True),
        ("nat_addr == 172.19.0.5", True),
        ("nat_addr in 172.19.0.0/16", True),
        ("nat_addr in 172.20.0.0/16", False),
        ("nat_addr in ::/0", False),
        ("nat_addr in fd00::/8", False),
        ("backend_id >= 0", False),
        ("not nat_port == 30080", False),
    ],
)
def test_what_a_dsr_entry_is_translated_to(text: str, matches: bool) -> None:
    table = TableContext(layout=Layout.V1_19)
    assert Filter.parse(text).matches(_dsr("172.19.0.5", 30080), table) is matches
    other = replace(entry(), flags=CtFlags(0), backend_id=7)
    assert not Filter.parse("nat_port >= 0 or nat_addr in ::/0 or nat_addr in 0.0.0.0/0").matches(other, table)
    assert Filter.parse("backend_id == 7").matches(other, table)
    assert not Filter.parse("nat_port >= 0").matches(other, TableContext(layout=Layout.V1_18))


@pytest.mark.parametrize("port", [0, 1, 255, 256, 257, 30080, 65280, 65535])
def test_ranges_of_ports_in_network_order(port: int) -> None:
    table = TableContext(layout=Layout.V1_19)
    for low, high in ((0, 65535), (1, 1), (200, 300), (255, 256), (30000, 31000), (65281, 65535), (256, 511)):
        wanted = Filter.parse(f"nat_port in {low}..{high}")
        assert wanted.matches(_dsr("172.19.0.5", port), table) is (low <= port <= high), (low, high)
