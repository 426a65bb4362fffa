"""``ctctl trace``: what happens to a packet, live or made up."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.cli import trace_simulate
from ctctl.cli.groups import FlowFilterArgs, grouped
from ctctl.cli.interrupt import interruptible
from ctctl.cli.options import MAX_COUNT, ColorOpt, RawOpt
from ctctl.cli.report import is_verbose
from ctctl.cli.trace_modes import Mode, check_options, choose_mode
from ctctl.cli.trace_simulate import SimulateArgs
from ctctl.errors import CtctlError, UsageError
from ctctl.out.output import ColorMode, OutputOptions, use_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctctl.tables.query.filter import Filter
    from ctctl.trace.live import LiveRequest, LiveSummary
    from ctctl.trace.picture import CaptureTrace, DiagramTrace

app = typer.Typer(rich_markup_mode=None, add_completion=False)

EXIT_FINDINGS = 3


class TraceFormat(StrEnum):
    """Values of ``-o`` for traces."""

    table = "table"
    jsonl = "jsonl"
    mermaid = "mermaid"
    svg = "svg"
    pcapng = "pcapng"


@app.callback()
def _group() -> None:
    """Tracing (a group, so that the root finds the command by its name)."""


@app.command()
@grouped
def trace(
    packet: Annotated[
        str | None,
        typer.Argument(metavar="PACKET", help="PROTO SRC[:PORT] > DST[:PORT] [FLAGS] [key=value ...]"),
    ] = None,
    *,
    live: Annotated[bool, typer.Option("--live", help="Follow the flow through loaded nodes (the default).")] = False,
    scenario: Annotated[
        Path | None, typer.Option("--scenario", metavar="FILE", help="Run a node file's steps on private maps.")
    ] = None,
    node: Annotated[
        list[str] | None, typer.Option("--node", metavar="NAME", help="Only this node; may be given again.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Any datapath: look before the programs of devices, disturbing nothing.")
    ] = False,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="NAME", help="Probe this device; else all that carry BPF programs."),
    ] = None,
    netns: Annotated[
        list[str] | None, typer.Option("--netns", metavar="NAME", help="Probe devices of this network namespace.")
    ] = None,
    tables: Annotated[
        list[str] | None,
        typer.Option(
            "--tables",
            metavar="[NETNS=]DIR",
            help="Pinned maps for probes (of one namespace); else the loaded node's, or Cilium's.",
        ),
    ] = None,
    expression: Annotated[
        str | None,
        typer.Option("--filter", metavar="EXPR", help="Filter expression, as of ct list.", rich_help_panel="Filter"),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, max=MAX_COUNT, metavar="N", help="Stop after N events.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Stop after this time: 10s, 2m.")
    ] = None,
    output: Annotated[TraceFormat, typer.Option("-o", "--output", help="Form of the output.")] = TraceFormat.table,
    raw: RawOpt = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="A block a packet and hook: every lookup, change and reason.")
    ] = False,
    color: ColorOpt = ColorMode.auto,
    wanted: FlowFilterArgs,
    made_up: SimulateArgs,
) -> None:
    """What happens to a packet, hook by hook, and why: a line each (-v: a block), at the end what became of it.

    \b
    Follow a connection through every loaded node until Ctrl-C:
      ctctl trace 'tcp 10.64.0.36:54260 > 10.64.0.64:8000'
    Any port of a client to a service, for ten seconds, a JSON object a line:
      ctctl trace 'tcp 172.191.0.1 > 172.190.0.17:80' --for 10s -o jsonl
    Every connection to port 80, by the filter of ct list:
      ctctl trace --to-port 80 --protocol tcp
    On a node of somebody else's datapath, Cilium included:
      ctctl trace --probe 'tcp 10.64.0.36 > 10.64.0.64:8000' --device eth0
    Run the steps of a scenario on private maps:
      ctctl trace --scenario examples/pod-to-pod.yaml
    What would happen to a connection, from a node file or a copy of the loaded nodes:
      ctctl trace --simulate 'tcp 10.64.0.36:54260 > 10.96.0.10:80' -f node.yaml --handshake --close
    What would become of the packets of a capture, and of the table:
      ctctl trace --pcap capture.pcapng -f node.yaml
    What cilium monitor or hubble observe -o jsonpb printed, a line an event:
      ctctl trace --from monitor.txt 'tcp 10.64.0.36 > 10.64.0.64:8000'
    A picture for a ticket, or packets with a comment per hook:
      ctctl trace 'tcp 172.191.0.1 > 172.190.0.17:80' --for 10s -o svg > flow.svg
      ctctl trace 'tcp 172.191.0.1 > 172.190.0.17:80' --for 10s -o pcapng > flow.pcapng
    """
    asked = {
        Mode.live: live,
        Mode.probe: probe or any((device, netns, tables)),
        Mode.scenario: scenario is not None,
        Mode.simulate: made_up.simulate,
        Mode.pcap: made_up.pcap is not None,
    }
    mode = choose_mode(asked | {Mode.story: made_up.source is not None and not any(asked.values())})
    own: dict[str, object] = {"PACKET": packet, "--node": node, "--filter": expression, "--count": count}
    own |= {"--for": duration, "--device": device, "--netns": netns, "--tables": tables}
    check_options(mode, own, wanted, made_up)
    form = _Output(output, OutputOptions(color=color), raw, verbose or is_verbose())
    if made_up.asked:
        lines = output is TraceFormat.jsonl
        trace_simulate.run(
            packet,
            made_up,
            node or (),
            form.options,
            json_lines=lines,
            raw=raw,
            picture=_picture(output),
            verbose=form.verbose,
        )
    elif scenario is not None:
        _scenario(scenario, node, form)
    elif mode is Mode.story:
        selection = wanted.filter([expression] if expression else None)
        _story(str(made_up.source), packet, selection, node or (), count, form)
    elif mode is Mode.probe:
        _probe(packet, device or (), netns or (), tables or (), _Limits(count, duration), form)
    else:
        selection = wanted.filter([expression] if expression else None)
        _live(_request(packet, node, _Limits(count, duration), selection), form)


@dataclass(frozen=True)
class _Limits:
    """``--count`` and ``--for``."""

    count: int | None
    duration: str | None

    @property
    def seconds(self) -> float | None:
        from ctctl.model.units import parse_duration

        try:
            return None if self.duration is None else parse_duration(self.duration)
        except ValueError as error:
            raise UsageError(f"--for: {error}") from None


@dataclass(frozen=True)
class _Output:
    format: TraceFormat
    options: OutputOptions
    raw: bool
    verbose: bool = False

    @property
    def color(self) -> bool:
        return use_color(self.options, sys.stdout)


def _story(
    path: str, packet: str | None, wanted: Filter, nodes: Sequence[str], count: int | None, output: _Output
) -> None:
    from ctctl.cli import trace_story

    if output.format not in {TraceFormat.table, TraceFormat.jsonl}:
        raise UsageError(f"--from alone has no -o {output.format}: table or jsonl")
    lines = output.format is TraceFormat.jsonl
    trace_story.run(path, packet, wanted, nodes, count=count, json_lines=lines, color=output.color)


def _addressed(packet: str, nodes: list[str] | None) -> str:
    """Packet text with names as addresses, by what the node's tables and its agent know. Raises UsageError."""
    from ctctl.cli.report import addressed
    from ctctl.tables.flow_text import has_names
    from ctctl.tables.open import open_source
    from ctctl.tables.sources.base import SourceOptions

    if not has_names(packet):
        return packet
    node = nodes[0] if nodes else None
    with open_source("auto", SourceOptions(node=node)) as source:
        return addressed(source, node, packet)


