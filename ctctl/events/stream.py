"""The events of loaded nodes as they happen: the lease that makes hooks talk, and the ring buffers.

Hooks emit events only while ``ctctl_trace_ctl.until_ns`` lies in the future. The listener renews
that lease from its own loop, so that one that is killed or stopped costs the datapath nothing after
a few seconds. Several listen to a node at once, each to its own flow (``listeners``), and read its ring
buffer each at its own place.
"""

from __future__ import annotations

import contextlib
import select
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from ctctl.abi import layouts, pins
from ctctl.abi.constants import IPV4_CT_TUPLE_SIZE, IPV6_CT_TUPLE_SIZE
from ctctl.errors import NotFoundError
from ctctl.events.decode import decode_event
from ctctl.events.listeners import RUN_DIRECTORY, Listener
from ctctl.kernel.map import Map
from ctctl.kernel.ringshared import SharedRing
from ctctl.model.event import HookEvent
from ctctl.node.counters import read_stat
from ctctl.node.find import choose_nodes
from ctctl.node.owner import open_own, own_ids
from ctctl.node.paths import NodePaths
from ctctl.node.record import MAP_NAME, read_record
from ctctl.packet.text import FlowSpec

LEASE_NS = 3_000_000_000
#: Renewed this long before it ends.
_RENEW_NS = 2_000_000_000
#: An event reaches the ring buffer at most this long after its time was taken, generously.
_SETTLE_NS = 2_000_000
#: Of an event in the ring buffer, with its header.
_RECORD_BYTES = len(bytes(layouts.ctctl_event())) + 8


@dataclass(frozen=True, slots=True)
class KernelFilter:
    """What the hooks compare before they emit anything: two ends in either order, and the protocol.

    ``near`` says that every packet of the flow has the address of one end, also before translation, so
    that hooks may leave packets without one aside at once.
    """

    proto: int
    networks: tuple[IPv4Network | IPv6Network | None, IPv4Network | IPv6Network | None]
    ports: tuple[int, int]
    near: bool = False

    @classmethod
    def of(cls, flow: FlowSpec) -> KernelFilter:
        """The filter that lets exactly the packets between the ends of ``flow`` through."""
        return cls(flow.proto or 0, flow.networks, flow.ports)

    def covers(self, key: bytes) -> bool:
        """Whether a tuple has the address of one of the ends, as far as they are given (``event_near`` of event.h)."""
        given = [network for network in self.networks if network is not None]
        size = 4 if len(key) == IPV4_CT_TUPLE_SIZE else 16
        addresses = [ip_address(key[:size]), ip_address(key[size : 2 * size])]
        return not given or any(address in network for network in given for address in addresses)

    @property
    def selective(self) -> bool:
        """Whether it leaves anything out."""
        return bool(self.proto or any(self.ports) or any(net is not None for net in self.networks))


#: Time in ns, the record's bytes, and where it came from.
_Pending: TypeAlias = "tuple[int, bytes, _NodeStream]"


