"""``ctctl trace``: what happens to a packet, live or made up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.cli import trace_simulate
from ctctl.cli.groups import FlowFilterArgs, grouped, named_nodes, not_both_ways
from ctctl.cli.numbers import whole
from ctctl.cli.options import Attach, ColorOpt, EveryNodeOpt, RawOpt
from ctctl.cli.report import is_verbose
from ctctl.cli.trace_listen import Limits, Output, TraceFormat, Ways, Where, listen, picture_of
from ctctl.cli.trace_modes import Mode, check_options, choose_mode
from ctctl.cli.trace_simulate import SimulateArgs
from ctctl.errors import CtctlError, UsageError
from ctctl.out.options import ColorMode, OutputOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctctl.tables.query.filter import Filter

app = typer.Typer(rich_markup_mode=None, add_completion=False)

EXIT_FINDINGS = 3


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
    live: Annotated[bool, typer.Option("--live", help="Follow the flow through loaded nodes only.")] = False,
    scenario: Annotated[
        Path | None, typer.Option("--scenario", metavar="FILE", help="Run a node file's steps on private maps.")
    ] = None,
    node: Annotated[
        list[str] | None,
        typer.Option("--node", metavar="NAME", help="Only this node; may be given again. Else $CTCTL_NODE."),
    ] = None,
    every_node: EveryNodeOpt = False,
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
    attach: Annotated[
        Attach, typer.Option("--attach", help="Probes by TCX links, clsact filters, or what the kernel has.")
    ] = Attach.auto,
    expression: Annotated[
        str | None,
        typer.Option("--filter", metavar="EXPR", help="Filter expression, as of ct list.", rich_help_panel="Filter"),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", parser=whole(1), metavar="N", help="Stop after N events.")
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
    The same on a node of another datapath, Cilium too, by probes (--probe):
      ctctl trace 'tcp 192.168.61.1 > 192.168.61.11:30080'
    Run the steps of a scenario on private maps:
      ctctl trace --scenario examples/pod-to-pod.yaml
    What would happen to a connection, from a node file or a copy of nodes:
      ctctl trace --simulate 'tcp 10.64.0.36:1 > 10.96.0.10:80' --handshake
    What would become of the packets of a capture, and of the table:
      ctctl trace --pcap capture.pcapng -f node.yaml
    What cilium monitor or hubble observe -o jsonpb printed, a line an event:
      ctctl trace --from monitor.txt 'tcp 10.64.0.36 > 10.64.0.64:8000'
    A picture for a ticket, or packets with a comment per hook:
      ctctl trace 'tcp 172.191.0.1 > 172.190.0.17:80' --for 10s -o svg > flow.svg
      ctctl trace --to-port 80 --for 10s -o pcapng > flow.pcapng
    """
    not_both_ways(node, every_node=every_node)
    asked = {
        Mode.live: live,
        Mode.probe: probe or any((device, netns, tables, attach is not Attach.auto)),
        Mode.scenario: scenario is not None,
        Mode.simulate: made_up.simulate,
        Mode.pcap: made_up.pcap is not None,
    }
    mode = choose_mode(asked | {Mode.story: made_up.source is not None and not any(asked.values())})
    own: dict[str, object] = {"PACKET": packet, "--node": node, "--filter": expression, "--count": count}
    own |= {"--for": duration, "--device": device, "--netns": netns, "--tables": tables}
    own["--attach"] = attach is not Attach.auto
    check_options(mode, own, wanted, made_up)
    form = Output(output, OutputOptions(color=color), raw, verbose or is_verbose())
    here = not made_up.asked and scenario is None and mode is not Mode.story
    where = Where(
        named_nodes(node, every_node=every_node, here=here),
        device or (),
        netns or (),
        tables or (),
        attach,
        made_up.names or (),
    )
    if made_up.asked:
        lines = output is TraceFormat.jsonl
        trace_simulate.run(
            packet,
            made_up,
            node or (),
            form.options,
            json_lines=lines,
            raw=raw,
            picture=picture_of(form, names=lambda: trace_simulate.shown_names(made_up)),
            verbose=form.verbose,
        )
    elif scenario is not None:
        _scenario(scenario, node, form)
    elif mode is Mode.story:
        selection = wanted.filter([expression] if expression else None)
        _story(made_up, packet, selection, node or (), count, form)
    else:
        selection = wanted.filter([expression] if expression else None)
        ways = Ways.of(mode, where, asked=any(asked.values()))
        listen(packet, where, ways, Limits(count, duration), selection, form)


def _story(
    args: SimulateArgs, packet: str | None, wanted: Filter, nodes: Sequence[str], count: int | None, output: Output
) -> None:
    from ctctl.cli import trace_story

    if output.format not in {TraceFormat.table, TraceFormat.jsonl}:
        raise UsageError(f"--from alone has no -o {output.format}: table or jsonl")
    lines = output.format is TraceFormat.jsonl
    names = args.names or ()
    trace_story.run(
        args.source or (), packet, wanted, nodes, names=names, count=count, json_lines=lines, color=output.color
    )


def _scenario(path: Path, nodes: list[str] | None, output: Output) -> None:
    from ctctl.cli.report import say
    from ctctl.simulate import scenario as ops
    from ctctl.simulate.scenario_file import load_scenario
    from ctctl.simulate.scenario_writer import PictureWriter, ScenarioWriter
    from ctctl.simulate.show_scenario import step_record

    if nodes and len(nodes) > 1:
        raise UsageError("--scenario runs on one node: give one --node")
    picture = picture_of(output)
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
