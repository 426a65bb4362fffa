"""Which of the events that probes tell are the flow's, and what else the probes must tell of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from ctctl.model.recent import RecentSet
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.packet.text import FlowSpec
from ctctl.trace.probe_event import ProbeEvent, ProbeKind
from ctctl.trace.probe_places import Neighbourhood
from ctctl.trace.probe_tables import NodeTables
from ctctl.trace.story import canonical, end_matches, matches

#: Events kept that passed the kernel's coarser filter and may yet be of the flow.
_HELD: Final = 256
#: Tuples of packets remembered, of whose drop in a namespace that nobody here knows it is told.
_SEEN: Final = 4096


class ProbeFlow:
    """The flow of a trace through its translations.

    ``tables`` are those of each namespace, by inode; ``places`` the namespaces whose drops may be the flow's;
    ``follow`` has the probes tell of a tuple that they would not compare.
    """

    def __init__(
        self,
        flow: FlowSpec | None,
        tables: Mapping[int, NodeTables],
        places: Neighbourhood,
        follow: Callable[[FlowTuple], None],
    ) -> None:
        self._flow = flow
        self._tables = tables
        self._places = places
        self._tell = follow
        self._followed: RecentSet[Any] = RecentSet()
        self._seen: RecentSet[Any] = RecentSet(_SEEN)
        #: with the subject that the same packet had at the probe before
        self._held: deque[tuple[ProbeEvent, FlowTuple | None]] = deque(maxlen=_HELD)
        #: by CPU: the subject of the packet that it has in its hands
        self._current: dict[int, FlowTuple | None] = {}

    def take(self, event: ProbeEvent) -> list[ProbeEvent]:
        """The events that are the flow's now, in order: this one, after earlier ones that turn out to be of it."""
        before = self._current.get(event.cpu) if event.same_packet else None
        if event.kind is ProbeKind.PACKET:
            self._current[event.cpu] = event.subject
        if not self._is_here(event) or not self._is_of_flow(event, before):
            self._held.append((event, before))
            return []
        self._admit(event)
        return [*self._released(), event]

    def _admit(self, event: ProbeEvent) -> None:
        if event.kind is ProbeKind.PACKET:
            self._seen.add(canonical(event.flow))
            self._follow_tables(event)
        if event.same_packet and event.subject is not None:
            self._follow(event.subject)

    def _released(self) -> list[ProbeEvent]:
        """A backend is known only once the SERVICE entry was seen."""
        found: list[ProbeEvent] = []
        kept: deque[tuple[ProbeEvent, FlowTuple | None]] = deque(maxlen=_HELD)
        for event, before in self._held:
            if self._is_here(event) and self._is_of_flow(event, before):
                found.append(event)
            else:
                kept.append((event, before))
        self._held = kept
        return found

    def _is_here(self, event: ProbeEvent) -> bool:
        """A drop anywhere else is of this flow only if a probe saw its packet here."""
        return event.kind is not ProbeKind.FREED or self._places.has(event.netns) or canonical(event.flow) in self._seen

    def _is_of_flow(self, event: ProbeEvent, before: FlowTuple | None) -> bool:
        if self._flow is None or self._is_its(event, event.flow):
            return True
        # The very packet that a probe saw before, whatever it was turned to since.
        if before is not None and (matches(self._flow, before) or canonical(before) in self._followed):
            return True
        if self._is_turned(event):
            return True
        if not event.is_icmp_error:
            return False
        about = event.quoted
        # Without its first bytes no more is known of it than the addresses that the kernel compared.
        return about is None or self._is_its(event, about)

    def _is_turned(self, event: ProbeEvent) -> bool:
        """Whether SNAT turns the packet to one of the flow, as the probe itself asked."""
        tables = self._tables.get(event.netns)
        if self._flow is None or tables is None or event.kind is not ProbeKind.PACKET:
            return False
        turned = (entry.turned(event.flow) for entry in tables.nat(event.flow))
        return any(matches(self._flow, flow) or canonical(flow) in self._followed for flow in turned)

    def _is_its(self, event: ProbeEvent, flow: FlowTuple) -> bool:
        assert self._flow is not None
        return matches(self._flow, flow) or canonical(flow) in self._followed or self._is_of_socket(event, flow)

    def _is_of_socket(self, event: ProbeEvent, packet: FlowTuple) -> bool:
        """Whether it is of a socket's connection to the flow's service, which socket LB turned at connect().

        No packet of it has the service's address, and any other of the client to that backend looks the same: only
        the socket that sent it tells.
        """
        flow, tables = self._flow, self._tables.get(event.netns)
        if flow is None or tables is None or event.cookie is None:
            return False
        front = tables.socket(event.cookie, (packet.dst, packet.dst_port))
        client = packet.src, packet.src_port
        if front is None or not any(
            end_matches(flow, side, *front) and end_matches(flow, 1 - side, *client) for side in (0, 1)
        ):
            return False
        self._follow(packet)
        return True

    def _follow_tables(self, event: ProbeEvent) -> None:
        """What the tables already say the packets become, or were: a backend's address, the node's, the client's."""
        tables = self._tables.get(event.netns)
        if tables is None:
            return
        for entry in event.entries:
            backend = tables.backend(entry) if entry.direction is Direction.SVC else None
            if backend is not None:
                self._follow(backend)
                self._follow_nat(backend, tables)
        if event.subject is not None:
            self._follow_nat(event.subject, tables)

    def _follow_nat(self, flow: FlowTuple, tables: NodeTables) -> None:
        for entry in tables.nat(flow):
            self._follow(entry.turned(flow))

    def _follow(self, flow: FlowTuple) -> None:
        if canonical(flow) not in self._followed:
            self._followed.add(canonical(flow))
            self._tell(flow)
