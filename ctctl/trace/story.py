"""Which events belong together: one connection followed through translation, hooks and nodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ctctl.model.event import CtResult, Hook, HookEvent
from ctctl.model.recent import Recent
from ctctl.model.tuples import ICMP, ICMPV6, Address, FlowTuple
from ctctl.packet.text import FlowSpec

#: A connection whichever way its packets go: protocol and both ends, the lesser first.
_Ends: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
Canonical: TypeAlias = tuple[int, _Ends]

#: What a socket sends to: protocol, address, port.
_Target: TypeAlias = tuple[int, int, int]
#: Calls to one target that wait for their first packet, at most.
_WAITING = 256
#: Targets of such calls.
_TARGETS = 1024


def canonical(flow: FlowTuple) -> Canonical:
    """The same value for a tuple and its reverse."""
    one, other = sorted(((int(flow.src), flow.src_port), (int(flow.dst), flow.dst_port)))
    return flow.proto, (one, other)


@dataclass(frozen=True, slots=True)
class TracedEvent:
    """An event and the number of the connection it belongs to (1, 2, … in the order they appeared)."""

    event: HookEvent
    connection: int


class StoryBook:
    """Numbers the connections of a stream of events and says which events belong to the traced flow.

    A tuple and what a hook made of it are one connection, so the VIP, the backend and the reply share a
    number, also when another node saw only one of them. ``flow`` None admits everything.
    """

    def __init__(self, flow: FlowSpec | None = None) -> None:
        self._flow = flow
        #: by tuple, and by addresses
        self._numbers: Recent[Canonical, int] = Recent()
        self._by_addresses: Recent[tuple[int, int], int] = Recent()
        #: connections that a socket's call began, by what it will send to: it may have no port of its own yet
        self._begun: Recent[_Target, deque[int]] = Recent(_TARGETS)
        self._count = 0

    @property
    def connections(self) -> int:
        """How many connections were seen."""
        return self._count

    def admit(self, event: HookEvent) -> int | None:
        """The number of the event's connection, or None if it is not part of the traced flow."""
        tuples = list(_tuples(event))
        keys = [canonical(flow) for flow in tuples]
        number = next((known for key in keys if (known := self._numbers.get(key)) is not None), None)
        if event.hook.of_sockets:
            return self._admit_call(event, number)
        if number is None:
            number = self._claim(event)
        if number is None and _is_error(event):
            number = self._by_addresses.get(_addresses(event.tuple_in))
        if number is None:
            if self._flow is not None and not any(matches(self._flow, flow) for flow in tuples):
                return None
            self._count += 1
            number = self._count
        self._remember(keys, tuples, number)
        return number

    def _admit_call(self, event: HookEvent, number: int | None) -> int | None:
        """A socket's call is about the connection to its peer, and begins it where nothing is known of that yet."""
        if number is not None:
            return number
        flow = event.tuple_in
        if self._flow is not None and not any(_may_match(self._flow, known) for known in _tuples(event)):
            return None
        self._count += 1
        sent = event.tuple_out
        if event.hook in (Hook.CONNECT, Hook.SENDMSG):
            target = (sent.proto, int(sent.dst), sent.dst_port)
            self._begun.add(target, deque(maxlen=_WAITING)).append(self._count)
        elif flow.src_port and flow.dst_port:
            self._remember([canonical(flow)], [flow], self._count)
        return self._count

    def _claim(self, event: HookEvent) -> int | None:
        """The connection whose first packet this is, where a socket's call began it."""
        flow = event.tuple_in
        waiting = self._begun.get((flow.proto, int(flow.dst), flow.dst_port))
        if event.hook is not Hook.FROM_CONTAINER or not waiting:
            return None
        if self._flow is not None and not any(
            end_matches(self._flow, side, flow.src, flow.src_port) for side in (0, 1)
        ):
            return None
        return waiting.popleft()

    def _remember(self, keys: list[Canonical], tuples: list[FlowTuple], number: int) -> None:
        for key, flow in zip(keys, tuples, strict=True):
            self._numbers.add(key, number)
            self._by_addresses.put(_addresses(flow), number)


def _tuples(event: HookEvent) -> Iterator[FlowTuple]:
    """Every tuple under which this packet is known: as it came, as it left, and as the DSR option says."""
    flow = event.tuple_in
    yield flow
    if event.translated:
        yield event.tuple_out
    if event.dsr is not None:
        yield FlowTuple(flow.proto, flow.src, flow.src_port, event.dsr.address, event.dsr.port)


def _is_error(event: HookEvent) -> bool:
    return event.icmp_type is not None and any(record.result is CtResult.RELATED for record in event.lookups)


def _addresses(flow: FlowTuple) -> tuple[int, int]:
    low, high = sorted((int(flow.src), int(flow.dst)))
    return low, high


def matches(spec: FlowSpec, flow: FlowTuple) -> bool:
    """Whether ``flow`` goes between the ends of ``spec``, either way round."""
    if not _is_of_protocol(spec, flow.proto):
        return False
    ends = ((flow.src, flow.src_port), (flow.dst, flow.dst_port))
    return any(all(end_matches(spec, side, *pair[side]) for side in (0, 1)) for pair in (ends, ends[::-1]))


def _is_of_protocol(spec: FlowSpec, proto: int | None) -> bool:
    """Whether a packet's protocol is asked for; ``icmp`` without an address is that of both families."""
    if spec.proto == ICMP and spec.version is None:
        return proto in {ICMP, ICMPV6}
    return spec.proto in {None, proto}


def end_matches(spec: FlowSpec, side: int, address: Address, port: int) -> bool:
    """Whether an address and port are those of one end of ``spec``."""
    network = spec.networks[side]
    return (network is None or address in network) and spec.ports[side] in {0, port}


def _may_match(spec: FlowSpec, flow: FlowTuple) -> bool:
    """As ``matches``, for a socket's call: what the socket does not have yet may become anything."""
    if not _is_of_protocol(spec, flow.proto):
        return False
    ends = ((flow.src, flow.src_port), (flow.dst, flow.dst_port))
    return any(all(_end_may_match(spec, side, *pair[side]) for side in (0, 1)) for pair in (ends, ends[::-1]))


def _end_may_match(spec: FlowSpec, side: int, address: Address, port: int) -> bool:
    network = spec.networks[side]
    return (network is None or int(address) == 0 or address in network) and (not port or spec.ports[side] in {0, port})
