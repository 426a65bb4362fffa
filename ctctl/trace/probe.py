"""Follow a flow through any datapath by probes in front of its programs, without disturbing them.

Nothing is pinned: when this process ends, in whatever way, the kernel detaches the probes.
"""

from __future__ import annotations

import contextlib
import errno
import select
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from ctctl.abi import layouts, pins
from ctctl.btf.vmlinux import kernel_enum
from ctctl.decode.ct import TUPLE_SERVICE
from ctctl.errors import CtctlError, KernelError, NotFoundError, UnsupportedError
from ctctl.kernel.clock import monotonic_ns
from ctctl.kernel.link import TcxLink
from ctctl.kernel.map import Map
from ctctl.kernel.netns import run_in_netns
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.kernel.program import Program
from ctctl.kernel.ringbuf import RingBuffer
from ctctl.kernel.tracing import TracingLink, entry_function
from ctctl.model.entry import CtEntry
from ctctl.model.tuples import Address, FlowTuple
from ctctl.model.tuples import Direction as CtDirection
from ctctl.node.attach import AttachMode
from ctctl.tables.sources.base import NoTableError
from ctctl.trace.decode_probe import decode_probe_event
from ctctl.trace.probe_book import ProbeBook
from ctctl.trace.probe_event import ProbeEvent, ProbeKind, ProgramRef
from ctctl.trace.probe_filters import ProbeFilters
from ctctl.trace.probe_flow import ProbeFlow
from ctctl.trace.probe_follow import follow
from ctctl.trace.probe_places import Neighbourhood
from ctctl.trace.probe_points import ProbePoint
from ctctl.trace.probe_request import ProbeRequest, namespace_words
from ctctl.trace.probe_tables import NodeTables

