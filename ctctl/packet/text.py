"""Packet text ("tcp 10.64.0.36:54260 > 10.64.0.64:8000 S len=5") to PacketSpec (docs/reference/cli.md)."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from ctctl.errors import UsageError
from ctctl.model.tuples import end_text
from ctctl.model.units import decimal
from ctctl.packet.spec import (
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
    ICMP_ERRORS,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    ICMPV6_ERRORS,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
    PacketSpec,
    parse_tcp_flags,
)

PROTOCOLS = {"tcp": PROTO_TCP, "udp": PROTO_UDP, "icmp": PROTO_ICMP, "icmpv6": PROTO_ICMPV6, "sctp": PROTO_SCTP}
_WITH_PORTS = frozenset({PROTO_TCP, PROTO_UDP, PROTO_SCTP})
_ICMPS = frozenset({PROTO_ICMP, PROTO_ICMPV6})
_ECHO = {
    PROTO_ICMP: {"request": ICMP_ECHO_REQUEST, "reply": ICMP_ECHO_REPLY},
    PROTO_ICMPV6: {"request": ICMPV6_ECHO_REQUEST, "reply": ICMPV6_ECHO_REPLY},
}
_ERRORS = {PROTO_ICMP: ICMP_ERRORS, PROTO_ICMPV6: ICMPV6_ERRORS}
_FORM = 'a packet reads "PROTO SRC[:PORT] > DST[:PORT] [FLAGS] [key=value ...]"'
#: An ICMP error as describe_frame() writes it; what it quotes is cut by design. An IPv6 address has brackets too.
_BRACKETED = re.compile(r"\[(?P<inner>[a-z]+\s[^\[\]]*?)(?: truncated L4 \(\d+ bytes\))?\]")


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """The ends of a flow to follow, of either family; None means any. In the order written, either may answer."""

    proto: int | None
    networks: tuple[IPv4Network | IPv6Network | None, IPv4Network | IPv6Network | None]
    ports: tuple[int, int]

    @property
    def version(self) -> int | None:
        """IP version of the ends; None where no address is given."""
        return next((network.version for network in self.networks if network is not None), None)


def _number(text: str, low: int, high: int) -> int:
    value = int(text, 0)
    if not low <= value <= high:
        raise ValueError(f"must be {low} to {high}")
    return value


def _ranged(low: int, high: int) -> Callable[[str], int]:
    return lambda text: _number(text, low, high)


def _checksum(text: str) -> int:
    return 0xDEAD if text == "bad" else _number(text, 0, 0xFFFF)


_U32 = 0xFFFFFFFF
#: key → (field of PacketSpec, reader of its value)
_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "len": ("length", _ranged(0, 65000)),
    "seq": ("seq", _ranged(0, _U32)),
    "ack": ("ack", _ranged(0, _U32)),
    "type": ("icmp_type", _ranged(0, 255)),
    "code": ("icmp_code", _ranged(0, 255)),
    "ttl": ("ttl", _ranged(0, 255)),
    "hlim": ("ttl", _ranged(0, 255)),
    "ipid": ("ip_id", _ranged(0, 0xFFFF)),
    "opts": ("ip_options", bytes.fromhex),
    "ipopts": ("ip_options", bytes.fromhex),
    "csum": ("l4_checksum", _checksum),
    "proto": ("proto", _ranged(0, 255)),
}
#: Words that describe_frame() writes without "=", so that its text can be read back.
_BARE_KEYS = frozenset({"len", "seq", "ack", "type", "code", "ttl", "hlim", "id", "ipopts"})


#: Where a packet comes from that is told to be sent from no port: any that programs are given will do.
FROM_PORT = 40000


@dataclass(slots=True)
class _Reader:
    """The words of a packet text, consumed from the front."""

    text: str
    words: list[str]
    fields: dict[str, Any] = field(default_factory=dict)

    def fail(self, why: str) -> UsageError:
        return UsageError(f"packet {self.text!r}: {why}")

    def take(self, what: str) -> str:
        if not self.words:
            raise self.fail(f"{what} is missing; {_FORM}")
        return self.words.pop(0)


def parse_packet_text(text: str) -> PacketSpec:
    """Read one packet (docs/reference/cli.md): also the words that describe_frame() writes.

    Without flags a TCP packet is a SYN, an ICMP packet without type an echo request.

    Raises:
        UsageError: the text is not a packet; names the word that is wrong.
    """
    reader = _reader(text)
    spec = _parse_ends(reader)
    spec = _with_identifier(reader, replace(spec, **_parse_rest(reader, spec.proto)))
    _check(reader, spec)
    return spec


def _with_identifier(reader: _Reader, spec: PacketSpec) -> PacketSpec:
    """An echo as listings print it: its identifier stands as the port of a request's source, of a reply's target."""
    ident = spec.src_port or spec.dst_port
    if spec.proto not in _ICMPS or not ident or (spec.src_port and spec.dst_port):
        return spec
    kind = _ECHO[spec.proto]["request" if spec.src_port else "reply"]
    if {"icmp_type": kind, "ident": ident, **reader.fields} != {**reader.fields, "icmp_type": kind, "ident": ident}:
        raise reader.fail(
            f"{ident} in the place of a port is the identifier of an echo of type {kind}, and id= or type= is another"
        )
    return replace(spec, src_port=0, dst_port=0, ident=ident, icmp_type=kind)


def parse_sent_packet(text: str) -> PacketSpec:
    """The same of a packet that a program sends: to some port, and from ``FROM_PORT`` where the text has none.

    Raises:
        UsageError: as above, and where the destination port is missing; ``:0`` is port 0.
    """
    spec = parse_packet_text(text)
    if spec.proto not in _WITH_PORTS or spec.fragment_offset:
        return spec
    reader = _reader(text)
    _parse_protocol(reader)
    src, dst = _split_ends(reader)
    if not _has_port(dst):
        raise reader.fail(f"to which port? Write for example {_with_port(dst) or end_text(spec.dst, 80)}")
    return spec if _has_port(src) else replace(spec, src_port=FROM_PORT)


def _with_port(word: str) -> str | None:
    """An IPv6 address whose end may be meant as a port, with brackets that make it one; None for any other word."""
    host, _, port = word.rpartition(":")
    if word.startswith("[") or not port.isdecimal() or host.count(":") < 2:
        return None
    with contextlib.suppress(ValueError):
        return f"[{ip_address(host)}]:{port}"
    return None


def _has_port(word: str) -> bool:
    return "]:" in word if word.startswith("[") else word.count(":") == 1


def parse_flow_text(text: str) -> FlowSpec:
    """Read the ends of a flow to follow: as packet text, addresses also CIDRs or "any", PROTO also "ip" (any).

    ``icmp`` between IPv6 addresses is ICMPv6. Flags and keys after the ends are read as in a packet, and not used.

    Raises:
        UsageError: the text has not the form PROTO SRC[:PORT] > DST[:PORT] [FLAGS] [key=value ...].
    """
    reader = _reader(text)
    proto = _parse_protocol(reader)
    (left, left_port), (right, right_port) = (
        _parse_network(reader, *_split_port(reader, word)) for word in _split_ends(reader)
    )
    _parse_rest(reader, 0 if proto is None else proto)
    if left is not None and right is not None and left.version != right.version:
        raise reader.fail(f"{left} and {right} are of two families")
    if proto == PROTO_ICMP and any(isinstance(network, IPv6Network) for network in (left, right)):
        proto = PROTO_ICMPV6
    return FlowSpec(proto, (left, right), (left_port, right_port))


def _parse_network(reader: _Reader, host: str, port: int) -> tuple[IPv4Network | IPv6Network | None, int]:
    if host in {"any", "*", ""}:
        return None, port
    try:
        return ip_network(host, strict=False), port
    except ValueError as error:
        raise reader.fail(f"bad address {host!r}: {error}") from None


def _reader(text: str) -> _Reader:
    quoted = _BRACKETED.sub(lambda match: f"inner={shlex.quote(match['inner'])}", text)
    try:
        words = shlex.split(quoted)
    except ValueError as error:
        raise UsageError(f"packet {text!r}: {error}") from None
    return _Reader(text, [part for word in words for part in _split_arrow(word)])


def _split_arrow(word: str) -> list[str]:
    if "=" in word:
        return [word]
    return [">" if part == "->" else part for part in re.split(r"(->|>)", word) if part]


def _parse_protocol(reader: _Reader) -> int | None:
    word = reader.take("the protocol").lower()
    if word == "ip":
        return None
    if word == "proto" and reader.words and (number := decimal(reader.words[0], 255)) is not None:
        reader.words.pop(0)
        return number
    if word not in PROTOCOLS:
        raise reader.fail(f"unknown protocol {word!r}: tcp, udp, icmp, sctp or ip")
    return PROTOCOLS[word]


def _split_ends(reader: _Reader) -> tuple[str, str]:
    src = reader.take("the source")
    if reader.take('">"') != ">":
        raise reader.fail(f'">" expected after the source {src!r}; {_FORM}')
    return src, reader.take("the destination").rstrip(":")


def _split_port(reader: _Reader, word: str) -> tuple[str, int]:
    if word.startswith("["):
        host, closing, port = word[1:].partition("]")
        if not closing or (port and not port.startswith(":")):
            raise reader.fail(f"{word!r}: an IPv6 address with a port reads [ADDRESS]:PORT")
        if not port:
            return host, 0
        port = port[1:]
    elif word.count(":") > 1:
        return word, 0
    else:
        host, colon, port = word.rpartition(":")
        if not colon:
            return word, 0
    number = decimal(port, 0xFFFF)
    if number is None:
        raise reader.fail(f"bad port in {word!r}: 0 to 65535")
    return host, number


def _parse_address(reader: _Reader, word: str) -> tuple[IPv4Address | IPv6Address, int]:
    host, port = _split_port(reader, word)
    try:
        return ip_address(host), port
    except ValueError as error:
        raise reader.fail(f"bad address {host!r}: {error}") from None


def parse_end(word: str) -> tuple[IPv4Address | IPv6Address, int]:
    """Address and port (0: none is given) of ``A``, ``A:P`` or ``[A]:P``. Raises UsageError."""
    return _parse_address(_reader(word), word)


def _parse_ends(reader: _Reader) -> PacketSpec:
    proto = _parse_protocol(reader)
    src_word, dst_word = _split_ends(reader)
    src, src_port = _parse_address(reader, src_word)
    dst, dst_port = _parse_address(reader, dst_word)
    if src.version != dst.version:
        raise reader.fail(f"{src} and {dst} are of two families")
    if proto == PROTO_ICMP and src.version == 6:
        proto = PROTO_ICMPV6
    # "ip" without proto= is protocol 255, which IANA reserves: a packet of no known protocol.
    return PacketSpec(255 if proto is None else proto, src, dst, src_port, dst_port)


def _inner(reader: _Reader, text: str) -> PacketSpec:
    """The packet that an error is about. Raises UsageError, also where an end may be an address or one with a port."""
    spec = parse_packet_text(text)
    if spec.proto in _WITH_PORTS and not spec.fragment_offset:
        inside = _reader(text)
        _parse_protocol(inside)
        for word in _split_ends(inside):
            if (meant := _with_port(word)) is not None:
                raise reader.fail(f"inner: {word!r}: an IPv6 address with a port reads {meant}, one without [{word}]")
    return spec


def _parse_rest(reader: _Reader, proto: int) -> dict[str, Any]:
    while reader.words:
        word = reader.words.pop(0)
        key, equals, value = word.partition("=")
        if not equals and key in _BARE_KEYS and reader.words:
            value, equals = reader.words.pop(0), "="
        if equals:
            _apply_key(reader, proto, key, value)
        elif not _apply_word(reader, proto, word):
            raise reader.fail(f"unknown word {word!r}; {_FORM}")
    return reader.fields


def _apply_word(reader: _Reader, proto: int, word: str) -> bool:
    following = reader.words[0] if reader.words else ""
    if proto == PROTO_TCP and "tcp_flags" not in reader.fields and (flags := parse_tcp_flags(word)) is not None:
        reader.fields["tcp_flags"] = flags
    elif proto in _ICMPS and word == "echo" and following in {"request", "reply"}:
        reader.words.pop(0)
        reader.fields["icmp_type"] = _ECHO[proto][following]
    elif word == "non-first" and following == "fragment":
        reader.words.pop(0)
    elif word == "frag" and following == "id":
        _apply_described_fragment(reader)
    else:
        return False
    return True


def _apply_described_fragment(reader: _Reader) -> None:
    words = reader.words
    if len(words) < 4 or words[2] != "off":
        raise reader.fail('a fragment reads "frag id ID off BYTES [MF]"')
    more = len(words) > 4 and words[4] == "MF"
    _apply_key(reader, -1, "id", words[1])
    _apply_key(reader, -1, "frag", words[3] + ("+" if more else ""))
    del words[: 5 if more else 4]


def _apply_key(reader: _Reader, proto: int, key: str, value: str) -> None:
    try:
        if key == "id":
            name = "ident" if proto in _ICMPS else "ip_id"
            reader.fields[name] = _number(value, 0, 0xFFFF)
        elif key == "frag":
            reader.fields["fragment_offset"] = _number(value.rstrip("+"), 0, 65528)
            reader.fields["more_fragments"] = value.endswith("+")
        elif key == "inner":
            reader.fields["inner"] = _inner(reader, value)
        elif key in _KEYS:
            name, read = _KEYS[key]
            reader.fields[name] = read(value)
        else:
            known = ", ".join(sorted({*_KEYS, "id", "frag", "inner"}))
            raise reader.fail(f"unknown key {key!r}; known: {known}")
    except ValueError as error:
        raise reader.fail(f"{key}={value}: {error}") from None


def _check(reader: _Reader, spec: PacketSpec) -> None:
    if spec.proto not in _WITH_PORTS and (spec.src_port or spec.dst_port):
        raise reader.fail("this protocol has no ports")
    if spec.fragment_offset is not None and spec.fragment_offset % 8:
        raise reader.fail("frag= is an offset in bytes and a multiple of 8")
    if len(spec.ip_options) % 4 or len(spec.ip_options) > 40:
        raise reader.fail("opts= is hex of at most 40 bytes, a multiple of 4")
    if spec.inner is not None and spec.icmp_type not in _ERRORS.get(spec.proto, ()):
        raise reader.fail("inner= belongs to an ICMP error: type=3, 11 or 12, of ICMPv6 1 to 4")
    if spec.src.version == 6 and (spec.fragmented or spec.ip_options or spec.ip_id is not None):
        raise reader.fail("frag=, opts= and ipid= belong to IPv4")
    if spec.icmp_type is not None and spec.proto not in _ICMPS:
        raise reader.fail("type= belongs to ICMP")
