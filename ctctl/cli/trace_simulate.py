"""The made-up half of ``ctctl trace``: --simulate and --pcap, on private maps."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.cli import options as opt
from ctctl.errors import CtctlError, PartialDataError, UnsupportedError, UsageError
from ctctl.out.options import OutputOptions, use_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctctl.model.event import Hook
    from ctctl.simulate.conversation import Request
    from ctctl.simulate.start import Start
    from ctctl.tables.namebook import NameBook
    from ctctl.tables.sources.base import Source
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
        list[str] | None,
        typer.Option(
            "--from",
            metavar="SRC",
            help="Entries to start with: any source of ct list. Alone: files, folders or archives of what cilium"
            " monitor or Hubble printed; several times: all of them.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    names: opt.NamesOpt = None
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
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="KEY=VALUE",
            help="What if: the node in another mode (lb.mode=dsr, routing=native); says too what nothing tells.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    rules: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="RULE",
            help="What if: 'deny ingress POD cidr=10.0.0.0/8 port=80'.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    collect: Annotated[
        bool, typer.Option("--gc", help="What if: GC runs before the packet.", rich_help_panel=_PANEL)
    ] = False
    full: Annotated[
        bool, typer.Option("--full", help="What if: the packet's tables are full.", rich_help_panel=_PANEL)
    ] = False
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


def _start(args: SimulateArgs, nodes: Sequence[str], text: str | None, book: NameBook) -> tuple[Start, str | None]:
    """Where the simulation starts, and the packet's text with addresses for names; ``book`` learns its names.

    Without a node file it is what the source shows of a node: ours, Cilium's, a dump's.
    """
    from ctctl.cli.report import say
    from ctctl.simulate import start as simulate_start
    from ctctl.tables.flow_text import has_names, with_addresses
    from ctctl.tables.names import add_configured

    if args.file is not None:
        start = simulate_start.from_files(args.file, nodes)
        add_configured(book, start.nodes)
        if args.source is not None:
            start = _with_entries(start, args.source, book)
        text = with_addresses(text, book, one_packet=True) if text is not None and has_names(text) else text
    else:
        start, text = _start_from_source(args, nodes, text, book)
    for note in start.notes:
        say(note)
    return start, text


def _with_entries(start: Start, spec: Sequence[str], book: NameBook) -> Start:
    from ctctl.simulate import start as simulate_start
    from ctctl.tables.names import book_of
    from ctctl.tables.open import open_source

    with open_source(spec) as source:
        for node in source.all_nodes():
            book.merge(book_of(source, node))
        return _told(simulate_start.with_source(start, source), source)


def _told(start: Start, source: Source) -> Start:
    """``start`` with what is to be said of its source."""
    partial = (f"partial data: {one}" for one in source.partial)
    return replace(start, notes=(*start.notes, *source.notes, *partial))


def _start_from_source(
    args: SimulateArgs, nodes: Sequence[str], text: str | None, book: NameBook
) -> tuple[Start, str | None]:
    from ctctl.cli.report import addressed, addressed_by, names_here
    from ctctl.node.find import own_nodes
    from ctctl.packet.text import parse_sent_packet
    from ctctl.simulate import start as simulate_start
    from ctctl.simulate.changes import parse_settings
    from ctctl.tables.names import book_of
    from ctctl.tables.open import open_source
    from ctctl.tables.sources.base import SourceOptions

    if args.source is None and own_nodes():
        here = names_here(nodes[0] if nodes else None, args.names or ())
        return simulate_start.from_loaded(nodes), text and addressed_by(here, text, one_packet=True)
    foreign = args.source not in (None, ["auto"])
    options = SourceOptions(node=nodes[0] if nodes and not foreign else None, names=tuple(args.names or ()))
    with open_source(args.source or "auto", options) as source:
        if not simulate_start.is_whole(source):
            if not own_nodes():
                raise UnsupportedError(
                    f"cannot simulate {text or 'this'}: {source.description} shows no pods, so not what node it is of;"
                    " give a node file with -f"
                )
            return _told(simulate_start.with_source(simulate_start.from_loaded(nodes), source), source), text
        if text is None:
            raise UsageError("--pcap on a copied node: give its node file with -f")
        node = nodes[0] if nodes else None
        book.merge(book_of(source, node))
        text = addressed(source, node, text, one_packet=True)
        start = simulate_start.from_source(source, parse_sent_packet(text), parse_settings(args.settings or ()), node)
        return _told(start, source), text


def _book(args: SimulateArgs) -> NameBook:
    """Names of the files the user named. Raises CtctlError."""
    from ctctl.tables.namebook import NameBook

    book = NameBook()
    for path in args.names or ():
        from ctctl.cli.report import say
        from ctctl.tables.names_files import add_file

        for text in add_file(book, Path(path)):
            say(text)
    return book


def shown_names(args: SimulateArgs) -> dict[str, str]:
    """The names of addresses in the files that the user named, as far as they can be read."""
    with contextlib.suppress(CtctlError):
        return _book(args).shown()
    return {}


def _request(packet: str, args: SimulateArgs, nodes: Sequence[str]) -> Request:
    from ctctl.model.units import parse_duration
    from ctctl.packet.text import parse_sent_packet
    from ctctl.simulate.changes import parse_rule, parse_settings
    from ctctl.simulate.conversation import Request
    from ctctl.simulate.whatif import parse_change
    from ctctl.tables.flow_text import has_names, with_addresses

    settings, rules = parse_settings(args.settings or ()), tuple(parse_rule(text) for text in args.rules or ())
    try:
        at_s = int(parse_duration(args.at.removeprefix("+"))) if args.at is not None else 0
    except ValueError as error:
        raise UsageError(f"--at: {error}") from None
    if not has_names(packet):
        parse_sent_packet(packet)  # what is wrong with it is said before anything is opened
    for change in args.changes or ():
        if not has_names(change):
            parse_change(change)
    book = _book(args)
    start, text = _start(args, nodes, packet, book)
    changes = tuple(parse_change(with_addresses(one, book) if has_names(one) else one) for one in args.changes or ())
    return Request(
        packet=parse_sent_packet(text or packet),
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
        # A copied node has them already: they decided what could be simulated.
        settings={} if start.configured else settings,
        rules=rules,
        collect=args.collect,
        full=args.full,
        one_of=start.one_of,
    )


def _simulate(request: Request, options: OutputOptions, *, json_lines: bool, raw: bool, verbose: bool) -> None:
    from ctctl.cli.report import say
    from ctctl.simulate import conversation as simulate
    from ctctl.simulate.scenario_writer import ScenarioWriter
    from ctctl.simulate.show import JourneyWriter

    color = use_color(options, sys.stdout)
    steps = ScenarioWriter(sys.stdout, json_lines=json_lines, color=color, raw=raw, verbose=verbose, made_up=True)
    journeys = JourneyWriter(sys.stdout, json_lines=json_lines, color=color)
    for part in simulate.run(request):
        if isinstance(part, simulate.Prepared):
            say(part.words)
        elif isinstance(part, simulate.Journey):
            journeys.arrival(part)
        else:
            steps.step(part)
            journeys.tables(part)
    journeys.finish()


def _draw(request: Request, picture: CaptureTrace | DiagramTrace) -> None:
    from ctctl.simulate import conversation as simulate
    from ctctl.simulate.scenario_writer import PictureWriter

    writer = PictureWriter(picture, made_up=True)
    for part in simulate.run(request):
        if not isinstance(part, simulate.Journey | simulate.Prepared):
            writer.step(part)
    writer.finish()


def _replay(
    path: Path, args: SimulateArgs, nodes: Sequence[str], options: OutputOptions, *, json_lines: bool, raw: bool
) -> None:
    from ctctl.simulate.replay import replay
    from ctctl.simulate.show import write_replay

    start, _ = _start(args, nodes, None, _book(args))
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
