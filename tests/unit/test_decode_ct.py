"""Bytes to entries and back, and the Cilium CLI's text, against what the real programs printed."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.decode.columns import CtColumns, Slot
from ctctl.decode.ct import (
    KEY_SIZE,
    decode_entry,
    decode_key,
    encode_key,
    encode_value,
    flag_names,
    layout_of_fields,
    other_bits,
)
from ctctl.errors import DecodeError
from ctctl.model.clock import Clock
from ctctl.model.entry import CtFlags, CtState, Layout
from ctctl.tables.show.cilium import cilium_line
from tests.support.samples import ROOT, records, truth

LAYOUTS = {"1.15": Layout.V1_15, "1.16": Layout.V1_16, "1.19-dev": Layout.V1_18}
CT_FILLS = sorted(name for name in truth()["fills"] if name.startswith("ct-"))


@pytest.mark.parametrize("fill", CT_FILLS)
def test_every_record_of_the_truth_decodes(fill: str) -> None:
    about = truth()["fills"][fill]
    layout = LAYOUTS[about["layout"]]
    for record in about["entries"]:
        expected = record["decoded"]
        key, value = bytes.fromhex(record["key_hex"]), bytes.fromhex(record["value_hex"])
        entry = decode_entry(key, value, layout, record["map"])
        got = {
            "proto": entry.tuple.proto,
            "direction": entry.direction.value,
            "src": str(entry.tuple.src),
            "src_port": entry.tuple.src_port,
            "dst": str(entry.tuple.dst),
            "dst_port": entry.tuple.dst_port,
            "flags": int(entry.flags),
            "flag_names": flag_names(int(entry.flags)),
            "other_bits": other_bits(int(entry.flags)),
        }
        for name in ("related", "lifetime", "backend_id", "packets", "bytes", "rx_packets", "rx_bytes", "tx_packets"):
            got[name] = getattr(entry, name)
        for name in ("tx_bytes", "rev_nat", "ifindex", "tx_flags_seen", "rx_flags_seen", "src_sec_id"):
            got[name] = getattr(entry, name)
        for name in ("last_tx_report", "last_rx_report", "tuple_flags"):
            got[name] = getattr(entry, name)
        assert got == {**{name: None for name in got if name not in expected}, **_shared(expected, got)}, record
        assert encode_key(entry.tuple, entry.tuple_flags, 4 if len(key) == 14 else 6) == key


def _shared(expected: dict[str, object], got: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in expected.items() if name in got}


TEXT_FILES = [
    (name, about)
    for name, about in truth()["files"].items()
    if name.startswith("cilium-dbg") and "ct-list" in name and name.endswith(".txt")
]


@pytest.mark.parametrize(("name", "about"), TEXT_FILES, ids=[name for name, _ in TEXT_FILES])
def test_the_cilium_form_is_byte_for_byte(name: str, about: dict[str, object]) -> None:
    layout = Layout.V1_18 if "1.19" in name else Layout.V1_16
    clock = Clock(250) if "jiffies" in name else Clock()
    now = about.get("now")
    expected = (ROOT / name).read_text().split("\n")
    lines: dict[str, set[str]] = {}
    for record in records(about):
        key, value = bytes.fromhex(record["key_hex"]), bytes.fromhex(record["value_hex"])
        line = cilium_line(decode_entry(key, value, layout), layout, clock, now)  # type: ignore[arg-type]
        if line is not None and not (about["exit_code"] and "6" in record["map"]):
            lines.setdefault(record["map"], set()).add(line)
    assert {line for line in expected if line} == set().union(*lines.values())


values = st.binary(min_size=56, max_size=56)
keys = st.one_of(*(st.binary(min_size=size, max_size=size) for size in KEY_SIZE.values()))


@given(keys, values, st.sampled_from(list(Layout)))
def test_bytes_to_entry_and_back(key: bytes, value: bytes, layout: Layout) -> None:
    entry = decode_entry(key, value, layout)
    assert (entry.key, entry.value) == (key, value)
    family = 4 if len(key) == 14 else 6
    bare = decode_entry(key, value, layout, keep_raw=False)
    encoded = encode_key(bare.tuple, bare.tuple_flags, family), encode_value(bare, layout)
    again = decode_entry(*encoded, layout, keep_raw=False)
    assert again == bare


@given(
    st.lists(st.tuples(st.binary(min_size=38, max_size=38), values), min_size=1, max_size=20), st.sampled_from(Layout)
)
def test_columns_agree_with_single_entries_ipv6(rows: list[tuple[bytes, bytes]], layout: Layout) -> None:
    _columns_agree(rows, layout)


@given(
    st.lists(st.tuples(st.binary(min_size=14, max_size=14), values), min_size=1, max_size=20), st.sampled_from(Layout)
)
def test_columns_agree_with_single_entries_ipv4(rows: list[tuple[bytes, bytes]], layout: Layout) -> None:
    _columns_agree(rows, layout)


def _columns_agree(rows: list[tuple[bytes, bytes]], layout: Layout) -> None:
    keys_matrix = np.array([list(key) for key, _ in rows], dtype=np.uint8)
    values_matrix = np.array([list(value) for _, value in rows], dtype=np.uint8)
    columns = CtColumns(keys_matrix, values_matrix, layout)
    for index in range(len(rows)):
        entry = columns.entry(index)
        flow = entry.tuple
        src = int(columns.slot(Slot.SRC_HI)[index]) << 64 | int(columns.slot(Slot.SRC)[index])
        dst = int(columns.slot(Slot.DST_HI)[index]) << 64 | int(columns.slot(Slot.DST)[index])
        assert (src, dst) == (int(flow.src), int(flow.dst))
        assert (columns.slot(Slot.SRC_PORT)[index], columns.slot(Slot.DST_PORT)[index]) == (
            flow.src_port,
            flow.dst_port,
        )
        assert columns.slot(Slot.LIFETIME)[index] == entry.lifetime
        assert columns.slot(Slot.FLAGS)[index] == int(entry.flags)
        assert columns.slot(Slot.REV_NAT)[index] == entry.rev_nat
        assert columns.slot(Slot.LAST_RX_REPORT)[index] == entry.last_rx_report


@pytest.mark.parametrize(("key", "value"), [(b"x" * 13, b"y" * 56), (b"x" * 14, b"y" * 55), (b"", b"")])
def test_wrong_sizes_are_refused(key: bytes, value: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_entry(key, value)


def test_the_port_trap_of_the_tables() -> None:
    flow, flags = decode_key(bytes.fromhex("0a4000240a400040" + "1f40" + "d3f4" + "0600"))
    assert str(flow) == "TCP 10.64.0.36:54260 -> 10.64.0.64:8000"
    assert flags == 0
    flow, _ = decode_key(bytes.fromhex("acbe0011acbf0001" + "d0be" + "0050" + "0604"))
    assert str(flow) == "TCP 172.191.0.1:53438 -> 172.190.0.17:80"


def test_layouts_are_told_apart_by_field_names() -> None:
    assert layout_of_fields(["rx_packets", "tx_packets", "lifetime", "ifindex"]) is Layout.V1_15
    assert layout_of_fields(["packets", "bytes", "lifetime", "ifindex"]) is Layout.V1_16
    assert layout_of_fields(["packets", "bytes", "lifetime", "nat_port"]) is Layout.V1_19
    assert layout_of_fields(["something", "else"]) is None


@pytest.mark.parametrize(
    ("flags", "state"),
    [(0, CtState.NEW), (0x10, CtState.ESTABLISHED), (0x11, CtState.CLOSING), (2, CtState.CLOSING), (3, CtState.CLOSED)],
)
def test_states(flags: int, state: CtState) -> None:
    value = bytearray(56)
    value[36] = flags
    entry = decode_entry(bytes(14), bytes(value))
    assert entry.state is state
    assert entry.flags == CtFlags(flags)


def test_the_translated_address_of_a_dsr_entry_from_1_19_on() -> None:
    value = bytearray(56)
    value[12:16] = IPv4Address("172.190.0.17").packed
    value[36] = CtFlags.DSRInternal
    value[40:42] = (80).to_bytes(2, "big")
    entry = decode_entry(bytes(14), bytes(value), Layout.V1_19, keep_raw=False)
    assert (entry.nat_addr, entry.nat_port, entry.ifindex) == ("172.190.0.17", 80, None)
    assert encode_value(entry, Layout.V1_19) == bytes(value)
    value[:16] = IPv6Address("2001:db8::1").packed
    assert decode_entry(bytes(14), bytes(value), Layout.V1_19).nat_addr == "2001:db8::1"


@pytest.mark.parametrize("address", ["2001:db8:100::", "::1:0:0", "::1:c000:201", "2001::"])
def test_an_ipv6_address_with_one_byte_beside_where_ipv4_stands_is_one(address: str) -> None:
    value = bytearray(56)
    value[:16] = IPv6Address(address).packed
    value[36] = CtFlags.DSRInternal
    found = decode_entry(bytes(14), bytes(value), Layout.V1_19).nat_addr
    # Nothing beyond the first word: taken for an IPv4 address, which it is in all but the odd network.
    assert found == ("32.1.0.0" if address == "2001::" else address)
