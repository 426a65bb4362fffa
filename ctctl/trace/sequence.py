"""Events as a sequence diagram: who passed the packet to whom, and what was done with it on the way."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ctctl.events.lines import change_line, packet_words
from ctctl.model.event import Hook, HookEvent, LookupRecord, Verdict, Why
from ctctl.model.tuples import FlowTuple

#: How many events ahead the packet that left a node may be seen at the next one.
_LOOK_AHEAD = 8
#: Characters of a note's line: wider notes push the lifelines apart until nothing is legible.
_NOTE_WIDTH = 46


@dataclass(frozen=True, slots=True)
class Message:
    """An arrow between two lifelines (the same one twice: a packet that ends there)."""

    source: str
    target: str
    text: str
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """What a node did with the packet: a heading and lines."""

    over: str
    title: str
    lines: tuple[str, ...]
    dropped: bool = False


@dataclass(slots=True)
class Diagram:
    """Lifelines in the order in which they stand, and what happens, top to bottom."""

    title: str
    lifelines: list[str] = field(default_factory=list)
    items: list[Message | Note] = field(default_factory=list)


def build(events: Sequence[HookEvent]) -> Diagram:
    """The diagram of ``events``, which are in order of time."""
    # The tunnel's own packets have no tuple: the flow is drawn where it enters and leaves the tunnel.
    events = [event for event in events if event.tuple_in.proto or event.verdict is Verdict.DROP]
    title = str(events[0].tuple_in) if events else "no events"
    diagram = Diagram(title)
    for index, event in enumerate(events):
        node = event.node or "node"
        arrival = _arrival(events, index, node)
        if arrival is not None:
            _add(diagram, arrival)
        _add(diagram, _note(event, node))
        departure = _departure(events, index, node)
        if departure is not None:
            _add(diagram, departure)
    return diagram


def _add(diagram: Diagram, item: Message | Note) -> None:
    for name in (item.source, item.target) if isinstance(item, Message) else (item.over,):
        if name not in diagram.lifelines:
            diagram.lifelines.append(name)
    diagram.items.append(item)


def _pod(event: HookEvent, flow: FlowTuple) -> str:
    address = flow.src if event.hook is Hook.FROM_CONTAINER else flow.dst
    return f"{address}"


def _arrival(events: Sequence[HookEvent], index: int, node: str) -> Message | None:
    """The arrow that brings the packet to this hook; None when it is drawn already or stays inside the node."""
    event = events[index]
    words = packet_words(event)
    if event.hook is Hook.FROM_CONTAINER:
        return Message(_pod(event, event.tuple_in), node, words)
    if event.hook in {Hook.FROM_NETDEV, Hook.FROM_OVERLAY}:
        tunnelled = event.hook is Hook.FROM_OVERLAY
        sender = _sender(events, index)
        if sender is None:
            sender = f"{event.tunnel_remote}" if tunnelled and event.tunnel_remote else str(event.tuple_in.src)
        return Message(sender, node, ("Geneve: " if tunnelled else "") + words)
    return None


def _sender(events: Sequence[HookEvent], index: int) -> str | None:
    """The node that sent this packet, if its last hook there was seen shortly before."""
    event = events[index]
    for earlier in reversed(events[max(0, index - _LOOK_AHEAD) : index]):
        leaves = earlier.hook in {Hook.TO_NETDEV, Hook.TO_OVERLAY} or earlier.tunnel_remote is not None
        if leaves and earlier.node != event.node and earlier.tuple_out == event.tuple_in:
            return earlier.node or "node"
    return None


def _departure(events: Sequence[HookEvent], index: int, node: str) -> Message | None:
    """The arrow that takes the packet away, unless the next node's arrival shows it."""
    event = events[index]
    if event.verdict is Verdict.DROP:
        return Message(node, node, f"dropped: {event.reason}", dropped=True)
    if event.hook is Hook.TO_CONTAINER:
        return Message(node, _pod(event, event.tuple_out), _left_words(event))
    tunnelled = event.tunnel_remote is not None and event.hook is not Hook.FROM_OVERLAY
    if not tunnelled and event.hook not in {Hook.TO_NETDEV, Hook.TO_OVERLAY}:
        return None
    for later in events[index + 1 : index + 1 + _LOOK_AHEAD]:
        if later.node != event.node and later.tuple_in == event.tuple_out:
            return None
    target = event.tunnel_remote if tunnelled else event.tuple_out.dst
    return Message(node, str(target), ("Geneve: " if tunnelled else "") + _left_words(event))


def _left_words(event: HookEvent) -> str:
    """The packet in words, as it left the hook."""
    return packet_words(replace(event, tuple_in=event.tuple_out))


def _note(event: HookEvent, node: str) -> Note:
    lines = [line for record in event.lookups for line in _lookup(event, record)]
    before, after = event.tuple_in, event.tuple_out
    if (before.dst, before.dst_port) != (after.dst, after.dst_port):
        lines.append(f"to {before.dst}:{before.dst_port} → {after.dst}:{after.dst_port}")
    if (before.src, before.src_port) != (after.src, after.src_port):
        lines.append(f"from {before.src}:{before.src_port} → {after.src}:{after.src_port}")
    if event.tunnel_remote is not None and event.hook is not Hook.FROM_OVERLAY:
        dsr = f", DSR option {event.dsr}" if event.dsr is not None else ""
        lines.append(f"encapsulated to {event.tunnel_remote}{dsr}")
    where = f" on {event.device}" if event.device else ""
    return Note(node, f"{event.hook}{where}", tuple(lines), event.verdict is Verdict.DROP)


def _lookup(event: HookEvent, record: LookupRecord) -> list[str]:
    lines = [f"{record.kind}: {record.result}, {record.direction} entry"]
    if record.why & Why.HIT and record.before is not None and record.after is not None:
        change = change_line(record.before, record.after, event.now_s, label="")
        if change is not None:
            words = "".join(text for text, _ in change)
            lines += [line for part in words.split("  ") for line in _wrapped(part.strip())]
    elif record.after is not None:
        lines[0] += " created"
        if record.after.backend_id:
            lines[0] += f", backend {record.after.backend_id}"
    if record.why & Why.SNAT_CREATED:
        lines.append(f"SNAT entry: source {event.dsr}")
    if record.why & Why.POLICY_DENIED:
        lines.append("policy denies")
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _NOTE_WIDTH, subsequent_indent="  ", break_long_words=False)