def _request(packet: str | None, node: list[str] | None, limits: _Limits, wanted: Filter) -> LiveRequest:
    from ctctl.events.filter import EventFilter
    from ctctl.packet.text import parse_flow_text
    from ctctl.trace.live import LiveRequest

    flow = None if packet is None else parse_flow_text(_addressed(packet, node))
    return LiveRequest(flow, tuple(node or ()), limits.count, limits.seconds, EventFilter(wanted))


def _scenario(path: Path, nodes: list[str] | None, output: _Output) -> None:
    from ctctl.cli.report import say
    from ctctl.simulate import scenario as ops
    from ctctl.simulate.scenario_file import load_scenario
    from ctctl.simulate.scenario_writer import PictureWriter, ScenarioWriter
    from ctctl.simulate.show_scenario import step_record

    if nodes and len(nodes) > 1:
        raise UsageError("--scenario runs on one node: give one --node")
    picture = _picture(output.format)
    writer: PictureWriter | ScenarioWriter
    if picture is not None:
        writer = PictureWriter(picture)
    else:
        json_lines = output.format is TraceFormat.jsonl
        writer = ScenarioWriter(
            sys.stdout, json_lines=json_lines, color=output.color, raw=output.raw, verbose=output.verbose
        )
    scenario = load_scenario(path, nodes[0] if nodes else None)
    for note in scenario.node.notes:
        say(note)
    for record in ops.run_scenario(scenario, lambda step: step_record(step, raw=True)):
        writer.step(record)
    writer.finish()
    if writer.failed:
        raise ExpectationError(f"{path}: {writer.failed} of {writer.steps} steps did not come out as expected")


