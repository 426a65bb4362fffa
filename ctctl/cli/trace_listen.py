"""The listening half of ``ctctl trace``: our own hooks, probes before somebody else's programs, or both."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, ParamSpec, TypeAlias

from ctctl.cli.interrupt import interruptible
from ctctl.cli.options import Attach
from ctctl.cli.trace_modes import Mode
from ctctl.errors import CtctlError, NotFoundError, UsageError
from ctctl.model.units import counted
from ctctl.out.options import OutputOptions, use_color
from ctctl.out.text import safe

if TYPE_CHECKING:
    from ctctl.tables.namebook import LazyBook
    from ctctl.tables.query.filter import Filter
    from ctctl.trace.live import LiveRequest, LiveSummary
    from ctctl.trace.picture import CaptureTrace, DiagramTrace
    from ctctl.trace.probe_event import ProbeEvent
    from ctctl.trace.probe_points import ProbePoint

P = ParamSpec("P")

#: Hooks and probes tell on the same two streams, each on a thread of its own: one line, one event at a time.
_TURN = threading.Lock()


class TraceFormat(StrEnum):
    """Values of ``-o`` for traces."""

    table = "table"
    jsonl = "jsonl"
    mermaid = "mermaid"
    svg = "svg"
    pcapng = "pcapng"


class Budget:
    """What ``--count`` leaves to show of two ways together, each on a thread of its own."""

    def __init__(self, count: int | None) -> None:
        self._left = count
        self._lock = threading.Lock()

    @property
    def spent(self) -> bool:
        return self._left == 0

    def take(self) -> bool:
        """Whether one more may be shown; then it counts."""
        with self._lock:
            if self._left == 0:
                return False
            if self._left is not None:
                self._left -= 1
            return True


@dataclass(frozen=True)
class Limits:
    """``--count`` and ``--for``; ``shared`` is the count of two ways together."""

    count: int | None
    duration: str | None
    shared: Budget | None = None

    def heeded(self, wanted: Callable[P, bool]) -> Callable[P, bool]:
        """``wanted``, as long as the shared count lasts."""
        shared = self.shared
        if shared is None:
            return wanted
        return lambda *args, **kwargs: wanted(*args, **kwargs) and shared.take()

    @property
    def seconds(self) -> float | None:
        from ctctl.model.units import parse_duration

        try:
            return None if self.duration is None else parse_duration(self.duration)
        except ValueError as error:
            raise UsageError(f"--for: {error}") from None


@dataclass(frozen=True)
class Output:
    """What is written, and how."""

    format: TraceFormat
    options: OutputOptions
    raw: bool
    verbose: bool = False

    @property
    def color(self) -> bool:
        return use_color(self.options, sys.stdout)


@dataclass(frozen=True)
class Where:
    """Which nodes, and for probes which devices, namespaces and tables, and how they go in front of programs.

    ``names``: files with names.
    """

    nodes: Sequence[str]
    devices: Sequence[str]
    namespaces: Sequence[str]
    tables: Sequence[str]
    attach: Attach = Attach.auto
    names: Sequence[str] = ()

    @cached_property
    def book(self) -> LazyBook:
        """The names of the node that is listened to: of the first one, or of the tables of the first namespace."""
        from ctctl.cli.report import names_here

        directory = self.tables[0].rpartition("=")[2] if self.tables else "auto"
        return names_here(self.nodes[0] if self.nodes else None, self.names, directory)


@dataclass(frozen=True)
class Ways:
    """What is listened to: ``hooks`` of nodes that ctctl loaded, ``points`` for probes. ``words``: what was chosen."""

    hooks: bool
    points: Sequence[ProbePoint] = ()
    words: str | None = None

    @classmethod
    def of(cls, mode: Mode, where: Where, *, asked: bool) -> Ways:
        """What was asked for; if nothing was, whatever is there. Raises as ``find_points`` does."""
        from ctctl.node.attach import AttachMode
        from ctctl.trace.probe_points import find_points

        if mode is Mode.probe:
            return cls(False, find_points(where.devices, where.namespaces, AttachMode(where.attach)))
        if asked or where.nodes:
            return cls(True)
        return _whatever_is_there()


def _whatever_is_there() -> Ways:
    from ctctl.node.find import HOW_TO_LOAD, has_tables, own_nodes
    from ctctl.trace.probe_points import foreign_points, foreign_points_elsewhere

    own = [name for name, paths in own_nodes().items() if has_tables(paths.dir)]
    try:
        points = foreign_points()
    except CtctlError:
        if not own:
            raise
        points = []
    if not own and not points:
        points = foreign_points_elsewhere()
    if not own and not points:
        raise NotFoundError(
            f"nothing to trace: no node is loaded ({HOW_TO_LOAD}), and no device of this network"
            " namespace carries a BPF program, nor of one that has a name (--netns PATH takes any other)"
        )
    words = []
    if own:
        words.append(f"the hooks of {', '.join(own)}")
    if points:
        named = (f"{point.node}/{point.device}" if point.node else point.device for point in points)
        devices = ", ".join(dict.fromkeys(named))
        words.append(f"probes before somebody else's programs on {devices}")
    return Ways(bool(own), points, f"tracing by {' and '.join(words)}")


Names: TypeAlias = Callable[[], Mapping[str, str]]


def picture_of(
    output: Output, wall_offset_ns: int | None = None, names: Names = dict
) -> CaptureTrace | DiagramTrace | None:
    """What writes the forms that are no text lines; None for those that are. Raises UsageError.

    ``wall_offset_ns`` None: the events' clock is simulated. ``names`` gives those of addresses.
    """
    if output.format in {TraceFormat.table, TraceFormat.jsonl}:
        return None
    from ctctl.trace.mermaid import mermaid
    from ctctl.trace.picture import CaptureTrace, DiagramTrace
    from ctctl.trace.svg import svg

    if output.format is not TraceFormat.pcapng:
        draw = svg if output.format is TraceFormat.svg else mermaid
        return DiagramTrace(sys.stdout, draw, names=names, wall_offset_ns=wall_offset_ns, verbose=output.verbose)
    _refuse_terminal()
    return CaptureTrace(sys.stdout.buffer, wall_offset_ns=wall_offset_ns or 0)


def _shown_names(book: LazyBook) -> Names:
    """The names of a live node's addresses: a picture without them is better than none."""

    def shown() -> Mapping[str, str]:
        with contextlib.suppress(CtctlError):
            return book.book.shown()
        return {}

    return shown


