"""Events as a sequence diagram: who passed the packet to whom, and what was done with it on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ctctl.events.brief import answer_words, doings, writings
from ctctl.events.lines import device_words, packet_words
from ctctl.model.event import Hook, HookEvent, Verdict
from ctctl.model.tuples import FlowTuple
from ctctl.packet.icmp import icmp_meaning
from ctctl.packet.spec import PROTO_TCP, TcpFlags

#: How many events ahead the packet that left a node may be seen at the next one.
_LOOK_AHEAD = 8


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


@dataclass(frozen=True, slots=True)
class Remark:
    """What happened between packets, or what a step is there for."""

    text: str


@dataclass(slots=True)
class Exchange:
    """One packet on its way: arrows and notes in order of time."""

    when: str = ""
    items: list[Message | Note] = field(default_factory=list)


@dataclass(slots=True)
class Diagram:
    """Lifelines in the order in which they stand, and what happens, top to bottom.

    ``names`` has what a lifeline is called beside its address; ``since`` says when the times count from.
    """

    title: str
    since: str = ""
    lifelines: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    items: list[Exchange | Remark] = field(default_factory=list)

    def add(self, item: Message | Note, when: str = "", *, starts: bool = False) -> None:
        """Add to the packet that is on its way; ``starts``: to a new one."""
        for name in (item.source, item.target) if isinstance(item, Message) else (item.over,):
            if name not in self.lifelines:
                self.lifelines.append(name)
        last = self.items[-1] if self.items else None
        if starts or not isinstance(last, Exchange):
            last = Exchange(when)
            self.items.append(last)
        last.items.append(item)

    @property
    def parts(self) -> list[Message | Note]:
        """All arrows and notes, in order."""
        return [part for item in self.items if isinstance(item, Exchange) for part in item.items]


#: Events, and words between them.
Story: TypeAlias = Sequence[HookEvent | Remark]


def build(
    story: Story, names: Mapping[str, str] | None = None, *, verbose: bool = False, clock: Callable[[int], str] = str
) -> Diagram:
    """The diagram of events, which are in order of time.

    Hooks that wrote nothing and changed nothing are drawn only if ``verbose``. ``names`` are those of addresses;
    ``clock`` says what the nanoseconds of the first event are.
    """
    # The tunnel's own packets have no tuple: the flow is drawn where it enters and leaves the tunnel.
    events = [
        one for one in story if isinstance(one, HookEvent) and (one.tuple_in.proto or one.verdict is Verdict.DROP)
    ]
    diagram = Diagram(_title(events[0], names or {}) if events else "no events")
    if events:
        diagram.since = clock(events[0].time_ns)
    drawer = _Drawer(diagram, events, dict(names or {}), verbose=verbose)
    index = 0
    for one in story:
        if isinstance(one, Remark):
            diagram.items.append(one)
        elif index < len(events) and one is events[index]:
            drawer.event(index)
            index += 1
    return diagram


def _title(event: HookEvent, names: Mapping[str, str]) -> str:
    flow = event.tuple_in
    known = [names.get(str(address)) for address in (flow.src, flow.dst)]
    if not any(known):
        return str(flow)
    ends = (name or str(address) for name, address in zip(known, (flow.src, flow.dst), strict=True))
    return f"{flow} ({' -> '.join(ends)})"


class _Drawer:
    """Adds events to a diagram, one after the other."""

    def __init__(self, diagram: Diagram, events: Sequence[HookEvent], names: dict[str, str], *, verbose: bool) -> None:
        self._diagram = diagram
        self._events = events
        self._names = names
        self._verbose = verbose

    def event(self, index: int) -> None:
        """Draw what brought the packet to this hook, what the hook did, and where the packet went."""
        event = self._events[index]
        node, since = event.node or "node", f"+{seconds_text(event.time_ns - self._events[0].time_ns)} s"
        arrival = _arrival(self._events, index, node)
        if arrival is not None:
            passed_on = _sender(self._events, index) is not None
            self._add(arrival, event, since, starts=not passed_on)
        dropped = event.verdict is Verdict.DROP
        lines = self._lines(event)
        if lines or self._verbose or dropped:
            where = device_words(event.device, event.ifindex) if self._verbose else ""
            title = f"{event.hook}{f' on {where}' if where else ''}"
            self._add(Note(node, title, lines, dropped), event, since)
        departure = _departure(self._events, index, node)
        if departure is not None:
            self._add(departure, event, since)

    def _lines(self, event: HookEvent) -> tuple[str, ...]:
        packet = [message_words(event)] if event.verdict is Verdict.DROP else []
        return (*packet, *(doings(event) if self._verbose else writings(event)))

    def _add(self, item: Message | Note, event: HookEvent, when: str, *, starts: bool = False) -> None:
        self._diagram.add(item, when, starts=starts)
        if isinstance(item, Message):
            for name in (item.source, item.target):
                known = self._names.get(name) or _device_of(event, name)
                if known and name not in self._diagram.names and known != name:
                    self._diagram.names[name] = known


def seconds_text(time_ns: int) -> str:
    """To the microsecond, without zeros that say nothing."""
    return f"{time_ns / 1e9:.6f}".rstrip("0").rstrip(".")


def _device_of(event: HookEvent, name: str) -> str | None:
    """The pod's device, where the lifeline is the pod at it."""
    pods = {Hook.FROM_CONTAINER: event.tuple_in.src, Hook.TO_CONTAINER: event.tuple_out.dst}
    address = pods.get(event.hook)
    return event.device if address is not None and str(address) == name else None


