"""What probes saw as a diagram or a capture: the same forms that a trace of our own hooks has."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, TextIO

from ctctl.packet.pcapng import PcapngWriter
from ctctl.trace.probe_event import ProbeEvent, ProbeKind
from ctctl.trace.sequence import Diagram, Message, Note
from ctctl.trace.show_probe import probe_ending, probe_packet_words, way_words

_ETHERTYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}
_ETHERNET_BYTES = 14


class ProbeDiagram:
    """Collects events; ``finish`` writes the diagram: a lifeline a node, an arrow for every packet between two."""

    def __init__(self, stream: TextIO, draw: Callable[[Diagram], str]) -> None:
        self._stream = stream
        self._draw = draw
        self._diagram: Diagram | None = None
        self._last: str | None = None

    def event(self, event: ProbeEvent) -> None:
        """Take one event."""
        words = probe_packet_words(event)
        if self._diagram is None:
            self._diagram = Diagram(words)
        node = event.node or "node"
        dropped = event.kind is ProbeKind.FREED
        if self._last is not None and self._last != node:
            self._add(self._last, node)
            self._diagram.items.append(Message(self._last, node, words))
        self._add(node)
        place = "kernel" if dropped else f"{event.device or event.ifindex} {'egress' if event.egress else 'ingress'}"
        said = probe_ending(event) if event.kind is not ProbeKind.PACKET else way_words(event)
        entries = [f"{entry.direction} {entry.state}" for entry in event.entries]
        lines = tuple(filter(None, (words, said, ", ".join(entries))))
        self._diagram.items.append(Note(node, place, lines, dropped))
        self._last = node

    def _add(self, *names: str) -> None:
        assert self._diagram is not None
        for name in names:
            if name not in self._diagram.lifelines:
                self._diagram.lifelines.append(name)

    def finish(self) -> None:
        """Write the diagram of everything that came."""
        self._stream.write(self._draw(self._diagram or Diagram("no events")))
        self._stream.flush()


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
