"""Packets as monitor writes them: connection summaries, and layers in gopacket's words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ctctl.errors import DecodeError
from ctctl.model.tuples import ICMP, ICMPV6, SCTP, TCP, UDP, Address, endpoint
from ctctl.packet.spec import TcpFlags
from ctctl.tables.sources.values import address
from ctctl.trace.story_event import StoryPacket

_ENDS = re.compile(r"(?P<src>\S{1,80}) -> (?P<dst>\S{1,80})(?: (?P<rest>.{0,300}))?$")
_WORDS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}
_LAYER_PROTOS = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "icmpv4": ICMP, "icmpv6": ICMPV6}
_FIELD = re.compile(r"\b(SrcIP|DstIP|SrcPort|DstPort|TypeCode)=([^\s(}]{1,64}(?:\([^\s)]{0,40}\))?)")
_SET = re.compile(r"\b(FIN|SYN|RST|PSH|ACK|URG|ECE|CWR)=true\b")
#: The bits of flags as numbers: to join members of an enum takes ten times that.
_BITS = {name: int(flag) for name, flag in TcpFlags.__members__.items()}
_TEXT = 200


def address_of(value: object) -> Address | None:
    """An address from its text; None for what is none."""
    if isinstance(value, str) and "/" in value:
        return None  # a pod, as nearly all ends are printed
    try:
        return address(value)
    except DecodeError:
        return None


def port_of(value: object) -> int | None:
    """A port from a number or digits, a service name in parentheses after them; None for what is none."""
    if isinstance(value, str):
        digits = value.partition("(")[0]
        value = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 5 else None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF:
        return value
    return None


def summary_packet(text: str) -> StoryPacket | None:
    """A packet from ``A:P -> B:P tcp SYN, ACK [tunnel ...]``; None where the text is no such summary."""
    text = text.strip()
    if text == "[unknown]":
        return StoryPacket(other="unknown packet")
    match = _ENDS.match(text)
    if match is None:
        return None
    rest, _, outer = (match["rest"] or "").partition("[tunnel ")
    tunnel = outer.rstrip("] ")[:_TEXT] or None
    src, src_port = _end(match["src"])
    dst, dst_port = _end(match["dst"])
    words = rest.split()
    if src is None or dst is None:
        return StoryPacket(other=text[:_TEXT], tunnel=tunnel)
    proto = _WORDS.get(words[0]) if words else None
    icmp = other = None
    if words and proto is None:
        if src_port is None and not words[0].startswith("IPsec"):
            if words[0].lower() in {"icmp", "icmpv4", "icmpv6"}:  # 1.19 names the protocol first
                del words[0]
            proto, icmp = (ICMP if src.version == 4 else ICMPV6), " ".join(words) or None
        else:
            other = " ".join(words)
    flags = _flags(words[1:]) if proto == TCP else None
    return StoryPacket(proto, src, src_port, dst, dst_port, flags, icmp, other, tunnel)


def _end(word: str) -> tuple[Address | None, int | None]:
    host, colon, port = word.rpartition(":")
    if word.startswith("[") or (colon and ":" not in host):
        if not colon or word.endswith("]"):
            return address_of(word), None
        number = port_of(port)
        return (address_of(host), number) if number is not None else (None, None)
    return address_of(word), None


def _flags(words: list[str]) -> int:
    value = 0
    for word in words:
        value |= _BITS.get(word.strip(","), 0)
    return value


def layers_packet(layers: Mapping[str, object]) -> StoryPacket:
    """A packet from layers by name ("ipv4", "tcp", "l3", ...), as JSON has them and the text of ``-v -v``."""
    fields: dict[str, str] = {}
    for name in ("ipv4", "ipv6", *_LAYER_PROTOS):
        text = layers.get(name)
        if isinstance(text, str):
            fields.update(_FIELD.findall(text[:4096]))
    l3, l4 = _ends_of(layers.get("l3")), _ends_of(layers.get("l4"))
    src, dst = (address_of(l3.get(key) or fields.get(other)) for key, other in (("src", "SrcIP"), ("dst", "DstIP")))
    src_port, dst_port = (
        port_of(l4.get(key) or fields.get(other)) for key, other in (("src", "SrcPort"), ("dst", "DstPort"))
    )
    proto = next((number for name, number in _LAYER_PROTOS.items() if name in layers), None)
    icmp = fields.get("TypeCode") if proto in {ICMP, ICMPV6} else None
    flags, other = None, None
    tcp = layers.get("tcp")
    if isinstance(tcp, str):
        flags = _flags(_SET.findall(tcp[:4096]))
    if src is None or dst is None:
        ethernet = layers.get("ethernet")
        other = " ".join(ethernet.split())[:_TEXT] if isinstance(ethernet, str) else "unknown packet"
    return StoryPacket(proto, src, src_port, dst, dst_port, flags, icmp, other, _tunnel(layers.get("tunnel")))


def _ends_of(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _tunnel(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    outer = layers_packet({key: item for key, item in value.items() if key != "tunnel"})
    form = next((name for name in ("vxlan", "geneve") if name in value), "")
    if outer.src is None or outer.dst is None:
        return form or None
    return f"{_joined(outer.src, outer.src_port)} -> {_joined(outer.dst, outer.dst_port)} {form}".rstrip()


def _joined(address: Address, port: int | None) -> str:
    if port is None:
        return str(address)
    return endpoint(address, port)


def end_words(address: Address | None, port: int | None) -> str:
    """One end of a packet as packet text has it; "?" for an unknown address."""
    return "?" if address is None else _joined(address, port)
