"""Every packet of a capture through the datapath's hooks, at full speed; what became of them, and the tables after."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctctl.abi import pins
from ctctl.config.node import NodeFile
from ctctl.errors import DecodeError, NotFoundError, PartialDataError
from ctctl.kernel.replay import FrameBuffer, frame_runner
from ctctl.model.event import Hook
from ctctl.node.counters import read_counters
from ctctl.packet.capture import LinkType, Record, ethernet_frame, read_capture
from ctctl.packet.cooked import VXLAN_PORTS, Sightings, sighting, without_tunnel
from ctctl.simulate.journey import Cluster, with_ifindexes
from ctctl.simulate.simulator import SimulatedTables, Simulator
from ctctl.simulate.whatif import StartTable, fill
from ctctl.tables.sources.stream import EndedEarlyError
from ctctl.tables.sources.unpack import Budget, LimitError, Packed, Unpacked, packed_form

if TYPE_CHECKING:
    from ctctl.kernel.program import Program

#: The kernel's test run takes frames of one page less its own overhead; headers are all that hooks read.
_MAX_FRAME = 3500
_MIN_FRAME = 34
_NS = 1_000_000_000

#: records that are looked at together, by numpy
_CHUNK = 65536
#: where a frame has source and destination address
_ADDRESSES = np.arange(26, 34)

_Run = Callable[[int, int], None]


@dataclass(slots=True)
class _Path:
    """Where packets with these addresses go, and how many did."""

    hooks: tuple[Hook, ...]
    runs: tuple[_Run, ...]
    count: int = 0


@dataclass(slots=True)
class ReplaySummary:
    """What a replay came to.

    ``hooks`` counts runs by hook, ``dropped`` drops by (hook, reason), ``skipped`` packets that no
    hook takes, by why. ``cut`` packets were longer than a test run takes and ran without their tail.
    """

    packets: int = 0
    bytes: int = 0
    first_ns: int | None = None
    last_ns: int = 0
    elapsed_s: float = 0.0
    cut: int = 0
    #: whether any packet was from or to an address of the node
    concerned: bool = False
    hooks: Counter[Hook] = field(default_factory=Counter)
    dropped: Counter[tuple[Hook, str]] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    #: packets by the interface and direction they were first seen on, where the capture says so
    interfaces: Counter[str] = field(default_factory=Counter)
    partial: str | None = None
    now: int = 0
    tables: SimulatedTables | None = None

    @property
    def runs(self) -> int:
        """Packets times hooks."""
        return sum(self.hooks.values())

    @property
    def rate(self) -> float:
        """Runs of a hook in a second."""
        return self.runs / self.elapsed_s if self.elapsed_s else 0.0


def replay(
    path: Path,
    nf: NodeFile,
    *,
    hook: Hook | None = None,
    endpoint: str | None = None,
    now: int | None = None,
    start: tuple[StartTable, ...] = (),
) -> ReplaySummary:
    """Replay a pcap or pcapng file (gzip too) on the node's private maps, which hold ``start`` at first.

    With ``hook`` every packet goes there (a pod hook: of ``endpoint``, else of its own address); else
    by its addresses: from a pod of the node through from_container, to one through to_container, any
    other through from_netdev. The simulated clock follows the packets' times. A file that ends early
    is replayed as far as it goes, and the summary says so.

    Raises DecodeError, NotFoundError, KernelError.
    """
    nf = with_ifindexes(nf)
    opened, missing = _open(path)
    with opened as buffer, Simulator(nf, now=now, full_size=True) as simulator:
        fill(Cluster({nf.node.name: simulator}), start)
        player = _Player(simulator, buffer, hook, _endpoint(nf, endpoint))
        started = time.perf_counter()
        try:
            player.play(read_capture(buffer.view, path.name))
        except PartialDataError as error:
            player.summary.partial = str(error)
        if missing is not None:
            player.summary.partial = missing
        summary = player.finish()
        summary.elapsed_s = time.perf_counter() - started - player.loading_s
        summary.dropped = _drops(simulator)
        summary.now, summary.tables = simulator.now, simulator.tables()
        return summary


#: A packed capture is unpacked in memory, up to so many bytes.
_MAX_UNPACKED = 256 << 20


def _open(path: Path) -> tuple[FrameBuffer, str | None]:
    """The capture's bytes, and what is missing of them. Raises DecodeError, NotFoundError."""
    try:
        with path.open("rb") as file:
            form = packed_form(file.read(6))
            if form is None:
                return FrameBuffer.of_file(path), None
            file.seek(0)
            budget = Budget()
            unpacked, parts, size = Unpacked(Packed(file, budget), form, budget), [], 0
            try:
                while chunk := unpacked.read():
                    size += len(chunk)
                    if size > _MAX_UNPACKED:
                        raise LimitError(f"it unpacks to more than {_MAX_UNPACKED >> 20} MiB: not reading on")
                    parts.append(chunk)
            except (EndedEarlyError, LimitError) as error:
                if not parts:
                    raise DecodeError(f"{path.name}: {error}") from error
                return FrameBuffer(b"".join(parts)), f"{path.name}: {error}"
            return FrameBuffer(b"".join(parts)), None
    except OSError as error:
        raise NotFoundError(f"{path}: {error.strerror}") from None


