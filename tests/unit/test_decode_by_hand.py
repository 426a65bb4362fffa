"""Records written out byte by byte, each field with a number of its own, so that none can stand in for another."""

from __future__ import annotations

import struct
from dataclasses import fields
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest

from ctctl.decode.columns import CtColumns
from ctctl.decode.ct import LAYOUT_LACKS, OPTIONAL_FIELDS, encode_key, encode_value
from ctctl.decode.policy import decode_counter, decode_policy, stats_key
from ctctl.decode.services import decode_backend, decode_ipcache, decode_service, decode_socket_nat, decode_tunnel
from ctctl.errors import DecodeError
from ctctl.model.entry import CtEntry, Layout
from ctctl.model.tuples import FlowTuple
from ctctl.tables.show.listings import IPCACHE_FLAGS

V4, OTHER4 = IPv4Address("10.1.2.3"), IPv4Address("10.4.5.6")
V6, OTHER6 = IPv6Address("fd00::1:2"), IPv6Address("fd00::3:4")


@pytest.mark.parametrize(
    ("prefix", "prefix_bits", "port_bits", "ports"),
    [(40, 0, 0, (0, 65535)), (48, 8, 0, (0, 65535)), (64, 24, 16, (8080, 8080)), (60, 20, 12, (8080, 8095))],
)
def test_a_policy_rule(prefix: int, prefix_bits: int, port_bits: int, ports: tuple[int, int]) -> None:
    port = ports[0]
    key = struct.pack("<IIBB", prefix, 3096, 1, 6) + port.to_bytes(2, "big")
    value = (15001).to_bytes(2, "big") + bytes((1, 0x82))
    old = decode_policy(key, value + bytes(4) + struct.pack("<QQ", 7, 900), 1001, "cilium_policy_01001")
    assert (old.endpoint_id, old.egress, old.identity, old.proto) == (1001, True, 3096, 6)
    assert (old.prefix_bits, old.port_bits, old.ports) == (prefix_bits, port_bits, ports)
    assert (old.deny, old.proxy_port, old.auth_type, old.packets, old.bytes) == (True, 15001, 0x82, 7, 900)
    newer = decode_policy(key, value + struct.pack("<II", 11, 12), 1001)
    assert (newer.auth_type, newer.packets, newer.precedence, newer.cookie) == (2, None, 11, 12)
    wanted = struct.pack("<HBBIBB", 1001, 0, prefix_bits, 3096, 1, 6) + port.to_bytes(2, "big")
    assert stats_key(newer) == wanted
    for wrong in (value, value + bytes(5), value + bytes(21)):
        with pytest.raises(DecodeError, match="8, 12 or 24 bytes"):
            decode_policy(key, wrong, 1)


@pytest.mark.parametrize(("direction", "word"), [(1, "ingress"), (2, "egress"), (3, "service"), (0, "unknown")])
def test_a_counter_of_the_datapath_is_the_sum_of_its_cpus(direction: int, word: str) -> None:
    key = struct.pack("<BBHB3x", 133, direction, 1200, 5)
    value = struct.pack("<QQQQ", 3, 300, 4, 500)
    found = decode_counter(key, value, 16)
    assert (found.reason, found.direction, found.packets, found.bytes) == (133, word, 7, 800)
    assert (found.line, found.file) == (1200, 5)


def test_a_service_slot_counts_its_quarantined_backends() -> None:
    key = V4.packed + (80).to_bytes(2, "big") + struct.pack("<HBB2x", 3, 6, 1)
    value = struct.pack("<IH", 19, 5) + (15).to_bytes(2, "big") + bytes((0x21, 0x02)) + struct.pack("<H", 0x0102)
    found = decode_service(key, value)
    assert (found.addr, found.port, found.slot, found.proto, found.scope) == (V4, 80, 3, 6, "internal")
    assert (found.backend_id, found.count, found.rev_nat, found.flags) == (19, 5, 15, 0x0221)
    assert found.quarantined == 0x0102


def test_a_backend_with_its_cluster_and_zone() -> None:
    value = V6.packed + (8080).to_bytes(2, "big") + struct.pack("<BBHB1x", 17, 2, 0x0103, 9)
    found = decode_backend((77).to_bytes(4, "little"), value)
    assert (found.addr, found.port, found.proto, found.state) == (V6, 8080, 17, "quarantined")
    assert (found.cluster_id, found.zone) == (0x0103, 9)


