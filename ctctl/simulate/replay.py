"""Every packet of a capture through the datapath's hooks, at full speed; what became of them, and the tables after."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctctl.abi import pins
from ctctl.config.budget import Budget, LimitError
from ctctl.config.node import NodeFile
from ctctl.errors import DecodeError, NotFoundError, PartialDataError
from ctctl.kernel.program import PAGE_ROOM
from ctctl.kernel.replay import FrameBuffer, frame_runner
from ctctl.model.event import Hook
from ctctl.model.suggest import unknown_name
from ctctl.node.counters import read_counters
from ctctl.packet.capture import LinkType, Record, ethernet_frame, read_capture
from ctctl.packet.cooked import Sightings, sighting, without_tunnel
from ctctl.simulate.capture_frames import ADDRESSES, IPV4, IPV6, UDP, Frames, ends_of, halves, is_geneve4, version_of
from ctctl.simulate.journey import Cluster, own_addresses, with_ifindexes
from ctctl.simulate.simulator import SimulatedTables, Simulator
from ctctl.simulate.whatif import StartTable, fill
from ctctl.tables.sources.stream import EndedEarlyError
from ctctl.tables.sources.unpack import Packed, Unpacked, packed_form

if TYPE_CHECKING:
    from ctctl.kernel.program import Program

_NS = 1_000_000_000

#: records that are looked at together, by numpy
_CHUNK = 65536
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
    opened, missing, budget = _open(path)
    with opened as buffer, Simulator(nf, now=now, full_size=True) as simulator:
        fill(Cluster({nf.node.name: simulator}), start)
        player = _Player(simulator, buffer, hook, _endpoint(nf, endpoint))
        started = time.perf_counter()
        try:
            player.play(_paid(read_capture(buffer.view, path.name), budget))
        except PartialDataError as error:
            player.summary.partial = str(error)
        except LimitError as error:
            player.summary.partial = f"{path.name}: {error}"
        if missing is not None:
            player.summary.partial = missing
        summary = player.finish()
        summary.elapsed_s = time.perf_counter() - started - player.loading_s
        summary.dropped = _drops(simulator)
        summary.now, summary.tables = simulator.now, simulator.tables()
        return summary


#: A packed capture is unpacked in memory, up to so many bytes. What each of its packets costs of its budget.
_MAX_UNPACKED, _PACKET_WORK = 256 << 20, 20


def _paid(records: Iterator[Record], budget: Budget | None) -> Iterator[Record]:
    """Packets, as long as a packed file's own bytes pay for them. Raises LimitError."""
    for record in records:
        if budget is not None:
            budget.spend(_PACKET_WORK)
        yield record


def _open(path: Path) -> tuple[FrameBuffer, str | None, Budget | None]:
    """The capture's bytes, what is missing of them, and what may be done with packed ones.

    Raises DecodeError, NotFoundError.
    """
    try:
        with path.open("rb") as file:
            form = packed_form(file.read(6))
            if form is None:
                return FrameBuffer.of_file(path), None, None
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
                return FrameBuffer(b"".join(parts)), f"{path.name}: {error}", budget
            return FrameBuffer(b"".join(parts)), None, budget
    except OSError as error:
        raise NotFoundError(f"{path}: {error.strerror}") from None


