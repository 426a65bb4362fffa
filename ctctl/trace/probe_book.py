"""Connections as probes see them: one number through every translation, and which way each packet goes.

A translation is known in two ways: the same packet came to the next probe with another tuple, or a tuple is
one that an earlier packet of the connection had, in either direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ctctl.model.recent import Recent
from ctctl.model.tuples import Address, FlowTuple
from ctctl.packet.spec import TcpFlags
from ctctl.trace.probe_event import ProbeEvent, ProbeKind
from ctctl.trace.story import canonical

#: (connection, the tuple as it goes from client to server, whether it is translated)
_Known: TypeAlias = tuple[int, FlowTuple, bool]


class ProbeBook:
    """Numbers connections. ``sighted`` is asked for every event of the flow, in order."""

    def __init__(self) -> None:
        #: by canonical tuple
        self._known: Recent[Any, _Known] = Recent()
        self._services: Recent[int, tuple[Address, int]] = Recent()
        #: the last packet of the flow on each CPU: connection and whether it was a reply
        self._last: dict[int, tuple[int, bool]] = {}
        self._count = 0

    def sighted(self, event: ProbeEvent, turned: Sequence[FlowTuple] = ()) -> ProbeEvent:
        """The event with its connection's number and its way in it; ``turned``: what SNAT makes of its tuple."""
        about = event.quoted
        found = None if about is None else self._known.get(canonical(about))
        if about is not None and found is not None:
            # Whoever sent what it quotes gets it: word on a request comes as a reply does.
            return replace(event, connection=found[0], reply=about == found[1], translated=found[2])
        found = self._known.get(canonical(event.flow)) or self._as_turned(event, turned) or self._new(event)
        number, forward, translated = found
        reply = event.flow != forward
        for flow in turned:
            self._remember(flow, (number, flow.reversed() if reply else flow, True))
        if event.kind is ProbeKind.PACKET:
            self._last[event.cpu] = number, reply
        return replace(event, connection=number, reply=reply, translated=translated)

    def serves(self, event: ProbeEvent) -> ProbeEvent:
        """The event with its connection's service, once any of its packets told which that is."""
        if event.connection is None:
            return event
        if event.service is not None:
            self._services.put(event.connection, event.service)
        return replace(event, service=self._services.get(event.connection))

    def _as_turned(self, event: ProbeEvent, turned: Sequence[FlowTuple]) -> _Known | None:
        for flow in turned:
            known = self._known.get(canonical(flow))
            if known is not None:
                reply = flow != known[1]
                return self._remember(event.flow, (known[0], event.flow.reversed() if reply else event.flow, True))
        return None

    def _new(self, event: ProbeEvent) -> _Known:
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

    def _remember(self, flow: FlowTuple, found: _Known) -> _Known:
        return self._known.add(canonical(flow), found)


def _is_reply(event: ProbeEvent) -> bool:
    plain = [entry for entry in event.entries if not entry.related]
    return bool(plain) and all(entry.tuple != event.flow for entry in plain)
