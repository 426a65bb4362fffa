"""What probes saw as a diagram or a capture: the same forms that a trace of our own hooks has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, TextIO

from ctctl.events.record import wall_clock
from ctctl.packet.pcapng import PcapngWriter
from ctctl.trace.probe_event import ProbeEvent, ProbeKind
from ctctl.trace.sequence import Diagram, Message, Note, seconds_text, told
from ctctl.trace.show_probe import probe_ending, probe_packet_words, way_words

_ETHERTYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}
_ETHERNET_BYTES = 14


class ProbeDiagram:
    """Collects events; ``finish`` writes the diagram: who sent the packet, the nodes on its way, who gets it.

    Programs that passed it on and entries that are what they were are drawn only if ``verbose``. ``names`` gives
    those of addresses, when they are needed.
    """

    def __init__(
        self,
        stream: TextIO,
        draw: Callable[[Diagram], str],
        *,
        wall_offset_ns: int,
        names: Callable[[], Mapping[str, str]] = dict,
        verbose: bool = False,
    ) -> None:
        self._stream = stream
        self._draw = draw
        self._offset_ns = wall_offset_ns
        self._names = names
        self._verbose = verbose
        self._events: list[ProbeEvent] = []

    def event(self, event: ProbeEvent) -> None:
        """Take one event."""
        self._events.append(event)

    def finish(self) -> None:
        """Write the diagram of everything that came."""
        self._stream.write(self._draw(probe_diagram(self._events, self._names(), self._offset_ns, self._verbose)))
        self._stream.flush()


def probe_diagram(
    events: Sequence[ProbeEvent], names: Mapping[str, str], wall_offset_ns: int, verbose: bool = False
) -> Diagram:
    """The diagram of probes' events, which are in order of time."""
    if not events:
        return Diagram("no events")
    diagram = Diagram(str(events[0].flow), wall_clock(events[0].time_ns, wall_offset_ns))
    said: dict[object, tuple[str, ...]] = {}
    for packet in _packets(events):
        first, last = packet[0], packet[-1]
        when = f"+{seconds_text(first.time_ns - events[0].time_ns)} s"
        here = str(first.flow.src)
        diagram.add(Message(here, _node(first), message_of(first)), when, starts=True)
        here = _node(first)
        for event in packet:
            node = _node(event)
            if node != here:
                diagram.add(Message(here, node, message_of(event)))
                here = node
            lines = _lines(event, verbose=verbose)
            key = (node, event.connection or event.flow, event.reply, event.device)
            if event.kind is ProbeKind.FREED:
                diagram.add(Message(node, node, f"{message_of(event)}: {probe_ending(event)}", dropped=True))
            elif lines and (verbose or said.get(key) != lines):
                said[key] = lines
                diagram.add(Note(node, _place(event), lines))
        if last.kind is ProbeKind.PACKET and last.egress:
            diagram.add(Message(here, str(last.flow.dst), message_of(last)))
    diagram.names = {line: names[line] for line in diagram.lifelines if line in names}
    return diagram


def _packets(events: Sequence[ProbeEvent]) -> Iterator[list[ProbeEvent]]:
    """Events by the packet they are of: another one has another direction, other flags, or begins its way again."""
    packet: list[ProbeEvent] = []
    places: set[object] = set()
    for event in events:
        place = (_node(event), event.ifindex, event.egress, event.kind, event.program_id)
        if packet and (_kind(event) != _kind(packet[0]) or place in places):
            yield packet
            packet, places = [], set()
        packet.append(event)
        places.add(place)
    yield packet


def _kind(event: ProbeEvent) -> object:
    ends = event.flow.src if event.reply is None else event.reply
    return event.flow.proto, event.connection, ends, event.tcp_flags, event.icmp_type


def _node(event: ProbeEvent) -> str:
    return event.node or "node"


def _place(event: ProbeEvent) -> str:
    return f"{event.device or event.ifindex} {'egress' if event.egress else 'ingress'}"


def _lines(event: ProbeEvent, *, verbose: bool) -> tuple[str, ...]:
    if event.kind is not ProbeKind.PACKET:
        return (probe_ending(event),) if verbose else ()
    entries = [f"{entry.direction}{' related' if entry.related else ''} {entry.state}" for entry in event.entries]
    return tuple(filter(None, (way_words(event), ", ".join(entries))))


def message_of(event: ProbeEvent) -> str:
    """The packet in words; errors and refusals as what they are."""
    return told(probe_packet_words(event), event.flow.proto, event.tcp_flags, (event.icmp_type, event.icmp_code))


class ProbeCapture:
    """The first bytes of every packet in a pcapng file, with what is known of it as its comment."""

    def __init__(self, stream: BinaryIO, *, wall_offset_ns: int = 0) -> None:
        self._writer = PcapngWriter(stream)
        self._stream = stream
        self._offset_ns = wall_offset_ns

    def event(self, event: ProbeEvent) -> None:
        """Write one event's packet: from its IP header on it is the packet itself, the Ethernet header is not."""
        version = event.head[0] >> 4 if event.head else 4
        comment = way_words(event) if event.kind is ProbeKind.PACKET else probe_ending(event)
        device = event.device or f"ifindex{event.ifindex}"
        self._writer.packet(
            bytes(12) + _ETHERTYPE.get(version, _ETHERTYPE[4]) + event.head,
            time_ns=event.time_ns + self._offset_ns,
            interface=f"{event.node or 'node'}:{device}",
            comment=comment,
            original_length=max(event.packet_length, _ETHERNET_BYTES + len(event.head)),
        )
        self._stream.flush()

    def finish(self) -> None:
        """Nothing is left to write."""