class _NodeStream:
    """One node: its control word, its ring buffer, its counter of lost events."""

    def __init__(self, paths: NodePaths, pending: list[_Pending], kernel_filter: KernelFilter | None) -> None:
        self.node = paths.node
        self._stack = contextlib.ExitStack()
        self._listener = Listener(paths.node, bytes(control_words(kernel_filter)), RUN_DIRECTORY)
        self._ids = own_ids(paths.dir)
        try:
            control_map = self._open(paths, pins.TRACE_CTL)
            # The view must go before its map: a mapping keeps the array alive.
            self._control = self._stack.enter_context(control_map.mmap())
            self._stack.callback(self._leave)
            self._follow = {IPV4_CT_TUPLE_SIZE: self._open(paths, pins.TRACE_FOLLOW)}
            if paths.map(pins.TRACE_FOLLOW6).exists():
                self._follow[IPV6_CT_TUPLE_SIZE] = self._open(paths, pins.TRACE_FOLLOW6)
            self._stats = self._open(paths, pins.STATS)
            self._devices = _device_names(paths)
            self._pending = pending
            self._ring = SharedRing(self._open(paths, pins.EVENTS), self._receive)
            self._stack.callback(self._ring.close)
            self._lost_before = self._read_lost()
        except BaseException:
            self._stack.close()
            raise

    def _open(self, paths: NodePaths, name: str) -> Map:
        try:
            return self._stack.enter_context(open_own(paths.map(name), self._ids))
        except NotFoundError:
            raise NotFoundError(f"node {paths.node!r} has no {name}: loaded by another version of ctctl?") from None

    def _receive(self, record: bytes) -> None:
        # Decoding waits until the ring buffer has been emptied.
        self._pending.append((int.from_bytes(record[:8], "little"), record, self))

    def decode(self, record: bytes) -> HookEvent:
        return decode_event(record, node=self.node, devices=self._devices)

    def start(self) -> None:
        """Take a place among the listeners and the lease; what was told before is not for this one."""
        if self._listener.join():
            for table in self._follow.values():
                for key in [key for key, _ in table.items()]:
                    table.delete(key)
        self._pending.clear()
        self._words: bytes | None = b""
        self.renew(time.monotonic_ns())
        self._ring.skip()

    def renew(self, now_ns: int) -> None:
        """Go on with the lease, and with the filter that all listeners have in common."""
        words = self._listener.wish()
        if words != self._words:
            self._words = words
            size = len(bytes(layouts.ctctl_trace_ctl()))
            # The lease's end comes first in the words, and is not part of a wish.
            self._control[8:size] = (words or bytes(layouts.ctctl_trace_ctl()))[8:]
        self._control[:8] = (now_ns + LEASE_NS).to_bytes(8, "little")

    def follow(self, key: bytes, *, near: bool) -> None:
        table = self._follow.get(len(key))
        if table is None:
            return
        table.update(key, b"\1")
        if not near:
            words = layouts.ctctl_trace_ctl.from_buffer(self._control)
            words.near = 0
            del words

    def fileno(self) -> int:
        """Readable when events are waiting."""
        return self._ring.fileno

    def consume(self) -> None:
        self._ring.consume()

    def lost(self) -> int:
        """Events since start that the ring buffer did not take, and those overwritten before they were read."""
        missed = -(-self._ring.missed_bytes // _RECORD_BYTES)
        return self._read_lost() - self._lost_before + missed

    def _read_lost(self) -> int:
        return read_stat(self._stats, layouts.CtctlStat.STAT_EVENTS_LOST)

    def _leave(self) -> None:
        """The hooks fall silent with the last listener; else they go on for the others."""
        if self._listener.close():
            self._control[:8] = bytes(8)

    def close(self) -> None:
        """Let the hooks fall silent and give the listener's place free, whatever else fails."""
        self._stack.close()


def control_words(kernel_filter: KernelFilter | None) -> layouts.ctctl_trace_ctl:
    words = layouts.ctctl_trace_ctl()
    if kernel_filter is None or not kernel_filter.selective:
        return words
    words.filter = 1
    words.proto = kernel_filter.proto
    words.near = kernel_filter.near
    for side in (0, 1):
        network = kernel_filter.networks[side]
        if network is not None:
            words.family = 1 if network.version == 4 else 2
            words.addr[side][: network.max_prefixlen // 8] = network.network_address.packed
            words.mask[side][: network.max_prefixlen // 8] = network.netmask.packed
        words.port[side] = kernel_filter.ports[side]
    return words


def _device_names(paths: NodePaths) -> dict[int, str]:
    record = read_record(paths.map(MAP_NAME))
    return {slot.ifindex: slot.interface for slot in record.slots} if record is not None else {}


class EventStream:
    """The events of some nodes, merged in the order of their time. A context manager.

    Raises NotFoundError (no such node, none loaded), PermissionDenied, KernelError.
    """

    def __init__(
        self,
        nodes: Sequence[str] = (),
        kernel_filter: KernelFilter | None = None,
        *,
        bpffs: Path | None = None,
    ) -> None:
        try:
            chosen = choose_nodes(nodes, bpffs)
        except NotFoundError as error:
            raise NotFoundError(f"{error}; any other datapath: trace --probe") from None
        self._filter = kernel_filter
        self._pending: list[_Pending] = []
        self._streams: list[_NodeStream] = []
        self._poll = select.poll()
        self._renewed_ns = 0
        try:
            for paths in chosen:
                self._streams.append(_NodeStream(paths, self._pending, kernel_filter))
        except BaseException:
            self.close()
            raise

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes that are listened to."""
        return [stream.node for stream in self._streams]

    def __enter__(self) -> Self:
        for stream in self._streams:
            stream.start()
            self._poll.register(stream.fileno(), select.POLLIN)
        self._renewed_ns = time.monotonic_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the leases and close everything, also where one fails. Twice is fine."""
        with contextlib.ExitStack() as closing:
            while self._streams:
                closing.callback(self._streams.pop().close)

    def lost(self) -> dict[str, int]:
        """Node → events lost since the start: not taken (``events.lines.NOT_TAKEN``), or overwritten unread."""
        return {stream.node: stream.lost() for stream in self._streams}

    def follow(self, key: bytes) -> None:
        """Let packets of this canonical tuple, of either family, through on every node."""
        near = self._filter is not None and self._filter.covers(key)
        for stream in self._streams:
            stream.follow(key, near=near)

    def read(self, timeout_s: float, *, last: bool = False) -> list[HookEvent]:
        """Wait up to ``timeout_s`` for events; those that are complete, oldest first. Renews the lease.

        ``last``: everything that is there, nothing is waited for.
        """
        now = time.monotonic_ns()
        if now - self._renewed_ns > LEASE_NS - _RENEW_NS:
            for stream in self._streams:
                stream.renew(now)
            self._renewed_ns = now
        wait_s = min(timeout_s, 0.5) if not self._pending else _SETTLE_NS / 1e9
        self._poll.poll(0 if last else wait_s * 1000)
        settled = time.monotonic_ns() - (0 if last else _SETTLE_NS)
        for stream in self._streams:
            stream.consume()
        # A ring buffer is in the order of reservation, and nodes are read one after the other: what is
        # younger than the settling time may still be overtaken by an older one and waits for the next call.
        self._pending.sort(key=lambda item: item[0])
        split = bisect_right(self._pending, settled, key=lambda item: item[0])
        ready, self._pending[:] = self._pending[:split], self._pending[split:]
        return [stream.decode(record) for _, record, stream in ready]