class ExpectationError(CtctlError):
    """A scenario's ``expect`` does not hold."""

    exit_code = EXIT_FINDINGS


def _picture(output: TraceFormat, wall_offset_ns: int = 0) -> CaptureTrace | DiagramTrace | None:
    """What writes the forms that are no text lines; None for those that are. Raises UsageError."""
    if output in {TraceFormat.table, TraceFormat.jsonl}:
        return None
    from ctctl.trace.mermaid import mermaid
    from ctctl.trace.picture import CaptureTrace, DiagramTrace
    from ctctl.trace.svg import svg

    if output is not TraceFormat.pcapng:
        return DiagramTrace(sys.stdout, svg if output is TraceFormat.svg else mermaid)
    if sys.stdout.isatty():
        raise UsageError("-o pcapng is binary: send it to a file or a program, e.g. > flow.pcapng")
    return CaptureTrace(sys.stdout.buffer, wall_offset_ns=wall_offset_ns)


def _live(request: LiveRequest, output: _Output) -> None:
    from ctctl.trace.live import LiveTrace
    from ctctl.trace.show import JsonTrace, TableTrace

    tracer = LiveTrace(request)
    sink: JsonTrace | TableTrace | CaptureTrace | DiagramTrace
    picture = _picture(output.format, tracer.wall_offset_ns)
    if picture is not None:
        sink = picture
    elif output.format is TraceFormat.jsonl:
        sink = JsonTrace(sys.stdout, wall_offset_ns=tracer.wall_offset_ns, raw=output.raw)
    else:
        sink = TableTrace(sys.stdout, color=output.color, wall_offset_ns=tracer.wall_offset_ns, verbose=output.verbose)
    try:
        with interruptible() as stop, contextlib.closing(tracer.events(_say_ready, stop)) as events:
            for traced in events:
                sink.event(traced.event, traced.connection)
    finally:
        if picture is not None and tracer.summary.nodes:
            picture.finish()
        if isinstance(sink, TableTrace):
            sink.finish(tracer.summary.lost_total)
        _say_summary(tracer.summary)


def _probe(
    packet: str | None,
    devices: Sequence[str],
    namespaces: Sequence[str],
    tables: Sequence[str],
    limits: _Limits,
    output: _Output,
) -> None:
    from ctctl.packet.text import parse_flow_ends
    from ctctl.trace.probe import ProbeTrace, probe_request
    from ctctl.trace.probe_points import describe_points, find_points
    from ctctl.trace.show_probe import ProbeJson, ProbeTable

    if output.format not in {TraceFormat.table, TraceFormat.jsonl}:
        raise UsageError(f"--probe has no -o {output.format}: table or jsonl")
    flow = None if packet is None else parse_flow_ends(_addressed(packet, None))
    points = find_points(devices, namespaces)
    for line in describe_points(points):
        print(f"probe: {line}", file=sys.stderr)
    request = probe_request(points, flow, tables, count=limits.count, duration_s=limits.seconds)
    with interruptible() as stop, ProbeTrace(request) as tracer:
        for note in tracer.summary.notes:
            print(f"note: {note}", file=sys.stderr)
        print("ready: probes attached", file=sys.stderr, flush=True)
        sink: ProbeJson | ProbeTable
        if output.format is TraceFormat.jsonl:
            sink = ProbeJson(sys.stdout, wall_offset_ns=tracer.wall_offset_ns, raw=output.raw)
        else:
            sink = ProbeTable(
                sys.stdout, color=output.color, wall_offset_ns=tracer.wall_offset_ns, verbose=output.verbose
            )
        try:
            for event in tracer.events(stop):
                sink.event(event)
        finally:
            lost = f"{tracer.lost()} lost" if tracer.lost() else "none lost"
            print(f"{tracer.summary.events} events; {lost}", file=sys.stderr, flush=True)


def _say_ready(nodes: Sequence[str]) -> None:
    print(f"ready: listening on {', '.join(nodes)}", file=sys.stderr, flush=True)


def _say_summary(summary: LiveSummary) -> None:
    if not summary.nodes:
        return
    lost = "none lost"
    if summary.lost_total:
        lost = ", ".join(f"{number} lost on {name}" for name, number in summary.lost.items() if number)
    events = "1 event" if summary.events == 1 else f"{summary.events} events"
    connections = "1 connection" if summary.connections == 1 else f"{summary.connections} connections"
    print(f"{events} of {connections}; {lost}", file=sys.stderr, flush=True)
