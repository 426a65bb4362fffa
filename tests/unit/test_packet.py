"""Packet text, frames and their description, against scapy as the independent oracle."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import ICMP, IP, TCP, UDP, TCPerror
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP

from ctctl.errors import UsageError
from ctctl.packet.describe import describe_frame
from ctctl.packet.frame import build_frame
from ctctl.packet.geneve import Geneve, dsr_option, strip_geneve, wrap_geneve
from ctctl.packet.spec import PacketSpec
from ctctl.packet.text import FROM_PORT, parse_flow_text, parse_packet_text, parse_sent_packet
from tests.support.geneve import parse_dsr_option

SRC_MAC, DST_MAC = "02:00:00:00:03:02", "02:00:00:00:03:01"
VECTORS = sorted((Path(__file__).parents[1] / "conformance" / "vectors").glob("*.json"))

ports = st.integers(1, 0xFFFF)
words = st.integers(0, 0xFFFFFFFF)
addresses = st.integers(0x01000000, 0xDFFFFFFF).map(IPv4Address)


def built(text: str) -> Ether:
    return Ether(build_frame(parse_packet_text(text), SRC_MAC, DST_MAC))


def checksums(frame: Ether) -> list[int]:
    """The checksums as they stand, and as scapy computes them anew."""
    fresh = frame.copy()
    stale = []
    for layer in (IP, TCP, UDP, ICMP, SCTP):
        if layer in fresh:
            stale.append(fresh[layer].chksum)
            del fresh[layer].chksum
    fresh = Ether(bytes(fresh))
    return stale + [fresh[layer].chksum for layer in (IP, TCP, UDP, ICMP, SCTP) if layer in fresh]


tcp_packets = st.builds(
    PacketSpec,
    proto=st.just(6),
    src=addresses,
    dst=addresses,
    src_port=ports,
    dst_port=ports,
    tcp_flags=st.integers(0, 255),
    seq=words,
    ack=words,
    length=st.integers(0, 1400),
    ttl=st.integers(1, 255),
)


@given(tcp_packets)
def test_tcp_frame_is_what_scapy_reads(spec: PacketSpec) -> None:
    frame = Ether(build_frame(spec, SRC_MAC, DST_MAC))
    assert (frame.src, frame.dst) == (SRC_MAC, DST_MAC)
    assert (frame[IP].src, frame[TCP].sport, frame[IP].dst, frame[TCP].dport) == (
        str(spec.src),
        spec.src_port,
        str(spec.dst),
        spec.dst_port,
    )
    assert (int(frame[TCP].flags) & 0xFF, frame[TCP].seq, frame[TCP].ack) == (spec.tcp_flags, spec.seq, spec.ack)
    assert (len(frame[TCP].payload), frame[IP].ttl, frame[IP].len) == (spec.length, spec.ttl, 40 + spec.length)
    stale_and_fresh = checksums(frame)
    assert stale_and_fresh[:2] == stale_and_fresh[2:]


@given(addresses, ports, addresses, ports, st.integers(0, 1400))
def test_udp_checksum_is_scapys(src, sport, dst, dport, length) -> None:
    frame = Ether(build_frame(PacketSpec(17, src, dst, sport, dport, length=length)))
    stale_and_fresh = checksums(frame)
    assert stale_and_fresh[:2] == stale_and_fresh[2:]
    assert frame[UDP].len == 8 + length


@pytest.mark.parametrize(
    "text",
    [
        "icmp 10.64.0.36 > 10.64.0.64 id=7 seq=3 len=16",
        "icmp 10.64.0.36 > 10.64.0.64 type=0 id=7",
        'icmp 10.64.0.1 > 10.64.0.36 type=3 code=4 inner="tcp 10.64.0.36:54260 > 10.64.0.64:8000 A seq=9"',
        "sctp 10.64.0.36:40000 > 10.64.1.64:5000",
        "tcp 10.64.0.36:40000 > 10.64.1.64:80 S opts=01010100",
    ],
)
def test_checksums_of_the_other_kinds(text: str) -> None:
    stale_and_fresh = checksums(built(text))
    half = len(stale_and_fresh) // 2
    assert stale_and_fresh[:half] == stale_and_fresh[half:]


def test_icmp_error_quotes_header_and_eight_bytes() -> None:
    frame = built('icmp 10.64.0.1 > 10.64.0.36 type=11 inner="tcp 10.64.0.36:54260 > 10.64.0.64:8000 A seq=9 len=100"')
    assert frame[ICMP].type == 11
    quoted = frame[ICMP].payload
    assert (quoted.src, quoted.dst, quoted.len) == ("10.64.0.36", "10.64.0.64", 140)
    assert (quoted[TCPerror].sport, quoted[TCPerror].dport, quoted[TCPerror].seq) == (54260, 8000, 9)
    assert len(bytes(quoted)) == 28


def test_fragments_and_options() -> None:
    first = built("udp 10.0.0.1:5 > 10.0.0.2:6 len=16 frag=0+ id=0x4444")
    later = built("udp 10.0.0.1 > 10.0.0.2 len=48 frag=24 id=0x4444")
    assert (str(first[IP].flags), first[IP].frag, first[IP].id, first[UDP].dport) == ("MF", 0, 0x4444, 6)
    assert (str(later[IP].flags), later[IP].frag, len(later[IP].payload)) == ("", 3, 48)
    assert built("tcp 10.0.0.1:5 > 10.0.0.2:6 opts=01010100")[IP].ihl == 6


whole_packets = st.builds(
    PacketSpec,
    proto=st.sampled_from([6, 17, 132]),
    src=addresses,
    dst=addresses,
    src_port=ports,
    dst_port=ports,
    tcp_flags=st.none(),
    length=st.integers(4, 1000),
    ttl=st.integers(1, 255),
    ip_id=st.sampled_from([None, 1, 0x4444]),
    fragment_offset=st.sampled_from([None, 0]),
    more_fragments=st.just(True),
    ip_options=st.sampled_from([b"", bytes.fromhex("01010100")]),
)


@given(whole_packets, st.integers(0, 255), words)
def test_description_reads_back_to_the_same_frame(spec, flags, seq) -> None:
    if spec.proto == 6:
        spec = PacketSpec(6, spec.src, spec.dst, spec.src_port, spec.dst_port, tcp_flags=flags, seq=seq, ack=5)
    frame = build_frame(spec)
    assert build_frame(parse_packet_text(describe_frame(frame))) == frame


@pytest.mark.parametrize(
    "text",
    [
        "icmp 10.64.0.36 > 10.64.1.64 echo request id 1 seq 1",
        "icmp 10.64.0.36 > 10.64.1.64 echo reply id 39321 seq 1 ttl 63",
        "icmp 10.64.1.64 > 10.64.0.36 type 3 code 4 [udp 10.64.0.36:40001 > 10.64.1.64:81 len 0]",
        "tcp 10.64.0.36:40000 > 10.64.1.64:80 S.E seq 1000 ack 7 len 0 ipopts 01010100",
        "udp 10.64.0.36 > 10.96.0.53 non-first fragment len 48 frag id 0x4444 off 24",
        "proto 47 10.64.0.36 > 10.64.1.64 len 16",
    ],
)
def test_words_read_back(text: str) -> None:
    assert describe_frame(build_frame(parse_packet_text(text))) == text


@settings(max_examples=300)
@given(st.binary(max_size=120), st.sampled_from([b"\x08\x00", b"\x08\x06", b""]))
def test_garbage_is_described_in_one_printable_line(tail: bytes, ethertype: bytes) -> None:
    for frame in (tail, bytes(12) + ethertype + tail, bytes(12) + b"\x08\x00\x45" + tail):
        text = describe_frame(frame)
        assert text.isprintable()


#: Vectors whose own words are about bytes that no host would read as that packet.
SAID_DIFFERENTLY = {"invalid_packets", "truncated_l4"}


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vector_packets_are_described_in_the_vectors_words(path: Path) -> None:
    steps = [step for step in json.loads(path.read_text())["steps"] if step.get("packet")]
    differ = [
        (step["packet"], got)
        for step in steps
        if (got := describe_frame(bytes.fromhex(step["packet_hex"]))) != step["packet"]
    ]
    assert path.stem in SAID_DIFFERENTLY or differ == []
    # The first recordings have no words for IPv6.
    assert all("truncated" in got or "bad IP header" in got or "ethertype 0x86dd" in said for said, got in differ)


@pytest.mark.parametrize(
    ("text", "kind", "ident"),
    [
        ("icmp 10.0.0.1:28051 > 10.0.0.2:0", 8, 28051),
        ("icmp 10.0.0.1:0 > 10.0.0.2:7", 0, 7),
        ("icmpv6 [fd00::1]:5 > [fd00::2]:0", 128, 5),
        ("icmp fd00::1 > [fd00::2]:5", 129, 5),
        ("icmp 10.0.0.1:5 > 10.0.0.2 id=5 type=8", 8, 5),
    ],
)
def test_an_echo_has_its_identifier_where_listings_print_it(text: str, kind: int, ident: int) -> None:
    packet = parse_packet_text(text)
    assert (packet.icmp_type, packet.ident, packet.src_port, packet.dst_port) == (kind, ident, 0, 0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "the protocol is missing"),
        ("tpc 1.2.3.4:5 > 1.2.3.5:6", "'tpc'"),
        ("tcp 1.2.3.400:5 > 1.2.3.5:6", "'1.2.3.400'"),
        ("tcp 1.2.3.4:5", '">" is missing'),
        ("tcp 1.2.3.4:70000 > 1.2.3.5:6", "'1.2.3.4:70000'"),
        ("tcp 1.2.3.4:5 > 1.2.3.5:6 XYZ", "'XYZ'"),
        ("tcp 1.2.3.4:5 > 1.2.3.5:6 colour=red", "'colour'"),
        ("tcp 1.2.3.4:5 > 1.2.3.5:6 len=abc", "len=abc"),
        ("udp 1.2.3.4:5 > 1.2.3.5:6 frag=3+", "multiple of 8"),
        ("icmp 1.2.3.4:5 > 1.2.3.5:6", "no ports"),
        ("tcp [fd00::1]:5 > 1.2.3.5:6", "fd00::1 and 1.2.3.5 are of two families"),
        ("tcp [fd00::1:5 > [fd00::2]:6", "reads [ADDRESS]:PORT"),
        ("udp [fd00::1]:5 > [fd00::2]:6 frag=8", "belong to IPv4"),
        ('tcp 1.2.3.4:5 > 1.2.3.5:6 inner="udp 1.1.1.1:1 > 2.2.2.2:2"', "ICMP error"),
        ('icmpv6 fd00::9 > fd00::1 type=1 inner="tcp fd00::1:5 > [fd00::2]:6"', "with a port reads [fd00::1]:5"),
        ('icmpv6 fd00::9 > fd00::1 type=1 inner="udp [fd00::1]:5 > fd00::2:6"', "with a port reads [fd00::2]:6"),
        ('tcp 1.2.3.4:5 > 1.2.3.5:6 "', "closing quotation"),
    ],
)
def test_bad_packet_text_names_what_is_wrong(text: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_packet_text(text)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flags", ["SA", "AS", "S.", "sa"])
def test_flags_as_tcpdump_or_as_letters(flags: str) -> None:
    assert parse_packet_text(f"tcp 1.2.3.4:5>1.2.3.5:6 {flags}").tcp_flags == 0x12


def test_flow_text_takes_networks_and_any() -> None:
    flow = parse_flow_text("tcp 10.64.0.0/16 > any:8000")
    assert (flow.proto, str(flow.networks[0]), flow.networks[1], flow.ports) == (6, "10.64.0.0/16", None, (0, 8000))
    assert parse_flow_text("ip 10.64.0.1 -> 10.64.0.2").proto is None


def test_geneve_is_what_scapy_reads_and_strips_again() -> None:
    inner = build_frame(parse_packet_text("tcp 172.191.0.1:53438 > 10.64.0.39:8000 S"), SRC_MAC, DST_MAC)
    option = dsr_option(IPv4Address("172.190.0.17"), 80)
    outer = Geneve(IPv4Address("10.1.0.9"), IPv4Address("10.1.0.1"), 2, option)
    frame = wrap_geneve(inner, outer, src_mac=bytes(6), dst_mac=bytes(6))
    read = Ether(frame)
    assert (read[UDP].dport, read[GENEVE].vni, read[GENEVE].critical) == (6081, 2, 1)
    assert bytes(read[GENEVE].payload) == inner
    assert option.hex() == "014b8102acbe001100500000"
    assert strip_geneve(frame) == (outer, inner)
    assert parse_dsr_option(bytes(4) + option) == (IPv4Address("172.190.0.17"), 80)
    assert strip_geneve(inner) is None
    assert [strip_geneve(frame[:cut]) for cut in range(14, 60)] == [None] * 46


def test_words_after_the_ends_of_a_flow_are_those_of_a_packet() -> None:
    assert parse_flow_text("tcp 10.0.0.1:1 > 10.0.0.2:2 SA len=5") == parse_flow_text("tcp 10.0.0.1:1 > 10.0.0.2:2")
    for text in ("tcp 10.0.0.1:1 > 10.0.0.2:2 and", "ip 10.0.0.1 > 10.0.0.2 port=80"):
        with pytest.raises(UsageError, match=r"unknown (word 'and'|key 'port')"):
            parse_flow_text(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tcp [fd00::1]:40000 > [fd00::2]:80", "tcp [fd00::1]:40000 > [fd00::2]:80 S seq 0 ack 0 len 0"),
        ("udp [fd00::1]:53 > [fd00::2]:5353 len=9 ttl=3", "udp [fd00::1]:53 > [fd00::2]:5353 len 9 hlim 3"),
        ("icmp fd00::1 > fd00::2 id=7", "icmpv6 fd00::1 > fd00::2 echo request id 7 seq 0"),
        ("icmpv6 fd00::1 > fd00::2 echo reply id=7", "icmpv6 fd00::1 > fd00::2 echo reply id 7 seq 0"),
        (
            'icmpv6 fd00::9 > fd00::1 type=1 code=4 inner="udp [fd00::1]:5 > [fd00::2]:6"',
            "icmpv6 fd00::9 > fd00::1 type 1 code 4 [udp [fd00::1]:5 > [fd00::2]:6 len 0]",
        ),
    ],
)
def test_packets_of_ipv6(text: str, words: str) -> None:
    """Built with right checksums, as another implementation reads them, and told in words that can be read back."""
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    frame = build_frame(parse_packet_text(text))
    assert describe_frame(frame) == words
    again = Ether(bytes(frame))
    upper = again[IPv6].payload
    field = "chksum" if hasattr(upper, "chksum") else "cksum"
    sent = getattr(upper, field)
    delattr(upper, field)
    assert getattr(Ether(bytes(again))[IPv6].payload, field) == sent
    if "[udp" not in words:
        assert build_frame(parse_packet_text(words)) == frame


def test_extension_headers_are_gone_past() -> None:
    frame = build_frame(parse_packet_text("udp [fd00::1]:5 > [fd00::2]:6"))
    hop = bytes((17, 0, 1, 4, 0, 0, 0, 0))
    longer = (
        frame[:18]
        + (int.from_bytes(frame[18:20], "big") + 8).to_bytes(2, "big")
        + b"\0"
        + frame[21:54]
        + hop
        + frame[54:]
    )
    assert describe_frame(longer) == "udp [fd00::1]:5 > [fd00::2]:6 len 0"
    for cut in range(len(longer)):
        describe_frame(longer[:cut])


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("tcp 10.0.0.1 > 10.0.0.2:80", (FROM_PORT, 80)),
        ("udp [fd00::1]:5 > [fd00::2]:53", (5, 53)),
        ("tcp 10.0.0.1:0 > 10.0.0.2:0", (0, 0)),
        ("icmp 10.0.0.1 > 10.0.0.2", (0, 0)),
        ("udp 10.0.0.1 > 10.0.0.2 frag=8", (0, 0)),
    ],
)
def test_a_packet_that_is_sent_has_ports(text: str, ports: tuple[int, int]) -> None:
    spec = parse_sent_packet(text)
    assert (spec.src_port, spec.dst_port) == ports


@pytest.mark.parametrize(
    "text", ["tcp 10.0.0.1:1 > 10.0.0.2 S", "udp fd00::1 > fd00::2", "sctp [fd00::1]:1 > [fd00::2]"]
)
def test_a_packet_to_no_port_is_not_sent(text: str) -> None:
    """To port 0 goes only what says so."""
    with pytest.raises(UsageError, match="to which port"):
        parse_sent_packet(text)


def test_what_may_be_a_port_behind_an_ipv6_address_is_shown_as_one() -> None:
    with pytest.raises(UsageError, match=r"Write for example \[fd00::2\]:8000$"):
        parse_sent_packet("tcp fd00::1:5555 > fd00::2:8000")