def _endpoint(nf: NodeFile, name: str | None) -> bytes | None:
    if name is None:
        return None
    found = nf.endpoint(name)
    if found is None:
        raise NotFoundError(unknown_name("endpoint", name, (e.name for e in nf.endpoints)))
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
        nf = simulator.nf
        self._ipv6 = nf.datapath.ipv6
        self._pods = {ip.packed: e for e in nf.endpoints for ip in (e.ip, e.ip6) if ip is not None}
        self._own = {ip.packed for ip in (*own_addresses(nf), *(s.ip for s in nf.services))}
        self._runners: dict[tuple[Hook, bytes | None, int], _Run] = {}
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
        summary.cut += int((captured > PAGE_ROOM).sum())
        seconds = np.maximum(times // _NS - summary.first_ns // _NS, 0) + self._start
        #: of what runs as it stands, empty of all else
        addresses = np.full(len(chunk), b"", object)
        frames = Frames(bytes_, offsets, np.where(links == LinkType.ETHERNET, captured, 0))
        for ethertype in ADDRESSES if self._ipv6 else (IPV4,):
            rows = frames.as_they_stand(ethertype, geneve_apart=self._ipv6)
            addresses[rows] = frames.columns(rows, ADDRESSES[ethertype])
        sizes = np.minimum(captured, PAGE_ROOM).tolist()
        self._run(chunk, zip(seconds.tolist(), addresses.tolist(), sizes, strict=True))

    def _run(self, chunk: list[Record], rows: Iterator[tuple[int, bytes, int]]) -> None:
        paths, now = self._paths, self._simulator.now
        for record, (second, addresses, size) in zip(chunk, rows, strict=True):
            # Captures may be out of order by a little; the clock of the kernel never goes back.
            if second > now:
                now = second
                self._simulator.set_clock(now)
            if not addresses:
                self._run_rebuilt(record)
                continue
            path = paths.get(addresses)
            if path is None:
                path = paths[addresses] = self._path(addresses)
            path.count += 1
            for run in path.runs:
                run(record[1], size)

    def _run_rebuilt(self, record: Record) -> None:
        """A packet that does not run as it stands: rebuilt as one that does if it can be, else counted."""
        time_ns, offset, captured, length, link_type = record
        packet = bytes(self._buffer.view[offset : offset + captured])
        frame = ethernet_frame(packet, link_type)
        if link_type == LinkType.ETHERNET and frame is not None:
            frame = without_tunnel(frame) or (frame if len(frame) < len(packet) else None)
        where = sighting(packet, link_type)
        if frame is not None and where is not None:
            frame = without_tunnel(frame) or frame
            if self._seen.again(frame[14:], where, time_ns):
                self._leave_out("seen on another interface before", length)
                return
            if where.outgoing and self._hook is None and self._hooks_by_address(ends_of(frame)) == (Hook.FROM_NETDEV,):
                self._leave_out("left by a device of the node", length)
                return
            self.summary.interfaces[f"{where.ifindex or 'any'} {'out' if where.outgoing else 'in'}"] += 1
        elif frame is not None and frame[12:14] == IPV6 and self._ipv6 and is_geneve4(packet, link_type):
            self._run_both(packet)
            return
        addresses = ends_of(frame or packet)
        if not addresses or frame is None or (len(addresses) == 32 and not self._ipv6):
            kind = "not IP" if not addresses else "IPv6, which the node has not"
            self.summary.skipped["too short" if captured < UDP[IPV4] else kind] += 1
            return
        path = self._counted(addresses)
        with FrameBuffer(frame[:PAGE_ROOM]) as single:
            for hook in path.hooks:
                program = self._program(hook, self._pod_of(hook, addresses), addresses)
                frame_runner(program, single)(0, min(len(frame), PAGE_ROOM))

    def _run_both(self, frame: bytes) -> None:
        """IPv6 in Geneve: the program of IPv4 takes the outer headers off, the other one goes on."""
        addresses = ends_of(frame)
        for hook in self._counted(addresses).hooks:
            pod = self._pod_of(hook, addresses)
            self._simulator.run(hook, frame[:PAGE_ROOM], endpoint=self._pods.get(pod or b""))

    def _counted(self, addresses: bytes) -> _Path:
        path = self._paths.get(addresses) or self._paths.setdefault(addresses, self._path(addresses))
        path.count += 1
        return path

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
        return any(end in self._own or end in self._pods for end in halves(addresses))

    def _path(self, addresses: bytes) -> _Path:
        self.summary.concerned = self.summary.concerned or self._concerns(addresses)
        hooks = (self._hook,) if self._hook is not None else self._hooks_by_address(addresses)
        return _Path(hooks, tuple(self._runner(hook, addresses) for hook in hooks))

    def _hooks_by_address(self, addresses: bytes) -> tuple[Hook, ...]:
        pods = zip(halves(addresses), (Hook.FROM_CONTAINER, Hook.TO_CONTAINER), strict=True)
        return tuple(hook for address, hook in pods if address in self._pods) or (Hook.FROM_NETDEV,)

    def _pod_of(self, hook: Hook, addresses: bytes) -> bytes | None:
        if hook not in (Hook.FROM_CONTAINER, Hook.TO_CONTAINER):
            return None
        pod = self._endpoint or halves(addresses)[hook is Hook.TO_CONTAINER]
        if pod not in self._pods:
            raise NotFoundError(f"{hook}: {ip_address(pod)} is no endpoint of the node; name one with --endpoint")
        return pod

    def _program(self, hook: Hook, pod: bytes | None, addresses: bytes) -> Program:
        return self._simulator.program(hook, self._pods.get(pod or b""), version_of(addresses))

    def _runner(self, hook: Hook, addresses: bytes) -> _Run:
        pod = self._pod_of(hook, addresses)
        slot = (hook, pod, version_of(addresses))
        if slot not in self._runners:
            started = time.perf_counter()
            self._runners[slot] = frame_runner(self._program(hook, pod, addresses), self._buffer)
            self.loading_s += time.perf_counter() - started
        return self._runners[slot]


def _drops(simulator: Simulator) -> Counter[tuple[Hook, str]]:
    """Drops by hook and reason, from the datapath's own counters."""
    found: Counter[tuple[Hook, str]] = Counter()
    for counter in read_counters(simulator.maps[pins.METRICS]):
        if counter.reason != "ok" and counter.packets:
            found[Hook(counter.hook), counter.reason] = counter.packets
    return found
