"""What ``cilium monitor`` (text, ``-v``, ``-v -v``, ``-j``) and ``hubble observe`` (every ``-o``) printed, as a story.

Pure: a stream in, events out, line by line; memory is bounded by the longest line and one JSON object.
Forms of lines: Cilium's pkg/monitor (datapath_trace.go, datapath_drop.go, datapath_policy.go, dissect.go),
1.10 to 1.19.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ctctl.errors import DecodeError
from ctctl.model.tuples import PROTOCOL_NUMBERS
from ctctl.tables.sources.documents import json_object
from ctctl.tables.sources.dress import as_printed
from ctctl.tables.sources.stream import EndedEarlyError, Lines, Reader, utf8
from ctctl.trace.story_event import StoryEvent, StoryKind, StoryPacket, identity_of
from ctctl.trace.story_hubble import Spread, compact_event
from ctctl.trace.story_json import APART, count_of, device_of, flow_of, hubble_event, monitor_event
from ctctl.trace.story_packet import address_of, layers_packet, port_of, summary_packet

NO_EVENT = "nothing in it is an event of cilium monitor or of hubble observe (of tables: ctctl ct get)"
#: An object that is spread over lines is read whole, up to this size; so many lines without an event end the reading.
MAX_OBJECT = 1 << 20
MAX_IDLE = 20_000
#: So many lines above the first event may have words in front, too.
_MAX_ABOVE = 50
#: What newer versions may put in front: an IP trace id, for one.
_HEAD = r"(?:\[[^\]]{0,80}\] {0,2})?"
_TRACE = re.compile(
    _HEAD + r"(?P<point>(?:->|<-|\^\^) [a-z][a-z0-9 -]{0,40}?) {1,3}(?:encrypted +)?flow 0x[0-9a-f]{1,8}\b(?P<rest>.*)$"
)
_DROP = re.compile(
    _HEAD
    + r"xx drop \((?P<reason>.{1,200}?)\) flow 0x[0-9a-f]{1,8}\b(?: to endpoint (?P<endpoint>\d{1,10}))?(?P<rest>.*)$"
)
_POLICY = re.compile(
    r"Policy verdict log: flow 0x[0-9a-f]{1,8} local EP ID (?P<endpoint>\d{1,10}), remote ID (?P<remote>[^\s,]{1,80})"
    r"(?:, proto \d{1,3})?, (?P<way>ingress|egress)(?: (?P<old>true|false))?, action (?P<action>[a-z-]{1,20})"
    r"(?:, auth: (?P<auth>[^\s,]{1,40}))?, match (?P<match>[^\s,]{1,40}),? (?P<rest>.*)$"
)
_VERBOSE = re.compile(
    r"CPU \d{1,5}: MARK 0x[0-9a-f]{1,8} FROM (?P<source>\d{1,10}) (?P<what>[A-Za-z-]{1,40}):"
    r" (?P<length>\d{1,10}) bytes(?P<rest>.*)$"
)
_SOCKET = re.compile(
    r"CPU \d{1,5}: \[(?P<point>(?:pre|post)-xlate-(?:fwd|rev)|unknown)\] cgroup_id: \d{1,20} sock_cookie: \d{1,20},"
    r" dst \[(?P<address>[^\]\s]{1,64})\]:(?P<port>\d{1,5}) (?P<proto>[a-z]{1,10}) ?$"
)
_IDENTITY = re.compile(r"\bidentity ([^\s>]{1,80}?)->([^\s:,]{1,80})")
_STATE = re.compile(r"\bstate ([^\s,]{1,20})")
_DEVICE = re.compile(r"\b(?:ifindex|interface) ([^\s,]{1,40})")
_FILE = re.compile(r"\bfile ([^\s,:]{1,60})(?::| line )(\d{1,6})\b")
_REASON = re.compile(r"reason ([^,]{1,200})")
_TARGET = re.compile(r"\bto endpoint (\d{1,10})\b")
_LAYER = re.compile(
    r"[ \t]*(?:\S{1,120}[ \t]{1,8}){0,8}?(Ethernet|IPv4|IPv6|TCP|UDP|SCTP|ICMPv4|ICMPv6|VXLAN|Geneve)\t\{"
)
#: What else monitor and kubectl print: nothing of it is missing in the story.
_TALK = re.compile(
    rf"\s*{_HEAD}(?:"
    r"$|[-=]{5,}|```\w{0,20}$|[\[\],]{1,2}$|Listening for events|Press Ctrl-C|Defaulted |time=|level=|[#$] |\^C"
    r"|Received an interrupt|[0-9a-f]{8}  [0-9a-f]{2} |Packet has been truncated|Failed decoding layer"
    r"|(?:\S{1,120}[ \t]{1,8}){1,8}?time=\S{10,40} level=[a-z]{4,8} msg=)"
)
_AGENT = re.compile(r"(?:>> )?[A-Z][A-Za-z ]{2,60}: \{")
_DEBUG = re.compile(
    r"CPU \d{1,5}: MARK 0x[0-9a-f]{1,8} FROM \d{1,10} DEBUG(?:-CAPTURE)?\b|CPU \d{1,5}: (?:RECORD|Lost)"
)
_L7 = re.compile(r"(?:->|<-) (?:Request|Response|Sample) ")
#: Words that stand in front of each line: a pod and its container, a time.
_FRONT = re.compile(
    r"(?:\S{1,120}[ \t]{1,8}){1,8}?(?=(?:->|<-|\^\^) [a-z][a-z0-9 -]{0,40} flow 0x|xx drop \(|Policy verdict log: flow "
    r"|CPU \d{1,5}: (?:MARK 0x|\[)|>> [A-Z][A-Za-z ]{2,60}: \{|(?:->|<-) (?:Request|Response|Sample) "
    r"|\{\"(?:cpu|type|flow|lost_events|node_name|time)\":)"
)
_LIKE_AN_EVENT = re.compile(r"(?:->|<-|\^\^|xx) |Policy verdict log|CPU \d{1,5}:")


@dataclass(slots=True)
class StoryFile:
    """A stream of events, and what came of reading it. ``apart`` counts recognised messages about no packet."""

    stream: Reader
    events: int = 0
    apart: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    unknown_first: str = ""
    ended: str = ""

    def read(self) -> Iterator[StoryEvent]:
        """Events in the file's order. Raises DecodeError at the end where there was none."""
        lines = Lines(utf8(self.stream))
        try:
            for event in _Text(self, lines).read():
                self.events += 1
                yield event.numbered(self.events)
        except EndedEarlyError as error:
            self.ended = str(error)
        if lines.overlong:
            self.missing["line(s) of more than 1 MiB"] += lines.overlong
        if not self.events and not self.apart:
            raise DecodeError(NO_EVENT)

    @property
    def partial(self) -> list[str]:
        """What of the file is not in the story, by name; empty where nothing is missing."""
        said = [f"{number} {what}: not read" for what, number in sorted(self.missing.items())]
        if self.unknown:
            said.append(f"{self.unknown} line(s) of no known form, the first: {self.unknown_first[:60]!r}")
        return [*said, self.ended] if self.ended else said

    @property
    def notes(self) -> list[str]:
        """What was left out because it is about no packet."""
        if not self.apart:
            return []
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.apart.items()))
        return [f"messages about no packet are left out: {kinds}"]


