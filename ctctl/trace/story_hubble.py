"""What ``hubble observe`` prints for people (``-o compact``, ``dict``, ``tab``) as events of a story.

Forms: Cilium's hubble/pkg/printer. In ``compact`` an arrow to the left has the sender on its right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ctctl.model.tuples import ICMP, ICMPV6, SCTP, TCP, UDP, Address
from ctctl.packet.spec import TcpFlags, tcp_flag_letters
from ctctl.trace.story_event import StoryEvent, StoryKind, StoryPacket, identity_of
from ctctl.trace.story_json import time_of
from ctctl.trace.story_packet import address_of

_VERDICTS = "FORWARDED|DROPPED|ERROR|AUDITED|AUDIT|REDIRECTED|TRACED|TRANSLATED|ALLOWED|DENIED|VERDICT_UNKNOWN"
_COMPACT = re.compile(
    r"(?P<time>\S[^\[\]]{5,40}?)(?: \[(?P<node>[^\]]{1,120})\])?: (?P<src>\S{1,300})(?: \((?P<src_id>[^)]{1,120})\))?"
    r" (?P<arrow>->|<-|<>) (?P<dst>\S{1,300})(?: \((?P<dst_id>[^)]{1,120})\))?"
    rf" (?P<type>\S.{{0,100}}?) (?P<verdict>{_VERDICTS})(?: \((?P<summary>.{{0,500}})\))?\s*$"
)
_DICT = re.compile(r"\s*+(TIMESTAMP|NODE|SOURCE|DESTINATION|TYPE|VERDICT|SUMMARY): ?(.{0,600})$")
_TAB = re.compile(r"TIMESTAMP\s+(?:NODE\s+)?SOURCE\s+DESTINATION\s+TYPE\s+VERDICT\s+SUMMARY\s*$")
#: What stands between the events of ``-o dict``.
SEPARATOR = re.compile(r"-{6,}\s*$")
_END = re.compile(r"(?P<host>.+?)(?::(?P<port>\d{1,5})(?:\([^)]{0,40}\))?)?$")
_NAMED = re.compile(r"(?P<end>\S{1,300})(?: \((?P<identity>[^)]{1,120})\))?$")
_PROTOS = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "icmpv4": ICMP, "icmpv6": ICMPV6}
_GAP = re.compile(r" {3,}|\t+")


def compact_event(text: str) -> StoryEvent | None:
    """The event of one line of ``-o compact``; None for any other line."""
    match = _COMPACT.match(text)
    if match is None:
        return None
    ends = [(match["src"], match["src_id"]), (match["dst"], match["dst_id"])]
    source, target = ends[::-1] if match["arrow"] == "<-" else ends
    return _event(match.groupdict(), source, target, reply=match["arrow"] == "<-")


class Spread:
    """Events of ``-o dict``, whose fields stand in lines of their own, and rows of ``-o tab``."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}
        self._titles: list[str] = []

    def take(self, text: str) -> tuple[bool, StoryEvent | None]:
        """Whether the line is of these forms, and the event that it ends or is."""
        if _TAB.match(text):
            self._titles = text.split()
            return True, None
        if (match := _DICT.match(text)) is not None:
            done = self.flush() if match[1] == "TIMESTAMP" else None
            self._fields[match[1].lower()] = match[2].strip()
            return True, done
        if self._fields and SEPARATOR.match(text):
            return True, self.flush()
        if self._titles and len(cells := _GAP.split(text.strip())) == len(self._titles):
            event = _of_fields(dict(zip((title.lower() for title in self._titles), cells, strict=True)))
            return event is not None, event
        return False, None

    def flush(self) -> StoryEvent | None:
        """The event whose fields have been taken; None where there is none."""
        fields, self._fields = self._fields, {}
        return _of_fields(fields) if "verdict" in fields else None


def _of_fields(fields: Mapping[str, str]) -> StoryEvent | None:
    ends = [_NAMED.match(fields.get(name, "")) for name in ("source", "destination")]
    if ends[0] is None or ends[1] is None:
        return None
    found = {**fields, "time": fields.get("timestamp", "")}
    return _event(found, *((one["end"], one["identity"]) for one in ends if one is not None), reply=False)


def _event(
    fields: Mapping[str, str | None], source: tuple[str, str | None], target: tuple[str, str | None], *, reply: bool
) -> StoryEvent:
    kind, verdict = fields.get("type") or "", (fields.get("verdict") or "").lower()
    dropped = verdict == "dropped" and not kind.startswith("policy-verdict")
    src, src_port, src_name = _end(source[0])
    dst, dst_port, dst_name = _end(target[0])
    summary = fields.get("summary") or ""
    word, _, rest = summary.partition(" ")
    proto = _PROTOS.get(word.lower().rstrip(":"))
    flags = _flags(rest) if proto == TCP and rest.startswith("Flags:") else None
    other = None
    if src is None or dst is None:
        letters = f" {tcp_flag_letters(flags)}" if flags is not None else ""
        other = f"{word.lower() if proto else 'ip'} {source[0]} > {target[0]}{letters}"
    icmp = rest or None if proto in (ICMP, ICMPV6) else None
    return StoryEvent(
        _kind(kind, dropped=dropped),
        StoryPacket(proto, src, src_port, dst, dst_port, flags, icmp, other),
        time_ns=time_of((fields.get("time") or "").strip()),
        node=fields.get("node") or None,
        place=None if dropped else kind or None,
        src_identity=_identity(source[1]),
        dst_identity=_identity(target[1]),
        src_name=src_name,
        dst_name=dst_name,
        state="reply" if reply else None,
        verdict=None if verdict == "verdict_unknown" else verdict,
        reason=kind if dropped else None,
        detail=summary if proto is None and summary else None,
    )


def _kind(text: str, *, dropped: bool) -> StoryKind:
    if text.startswith("policy-verdict"):
        return StoryKind.POLICY
    if dropped:
        return StoryKind.DROP
    if text.startswith(("pre-xlate", "post-xlate")):
        return StoryKind.SOCKET
    return StoryKind.L7 if text.startswith(("http-", "dns-", "kafka-", "l7-")) else StoryKind.TRACE


def _end(word: str) -> tuple[Address | None, int | None, str | None]:
    """Address, port and name of an end: it has an address or a name."""
    address = address_of(word)
    if address is not None:
        return address, None, None
    match = _END.match(word)
    if match is None:
        return None, None, None
    port = int(match["port"]) if match["port"] and int(match["port"]) <= 65535 else None
    address = address_of(match["host"])
    return address, port, None if address is not None else match["host"]


def _identity(text: str | None) -> int | None:
    return None if text is None else identity_of(text.removeprefix("ID:").removeprefix("reserved:"))


def _flags(rest: str) -> int:
    value = 0
    for word in rest.removeprefix("Flags:").replace(",", " ").split():
        value |= TcpFlags.__members__.get(word, 0)
    return value
