"""Capture files of every form: read as scapy wrote them, and broken ones refused or read as far as they go."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, CookedLinux, Ether
from scapy.utils import EDecimal, PcapNgWriter, PcapWriter

from ctctl.errors import DecodeError, PartialDataError
from ctctl.packet.capture import LinkType, Record, ethernet_frame, read_capture

FRAMES = [
    bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="10.0.0.2") / TCP() / load)
    for load in (b"", b"x", b"yy", b"z" * 1400)
]
TIMES_NS = [1_700_000_000_000_001_000, 1_700_000_000_500_000_000, 1_700_000_001_000_000_000, 1_700_000_070_250_000_000]


def timed_packets() -> Iterator[Ether]:
    for frame, time_ns in zip(FRAMES, TIMES_NS, strict=True):
        packet = Ether(frame)
        packet.time = EDecimal(time_ns) / EDecimal(10**9)
        yield packet


def frames_of(data: bytes) -> list[bytes]:
    return [data[offset : offset + size] for _, offset, size, _, _ in read_capture(data)]


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_pcap(tmp_path: Path, nano: bool, endianness: str) -> None:
    path = tmp_path / "a.pcap"
    with PcapWriter(str(path), linktype=1, nano=nano, endianness=endianness) as writer:
        for packet in timed_packets():
            writer.write(packet)
    data = path.read_bytes()
    assert frames_of(data) == FRAMES
    assert [record[0] for record in read_capture(data)] == TIMES_NS
    assert {record[4] for record in read_capture(data)} == {LinkType.ETHERNET}


def test_pcapng(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    writer = PcapNgWriter(str(path))
    for packet in timed_packets():
        writer.write(packet)
    writer.close()
    data = path.read_bytes()
    assert frames_of(data) == FRAMES
    assert [record[0] for record in read_capture(data)] == TIMES_NS


def block(kind: int, body: bytes, order: str) -> bytes:
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def pcapng(order: str, resolution: int | None, packets: bytes, link_type: int = 1) -> bytes:
    option = b"" if resolution is None else struct.pack(order + "HHB3xHH", 9, 1, resolution, 0, 0)
    section = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    return section + block(1, struct.pack(order + "HHI", link_type, 0, 0) + option, order) + packets


def enhanced(order: str, ticks: int, frame: bytes) -> bytes:
    head = struct.pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(6, head + frame, order)


@pytest.mark.parametrize(
    ("resolution", "ticks"),
    [(None, 1_700_000_070_250_000), (9, 1_700_000_070_250_000_000), (0x8A, 1_700_000_070 * 1024 + 256)],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_time_resolutions_and_byte_orders(order: str, resolution: int | None, ticks: int) -> None:
    data = pcapng(order, resolution, enhanced(order, ticks, FRAMES[1]))
    assert [record[0] for record in read_capture(data)] == [1_700_000_070_250_000_000]
    assert frames_of(data) == [FRAMES[1]]


def test_simple_unknown_and_old_blocks() -> None:
    simple = block(3, struct.pack("<I", len(FRAMES[1])) + FRAMES[1], "<")
    old = block(2, struct.pack("<HHIIII", 0, 0, 0, 5, len(FRAMES[0]), len(FRAMES[0])) + FRAMES[0], "<")
    assert frames_of(pcapng("<", None, simple + block(0xBAD, b"what", "<") + old)) == [FRAMES[1], FRAMES[0]]


def test_two_sections_have_their_own_interfaces() -> None:
    data = pcapng("<", 9, enhanced("<", 10, FRAMES[0])) + pcapng(">", 6, enhanced(">", 10, FRAMES[1]))
    assert [record[0] for record in read_capture(data)] == [10, 10_000]


@pytest.mark.parametrize("cut", [1, 5, 17, 60])
def test_a_file_that_ends_early_gives_what_is_whole(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.pcap"
    with PcapWriter(str(path), linktype=1) as writer:
        for frame in FRAMES:
            writer.write(Ether(frame))
    seen: list[Record] = []
    with pytest.raises(PartialDataError, match="ends in the middle"):
        seen.extend(read_capture(path.read_bytes()[:-cut], "a.pcap"))
    assert len(seen) == len(FRAMES) - 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "neither pcap nor pcapng"),
        (b"GIF89a", "neither pcap nor pcapng"),
        (b"\xd4\xc3\xb2\xa1\x02\x00", "24 bytes"),
        (pcapng("<", None, block(6, struct.pack("<IIIII", 9, 0, 0, 0, 0), "<")), "1 packet.* cannot be"),
        (pcapng("<", None, block(6, struct.pack("<IIIII", 0, 0, 0, 9999, 0), "<")), "1 packet.* cannot be"),
        (pcapng("<", None, struct.pack("<III", 6, 8, 8)), "block of 8 bytes"),
    ],
)
def test_what_is_no_capture(data: bytes, words: str) -> None:
    with pytest.raises((DecodeError, PartialDataError), match=words):
        list(read_capture(data))


def test_other_link_types_become_ethernet() -> None:
    ip = FRAMES[1][14:]
    cooked = bytes(CookedLinux(proto=0x0800)) + ip
    for packet, link_type in ((ip, LinkType.RAW), (b"\x02\0\0\0" + ip, LinkType.NULL), (cooked, LinkType.LINUX_SLL)):
        frame = ethernet_frame(packet, link_type)
        assert frame is not None
        assert frame[12:] == FRAMES[1][12:]
    assert ethernet_frame(bytes(CookedLinux(proto=0x0806) / ARP()), LinkType.LINUX_SLL) is None
    six = b"\x60" + bytes(39)
    for packet, link_type in ((six, LinkType.RAW), (bytes(CookedLinux(proto=0x86DD)) + six, LinkType.LINUX_SLL)):
        frame = ethernet_frame(packet, link_type)
        assert frame is not None
        assert frame[12:] == b"\x86\xdd" + six
    assert ethernet_frame(bytes(CookedLinux(proto=0x0800)) + six, LinkType.LINUX_SLL) is None
    assert ethernet_frame(ip, 105) is None


@pytest.mark.parametrize("tags", [b"\x81\x00\x00\x05", b"\x88\xa8\x00\x05\x81\x00\x00\x07"])
def test_vlan_tags_are_taken_off(tags: bytes) -> None:
    """What they stand before is IP, in a frame and behind the header of ``tcpdump -i any``."""
    frame = FRAMES[1]
    assert ethernet_frame(frame[:12] + tags + frame[12:], LinkType.ETHERNET) == frame
    cooked = bytes(CookedLinux(proto=int.from_bytes(tags[:2], "big")))
    found = ethernet_frame(cooked + tags[2:] + frame[12:], LinkType.LINUX_SLL)
    assert found is not None
    assert found[12:] == frame[12:]
    assert ethernet_frame(cooked + tags[2:] + b"\x08\x06" + frame[14:], LinkType.LINUX_SLL) is None