class _Text:
    """Reads a stream; ``pending`` is an event of ``-v -v`` whose layers follow on lines of their own."""

    def __init__(self, file: StoryFile, lines: Lines) -> None:
        self._file = file
        self._lines = lines
        self._pending: tuple[re.Match[str], dict[str, object]] | None = None
        self._spread_lines = Spread()
        self._idle = 0
        #: so many words stood in front of the last line that had some
        self._front = 0
        #: lines of no known form above the first that had some
        self._above: list[str] = []

    def read(self) -> Iterator[StoryEvent]:
        """Everything up to the end, or to where reading on is in vain."""
        while self._idle <= MAX_IDLE and not self._file.ended and (line := self._next()) is not None:
            self._idle += 1
            if self._layer(line):
                continue
            for event in (self._flushed(), self._line(line)):
                if event is not None:
                    self._idle = 0
                    yield event
        for last in (self._flushed(), self._spread_lines.flush()):
            if last is not None:
                yield last
        if self._idle > MAX_IDLE and not self._file.ended:
            self._file.ended = f"{MAX_IDLE} lines without an event: not read on"

    def _next(self) -> str | None:
        try:
            return self._lines.next()
        except EndedEarlyError as error:
            self._file.ended = str(error)
            return None

    def _line(self, line: str) -> StoryEvent | None:
        text = line.strip()
        if not text.startswith("{"):
            text = as_printed(text)
            if not _LIKE_AN_EVENT.match(text) and (front := _FRONT.match(text)) is not None:
                text = text[front.end() :]
                self._learn(len(front[0].split()))
        if text.startswith("{"):
            return self._object(text)
        if (match := _VERBOSE.match(text)) is not None and match["what"] not in {"DEBUG", "DEBUG-CAPTURE"}:
            self._pending = (match, {})
            return None
        event = text_event(text) or compact_event(text)
        if event is None:
            taken, event = self._spread_lines.take(text)
            if not taken:
                self._other(text)
        return event

    def _other(self, text: str) -> None:
        if _DEBUG.match(text):
            self._file.apart["debug"] += 1
        elif _L7.match(text):
            self._file.missing["message(s) of a proxy (L7)"] += 1
        elif _LIKE_AN_EVENT.match(text):
            self._file.missing["line(s) that start as an event and cannot be read"] += 1
        elif _AGENT.match(text):
            self._file.apart["agent"] += 1
        elif not _TALK.match(text) and not (self._front and _TALK.match(_behind(text, self._front))):
            self._lost(text)

    def _lost(self, text: str) -> None:
        self._file.unknown += 1
        self._file.unknown_first = self._file.unknown_first or text
        if not self._front and len(self._above) < _MAX_ABOVE:
            self._above.append(text)

    def _learn(self, words: int) -> None:
        """So many words stand in front of lines: those above had them too."""
        left = [text for text in self._above if not _TALK.match(_behind(text, words))]
        if len(left) < len(self._above):
            self._file.unknown -= len(self._above) - len(left)
            self._file.unknown_first = left[0] if left else ""
        self._front, self._above = words, []

    # ---- layers of ``-v -v``

    def _layer(self, line: str) -> bool:
        match = _LAYER.match(line) if self._pending is not None else None
        if match is None or self._pending is None:
            return False
        line = line[match.start(1) :]
        layers, name = self._pending[1], match[1].lower()
        if name in {"vxlan", "geneve"}:
            outer = {**layers, name: line}
            layers.clear()
            layers["tunnel"] = outer
        else:
            layers[name] = line
        return True

    def _flushed(self) -> StoryEvent | None:
        if self._pending is None:
            return None
        (match, layers), self._pending = self._pending, None
        return _verbose_event(match, layers)

    # ---- JSON

    def _object(self, text: str) -> StoryEvent | None:
        try:
            item = json.loads(text)
        except (ValueError, RecursionError):
            if text != "{":
                self._file.missing["damaged JSON object(s)"] += 1
                return None
            item = self._spread()
        return None if item is None else self._item(item)

    def _spread(self) -> Any:
        """An object over several lines, whose first has been taken."""
        self._lines.back("{\n")
        try:
            return json_object(self._lines, MAX_OBJECT)
        except DecodeError as error:
            self._file.ended = f"{error}: not read on"
            return None

    def _item(self, item: Any) -> StoryEvent | None:
        if (flow := flow_of(item)) is not None:
            return hubble_event(flow)
        if not isinstance(item, dict):
            self._lost(str(item))
            return None
        kind = item.get("type")
        event = monitor_event(item)
        if event is not None:
            return event
        lost = item.get("lost_events")
        if isinstance(lost, dict):
            self._file.missing["event(s) that Hubble lost"] += _lost_number(lost.get("num_events_lost"))
        elif kind == "logRecord":
            self._file.missing["message(s) of a proxy (L7)"] += 1
        elif isinstance(kind, str) and kind in APART:
            self._file.apart[kind] += 1
        elif (
            other := next((key for key in ("agent_event", "debug_event", "node_status") if key in item), None)
        ) is not None:
            self._file.apart[other.replace("_", " ")] += 1
        else:
            self._lost(json.dumps(item)[:80])
        return None