def _refuse_terminal() -> None:
    if sys.stdout.isatty():
        raise UsageError("-o pcapng is binary: send it to a file or a program, e.g. > flow.pcapng")


def listen(packet: str | None, where: Where, ways: Ways, limits: Limits, wanted: Filter, output: Output) -> None:
    """Follow until Ctrl-C or a limit. Raises CtctlError."""
    if where.names:
        _ = where.book.book  # a file that a user names is read, or refused, before anything is waited for
    if ways.words is not None:
        _tell(ways.words)
    if ways.hooks and ways.points:
        if output.format not in {TraceFormat.table, TraceFormat.jsonl}:
            raise UsageError(f"-o {output.format} draws one datapath: choose with --live or --probe")
        _both(packet, where, ways, limits, wanted, output)
        return
    with interruptible() as stop:
        if ways.hooks:
            _hooks(_request(packet, where, limits, wanted), where, output, stop)
        else:
            _probes(packet, where, ways.points, limits, wanted, output, stop)


def _both(packet: str | None, where: Where, ways: Ways, limits: Limits, wanted: Filter, output: Output) -> None:
    """Both at once: probes on a thread of their own."""
    failed: list[BaseException] = []
    budget = Budget(limits.count)
    limits = Limits(None, limits.duration, budget)
    with interruptible() as stop:
        over = threading.Event()

        def done() -> bool:
            return stop() or over.is_set() or budget.spent

        def probes() -> None:
            try:
                _probes(packet, where, ways.points, limits, wanted, output, done)
            except BaseException as error:  # raised again where the command is
                failed.append(error)
                over.set()

        thread = threading.Thread(target=probes)
        thread.start()
        try:
            _hooks(_request(packet, where, limits, wanted), where, output, done)
        except BaseException:
            over.set()
            raise
        finally:
            thread.join()
    if failed:
        raise failed[0]


def _request(packet: str | None, where: Where, limits: Limits, wanted: Filter) -> LiveRequest:
    from ctctl.cli.report import addressed_by
    from ctctl.events.filter import EventFilter
    from ctctl.packet.text import parse_flow_text
    from ctctl.trace.live import LiveRequest

    book = where.book
    flow = None if packet is None else parse_flow_text(addressed_by(book, packet))
    chosen = EventFilter(wanted, book)
    return LiveRequest(flow, tuple(where.nodes), limits.count, limits.seconds, limits.heeded(chosen))


