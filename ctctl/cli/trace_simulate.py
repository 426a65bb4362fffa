"""The made-up half of ``ctctl trace``: --simulate and --pcap, on private maps."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.errors import PartialDataError, UsageError
from ctctl.out.output import OutputOptions, use_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctctl.model.event import Hook
    from ctctl.simulate.conversation import Request
    from ctctl.simulate.start import Start
    from ctctl.trace.picture import CaptureTrace, DiagramTrace

_PANEL = "Simulation"
_HOOKS = ("from_container", "to_container", "from_netdev", "to_netdev", "from_overlay", "to_overlay")


@dataclass
class SimulateArgs:
    """Options of a simulation: what it starts from, and what is sent."""

    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Send PACKET through the programs on private maps.", rich_help_panel=_PANEL),
    ] = False
    pcap: Annotated[
        Path | None,
        typer.Option("--pcap", metavar="FILE", help="Replay a capture on private maps.", rich_help_panel=_PANEL),
    ] = None
    file: Annotated[
        Path | None,
        typer.Option(
            "-f",
            "--file",
            metavar="NODE.yaml",
            help="Node file, of one or several nodes; else a copy of what is loaded.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SRC",
            help="Entries to start with: any source of ct list. Alone: a file of cilium monitor or Hubble to read.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    reply: Annotated[bool, typer.Option("--reply", help="Let the receiver answer.", rich_help_panel=_PANEL)] = False
    handshake: Annotated[
        bool, typer.Option("--handshake", help="TCP: open the connection first.", rich_help_panel=_PANEL)
    ] = False
    close: Annotated[
        bool, typer.Option("--close", help="TCP: close the connection at the end.", rich_help_panel=_PANEL)
    ] = False
    at: Annotated[
        str | None, typer.Option("--at", metavar="+TIME", help="Send it that much later: +70s.", rich_help_panel=_PANEL)
    ] = None
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="ENTRY",
            help="What if: 'tcp out A:P > B:P flags=RxClosing remaining=5s'.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    without_backend: Annotated[
        list[int] | None,
        typer.Option("--without-backend", metavar="ID", help="What if: that backend is gone.", rich_help_panel=_PANEL),
    ] = None
    via: Annotated[
        str | None,
        typer.Option("--via", metavar="NODE", help="The node that outside traffic comes to.", rich_help_panel=_PANEL),
    ] = None
    hook: Annotated[
        str | None,
        typer.Option("--hook", metavar="HOOK", help="--pcap: every packet to this hook.", rich_help_panel=_PANEL),
    ] = None
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="NAME", help="--pcap: the pod of a pod hook.", rich_help_panel=_PANEL),
    ] = None

    @property
    def asked(self) -> bool:
        """Whether this is a simulation or a replay at all."""
        return self.simulate or self.pcap is not None


def run(
    packet: str | None,
    args: SimulateArgs,
    nodes: Sequence[str],
    options: OutputOptions,
    *,
    json_lines: bool,
    raw: bool,
    picture: CaptureTrace | DiagramTrace | None = None,
    verbose: bool = False,
) -> None:
    """Simulate or replay, as asked; a simulation into ``picture`` where one is given. Raises CtctlError."""
    if args.pcap is not None:
        if picture is not None:
            raise UsageError("--pcap gives a summary: -o table or jsonl")
        _replay(args.pcap, args, nodes, options, json_lines=json_lines, raw=raw)
        return
    if packet is None:
        raise UsageError("--simulate: say which packet, e.g. 'tcp 10.64.0.36:54260 > 10.64.0.64:8000 S'")
    request = _request(packet, args, nodes)
    if picture is None:
        _simulate(request, options, json_lines=json_lines, raw=raw, verbose=verbose)
    else:
        _draw(request, picture)


def _start(args: SimulateArgs, nodes: Sequence[str]) -> Start:
    from ctctl.cli.report import say
    from ctctl.simulate import start as simulate_start

    start = simulate_start.from_files(args.file, nodes) if args.file else simulate_start.from_loaded(nodes)
    if args.source is not None:
        from ctctl.tables.open import open_source

        with open_source(args.source) as source:
            start = simulate_start.with_source(start, source)
            start = replace(
                start, notes=(*start.notes, *source.notes, *(f"partial data: {one}" for one in source.partial))
            )
    for note in start.notes:
        say(note)
    return start


def _request(packet: str, args: SimulateArgs, nodes: Sequence[str]) -> Request:
    from ctctl.model.units import parse_duration
    from ctctl.packet.text import parse_packet_text
    from ctctl.simulate.conversation import Request
    from ctctl.simulate.whatif import parse_change

    spec = parse_packet_text(packet)
    changes = tuple(parse_change(text) for text in args.changes or ())
    try:
        at_s = int(parse_duration(args.at.removeprefix("+"))) if args.at is not None else 0
    except ValueError as error:
        raise UsageError(f"--at: {error}") from None
    start = _start(args, nodes)
    return Request(
        packet=spec,
        nodes=start.nodes,
        via=args.via,
        reply=args.reply,
        handshake=args.handshake,
        close=args.close,
        at_s=at_s,
        now=start.now,
        changes=changes,
        without_backends=tuple(args.without_backend or ()),
        start=start.tables,
    )


def _simulate(request: Request, options: OutputOptions, *, json_lines: bool, raw: bool, verbose: bool) -> None:
    from ctctl.simulate import conversation as simulate
    from ctctl.simulate.scenario_writer import ScenarioWriter
    from ctctl.simulate.show import JourneyWriter

    color = use_color(options, sys.stdout)
    steps = ScenarioWriter(sys.stdout, json_lines=json_lines, color=color, raw=raw, verbose=verbose, made_up=True)
    journeys = JourneyWriter(sys.stdout, json_lines=json_lines, color=color)
    for part in simulate.run(request):
        if isinstance(part, simulate.Journey):
            journeys.arrival(part)
        else:
            steps.step(part)
            journeys.tables(part)
    journeys.finish()


def _draw(request: Request, picture: CaptureTrace | DiagramTrace) -> None:
    from ctctl.simulate import conversation as simulate
    from ctctl.simulate.scenario_writer import PictureWriter

    writer = PictureWriter(picture)
    for part in simulate.run(request):
        if not isinstance(part, simulate.Journey):
            writer.step(part)
    writer.finish()


def _replay(
    path: Path, args: SimulateArgs, nodes: Sequence[str], options: OutputOptions, *, json_lines: bool, raw: bool
) -> None:
    from ctctl.simulate.replay import replay
    from ctctl.simulate.show import write_replay

    start = _start(args, nodes)
    if len(start.nodes) != 1:
        raise UsageError(f"--pcap plays on one node ({', '.join(n.node.name for n in start.nodes)}): say --node NAME")
    summary = replay(
        path, start.nodes[0], hook=_hook(args.hook), endpoint=args.endpoint, now=start.now, start=start.tables
    )
    write_replay(summary, sys.stdout, json_lines=json_lines, color=use_color(options, sys.stdout), raw=raw)
    if summary.partial is not None:
        raise PartialDataError(summary.partial)


def _hook(text: str | None) -> Hook | None:
    from ctctl.model.event import Hook
    from ctctl.model.suggest import unknown_name

    if text is None:
        return None
    if text not in _HOOKS:
        raise UsageError(unknown_name("hook", text, _HOOKS))
    return Hook(text)