def _pod(event: HookEvent, flow: FlowTuple) -> str:
    address = flow.src if event.hook is Hook.FROM_CONTAINER else flow.dst
    return f"{address}"


def _arrival(events: Sequence[HookEvent], index: int, node: str) -> Message | None:
    """The arrow that brings the packet to this hook; None when it is drawn already or stays inside the node."""
    event = events[index]
    words = message_words(event)
    if event.hook is Hook.FROM_CONTAINER:
        return Message(_pod(event, event.tuple_in), node, words)
    if event.hook in {Hook.FROM_NETDEV, Hook.XDP_NETDEV, Hook.FROM_OVERLAY}:
        tunnelled = event.hook is Hook.FROM_OVERLAY
        sender = _sender(events, index)
        if sender is None:
            sender = f"{event.tunnel_remote}" if tunnelled and event.tunnel_remote else str(event.tuple_in.src)
        return Message(sender, node, ("Geneve: " if tunnelled else "") + words)
    return None


def _sender(events: Sequence[HookEvent], index: int) -> str | None:
    """The node that sent this packet, if its last hook there was seen shortly before."""
    event = events[index]
    if event.hook is Hook.FROM_CONTAINER:
        return None
    for earlier in reversed(events[max(0, index - _LOOK_AHEAD) : index]):
        leaves = earlier.hook in {Hook.TO_NETDEV, Hook.TO_OVERLAY} or earlier.tunnel_remote is not None
        if leaves and earlier.node != event.node and earlier.tuple_out == event.tuple_in:
            return earlier.node or "node"
    return None


def _departure(events: Sequence[HookEvent], index: int, node: str) -> Message | None:
    """The arrow that takes the packet away, unless the next node's arrival shows it."""
    event = events[index]
    if event.verdict is Verdict.DROP:
        return Message(node, node, f"dropped at {event.hook}: {event.reason}", dropped=True)
    if (answer := answer_words(event)) is not None:
        return Message(node, str(event.tuple_out.dst), answer)
    if event.hook is Hook.TO_CONTAINER:
        return Message(node, _pod(event, event.tuple_out), _left_words(event))
    tunnelled = event.tunnel_remote is not None and event.hook is not Hook.FROM_OVERLAY
    sent_on = event.verdict is Verdict.REDIRECT and (
        event.hook in {Hook.FROM_NETDEV, Hook.XDP_NETDEV} or (event.may_be_sent_on and event.translated)
    )
    if not tunnelled and not sent_on and event.hook not in {Hook.TO_NETDEV, Hook.TO_OVERLAY}:
        return None
    for later in events[index + 1 : index + 1 + _LOOK_AHEAD]:
        if (later.node != event.node or sent_on) and later.tuple_in == event.tuple_out:
            return None
    target = event.tunnel_remote if tunnelled else event.tuple_out.dst
    return Message(node, str(target), ("Geneve: " if tunnelled else "") + _left_words(event))


def _left_words(event: HookEvent) -> str:
    """The packet in words, as it left the hook."""
    return message_words(replace(event, tuple_in=event.tuple_out))


def message_words(event: HookEvent) -> str:
    """The packet in words; errors and refusals as what they are."""
    return told(packet_words(event), event.tuple_in.proto, event.tcp_flags, (event.icmp_type, event.icmp_code))


def told(words: str, proto: int, tcp_flags: int | None, icmp: tuple[int | None, int | None]) -> str:
    """A packet's words and what it means: a reset, or what an ICMP message says."""
    meaning = icmp_meaning(proto, *icmp)
    if proto == PROTO_TCP and tcp_flags is not None and tcp_flags & TcpFlags.RST:
        meaning = "reset"
    return f"{words} ({meaning})" if meaning else words