def _endpoint(nf: NodeFile, name: str | None) -> bytes | None:
    if name is None:
        return None
    found = nf.endpoint(name)
    if found is None:
        raise NotFoundError(f"no endpoint {name!r}; there is {', '.join(e.name for e in nf.endpoints) or 'none'}")
    return found.ip.packed


class _Player:
    """Sends each packet to its hooks. Which those are is worked out once for each pair of addresses."""

    def __init__(self, simulator: Simulator, buffer: FrameBuffer, hook: Hook | None, endpoint: bytes | None) -> None:
        self.summary = ReplaySummary()
        #: seconds that went into loading programs, which is no speed of the replay
        self.loading_s = 0.0
        self._simulator = simulator
        self._buffer = buffer
        self._hook = hook
        self._endpoint = endpoint
        self._start = simulator.now
        self._pods = {e.ip.packed: e for e in simulator.nf.endpoints}
        self._runners: dict[tuple[Hook, bytes | None], _Run] = {}
        self._paths: dict[bytes, _Path] = {}
        self._seen = Sightings()
        simulator.load()
        simulator.mute()
        simulator.set_clock(simulator.now)

    def play(self, records: Iterator[Record]) -> None:
        """Run every record, in order."""
        while True:
            chunk: list[Record] = []
            try:
                chunk.extend(islice(records, _CHUNK))
            finally:
                # Also of a file that ends early every whole packet is run.
                if chunk:
                    self._play(chunk)
            if len(chunk) < _CHUNK:
                return

    def _play(self, chunk: list[Record]) -> None:
        times, offsets, captured, lengths, links = (np.array(column, np.int64) for column in zip(*chunk, strict=True))
        summary, bytes_ = self.summary, np.frombuffer(self._buffer.view, np.uint8)
        summary.packets += len(chunk)
        summary.bytes += int(lengths.sum())
        summary.first_ns = int(times[0]) if summary.first_ns is None else summary.first_ns
        summary.last_ns = max(summary.last_ns, int(times.max()))
        summary.cut += int((captured > _MAX_FRAME).sum())
        seconds = np.maximum(times // _NS - summary.first_ns // _NS, 0) + self._start
        whole = (links == LinkType.ETHERNET) & (captured >= _MIN_FRAME)
        heads = np.where(whole, offsets, 0)
        whole &= (bytes_[heads + 12] == 8) & (bytes_[heads + 13] == 0)
        ports = bytes_[heads + 36].astype(np.uint16) << 8 | bytes_[heads + 37]
        # What is inside VXLAN is what concerns the node; our own datapath unpacks Geneve itself.
        whole &= ~((bytes_[heads + 14] == 0x45) & (bytes_[heads + 23] == 17) & np.isin(ports, VXLAN_PORTS))
        addresses = bytes_[np.where(whole, offsets, 0)[:, None] + _ADDRESSES].view("V8").ravel().tolist()
        sizes = np.minimum(captured, _MAX_FRAME).tolist()
        self._run(chunk, zip(seconds.tolist(), whole.tolist(), addresses, sizes, strict=True))

    def _run(self, chunk: list[Record], rows: Iterator[tuple[int, bool, bytes, int]]) -> None:
        paths, now = self._paths, self._simulator.now
        for record, (second, whole, addresses, size) in zip(chunk, rows, strict=True):
            # Captures may be out of order by a little; the clock of the kernel never goes back.
            if second > now:
                now = second
                self._simulator.set_clock(now)
            if not whole:
                self._run_rebuilt(record)
                continue
            path = paths.get(addresses)
            if path is None:
                path = paths[addresses] = self._path(addresses)
            path.count += 1
            for run in path.runs:
                run(record[1], size)

    def _run_rebuilt(self, record: Record) -> None:
        """A packet that is not Ethernet with IPv4 as it stands: rebuilt as that if it can be, else counted."""
        time_ns, offset, captured, length, link_type = record
        packet = bytes(self._buffer.view[offset : offset + captured])
        frame = without_tunnel(packet) if link_type == LinkType.ETHERNET else ethernet_frame(packet, link_type)
        where = sighting(packet, link_type)
        if frame is not None and where is not None:
            frame = without_tunnel(frame) or frame
            if self._seen.again(frame[14:], where, time_ns):
                self._leave_out("seen on another interface before", length)
                return
            if where.outgoing and self._hook is None and self._hooks_by_address(frame[26:34]) == (Hook.FROM_NETDEV,):
                self._leave_out("left by a device of the node", length)
                return
            self.summary.interfaces[f"{where.ifindex or 'any'} {'out' if where.outgoing else 'in'}"] += 1
        if frame is None or len(frame) < _MIN_FRAME:
            self.summary.skipped["too short" if captured < _MIN_FRAME else "not IPv4"] += 1
            return
        addresses = frame[26:34]
        path = self._paths.get(addresses) or self._paths.setdefault(addresses, self._path(addresses))
        path.count += 1
        with FrameBuffer(frame[:_MAX_FRAME]) as single:
            for hook in path.hooks:
                frame_runner(self._program(hook, self._pod_of(hook, addresses)), single)(0, min(len(frame), _MAX_FRAME))

    def _leave_out(self, why: str, length: int) -> None:
        """Count a record that is no packet of its own."""
        self.summary.skipped[why] += 1
        self.summary.packets -= 1
        self.summary.bytes -= length

    def finish(self) -> ReplaySummary:
        """The summary, with the runs counted."""
        for path in self._paths.values():
            for hook in path.hooks:
                self.summary.hooks[hook] += path.count
        return self.summary

    def _concerns(self, addresses: bytes) -> bool:
        """Whether packets with these addresses are of the node: its own, a pod's, a service's."""
        nf = self._simulator.nf
        own = {nf.node.ip.packed, *self._pods, *(service.ip.packed for service in nf.services)}
        return addresses[:4] in own or addresses[4:] in own

    def _path(self, addresses: bytes) -> _Path:
        self.summary.concerned = self.summary.concerned or self._concerns(addresses)
        hooks = (self._hook,) if self._hook is not None else self._hooks_by_address(addresses)
        return _Path(hooks, tuple(self._runner(hook, self._pod_of(hook, addresses)) for hook in hooks))

    def _hooks_by_address(self, addresses: bytes) -> tuple[Hook, ...]:
        pods = ((addresses[:4], Hook.FROM_CONTAINER), (addresses[4:], Hook.TO_CONTAINER))
        return tuple(hook for address, hook in pods if address in self._pods) or (Hook.FROM_NETDEV,)

    def _pod_of(self, hook: Hook, addresses: bytes) -> bytes | None:
        if hook not in (Hook.FROM_CONTAINER, Hook.TO_CONTAINER):
            return None
        pod = self._endpoint or (addresses[:4] if hook is Hook.FROM_CONTAINER else addresses[4:])
        if pod not in self._pods:
            raise NotFoundError(f"{hook}: {IPv4Address(pod)} is no endpoint of the node; name one with --endpoint")
        return pod

    def _program(self, hook: Hook, pod: bytes | None) -> Program:
        return self._simulator.program(hook, self._pods.get(pod or b""))

    def _runner(self, hook: Hook, pod: bytes | None) -> _Run:
        if (hook, pod) not in self._runners:
            started = time.perf_counter()
            self._runners[hook, pod] = frame_runner(self._program(hook, pod), self._buffer)
            self.loading_s += time.perf_counter() - started
        return self._runners[hook, pod]


def _drops(simulator: Simulator) -> Counter[tuple[Hook, str]]:
    """Drops by hook and reason, from the datapath's own counters."""
    found: Counter[tuple[Hook, str]] = Counter()
    for counter in read_counters(simulator.maps[pins.METRICS]):
        if counter.reason != "ok" and counter.packets:
            found[Hook(counter.hook), counter.reason] = counter.packets
    return found
