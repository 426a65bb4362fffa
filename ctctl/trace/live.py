"""Follow a flow through the hooks of loaded nodes, live."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import TypeAlias

from ctctl.abi import layouts, pins
from ctctl.errors import NotFoundError
from ctctl.events.stream import EventStream, KernelFilter
from ctctl.kernel.clock import monotonic_ns
from ctctl.kernel.map import Map
from ctctl.model.event import HookEvent, Verdict
from ctctl.model.recent import Recent, RecentSet
from ctctl.model.tuples import FlowTuple
from ctctl.node.find import choose_nodes
from ctctl.packet.text import FlowSpec
from ctctl.trace.story import StoryBook, TracedEvent, canonical

_POLL_S = 0.2
_Networks: TypeAlias = tuple[IPv4Network | IPv6Network | None, IPv4Network | IPv6Network | None]


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """What to follow and for how long. ``flow`` None: everything that ``accept`` lets through.

    ``count`` counts events, ``duration_s`` seconds; None is no limit.
    """

    flow: FlowSpec | None = None
    nodes: tuple[str, ...] = ()
    count: int | None = None
    duration_s: float | None = None
    accept: Callable[[HookEvent, int], bool] | None = None


@dataclass(slots=True)
class LiveSummary:
    """What a trace ended with. ``lost`` is by node."""

    nodes: list[str]
    events: int
    connections: int
    lost: dict[str, int]

    @property
    def lost_total(self) -> int:
        return sum(self.lost.values())


class LiveTrace:
    """One live trace. Iterate ``events()``; ``summary`` is complete afterwards.

    Raises as EventStream does.
    """

    def __init__(self, request: LiveRequest, *, bpffs: Path | None = None) -> None:
        self._request = request
        self._bpffs = bpffs
        self._story = StoryBook(request.flow)
        self._followed: RecentSet[bytes] = RecentSet()
        #: the numbers that connections are shown by
        self._shown: Recent[int, int] = Recent()
        self.summary = LiveSummary([], 0, 0, {})
        #: nanoseconds to add to an event's time to get the wall clock's (Unix time)
        self.wall_offset_ns = time.time_ns() - monotonic_ns()

    def events(
        self,
        on_ready: Callable[[Sequence[str]], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Generator[TracedEvent, None, None]:
        """The flow's events in order of time. ``on_ready`` is called with the nodes once hooks report.

        Ends when ``stop`` says so, with what had happened by then. However it ends, also by closing or by
        an exception, the hooks fall silent again.
        """
        request = self._request
        kernel_filter = kernel_filter_for(request.flow, request.nodes, self._bpffs)
        deadline = None if request.duration_s is None else time.monotonic() + request.duration_s
        with EventStream(request.nodes, kernel_filter, bpffs=self._bpffs) as stream:
            self.summary.nodes = stream.nodes
            if on_ready is not None:
                on_ready(stream.nodes)
            try:
                yield from self._run(stream, deadline, stop)
            finally:
                self.summary.lost = stream.lost()

    def _run(self, stream: EventStream, deadline: float | None, stop: Callable[[], bool]) -> Iterator[TracedEvent]:
        limit = self._request.count
        last = False
        while not last:
            last = stop() or (deadline is not None and time.monotonic() >= deadline)
            left = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
            for event in stream.read(max(left, 0), last=last):
                traced = self._admit(stream, event)
                if traced is None:
                    continue
                self.summary.events += 1
                yield traced
                if self.summary.events == limit:
                    return

    def _admit(self, stream: EventStream, event: HookEvent) -> TracedEvent | None:
        if not event.tuple_in.proto and event.verdict is not Verdict.DROP:
            # A packet of no flow that the datapath let alone, e.g. Geneve between nodes at to_netdev.
            return None
        number = self._story.admit(event)
        if number is None or (self._request.accept is not None and not self._request.accept(event, number)):
            return None
        if self._request.flow is not None and event.translated:
            self._tell_all_nodes(stream, event.tuple_out)
        # Numbers count what is shown: connections that the filter left out leave no gaps.
        shown = self._shown.add(number, self.summary.connections + 1)
        self.summary.connections = max(self.summary.connections, shown)
        return TracedEvent(event, shown)

    def _tell_all_nodes(self, stream: EventStream, flow: FlowTuple) -> None:
        """A node that sees only the translated tuple cannot know that it belongs to the flow."""
        key = follow_key(flow)
        if key not in self._followed:
            self._followed.add(key)
            stream.follow(key)


def follow_key(flow: FlowTuple) -> bytes:
    """The key of ``ctctl_trace_follow`` for a packet's tuple: the lesser end as source, flags zero."""
    proto, (low, high) = canonical(flow)
    size = 4 if flow.src.version == 4 else 16
    words = layouts.ipv4_ct_tuple if size == 4 else layouts.ipv6_ct_tuple
    ports = bytes(words(sport=low[1], dport=high[1], nexthdr=proto))[2 * size :]
    return high[0].to_bytes(size, "big") + low[0].to_bytes(size, "big") + ports


def kernel_filter_for(flow: FlowSpec | None, nodes: Sequence[str], bpffs: Path | None = None) -> KernelFilter | None:
    """What the hooks of those nodes (none: all) compare for ``flow``; None: everything."""
    if flow is None:
        return None
    return filter_of(flow, [paths.dir for paths in choose_nodes(nodes, bpffs)])


def filter_of(flow: FlowSpec, directories: Sequence[Path]) -> KernelFilter:
    """What hooks compare for ``flow``. ``directories`` are where service tables are pinned."""
    networks, ports = compared_ends(flow, directories)
    near = not _may_be_translated_to(flow, directories)
    return replace(KernelFilter.of(flow), near=near, networks=networks, ports=ports)


def compared_ends(flow: FlowSpec, directories: Sequence[Path]) -> tuple[_Networks, tuple[int, int]]:
    """The addresses and ports of a flow that hooks or probes compare.

    Behind a service the packets carry a backend's address, which a hook on another node cannot connect
    to the VIP. Where one end is a service it is therefore left open, and the rest is decided by translation
    as the events tell it.
    """
    for side in (0, 1):
        network, other = flow.networks[side], flow.networks[1 - side]
        if network is not None and other is not None and _is_frontend(network, directories):
            if side == 0:
                return (None, other), (0, flow.ports[1])
            return (other, None), (flow.ports[0], 0)
    return flow.networks, flow.ports


def _may_be_translated_to(flow: FlowSpec, directories: Sequence[Path]) -> bool:
    """Whether packets that have neither end's address can become the flow's: only one end is given, a backend."""
    given = [network for network in flow.networks if network is not None]
    if len(given) != 1:
        return False
    version = given[0].version
    size = given[0].max_prefixlen // 8
    addresses = (
        ip_address(value[:size])
        for directory in directories
        for _, value in records_of(directory / pins.of_family(pins.LB4_BACKENDS, version))
    )
    return any(address in given[0] for address in addresses)


def _is_frontend(network: IPv4Network | IPv6Network, directories: Sequence[Path]) -> bool:
    if network.prefixlen != network.max_prefixlen:
        return False
    table, wanted = pins.of_family(pins.LB4_SERVICES, network.version), network.network_address.packed
    return any(key.startswith(wanted) for directory in directories for key, _ in records_of(directory / table))


def records_of(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The records of a pinned table; none where it is not there."""
    try:
        table = Map.open_pinned(path, read_only=True)
    except NotFoundError:
        return
    with table:
        yield from table.items()