def _hooks(request: LiveRequest, where: Where, output: Output, stop: Callable[[], bool]) -> None:
    from ctctl.trace.live import LiveTrace
    from ctctl.trace.show import JsonTrace, TableTrace

    tracer = LiveTrace(request)
    sink: JsonTrace | TableTrace | CaptureTrace | DiagramTrace
    picture = picture_of(output, tracer.wall_offset_ns, _shown_names(where.book))
    if picture is not None:
        sink = picture
    elif output.format is TraceFormat.jsonl:
        sink = JsonTrace(sys.stdout, wall_offset_ns=tracer.wall_offset_ns, raw=output.raw)
    else:
        sink = TableTrace(sys.stdout, color=output.color, wall_offset_ns=tracer.wall_offset_ns, verbose=output.verbose)
    try:
        with contextlib.closing(tracer.events(_say_ready, stop)) as events:
            for traced in events:
                with _TURN:
                    sink.event(traced.event, traced.connection)
    finally:
        if picture is not None and tracer.summary.nodes:
            picture.finish()
        if isinstance(sink, TableTrace):
            with _TURN:
                sink.finish(tracer.summary.lost_total)
        say_summary(tracer.summary)


def _probes(
    packet: str | None,
    where: Where,
    points: Sequence[ProbePoint],
    limits: Limits,
    wanted: Filter,
    output: Output,
    stop: Callable[[], bool],
) -> None:
    from ctctl.cli.report import addressed_by
    from ctctl.packet.text import parse_flow_text
    from ctctl.trace.probe import ProbeTrace
    from ctctl.trace.probe_filter import ProbeFilter
    from ctctl.trace.probe_points import describe_points
    from ctctl.trace.probe_request import probe_request

    book = where.book
    flow = None if packet is None else parse_flow_text(addressed_by(book, packet))
    for line in describe_points(points):
        _tell(f"probe: {line}")
    accept = limits.heeded(ProbeFilter(wanted, book))
    request = probe_request(points, flow, where.tables, count=limits.count, duration_s=limits.seconds, accept=accept)
    if output.format is TraceFormat.pcapng:
        _refuse_terminal()
    with ProbeTrace(request) as tracer:
        for note in tracer.summary.notes:
            _tell(f"note: {note}")
        _tell("ready: probes attached")
        sink, finish = _probe_sink(output, tracer.wall_offset_ns, _shown_names(book))
        try:
            for event in tracer.events(stop):
                with _TURN:
                    sink(event)
        finally:
            with _TURN:
                finish()
            lost = f"{tracer.lost()} lost" if tracer.lost() else "none lost"
            _tell(f"{counted(tracer.summary.events, 'event')}; {lost}")


def _probe_sink(
    output: Output, wall_offset_ns: int, names: Names
) -> tuple[Callable[[ProbeEvent], None], Callable[[], None]]:
    """What takes each event of a probe, and what is called at the end."""
    from ctctl.trace.mermaid import mermaid
    from ctctl.trace.probe_picture import ProbeCapture, ProbeDiagram
    from ctctl.trace.show_probe import ProbeJson, ProbeTable
    from ctctl.trace.svg import svg

    if output.format is TraceFormat.jsonl:
        return ProbeJson(sys.stdout, wall_offset_ns=wall_offset_ns, raw=output.raw).event, _nothing
    if output.format is TraceFormat.table:
        table = ProbeTable(sys.stdout, color=output.color, wall_offset_ns=wall_offset_ns, verbose=output.verbose)
        return table.event, _nothing
    if output.format is TraceFormat.pcapng:
        return ProbeCapture(sys.stdout.buffer, wall_offset_ns=wall_offset_ns).event, _nothing
    draw = svg if output.format is TraceFormat.svg else mermaid
    diagram = ProbeDiagram(sys.stdout, draw, wall_offset_ns=wall_offset_ns, names=names, verbose=output.verbose)
    return diagram.event, diagram.finish


def _tell(line: str) -> None:
    """A line on stderr, whole whoever else tells something."""
    with _TURN:
        sys.stderr.write(f"{safe(line)}\n")
        sys.stderr.flush()


def _nothing() -> None:
    """Of a form that is written as it comes."""


def _say_ready(nodes: Sequence[str]) -> None:
    _tell(f"ready: listening on {', '.join(nodes)}")


def say_summary(summary: LiveSummary) -> None:
    """How much there was, and how much was lost."""
    if not summary.nodes:
        return
    lost = "none lost"
    if summary.lost_total:
        lost = ", ".join(f"{number} lost on {name}" for name, number in summary.lost.items() if number)
    _tell(f"{counted(summary.events, 'event')} of {counted(summary.connections, 'connection')}; {lost}")
