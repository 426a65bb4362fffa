"""A packet story: a line an event for people, a JSON object a line for programs, in the order of time."""

from __future__ import annotations

import heapq
import json
from collections.abc import Generator, Iterable, Iterator
from typing import Any, TextIO

from ctctl.events.lines import Line
from ctctl.events.record import wall_clock
from ctctl.model.identity import RESERVED_IDENTITIES
from ctctl.model.tuples import protocol_name
from ctctl.out.text import safe
from ctctl.packet.spec import tcp_flag_letters
from ctctl.trace.show import LineWriter
from ctctl.trace.story_event import StoryEvent, StoryKind, StoryPacket
from ctctl.trace.story_packet import end_words

STORY_SCHEMA = "ctctl/story-event/v1"
#: Events that are held back to be put in order: relays of many nodes are out of order by less.
WINDOW = 20_000


class InOrder:
    """Events in the order of their times; one without a time stays behind the one before it.

    ``late`` counts those that came more than ``window`` events too late, and are given where they stood.
    """

    def __init__(self, events: Iterable[StoryEvent], window: int = WINDOW) -> None:
        self._events = events
        self._window = window
        self.late = 0

    def __iter__(self) -> Iterator[StoryEvent]:
        heap: list[tuple[int, int, StoryEvent]] = []
        now = last = 0
        for event in self._events:
            now = now if event.time_ns is None else event.time_ns
            heapq.heappush(heap, (now, event.number, event))
            # Without any time the order is the file's: nothing is held back.
            while len(heap) > (self._window if now else 0):
                last = yield from self._pop(heap, last)
        while heap:
            last = yield from self._pop(heap, last)

    def _pop(self, heap: list[tuple[int, int, StoryEvent]], last: int) -> Generator[StoryEvent, None, int]:
        at, _, event = heapq.heappop(heap)
        self.late += at < last
        yield event
        return max(at, last)


class StoryTable:
    """One line an event."""

    def __init__(self, stream: TextIO, *, color: bool) -> None:
        self._writer = LineWriter(stream, color=color)

    def event(self, event: StoryEvent) -> None:
        """Write one event's line."""
        self._writer.line(story_line(event))


class StoryJson:
    """One JSON object a line and event."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def event(self, event: StoryEvent) -> None:
        """Write one event's line."""
        self._stream.write(json.dumps({"schema": STORY_SCHEMA, **story_record(event)}) + "\n")


def story_line(event: StoryEvent) -> Line:
    """One event in words: time (or ``#`` and its number in the file), node, place, packet, who, and how it ended."""
    time = f"#{event.number}" if event.time_ns is None else wall_clock(event.time_ns, 0)[11:26]
    line: Line = [(time, "dim")]
    if event.node:
        line.append((f"  {safe(event.node)}", "bold blue"))
    line.append((f"  {safe(_place_words(event))}", "bold"))
    line.append((f"  {safe(story_packet_words(event.packet))}", "bold"))
    if event.packet.tunnel:
        line.append((f"  in tunnel {safe(event.packet.tunnel)}", "dim"))
    if event.length is not None:
        line.append((f"  {event.length} bytes", "dim"))
    who = (_end(event.src_name, event.src_identity), _end(event.dst_name, event.dst_identity))
    if any(who):
        what = "" if event.src_name or event.dst_name else "identity "
        line.append((f"  {what}{safe(who[0] or '?')} → {safe(who[1] or '?')}", ""))
    if event.state:
        line.append((f"  {safe(event.state)}", "green"))
    if event.detail:
        line.append((f"  {safe(event.detail)}", ""))
    if event.verdict or event.reason:
        line.append((f"  {safe(_ending(event))}", "bold red" if _is_bad(event) else "green"))
    return line


def _place_words(event: StoryEvent) -> str:
    words = [event.place or ("drop" if event.kind is StoryKind.DROP else str(event.kind))]
    if event.kind in {StoryKind.POLICY, StoryKind.L7} and event.place:
        words.insert(0, str(event.kind))
    if event.endpoint is not None:
        words.append(str(event.endpoint) if "endpoint" in words[0] else f"endpoint {event.endpoint}")
    if event.device:
        words.append(f"on {event.device}" if not event.device.isdecimal() else f"on ifindex {event.device}")
    return " ".join(words)


def story_packet_words(packet: StoryPacket) -> str:
    """The packet in the words of packet text."""
    if packet.src is None and packet.dst is None:
        return packet.other or "unknown packet"
    if packet.other and (packet.src is None or packet.dst is None):
        return packet.other
    proto = "ip" if packet.proto is None else protocol_name(packet.proto).lower()
    ends = f"{end_words(packet.src, packet.src_port)} > {end_words(packet.dst, packet.dst_port)}"
    words = [proto, ends]
    if packet.tcp_flags is not None:
        words.append(tcp_flag_letters(packet.tcp_flags))
    return " ".join([*words, *(text for text in (packet.icmp, packet.other) if text)])


def _end(name: str | None, identity: int | None) -> str | None:
    number = None if identity is None else RESERVED_IDENTITIES.get(identity, str(identity))
    if name is None:
        return number
    return name if number is None else f"{name} ({number})"


def _ending(event: StoryEvent) -> str:
    text = event.verdict or "not said"
    if event.reason:
        text += f": {event.reason}"
    if event.file:
        text += f" ({event.file}:{event.line})" if event.line is not None else f" ({event.file})"
    return text


def _is_bad(event: StoryEvent) -> bool:
    return event.kind is StoryKind.DROP or event.verdict in {"dropped", "deny", "error"}


def story_record(event: StoryEvent) -> dict[str, Any]:
    """One event as JSON (schema STORY_SCHEMA)."""
    packet = event.packet
    return {
        "number": event.number,
        "time": None if event.time_ns is None else wall_clock(event.time_ns, 0),
        "time_ns": event.time_ns,
        "node": event.node,
        "kind": str(event.kind),
        "place": event.place,
        "endpoint": event.endpoint,
        "device": event.device,
        "packet": story_packet_words(packet),
        "length": event.length,
        "proto": packet.proto,
        "src": None if packet.src is None else str(packet.src),
        "src_port": packet.src_port,
        "dst": None if packet.dst is None else str(packet.dst),
        "dst_port": packet.dst_port,
        "tcp_flags": None if packet.tcp_flags is None else tcp_flag_letters(packet.tcp_flags, ack="A"),
        "icmp": packet.icmp,
        "tunnel": packet.tunnel,
        "identity": {"src": event.src_identity, "dst": event.dst_identity},
        "name": {"src": event.src_name, "dst": event.dst_name},
        "state": event.state,
        "verdict": event.verdict,
        "reason": event.reason,
        "file": event.file,
        "line": event.line,
        "detail": event.detail,
    }
