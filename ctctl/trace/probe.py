"""Follow a flow through any datapath by probes in front of its programs, without disturbing them.

Nothing is pinned: when this process ends, in whatever way, the kernel detaches the probes.
"""

from __future__ import annotations

import contextlib
import errno
import select
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ctctl.abi import layouts, pins
from ctctl.btf.vmlinux import kernel_enum
from ctctl.errors import CtctlError, KernelError, NotFoundError, UnsupportedError
from ctctl.events.stream import KernelFilter, control_words
from ctctl.kernel.clock import monotonic_ns
from ctctl.kernel.link import TcxLink
from ctctl.kernel.map import Map
from ctctl.kernel.netns import run_in_netns
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.kernel.program import Program
from ctctl.kernel.ringbuf import RingBuffer
from ctctl.kernel.tracing import TracingLink, entry_function
from ctctl.model.entry import CtEntry, Layout
from ctctl.model.tuples import Direction as CtDirection
from ctctl.model.tuples import FlowTuple
from ctctl.node.find import cilium_tables, own_nodes
from ctctl.node.record import MAP_NAME, read_record
from ctctl.packet.text import FlowSpec
from ctctl.tables.sources.base import SourceOptions
from ctctl.tables.sources.live import open_directory
from ctctl.trace.decode_probe import decode_probe_event
from ctctl.trace.live import filter_of, follow_key
from ctctl.trace.probe_event import ProbeEvent, ProbeKind, ProgramRef
from ctctl.trace.probe_points import ProbePoint
from ctctl.trace.story import canonical, matches

_BACKENDS = pins.LB4_BACKENDS
_SHARED = (
    pins.PROBE_EVENTS,
    pins.PROBE_CTL,
    pins.PROBE_FOLLOW,
    pins.PROBE_LOST,
    pins.PROBE_CURRENT,
)
_KEY0 = bytes(4)
_POLL_S = 0.2
#: Events kept that passed the kernel's coarser filter and may yet be of the flow.
_HELD = 256
#: Numbers of drop reasons that mean nothing was dropped (SKB_NOT_DROPPED_YET, SKB_CONSUMED).
_NOT_DROPPED = frozenset({0, 1})


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """What to follow, where, and for how long.

    ``tables`` are the bpffs directories with conntrack maps, by inode of the network namespace they belong to.
    """

    points: tuple[ProbePoint, ...]
    kernel_filter: KernelFilter | None = None
    flow: FlowSpec | None = None
    tables: Mapping[int, Path] = field(default_factory=dict)
    count: int | None = None
    duration_s: float | None = None


def probe_request(
    points: Sequence[ProbePoint],
    flow: FlowSpec | None,
    tables: Path | None,
    *,
    count: int | None = None,
    duration_s: float | None = None,
) -> ProbeRequest:
    """A request with what is left open filled in: the tables of each namespace, and the kernel's filter.

    ``tables`` hold for all namespaces; without them those of the node that is loaded there, else Cilium's.
    """
    if flow is not None and flow.version == 6:
        raise UnsupportedError("probes read IPv4 packets: of a node that ctctl loaded, --live follows IPv6")
    directories = {}
    for inode in {point.netns_inode for point in points}:
        found = tables or _own_tables(inode) or cilium_tables()
        if found is not None:
            directories[inode] = found
    kernel_filter = None if flow is None else filter_of(flow, sorted(set(directories.values())))
    return ProbeRequest(tuple(points), kernel_filter, flow, directories, count, duration_s)


def _own_tables(netns_inode: int) -> Path | None:
    """The pin directory of ctctl's own node in that namespace."""
    for paths in own_nodes().values():
        record = read_record(paths.map(MAP_NAME))
        if record is not None and record.netns_inode == netns_inode:
            return paths.dir
    return None


@dataclass(slots=True)
class ProbeSummary:
    """What a trace by probes ended with; ``notes`` are what this kernel or these maps did not allow."""

    events: int = 0
    notes: list[str] = field(default_factory=list)