@pytest.mark.parametrize(("prefix", "endpoint"), [(V4, OTHER4), (V6, OTHER6), (V4, OTHER6), (V6, OTHER4)])
def test_a_tunnel_record(prefix: IPv4Address | IPv6Address, endpoint: IPv4Address | IPv6Address) -> None:
    """Union of addresses, family (1 IPv4, 2 IPv6), key number, pad: 20 bytes for either side."""

    def side(address: IPv4Address | IPv6Address, number: int) -> bytes:
        return address.packed.ljust(16, b"\0") + bytes((1 if address.version == 4 else 2, number, 0, 0))

    found = decode_tunnel(side(prefix, 4), side(endpoint, 5))
    assert (found.prefix, found.endpoint, found.key) == (prefix, endpoint, 5)
    with pytest.raises(DecodeError):
        decode_tunnel(side(prefix, 4), side(endpoint, 5)[:19])
    with pytest.raises(DecodeError):
        decode_tunnel(side(prefix, 4)[:19], side(endpoint, 5))


def test_an_ipcache_record_with_an_ipv6_tunnel_end() -> None:
    """Bits beyond the prefix may be anything: the prefix alone counts."""
    key = struct.pack("<IHBB", 32 + 24, 2, 0, 1) + bytes((10, 64, 1, 7)).ljust(16, b"\0")
    value = struct.pack("<I", 3096) + OTHER6.packed + bytes((0, 0, 6, 0b0110))
    found = decode_ipcache(key, value)
    assert (found.prefix, found.identity, found.cluster_id) == ("10.64.1.0/24", 3096, 2)
    assert (found.tunnel_endpoint, found.encrypt_key, found.flags) == (str(OTHER6), 6, 6)
    assert IPCACHE_FLAGS == ((1, "skiptunnel"), (2, "hastunnel"), (4, "ipv6tunnel"), (8, "remotecluster"))


@pytest.mark.parametrize("layout", list(Layout))
def test_which_entries_hold_an_address_in_place_of_a_backend(layout: Layout) -> None:
    """From 1.19 on: OUT entries with the DSR bit whose address is not zero. A word of them alone is enough."""
    out, into, service, dsr = 0, 1, 4, 0x80
    rows = [
        (out, dsr, 0, 5, True),
        (out, dsr, 5, 0, True),
        (out, dsr, 0, 0, False),
        (out, 0x10, 0, 5, False),
        (into, dsr, 0, 5, False),
        (service, dsr, 0, 5, False),
    ]
    keys = np.array([[0] * 13 + [flags] for flags, *_ in rows], np.uint8)
    values = b"".join(struct.pack("<QQ16xIH18x", low, high, 1, flags) for _, flags, low, high, _ in rows)
    columns = CtColumns(keys, np.frombuffer(values, np.uint8).reshape(len(rows), 56), layout)
    wanted = [last and layout is Layout.V1_19 for *_, last in rows]
    assert columns.translated.tolist() == wanted
    assert [columns.entry(index).nat_addr is not None for index in range(len(rows))] == wanted


@pytest.mark.parametrize(("backend", "front"), [(V4, OTHER4), (V6, OTHER6)])
def test_a_socket_turned_to_a_backend(backend: IPv4Address | IPv6Address, front: IPv4Address | IPv6Address) -> None:
    key = (0x0102030405).to_bytes(8, "little") + backend.packed + (8080).to_bytes(2, "big")
    value = front.packed + (443).to_bytes(2, "big") + (0x0102).to_bytes(2, "big")
    found = decode_socket_nat(key.ljust(16 if backend.version == 4 else 32, b"\xee"), value)
    assert (found.cookie, found.backend, found.backend_port) == (0x0102030405, backend, 8080)
    assert (found.frontend, found.frontend_port, found.rev_nat) == (front, 443, 0x0102)


@pytest.mark.parametrize("denies", [True, False])
def test_a_rule_denies_by_one_bit(denies: bool) -> None:
    key = struct.pack("<IIBB", 40, 3096, 1, 6) + bytes(2)
    assert decode_policy(key, bytes((0, 0, 0xFE | denies, 0)) + bytes(8), 1).deny is denies


def test_an_ipv4_address_in_an_ipv6_key_is_a_mapped_one() -> None:
    key = encode_key(FlowTuple(6, V4, 4000, OTHER4, 80), 0, family=6)
    assert (key[:16], key[16:32]) == (IPv6Address("::ffff:10.1.2.3").packed, IPv6Address("::ffff:10.4.5.6").packed)


@pytest.mark.parametrize("layout", list(Layout))
def test_what_an_entry_does_not_have_is_zero_in_its_bytes(layout: Layout) -> None:
    flow = FlowTuple(6, V4, 4000, OTHER4, 80)
    entry = CtColumns(
        np.frombuffer(encode_key(flow, 0), np.uint8).reshape(1, 14), np.zeros((1, 56), np.uint8), layout
    ).entry(0)
    assert (entry.nat_addr, entry.nat_port) == (None, None)
    assert encode_value(entry, layout) == bytes(56)


def test_optional_fields_are_those_that_may_be_none() -> None:
    may = {item.name for item in fields(CtEntry) if "None" in str(item.type)}
    assert may >= OPTIONAL_FIELDS
    assert {name for layout in Layout for name in LAYOUT_LACKS[layout]} <= OPTIONAL_FIELDS
