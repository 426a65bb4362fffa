"""Traces that are written whole, or in a form of their own: diagrams and captures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, TextIO

from ctctl.events.explain import explain
from ctctl.events.record import wall_clock
from ctctl.model.event import Fragment, HookEvent, Verdict
from ctctl.model.tuples import FlowTuple
from ctctl.packet.frame import build_frame
from ctctl.packet.pcapng import PcapngWriter
from ctctl.packet.spec import PacketSpec
from ctctl.trace.sequence import Diagram, Remark, build


class DiagramTrace:
    """Collects events; ``finish`` writes the diagram. ``draw`` is ``mermaid`` or ``svg``.

    ``names`` gives those of addresses, when they are needed; ``wall_offset_ns`` turns the events' clock into that of
    the wall; ``verbose``: hooks that only passed the packet on, too.
    """

    def __init__(
        self,
        stream: TextIO,
        draw: Callable[[Diagram], str],
        *,
        names: Callable[[], Mapping[str, str]] = dict,
        wall_offset_ns: int | None = None,
        verbose: bool = False,
    ) -> None:
        self._stream = stream
        self._draw = draw
        self._names = names
        self._offset_ns = wall_offset_ns
        self._verbose = verbose
        self._story: list[HookEvent | Remark] = []

    def event(
        self,
        event: HookEvent,
        connection: int | None = None,  # noqa: ARG002
        frame: bytes | None = None,  # noqa: ARG002
        came: bytes | None = None,  # noqa: ARG002
    ) -> None:
        """Take one event."""
        self._story.append(event)

    def remark(self, text: str) -> None:
        """Take words that stand between the packets."""
        self._story.append(Remark(text))

    def finish(self) -> None:
        """Write the diagram of everything that came."""
        self._stream.write(self._draw(build(self._story, self._names(), verbose=self._verbose, clock=self._clock)))
        self._stream.flush()

    def _clock(self, time_ns: int) -> str:
        if self._offset_ns is None:
            return f"second {time_ns // 1_000_000_000} of the clock"
        return wall_clock(time_ns, self._offset_ns)


class CaptureTrace:
    """The packets of each event in a pcapng file: as it came to the hook and, where that differs, as it left.

    What the hook did is the comment of the one that left, or that was dropped; packets are marked inbound and outbound.
    A live event carries no packet: its headers are rebuilt from what the event says, and the comment says so; the
    length is the real one.
    """

    def __init__(self, stream: BinaryIO, *, wall_offset_ns: int = 0) -> None:
        self._writer = PcapngWriter(stream)
        self._stream = stream
        self._offset_ns = wall_offset_ns

    def event(
        self,
        event: HookEvent,
        connection: int | None = None,
        frame: bytes | None = None,
        came: bytes | None = None,
    ) -> None:
        """Write one event's packets: ``frame`` as it left, ``came`` as it came, where they are known."""
        if event.hook.of_sockets:
            return  # a call, before there is a packet
        told = capture_comment(event, connection, rebuilt_headers=frame is None)
        before = came if came is not None else rebuilt(event, event.tuple_in)
        after = frame if frame is not None else rebuilt(event, event.tuple_out)
        if event.verdict is Verdict.DROP:
            self._write(event, before, told, real=came is not None, outbound=False)
        elif before == after or (came is None and event.tuple_in == event.tuple_out):
            self._write(event, after, told, real=frame is not None, outbound=None)
        else:
            said = f"as it came to {event.hook}" + ("" if came is not None else f"\n{_REBUILT}")
            self._write(event, before, said, real=came is not None, outbound=False)
            self._write(event, after, told, real=frame is not None, outbound=True)
        self._stream.flush()

    def _write(self, event: HookEvent, frame: bytes, comment: str, *, real: bool, outbound: bool | None) -> None:
        device = event.device or f"ifindex{event.ifindex}"
        self._writer.packet(
            frame,
            time_ns=event.time_ns + self._offset_ns,
            interface=f"{event.node or 'node'}:{device}",
            comment=comment,
            original_length=0 if real else event.packet_length,
            outbound=outbound,
        )

    def remark(self, text: str) -> None:
        """Words between packets have no place in a capture."""

    def finish(self) -> None:
        """Nothing is left to write."""


def capture_comment(event: HookEvent, connection: int | None, *, rebuilt_headers: bool) -> str:
    """What a packet's comment says: hook, verdict, and why."""
    lines = [f"{event.hook} {event.verdict}" + (f" {event.reason}" if event.reason else "")]
    if connection is not None:
        lines[0] += f", connection {connection}"
    lines += explain(event)
    if rebuilt_headers:
        lines.append(_REBUILT)
    return "\n".join(lines)


_REBUILT = "(headers rebuilt from the event; the packet itself was not captured)"


def rebuilt(event: HookEvent, flow: FlowTuple) -> bytes:
    """The headers of an event's packet with these ends: as it came (``tuple_in``), or as it left the hook."""
    echo = event.icmp_type in ({0, 8} if flow.src.version == 4 else {128, 129})
    spec = PacketSpec(
        flow.proto,
        flow.src,
        flow.dst,
        src_port=flow.src_port,
        dst_port=flow.dst_port,
        tcp_flags=event.tcp_flags,
        icmp_type=event.icmp_type,
        icmp_code=event.icmp_code or 0,
        ident=(flow.src_port or flow.dst_port) if echo else None,
        fragment_offset={Fragment.FIRST: 0, Fragment.LATER: 8}.get(event.fragment),
        more_fragments=event.fragment is Fragment.FIRST,
    )
    return build_frame(spec)