class ProbeTrace:
    """Probes on some devices, from entry to exit. A context manager.

    Raises KernelError where a probe cannot be attached; what is only missing (no tables, no
    trampolines, no tracepoint) is a note in ``summary``.
    """

    def __init__(self, request: ProbeRequest) -> None:
        self._request = request
        self._stack = contextlib.ExitStack()
        self._pending: list[bytes] = []
        self._maps: dict[str, Map] = {}
        self._layout = Layout.V1_16
        self._reasons: dict[int, str] | None = None
        self._programs = {ref.id: ref for point in request.points for ref in point.programs}
        self._points = {(p.netns_inode, p.ifindex, str(p.direction) == "egress"): p for p in request.points}
        self._nodes = {p.netns_inode: p.node for p in request.points}
        self._devices = {(p.netns_inode, p.ifindex): p.device for p in request.points}
        self._followed: set[Any] = set()
        self._held: deque[ProbeEvent] = deque(maxlen=_HELD)
        self.summary = ProbeSummary()
        self.wall_offset_ns = time.time_ns() - monotonic_ns()

    def __enter__(self) -> Self:
        try:
            self._attach_probes()
            self._attach_drops()
            self._attach_returns()
            self._ring = RingBuffer(self._maps[pins.PROBE_EVENTS], lambda data: self._pending.append(bytes(data)))
            self._stack.callback(self._ring.close)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Detach every probe. Twice is fine."""
        self._stack.close()

    # ---- attaching

    def _open_tables(self, netns_inode: int) -> dict[str, Map]:
        """The conntrack tables of a namespace, for reading only; empty where there are none."""
        directory = self._request.tables.get(netns_inode)
        if directory is None:
            self._note("no conntrack tables are pinned here: packets without entries (--tables DIR names some)")
            return {}
        try:
            tables = {
                name: self._stack.enter_context(Map.open_pinned(directory / name, read_only=True))
                for name in pins.OWN_CT_TABLES
            }
        except NotFoundError as error:
            self._note(f"{error}: packets without entries")
            return {}
        with open_directory(directory, SourceOptions()) as source:
            self._layout = source.tables[0].layout
        return tables

    def _note(self, text: str) -> None:
        if text not in self.summary.notes:
            self.summary.notes.append(text)

    def _share(self, bpf: BpfObject) -> None:
        for name in _SHARED:
            if name in self._maps:
                bpf.reuse_map(name, self._maps[name])

    def _adopt(self, bpf: BpfObject) -> None:
        for name in _SHARED:
            if name not in self._maps:
                self._maps[name] = self._stack.enter_context(bpf.map(name).dup())
                if name == pins.PROBE_CTL:
                    self._maps[name].update(_KEY0, bytes(control_words(self._request.kernel_filter)))

    def _attach_probes(self) -> None:
        by_namespace: dict[Path, list[ProbePoint]] = {}
        for point in self._request.points:
            by_namespace.setdefault(point.netns, []).append(point)
        for path, points in by_namespace.items():
            tables = self._open_tables(points[0].netns_inode)
            bpf = self._stack.enter_context(BpfObject.open(OBJECTS / "probe.bpf.o"))
            bpf.set_config("cfg_netns", points[0].netns_inode)
            bpf.set_config("cfg_tables", int(bool(tables)))
            self._share(bpf)
            for name, table in tables.items():
                bpf.reuse_map(name, table)
            bpf.load()
            self._adopt(bpf)
            run_in_netns(str(path), self._attach_points, bpf, points)

    def _attach_points(self, bpf: BpfObject, points: Sequence[ProbePoint]) -> None:
        for point in points:
            program = bpf.program(f"probe_{point.direction}")
            # In front of a TCX chain is also in front of every clsact filter of the device.
            self._stack.enter_context(TcxLink.attach(program, point.ifindex, point.direction, before="first"))

    def _tracing(self, other: str) -> BpfObject:
        bpf = BpfObject.open(OBJECTS / "proberet.bpf.o")
        bpf.disable_program(other)
        self._share(bpf)
        return bpf

    def _attach_drops(self) -> None:
        try:
            bpf = self._stack.enter_context(self._tracing("probe_return"))
            bpf.load()
            self._stack.enter_context(TracingLink.attach(bpf.program("probe_freed")))
        except KernelError as error:
            self.summary.notes.append(f"no drops by the kernel: {error}")

    def _attach_returns(self) -> None:
        for ref in self._programs.values():
            try:
                self._attach_return(ref)
            except NotFoundError as error:
                self.summary.notes.append(f"no return codes of {ref}: {error}")
            except KernelError as error:
                code = _errno_name(error)
                self.summary.notes.append(
                    f"no return codes: this kernel lets no BPF program be traced by fexit ({code})"
                )
                return

    def _attach_return(self, ref: ProgramRef) -> None:
        with Program.from_id(ref.id) as target:
            bpf = self._tracing("probe_freed")
            try:
                bpf.set_config("cfg_prog_id", ref.id)
                bpf.set_config("cfg_egress", int(self._runs_at_egress(ref)))
                bpf.set_attach_target("probe_return", target, entry_function(target))
                bpf.load()
                link = TracingLink.attach(bpf.program("probe_return"))
            except BaseException:
                bpf.close()
                raise
        self._stack.enter_context(bpf)
        self._stack.enter_context(link)

    def _runs_at_egress(self, ref: ProgramRef) -> bool:
        return all(str(p.direction) == "egress" for p in self._request.points if ref in p.programs)

    # ---- reading

    def events(self, stop: Callable[[], bool] = lambda: False) -> Generator[ProbeEvent, None, None]:
        """The flow's events as they happened, until ``count``, ``duration_s`` or ``stop``."""
        request = self._request
        deadline = None if request.duration_s is None else time.monotonic() + request.duration_s
        poll = select.poll()
        poll.register(self._ring.fileno, select.POLLIN)
        last = False
        while not last and (request.count is None or self.summary.events < request.count):
            last = stop() or (deadline is not None and time.monotonic() >= deadline)
            left_s = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
            poll.poll(0 if last else max(left_s, 0) * 1000)
            yield from self._take()

    def _take(self) -> Iterator[ProbeEvent]:
        self._ring.consume()
        records, self._pending[:] = list(self._pending), []
        for record in records:
            event = self._named(decode_probe_event(record, self._layout))
            if event is None:
                continue
            if not self._of_flow(event):
                self._held.append(event)
                continue
            self._follow_service(event)
            if event.same_packet:
                self._follow(event.flow)
            for shown in (*self._release(), event):
                self.summary.events += 1
                yield shown
                if self.summary.events == self._request.count:
                    return

    def _release(self) -> list[ProbeEvent]:
        """Events that turn out to be of the flow: a backend is known only once the SERVICE entry was seen."""
        found = [event for event in self._held if self._of_flow(event)]
        if found:
            self._held = deque((event for event in self._held if event not in found), _HELD)
        return found

    def _of_flow(self, event: ProbeEvent) -> bool:
        flow = self._request.flow
        if flow is None or event.icmp_type is not None or event.same_packet:
            return True
        return matches(flow, event.flow) or canonical(event.flow) in self._followed

    def _named(self, event: ProbeEvent) -> ProbeEvent | None:
        """The event with names for its numbers; None for a free that was no drop."""
        node = self._nodes.get(event.netns)
        device = self._devices.get((event.netns, event.ifindex))
        if event.kind is ProbeKind.FREED:
            if event.code in _NOT_DROPPED:
                return None
            return replace(event, node=node, device=device, reason=self._reason(event.code or 0))
        if event.kind is ProbeKind.RETURN:
            program = self._programs.get(event.program_id or 0)
            return replace(event, node=node, device=device, program=program)
        point = self._points.get((event.netns, event.ifindex, event.egress))
        return replace(event, node=node, device=device, programs=point.programs if point else ())

    def _follow_service(self, event: ProbeEvent) -> None:
        """A SERVICE entry says which backend the packets go to from here on."""
        directory = self._request.tables.get(event.netns)
        for entry in event.entries:
            backend = self._backend(entry, directory) if entry.direction is CtDirection.SVC else None
            if backend is not None:
                self._follow(backend)

    def _follow(self, flow: FlowTuple) -> None:
        if canonical(flow) not in self._followed:
            self._followed.add(canonical(flow))
            self._maps[pins.PROBE_FOLLOW].update(follow_key(flow), b"\1")

    def _backend(self, entry: CtEntry, directory: Path | None) -> FlowTuple | None:
        if directory is None or not entry.backend_id:
            return None
        try:
            with Map.open_pinned(directory / _BACKENDS, read_only=True) as backends:
                value = backends.lookup(entry.backend_id.to_bytes(4, "little"))
        except CtctlError:
            return None
        if value is None:
            return None
        raw = layouts.lb4_backend.from_buffer_copy(value)
        flow = entry.tuple
        return FlowTuple(flow.proto, flow.src, flow.src_port, IPv4Address(raw.address), raw.port)

    def _reason(self, number: int) -> str:
        if self._reasons is None:
            self._reasons = kernel_drop_reasons()
        return self._reasons.get(number, f"reason {number}")

    def lost(self) -> int:
        """Events that found the ring buffer full."""
        value = self._maps[pins.PROBE_LOST].lookup(_KEY0) or b""
        return sum(int.from_bytes(value[at : at + 8], "little") for at in range(0, len(value), 8))


def _errno_name(error: KernelError) -> str:
    return errno.errorcode.get(error.errno, str(error.errno))


def kernel_drop_reasons() -> dict[int, str]:
    """Number → name of the running kernel's ``enum skb_drop_reason``, from its BTF; empty without one."""
    try:
        found = kernel_enum("skb_drop_reason")
    except CtctlError:
        return {}
    return {number: name.removeprefix("SKB_DROP_REASON_").lower() for number, name in found.items()}
