"""Which of the events that probes tell are the flow's, and what else the probes must tell of it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

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
        self._followed: set[Any] = set()
        self._seen: OrderedDict[Any, None] = OrderedDict()
        self._held: deque[ProbeEvent] = deque(maxlen=_HELD)

    def take(self, event: ProbeEvent) -> list[ProbeEvent]:
        """The events that are the flow's now, in order: this one, after earlier ones that turn out to be of it."""
        if not self._is_here(event) or not self._is_of_flow(event):
            self._held.append(event)
            return []
        if event.kind is ProbeKind.PACKET:
            self._seen[canonical(event.flow)] = None
            self._seen.move_to_end(canonical(event.flow))
            if len(self._seen) > _SEEN:
                self._seen.popitem(last=False)
            self._follow_tables(event)
        if event.same_packet:
            self._follow(event.flow)
        return [*self._released(), event]

    def _released(self) -> list[ProbeEvent]:
        """A backend is known only once the SERVICE entry was seen."""
        if not self._held:
            return []
        found = [event for event in self._held if self._is_here(event) and self._is_of_flow(event)]
        if found:
            self._held = deque((event for event in self._held if event not in found), _HELD)
        return found

    def _is_here(self, event: ProbeEvent) -> bool:
        """A drop anywhere else is of this flow only if a probe saw its packet here."""
        return event.kind is not ProbeKind.FREED or self._places.has(event.netns) or canonical(event.flow) in self._seen

    def _is_of_flow(self, event: ProbeEvent) -> bool:
        if self._flow is None or event.same_packet or self._is_its(event, event.flow):
            return True
        if not event.is_icmp_error:
            return False
        about = event.quoted
        # Without its first bytes no more is known of it than the addresses that the kernel compared.
        return about is None or self._is_its(event, about)

    def _is_its(self, event: ProbeEvent, flow: FlowTuple) -> bool:
        assert self._flow is not None
        return matches(self._flow, flow) or canonical(flow) in self._followed or self._is_of_socket(event, flow)

    def _is_of_socket(self, event: ProbeEvent, packet: FlowTuple) -> bool:
        """Whether it is of a socket's connection to the flow's service, which socket LB turned at connect()."""
        flow, tables = self._flow, self._tables.get(event.netns)
        if flow is None or tables is None:
            return False
        ends = {(packet.src, packet.src_port), (packet.dst, packet.dst_port)}
        for front, backend in tables.sockets():
            side = next((n for n in (0, 1) if end_matches(flow, n, *front)), None)
            client = ends - {backend}
            if side is None or backend not in ends or len(client) != 1:
                continue
            if end_matches(flow, 1 - side, *client.pop()):
                self._follow(packet)
                return True
        return False

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
        self._follow_nat(event.flow, tables)

    def _follow_nat(self, flow: FlowTuple, tables: NodeTables) -> None:
        for entry in tables.nat(flow):
            if entry.direction is Direction.OUT:
                self._follow(replace(flow, src=entry.to_addr, src_port=entry.to_port))
            else:
                self._follow(replace(flow, dst=entry.to_addr, dst_port=entry.to_port))

    def _follow(self, flow: FlowTuple) -> None:
        if canonical(flow) not in self._followed:
            self._followed.add(canonical(flow))
            self._tell(flow)