def _behind(text: str, words: int) -> str:
    """A line without so many words in front."""
    return " ".join(text.split()[words:])


def _lost_number(value: object) -> int:
    """How many events were lost: a number, or its digits (protobuf's JSON has 64 bits as text); at least one."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 18:
        value = int(value)
    return count_of(value) or 1


def text_event(text: str) -> StoryEvent | None:
    """The event of one line of text; None for any other line."""
    if (match := _TRACE.match(text)) is not None:
        return _trace_event(match)
    if (match := _DROP.match(text)) is not None:
        return _drop_event(match)
    if (match := _POLICY.match(text)) is not None:
        return _policy_event(match)
    if (match := _SOCKET.match(text)) is not None:
        return _socket_event(match)
    return None


def _head_of(rest: str) -> tuple[str, str]:
    """What stands before a line's connection summary, and the summary."""
    head, _, summary = rest.rpartition(": ")
    return head[:600], summary


def _identities(head: str) -> tuple[int | None, int | None]:
    match = _IDENTITY.search(head)
    return (identity_of(match[1]), identity_of(match[2])) if match is not None else (None, None)


def _state(head: str) -> str | None:
    match = _STATE.search(head)
    return None if match is None or match[1] == "unknown" else match[1]


def _device(head: str) -> str | None:
    match = _DEVICE.search(head)
    return None if match is None else device_of(match[1])


