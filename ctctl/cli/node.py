"""``ctctl load``, ``apply``, ``unload``, ``status`` and ``features``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.cli.asking import ask
from ctctl.cli.numbers import seconds
from ctctl.cli.options import (
    ColorOpt,
    DryRunOpt,
    EveryNodeOpt,
    FieldsOpt,
    FromOpt,
    LimitOpt,
    NodeOpt,
    NodesOpt,
    NoHeadersOpt,
    OutputOpt,
    SortOpt,
    YesOpt,
    output_options,
)
from ctctl.errors import UsageError
from ctctl.model.units import counted
from ctctl.out.options import ColorMode, Format, OutputOptions
from ctctl.out.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ctctl.node.commands import LoadReport, LoadRequest, UnloadReport, UpdateReport

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, add_completion=False)

_DEFAULT_BPFFS = Path("/sys/fs/bpf")

FileOpt = Annotated[
    Path, typer.Option("-f", "--file", metavar="FILE", help="Node file (YAML); docs/node-file.md has its keys.")
]
InFileOpt = Annotated[
    str | None,
    typer.Option("--node", metavar="NAME", help="Which node of FILE; where it has one, what to call it."),
]
BpffsOpt = Annotated[
    Path,
    # Not looked at here: without the right to read it, what is missing is root (exit 4), not a better option.
    typer.Option(
        "--bpffs", metavar="DIR", readable=False, help="BPF file system to pin under; mounted if it is none yet."
    ),
]
AnyBpffsOpt = Annotated[
    Path | None,
    typer.Option("--bpffs", metavar="DIR", readable=False, help="Look in this BPF file system; else in every one."),
]
NetnsOpt = Annotated[
    str | None,
    typer.Option("--netns", metavar="NAME|PATH", help="Network namespace of the node's devices; again: as it was."),
]
WaitOpt = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="TIME",
        parser=seconds(0),
        show_default=False,
        help="How long to wait for another ctctl at this node; 30s unless it is given.",
    ),
]
AllOpt = Annotated[bool, typer.Option("--all", help="Every node.")]

_ATTACH = typer.Option("--attach", metavar="auto|tcx|tc", help="TCX links, clsact filters, or what the kernel has.")
_RESIZE = typer.Option("--resize", help="Make tables anew whose size changed, keeping the entries that fit.")


def _say(line: str) -> None:
    sys.stdout.flush()
    typer.echo(f"ctctl: {safe(line)}", err=True)


def _progress() -> Callable[[str], None]:
    """Steps on one line of a terminal; nothing anywhere else."""
    if not sys.stderr.isatty():
        return lambda _step: None

    def show(step: str) -> None:
        sys.stderr.write(f"\r\x1b[K{safe(step)}" if step != "done" else "\r\x1b[K")
        sys.stderr.flush()

    return show


def _clear_progress() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")


def _request(
    file: Path,
    node: str | None,
    bpffs: Path,
    wait: float,
    *,
    netns: str | None = None,
    attach: str = "auto",
    resize: bool = False,
    kubernetes: bool = False,
) -> LoadRequest:
    from ctctl.node import commands as ops
    from ctctl.node.attach import AttachMode

    if attach not in AttachMode.__members__:
        raise UsageError(f"--attach {attach!r}: use auto, tcx or tc")
    loaded, text = ops.read_apply_file(file, node, bpffs) if kubernetes else ops.read_file(file, node)
    for note in loaded.notes:
        _say(note)
    return ops.LoadRequest(
        node=loaded,
        text=text,
        netns=netns or None,
        bpffs=bpffs,
        attach=AttachMode(attach),
        resize=resize,
        wait_s=wait,
        say=_say,
        step=_progress(),
    )


def _check_report_format(output: Format) -> None:
    """Before anything is done: a report has no row form. Raises UsageError."""
    if output in (Format.cilium, Format.csv, Format.name):
        raise UsageError(f"-o {output.value} has no form for a report; use table, json, jsonl or yaml")


@app.command("load")
def load_command(
    file: FileOpt,
    node: InFileOpt = None,
    netns: NetnsOpt = None,
    bpffs: BpffsOpt = _DEFAULT_BPFFS,
    attach: Annotated[str, _ATTACH] = "auto",
    resize: Annotated[bool, _RESIZE] = False,
    wait: WaitOpt = 30.0,
    dry_run: DryRunOpt = False,
    yes: YesOpt = False,
    output: OutputOpt = Format.table,
) -> None:
    """Install ctctl's own datapath on a node, or replace it without losing a connection.

    \b
    Makes the maps and pins them under <bpffs>/ctctl/<node>/, loads the programs
    and attaches them to the pods' and the node's devices, with lb.socket also
    to a cgroup. A failure leaves what was there before. Loaded again with
    another mode, a node keeps the connections that can go on in it.

    \b
    ctctl load -f node.yaml
    ctctl load -f node.yaml --netns node-a --dry-run
    ctctl load -f node.yaml --resize          # table sizes changed
    """
    from ctctl.node import commands as ops

    _check_report_format(output)
    request = _request(file, node, bpffs, wait, netns=netns, attach=attach, resize=resize)
    if resize and not dry_run:
        ask("Make tables of another size, as the node file says?", yes=yes, needed_for=None)
    report = ops.plan_load(request) if dry_run else ops.load(request)
    _say_report(report, output)
    _write_document("ctctl/load/v1", asdict(report), output, [report])


@app.command("apply")
def apply_command(
    file: FileOpt,
    node: NodeOpt = None,
    bpffs: BpffsOpt = _DEFAULT_BPFFS,
    wait: WaitOpt = 30.0,
    dry_run: DryRunOpt = False,
    yes: YesOpt = False,
    output: OutputOpt = Format.table,
    fields: FieldsOpt = None,
    sort: SortOpt = None,
    limit: LimitOpt = None,
    no_headers: NoHeadersOpt = False,
    color: ColorOpt = ColorMode.auto,
) -> None:
    """Change services, endpoints, identities and policy of a loaded node in place.

    \b
    FILE is a node file, or Kubernetes Services and EndpointSlices as kubectl
    prints them, which replace the node's services. The order of the changes
    keeps every live service resolving.

    \b
    ctctl apply -f node.yaml --dry-run        # what would change
    kubectl get services,endpointslices -A -o yaml > s.yaml
    ctctl apply -f s.yaml --yes
    """
    from ctctl.cli.report import said_anyway
    from ctctl.node import commands as ops

    options = output_options(output, fields, sort, limit, no_headers, color=color)
    _check_change_options(options)
    request = _request(file, node, bpffs, wait, kubernetes=True)
    shown: list[str] = []

    def confirm(report: UpdateReport) -> bool:
        if not yes and sys.stdin.isatty():
            _show_changes(report, options)
            shown.append(report.node)
        ask(f"Make these changes to node {report.node}?", yes=yes, needed_for=None)
        return True

    report = ops.plan_update(request) if dry_run else ops.update(request, confirm)
    _clear_progress()
    if not shown:
        with said_anyway([_apply_summary(report)]):
            _show_changes(report, options)
    _say(_apply_summary(report))


def _check_change_options(options: OutputOptions) -> None:
    """Before anything is changed: can the changes be shown as asked for? Raises UsageError."""
    import io

    from ctctl.node.show import CHANGES
    from ctctl.out.output import write_rows

    write_rows(CHANGES, [], options, io.StringIO())


def _show_changes(report: UpdateReport, options: OutputOptions) -> None:
    from ctctl.node.commands import table_changes
    from ctctl.node.show import CHANGES
    from ctctl.out.output import write_rows

    words = ("attached", "replaced", "detached")
    meta = {"node": report.node, "planned": report.planned, **{word: getattr(report, word) for word in words}}
    if report.changes or options.format not in (Format.table, Format.wide):
        write_rows(CHANGES, table_changes(report.changes), options, sys.stdout, meta=meta)


def _apply_summary(report: UpdateReport) -> str:
    if report.empty:
        return f"node {report.node}: nothing to change"
    done = "would change" if report.planned else "changed"
    programs = [
        f"{counted(len(slots), 'program')} {word}"
        for slots, word in ((report.attached, "new"), (report.replaced, "replaced"), (report.detached, "removed"))
        if slots
    ]
    return ", ".join([f"node {report.node}: {counted(len(report.changes), 'record')} {done}", *programs])


@app.command("unload")
def unload_command(
    node: NodeOpt = None,
    everything: AllOpt = False,
    bpffs: BpffsOpt = _DEFAULT_BPFFS,
    wait: WaitOpt = 30.0,
    dry_run: DryRunOpt = False,
    yes: YesOpt = False,
    output: OutputOpt = Format.table,
) -> None:
    """Remove a node's programs, links and tables, whatever state they are in.

    \b
    ctctl unload --node node-a
    ctctl unload --all --dry-run
    """
    from ctctl.events.listeners import sweep as sweep_listeners
    from ctctl.node import commands as ops

    _check_report_format(output)
    if node is not None and everything:
        raise UsageError("--node and --all exclude each other")
    names = ops.nodes_to_unload(node, everything, bpffs)
    if not names:
        _say("no node is loaded")
    if names and not dry_run:
        ask(f"Remove {', '.join(names)} with all connections in the tables?", yes=yes, needed_for=None)
    reports: list[LoadReport | UnloadReport] = []
    for name in names:
        report = (
            ops.plan_unload(name, bpffs)
            if dry_run
            else ops.unload(name, bpffs, wait_s=wait, say=_say, step=_progress())
        )
        _say_report(report, output)
        reports.append(report)
    if not dry_run:
        sweep_listeners()
    _write_document("ctctl/unload/v1", {"nodes": [asdict(report) for report in reports]}, output, reports)


def _say_report(report: LoadReport | UnloadReport, output: Format) -> None:
    """A line for people, on stderr."""
    from ctctl.node.show import report_summary

    _clear_progress()
    if output in (Format.table, Format.wide):
        _say(report_summary(report))


def _write_document(
    schema: str, document: dict[str, object], output: Format, reports: Sequence[LoadReport | UnloadReport]
) -> None:
    """The report itself, on stdout, when a format for programs is asked for."""
    from ctctl.cli.report import said_anyway
    from ctctl.node.show import report_summary
    from ctctl.out.output import write_document

    if output not in (Format.table, Format.wide):
        with said_anyway(map(report_summary, reports)):
            write_document(schema, document, OutputOptions(output), sys.stdout)


@app.command("status")
def status_command(
    source: FromOpt = None,
    node: NodesOpt = None,
    every_node: EveryNodeOpt = False,
    bpffs: AnyBpffsOpt = None,
    output: OutputOpt = Format.table,
    fields: FieldsOpt = None,
    sort: SortOpt = None,
    limit: LimitOpt = None,
    no_headers: NoHeadersOpt = False,
    color: ColorOpt = ColorMode.auto,
) -> None:
    """What is loaded: nodes, devices, programs, tables, drop counters, and what is missing.

    A live Cilium node too: its version and what says so, how it works, its tables with their fill.

    \b
    ctctl status
    ctctl status -o json | jq '.nodes[].problems'
    ctctl status --from cilium-sysdump.zip     what each node's files tell of it
    """
    from ctctl.cli.groups import named_nodes, not_both_ways
    from ctctl.node import commands as ops
    from ctctl.node.show import write_status

    not_both_ways(node, every_node=every_node)
    options = output_options(output, fields, sort, limit, no_headers, color=color)
    if source not in (None, ["auto"]):
        if bpffs is not None:
            raise UsageError("--bpffs is for this machine's tables: leave it out, or --from")
        _source_status(source, node or (), options)
        return
    named = named_nodes(node, every_node=every_node, here=True)
    nodes = [found for name in named or (None,) for found in ops.all_statuses(name, bpffs)]
    if not nodes and output in (Format.table, Format.wide):
        from ctctl.node.find import HOW_TO_LOAD

        where = f" under {bpffs}/ctctl" if bpffs else ""
        _say(f"no node is loaded{where}: {HOW_TO_LOAD}; --from SRC tells of files")
    write_status(nodes, options, sys.stdout)


def _source_status(source: list[str] | None, nodes: Sequence[str], options: OutputOptions) -> None:
    from ctctl.cli.groups import SourceArgs
    from ctctl.cli.report import opened
    from ctctl.node.show import write_status
    from ctctl.tables.status import source_statuses

    with opened(SourceArgs(source=source, nodes=list(nodes) or None), pages=True) as found:
        wanted = nodes[0] if len(nodes) == 1 else None
        write_status(source_statuses(found, wanted), options, sys.stdout)


@app.command("features")
def features_command(
    output: OutputOpt = Format.table,
    fields: FieldsOpt = None,
    sort: SortOpt = None,
    limit: LimitOpt = None,
    no_headers: NoHeadersOpt = False,
    color: ColorOpt = ColorMode.auto,
) -> None:
    """What this kernel can do, and what each feature is needed for. Every feature is tried, not guessed.

    \b
    ctctl features
    ctctl features -o json
    """
    from ctctl.node import commands as ops
    from ctctl.node.show import FEATURES
    from ctctl.out.output import write_rows

    options = output_options(output, fields, sort, limit, no_headers, color=color)
    write_rows(FEATURES, ops.features(), options, sys.stdout)
