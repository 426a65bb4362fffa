"""Captures on all interfaces: a packet once, with its interface and direction; what is inside a tunnel."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ctctl.errors import DecodeError, PartialDataError
from ctctl.packet.capture import LinkType, ethernet_frame, read_capture
from ctctl.packet.cooked import Sighting, Sightings, sighting, without_tunnel
from ctctl.packet.frame import build_frame
from ctctl.packet.geneve import Geneve, wrap_geneve
from ctctl.packet.text import parse_packet_text
from ctctl.predict.observed import kinds_of_capture

CASES = Path(__file__).resolve().parents[1] / "data" / "cases"
ANY = next((CASES / "dumps").glob("32-*")) / "any.pcap"
HOSTILE = CASES / "hostile"
MAC = b"\x02" + bytes(5)


def cooked() -> list[tuple[int, bytes, int]]:
    data = ANY.read_bytes()
    return [(time_ns, data[at : at + size], link) for time_ns, at, size, _, link in read_capture(data)]


def test_a_packet_is_known_again_on_another_interface() -> None:
    seen, first = Sightings(), []
    for time_ns, packet, link in cooked():
        where, frame = sighting(packet, link), ethernet_frame(packet, link)
        assert where is not None
        assert frame is not None
        if not seen.again(frame[14:], where, time_ns):
            first.append(where)
    assert len(first) == 6
    assert first == [
        Sighting(10, False),
        Sighting(2, False),
        Sighting(10, False),
        Sighting(10, False),
        Sighting(2, False),
        Sighting(10, False),
    ]


def test_the_same_packet_at_the_same_place_is_another_one() -> None:
    seen = Sightings()
    _, packet, link = cooked()[0]
    frame = ethernet_frame(packet, link)
    assert frame is not None
    places = [Sighting(10, False), Sighting(2, True), Sighting(10, False), Sighting(2, True)]
    assert [seen.again(frame[14:], place, 0) for place in places] == [False, True, False, True]
    assert not seen.again(frame[14:], Sighting(3, False), 5_000_000_000)


def test_no_direction_without_a_cooked_header() -> None:
    assert sighting(bytes(60), LinkType.ETHERNET) is None
    assert sighting(bytes(10), LinkType.LINUX_SLL2) is None
    assert sighting(b"\x00\x04" + bytes(20), LinkType.LINUX_SLL) == Sighting(0, True)


def test_tunnels_are_unpacked() -> None:
    inner = build_frame(parse_packet_text("tcp 10.42.1.1:1000 > 10.42.2.2:80 S"), src_mac=MAC, dst_mac=MAC)
    outer = Geneve(IPv4Address("192.168.1.1"), IPv4Address("192.168.1.2"), 5, bytes(8))
    geneve = wrap_geneve(inner, outer, src_mac=MAC, dst_mac=MAC)
    assert without_tunnel(geneve) == inner
    udp = struct.pack(">HHHH", 50000, 8472, 16 + len(inner), 0) + struct.pack(">II", 0x08 << 24, 5 << 8)
    assert without_tunnel(geneve[:34] + udp + inner) == inner
    for size in range(0, len(geneve), 7):
        assert without_tunnel(geneve[:size]) in (None, inner[: max(0, size - len(geneve) + len(inner))])
    assert without_tunnel(inner) is None


@pytest.mark.parametrize("name", ["short_epb", "tsneg", "tsoff", "tsres_0"])
def test_packets_that_cannot_be_are_left_out_and_said(name: str) -> None:
    with pytest.raises(PartialDataError, match="cannot be"):
        list(read_capture((HOSTILE / name).read_bytes()))


def test_a_section_that_is_none_is_no_capture() -> None:
    with pytest.raises(DecodeError, match="section header"):
        list(read_capture((HOSTILE / "section12").read_bytes()))


@pytest.mark.parametrize("tunnel", ["none", "Geneve"])
def test_a_workload_is_of_the_connections_in_a_tunnel(tunnel: str, tmp_path: Path) -> None:
    """However it was captured: on the tunnel's device alone, or on all of them."""
    inner = build_frame(parse_packet_text("tcp 10.64.0.36:54260 > 10.64.0.64:8000 S"))
    outer = Geneve(IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"), 7, b"")
    frame = inner if tunnel == "none" else wrap_geneve(inner, outer, src_mac=MAC, dst_mac=MAC)
    path = tmp_path / "one.pcap"
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    path.write_bytes(header + struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame)
    captured = kinds_of_capture(path)
    assert [(kind.protocol, captured.connections) for kind in captured.kinds] == [("tcp", 1)]