def _place(point: str) -> tuple[str, int | None]:
    """``-> endpoint 59`` as ``to-endpoint`` and 59; ``^^ conntrack new`` stays words."""
    arrow, _, words = point.partition(" ")
    name, _, number = words.partition(" ")
    prefix = {"->": "to-", "<-": "from-"}.get(arrow)
    if prefix is None:
        return words, None
    return prefix + name, int(number) if name == "endpoint" and number.isdecimal() and len(number) <= 10 else None


def _trace_event(match: re.Match[str]) -> StoryEvent | None:
    head, summary = _head_of(match["rest"])
    packet = summary_packet(summary)
    if packet is None:
        return None
    place, endpoint = _place(match["point"])
    src, dst = _identities(head)
    return StoryEvent(
        StoryKind.TRACE,
        packet,
        place=place,
        endpoint=endpoint,
        device=_device(head),
        src_identity=src,
        dst_identity=dst,
        state=_state(head),
    )


def _drop_event(match: re.Match[str]) -> StoryEvent | None:
    head, summary = _head_of(match["rest"])
    packet = summary_packet(summary)
    if packet is None:
        return None
    src, dst = _identities(head)
    where = _FILE.search(head)
    return StoryEvent(
        StoryKind.DROP,
        packet,
        endpoint=int(match["endpoint"] or 0) or None,
        device=_device(head),
        src_identity=src,
        dst_identity=dst,
        verdict="dropped",
        reason=match["reason"],
        file=where[1] if where is not None else None,
        line=int(where[2]) if where is not None else None,
    )


def _policy_event(match: re.Match[str]) -> StoryEvent | None:
    packet = summary_packet(match["rest"])
    if packet is None:
        return None
    way = "egress" if match["old"] == "false" else match["way"]
    remote = identity_of(match["remote"])
    return StoryEvent(
        StoryKind.POLICY,
        packet,
        place=way,
        endpoint=int(match["endpoint"]),
        src_identity=remote if way == "ingress" else None,
        dst_identity=None if way == "ingress" else remote,
        verdict=match["action"],
        detail=f"match {match['match']}" + (f", auth {match['auth']}" if match["auth"] else ""),
    )


def _socket_event(match: re.Match[str]) -> StoryEvent | None:
    address, port = address_of(match["address"]), port_of(match["port"])
    if address is None or port is None:
        return None
    packet = StoryPacket(PROTOCOL_NUMBERS.get(match["proto"]), dst=address, dst_port=port)
    return StoryEvent(StoryKind.SOCKET, packet, place=match["point"])


def _verbose_event(match: re.Match[str], layers: dict[str, object]) -> StoryEvent:
    head = match["rest"][:600]
    src, dst = _identities(head)
    target = _TARGET.search(head)
    drop = match["what"] == "DROP"
    reason = _REASON.search(head) if drop else None
    mine = int(match["source"]) if match["what"] == "from-endpoint" else None
    return StoryEvent(
        StoryKind.DROP if drop else StoryKind.TRACE,
        layers_packet(layers),
        place=None if drop else match["what"],
        endpoint=int(target[1]) if target is not None else mine,
        device=_device(head),
        src_identity=src,
        dst_identity=dst,
        state=_state(head),
        verdict="dropped" if drop else None,
        reason=reason[1].strip() if reason is not None else None,
        length=int(match["length"]),
    )
