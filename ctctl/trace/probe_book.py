"""Connections as probes see them: one number through every translation, and which way each packet goes.

A translation is known in two ways: the same packet came to the next probe with another tuple, or a tuple is
one that an earlier packet of the connection had, in either direction.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any, Final

from ctctl.model.tuples import FlowTuple
from ctctl.packet.spec import TcpFlags
from ctctl.trace.probe_event import ProbeEvent, ProbeKind
from ctctl.trace.story import canonical

#: Tuples remembered at most; the one seen longest ago goes first.
_MEMORY: Final = 65536


class ProbeBook:
    """Numbers connections. ``sighted`` is asked for every event of the flow, in order."""

    def __init__(self) -> None:
        #: canonical tuple → (connection, the tuple as it goes from client to server, whether it is translated)
        self._known: OrderedDict[Any, tuple[int, FlowTuple, bool]] = OrderedDict()
        #: the last packet of the flow on each CPU: connection and whether it was a reply
        self._last: dict[int, tuple[int, bool]] = {}
        self._count = 0

    def sighted(self, event: ProbeEvent) -> ProbeEvent:
        """The event with its connection's number and its way in it."""
        about = event.quoted
        found = None if about is None else self._known.get(canonical(about))
        if about is not None and found is not None:
            # Whoever sent what it quotes gets it: word on a request comes as a reply does.
            return replace(event, connection=found[0], reply=about == found[1], translated=found[2])
        found = self._known.get(canonical(event.flow))
        if found is None:
            found = self._new(event)
        number, forward, translated = found
        reply = event.flow != forward
        if event.kind is ProbeKind.PACKET:
            self._last[event.cpu] = number, reply
        return replace(event, connection=number, reply=reply, translated=translated)

    def tell(self, event: ProbeEvent, flow: FlowTuple) -> None:
        """That the connection of an event has this tuple too, as its client's packets have it then."""
        if event.connection is not None:
            self._remember(flow, (event.connection, flow, True))

    def _new(self, event: ProbeEvent) -> tuple[int, FlowTuple, bool]:
        last = self._last.get(event.cpu) if event.same_packet else None
        if last is not None:
            number, reply = last
            return self._remember(event.flow, (number, event.flow.reversed() if reply else event.flow, True))
        self._count += 1
        answer = TcpFlags.SYN | TcpFlags.ACK
        reply = event.tcp_flags is not None and event.tcp_flags & answer == answer
        # Seen first in the middle of a connection, who began it is what the entries say.
        reply = reply or _is_reply(event)
        return self._remember(event.flow, (self._count, event.flow.reversed() if reply else event.flow, False))

    def _remember(self, flow: FlowTuple, found: tuple[int, FlowTuple, bool]) -> tuple[int, FlowTuple, bool]:
        known = self._known.setdefault(canonical(flow), found)
        if len(self._known) > _MEMORY:
            self._known.popitem(last=False)
        return known


def _is_reply(event: ProbeEvent) -> bool:
    plain = [entry for entry in event.entries if not entry.related]
    return bool(plain) and all(entry.tuple != event.flow for entry in plain)