_SHARED = (
    pins.PROBE_EVENTS,
    pins.PROBE_CTL,
    pins.PROBE_FOLLOW,
    pins.PROBE_SLOTS,
    pins.PROBE_LOST,
    pins.PROBE_CURRENT,
)
_KEY0 = bytes(4)
_POLL_S = 0.2
#: Numbers of drop reasons that mean nothing was dropped (SKB_NOT_DROPPED_YET, SKB_CONSUMED).
_NOT_DROPPED = frozenset({0, 1})
#: Reasons that are none of a drop: packets that had arrived, freed with the socket that had them.
_NO_DROPS = frozenset({"queue_purge"})
#: What the kernel says when it is done with an ICMP message, whether or not a program had its copy.
_ICMP_ENDS = frozenset({"no_socket", "not_specified"})
#: Reasons that say no more than that a program decided it.
_BY_PROGRAMS = frozenset({"tc_ingress", "tc_egress"})
_POLICY = "Policy denied"


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
        self._tables: dict[int, NodeTables] = {}
        self._book = ProbeBook()
        self._reasons: dict[int, str] | None = None
        self._programs = {ref.id: ref for point in request.points for ref in point.programs}
        self._points = {(p.netns_inode, p.ifindex, str(p.direction) == "egress"): p for p in request.points}
        self._nodes = {p.netns_inode: p.node for p in request.points}
        self._devices = {(p.netns_inode, p.ifindex): p.device for p in request.points}
        self._following = False
        self._filters: ProbeFilters | None = None
        self._attached = 0
        places = Neighbourhood((point.netns, point.netns_inode) for point in request.points)
        self._flow = ProbeFlow(request.flow, self._tables, places, self._follow)
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

    def _open_tables(self, netns_inode: int) -> NodeTables | None:
        """The tables of a namespace's datapath; None, and a note, where there are none."""
        directory = self._request.tables.get(netns_inode)
        if directory is None:
            self._note("no conntrack tables are pinned here: packets without entries (--tables DIR names some)")
            return None
        try:
            opened = self._stack.enter_context(NodeTables(directory))
        except (NotFoundError, NoTableError) as error:
            self._note(f"{error}: packets without entries")
            return None
        if (directory / pins.CILIUM_EVENTS).exists():
            # A slot a CPU, each with one reader: whoever else wants to read takes it from the agent.
            self._note(
                f"drop events are in {pins.CILIUM_EVENTS}, which its agent alone can read: reasons here are counters';"
                " cilium-dbg monitor --type drop | ctctl trace --from - FLOW tells each"
            )
        self._tables[netns_inode] = opened
        return opened

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
                    self._maps[name].update(_KEY0, self._request.control or bytes(layouts.ctctl_probe_ctl()))

    def _attach_probes(self) -> None:
        by_namespace: dict[Path, list[ProbePoint]] = {}
        for point in self._request.points:
            by_namespace.setdefault(point.netns, []).append(point)
        for path, points in by_namespace.items():
            tables = self._open_tables(points[0].netns_inode)
            bpf = self._stack.enter_context(BpfObject.open(OBJECTS / "probe.bpf.o"))
            bpf.set_config("cfg_netns", points[0].netns_inode)
            self._share(bpf)
            for family, variable in ((4, "cfg_tables"), (6, "cfg_tables6")):
                found = tables.conntrack(family) if tables is not None else None
                bpf.set_config(variable, int(found is not None))
                for name, table in (found or {}).items():
                    bpf.reuse_map(name, table)
            for family, variable in ((4, "cfg_nat"), (6, "cfg_nat6")):
                snat = tables.snat(family) if tables is not None else None
                bpf.set_config(variable, int(snat is not None))
                if snat is not None:
                    bpf.reuse_map(*snat)
            for variable, words in run_in_netns(str(path), namespace_words).items():
                bpf.set_config(variable, words)
            bpf.load()
            self._adopt(bpf)
            run_in_netns(str(path), self._attach_points, bpf, points)
        if not self._attached:
            raise UnsupportedError("; ".join(self.summary.notes))

    def _attach_points(self, bpf: BpfObject, points: Sequence[ProbePoint]) -> None:
        for point in points:
            program = bpf.program(f"probe_{point.direction}")
            if point.attach is AttachMode.tc:
                self._attach_filter(program, point)
                continue
            # In front of a TCX chain is also in front of every clsact filter of the device.
            self._stack.enter_context(TcxLink.attach(program, point.ifindex, point.direction, before="first"))
            self._attached += 1

    def _attach_filter(self, program: Program, point: ProbePoint) -> None:
        if self._filters is None:
            namespaces = {one.netns for one in self._request.points}
            self._filters = self._stack.enter_context(ProbeFilters(namespaces))
        try:
            self._filters.attach(program, point)
        except UnsupportedError as error:
            self._note(f"no probe at {point.direction} of {point.device}: {error}")
        else:
            self._attached += 1

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
        last, looked = False, time.monotonic()
        while not last and (request.count is None or self.summary.events < request.count):
            last = stop() or (deadline is not None and time.monotonic() >= deadline)
            left_s = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
            poll.poll(0 if last else max(left_s, 0) * 1000)
            yield from self._take()
            if time.monotonic() - looked >= _POLL_S:
                looked = time.monotonic()
                for tables in self._tables.values():
                    tables.look_at_drops()

    def _take(self) -> Iterator[ProbeEvent]:
        self._ring.consume()
        records, self._pending[:] = list(self._pending), []
        for record in records:
            event = self._named(self._decoded(record))
            if event is None:
                continue
            for shown in self._flow.take(event):
                told = self._told(shown)
                if self._request.accept is not None and not self._request.accept(told):
                    continue
                self.summary.events += 1
                yield told
                if self.summary.events == self._request.count:
                    return

    def _decoded(self, record: bytes) -> ProbeEvent:
        event = decode_probe_event(record)
        tables = self._tables.get(event.netns)
        return event if tables is None else decode_probe_event(record, tables.layout)

    def _named(self, event: ProbeEvent) -> ProbeEvent | None:
        """The event with names for its numbers; None for a free that was no drop."""
        node = self._nodes.get(event.netns)
        device = self._devices.get((event.netns, event.ifindex))
        if event.kind is ProbeKind.FREED:
            reason = self._reason(event.code or 0)
            if event.code in _NOT_DROPPED or reason in _NO_DROPS:
                return None
            if event.icmp_type is not None and reason in _ICMP_ENDS:
                return None
            return replace(event, node=node, device=device, reason=reason)
        if event.kind is ProbeKind.RETURN:
            program = self._programs.get(event.program_id or 0)
            return replace(event, node=node, device=device, program=program)
        point = self._points.get((event.netns, event.ifindex, event.egress))
        return replace(event, node=node, device=device, programs=point.programs if point else ())

    def _told(self, event: ProbeEvent) -> ProbeEvent:
        """The event with what the tables say of it, and its place in its connection."""
        tables = self._tables.get(event.netns)
        if tables is None or event.kind is ProbeKind.FREED:
            event = self._book.serves(self._book.sighted(event))
            return event if tables is None else self._explained(event, tables)
        nat = tables.nat(event.flow)
        event = self._book.sighted(event, [entry.turned(event.flow) for entry in nat])
        service, behind = self._service_of(event, tables)
        return self._book.serves(replace(event, nat=nat, service=service, behind=behind))

    def _explained(self, event: ProbeEvent, tables: NodeTables) -> ProbeEvent:
        """What the datapath itself says of a drop: it counts why, and its policy has a rule for it."""
        if event.reason not in _BY_PROGRAMS:
            return event
        counted = tables.dropped_since()
        denied = any(one.reason == _POLICY for one in counted)
        return replace(event, dropped_by=counted, rule=tables.denial(event.flow) if denied else None)

    def _service_of(
        self, event: ProbeEvent, tables: NodeTables
    ) -> tuple[tuple[Address, int] | None, tuple[CtEntry, ...]]:
        """The service of a packet's connection, and the entries that its own tuple does not lead to."""
        flow = event.flow
        asked = tables.socket(event.cookie, (flow.dst, flow.dst_port)) if event.cookie is not None else None
        if asked is not None:
            return asked, ()
        known = {entry.key for entry in event.entries}
        behind = tuple(entry for entry in tables.entries_behind(flow) if entry.key not in known)
        if tables.entry(flow, TUPLE_SERVICE) is not None:
            return (flow.dst, flow.dst_port), behind
        for entry in (*event.entries, *behind):
            if entry.direction is CtDirection.SVC:
                return (entry.tuple.dst, entry.tuple.dst_port), behind
        owner = next((entry for entry in (*event.entries, *behind) if entry.rev_nat), None)
        service = tables.service(owner.rev_nat, flow.src.version) if owner is not None else None
        if owner is None or service is None:
            return None, behind
        client = FlowTuple(flow.proto, owner.tuple.src, owner.tuple.src_port, *service)
        found = tables.entry(client, TUPLE_SERVICE)
        return service, (*behind, found) if found is not None else behind

    def _follow(self, flow: FlowTuple) -> None:
        """Have the probes tell of one more tuple."""
        if not self._following:
            self._following = True
            control = self._maps[pins.PROBE_CTL].lookup(_KEY0) or bytes(len(bytes(layouts.ctctl_probe_ctl())))
            words = layouts.ctctl_probe_ctl.from_buffer_copy(control)
            words.following = 1
            self._maps[pins.PROBE_CTL].update(_KEY0, bytes(words))
        follow(self._maps, flow)

    def _reason(self, number: int) -> str:
        if self._reasons is None:
            self._reasons = kernel_drop_reasons()
        return self._reasons.get(number, f"reason {number}")

    def lost(self) -> int:
        """Events that the ring buffer did not take (``events.lines.NOT_TAKEN``)."""
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
