"""``ctctl trace``: what happens to a packet, live or made up."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.cli.options import ColorOpt, RawOpt
from ctctl.errors import CtctlError, UsageError
from ctctl.render.output import ColorMode, OutputOptions, use_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctctl.ops.trace_live import LiveRequest, LiveSummary

app = typer.Typer(rich_markup_mode=None)

EXIT_FINDINGS = 3


class TraceFormat(StrEnum):
    """Values of ``-o`` for traces."""

    table = "table"
    jsonl = "jsonl"


@app.callback()
def _group() -> None:
    """Tracing (a group, so that the root finds the command by its name)."""


@app.command()
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
    count: Annotated[int | None, typer.Option("--count", min=1, metavar="N", help="Stop after N events.")] = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Stop after this time: 10s, 2m.")
    ] = None,
    output: Annotated[TraceFormat, typer.Option("-o", "--output", help="Form of the output.")] = TraceFormat.table,
    raw: RawOpt = False,
    color: ColorOpt = ColorMode.auto,
) -> None:
    """What happens to a packet, hook by hook, and why.

    \b
    Follow a connection through every loaded node until Ctrl-C:
      ctctl trace 'tcp 10.64.0.36:54260 > 10.64.0.64:8000'
    Any port of a client to a service, for ten seconds, a JSON object a line:
      ctctl trace 'tcp 172.191.0.1 > 172.190.0.17:80' --for 10s -o jsonl
    Run the steps of a scenario on private maps:
      ctctl trace --scenario examples/pod-to-pod.yaml
    """
    options = OutputOptions(color=color)
    if scenario is not None:
        if packet is not None or live:
            raise UsageError("--scenario brings its own packets: leave PACKET and --live out")
        _scenario(scenario, node, output, options, raw=raw)
        return
    _live(_request(packet, node, count, duration), output, options, raw=raw)


def _request(packet: str | None, node: list[str] | None, count: int | None, duration: str | None) -> LiveRequest:
    from ctctl.model.units import parse_duration
    from ctctl.ops.trace_live import LiveRequest
    from ctctl.packet.text import parse_flow_text

    seconds = None if duration is None else parse_duration(duration)
    flow = None if packet is None else parse_flow_text(packet)
    return LiveRequest(flow, tuple(node or ()), count, seconds)


def _scenario(path: Path, nodes: list[str] | None, output: TraceFormat, options: OutputOptions, *, raw: bool) -> None:
    from ctctl.ops import scenario as ops
    from ctctl.render.scenario import step_record
    from ctctl.render.scenario_writer import ScenarioWriter

    writer = ScenarioWriter(
        sys.stdout, json_lines=output is TraceFormat.jsonl, color=use_color(options, sys.stdout), raw=raw
    )
    for record in ops.run(path, lambda step: step_record(step, raw=True), node=nodes[0] if nodes else None):
        writer.step(record)
    writer.finish()
    if writer.failed:
        raise ExpectationError(f"{path}: {writer.failed} of {writer.steps} steps did not come out as expected")


class ExpectationError(CtctlError):
    """A scenario's ``expect`` does not hold."""

    exit_code = EXIT_FINDINGS


def _live(request: LiveRequest, output: TraceFormat, options: OutputOptions, *, raw: bool) -> None:
    from ctctl.ops.trace_live import LiveTrace
    from ctctl.render.trace import JsonTrace, TableTrace

    tracer = LiveTrace(request)
    sink: JsonTrace | TableTrace
    if output is TraceFormat.jsonl:
        sink = JsonTrace(sys.stdout, wall_offset_ns=tracer.wall_offset_ns, raw=raw)
    else:
        sink = TableTrace(sys.stdout, color=use_color(options, sys.stdout), wall_offset_ns=tracer.wall_offset_ns)
    events = tracer.events(_say_ready)
    try:
        for traced in events:
            sink.event(traced.event, traced.connection)
    finally:
        events.close()
        _say_summary(tracer.summary)


def _say_ready(nodes: Sequence[str]) -> None:
    print(f"ready: listening on {', '.join(nodes)}", file=sys.stderr, flush=True)


def _say_summary(summary: LiveSummary) -> None:
    if not summary.nodes:
        return
    lost = "none lost"
    if summary.lost_total:
        lost = ", ".join(f"{number} lost on {name}" for name, number in summary.lost.items() if number)
    print(f"{summary.events} events of {summary.connections} connections; {lost}", file=sys.stderr, flush=True)
