"""What load, unload, status, apply and features print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import TextIO, TypeVar

from ctctl.model.units import counted
from ctctl.node.counters import Counter
from ctctl.node.loader import LoadReport
from ctctl.node.report import FeatureRow, TableChange
from ctctl.node.status import MapStatus, NodeStatus, ProgramStatus
from ctctl.node.unload import UnloadReport
from ctctl.out.fit import prose
from ctctl.out.options import Format, OutputOptions
from ctctl.out.output import write_rows
from ctctl.out.text import safe
from ctctl.out.view import Column, View

T = TypeVar("T")


def _state(program: ProgramStatus) -> str:
    return program.problem or "attached"


def _style(program: ProgramStatus) -> str:
    return "red" if program.problem else ""


PROGRAMS: View[ProgramStatus] = View(
    "ctctl/program/v1",
    "programs",
    (
        Column("program", "PROGRAM", lambda p: p.program),
        Column("endpoint", "ENDPOINT", lambda p: p.endpoint or None),
        Column("interface", "INTERFACE", lambda p: p.interface or None),
        Column("ifindex", "IFINDEX", lambda p: p.ifindex, right=True, wide=True),
        Column("direction", "DIRECTION", lambda p: p.direction, priority=2),
        Column("mode", "MODE", lambda p: p.mode, priority=3),
        Column("id", "ID", lambda p: p.id, right=True, priority=1),
        Column("tag", "TAG", lambda p: p.tag, wide=True),
        Column("state", "STATE", _state, style=_style, prose=True),
    ),
    name=lambda p: p.slot,
)


def _full(table: MapStatus) -> str | None:
    return None if table.entries is None or not table.max_entries else f"{100 * table.entries / table.max_entries:.1f}%"


MAPS: View[MapStatus] = View(
    "ctctl/map/v1",
    "maps",
    (
        Column("name", "NAME", lambda m: m.name),
        Column("id", "ID", lambda m: m.id, right=True, wide=True),
        Column("type", "TYPE", lambda m: m.type),
        Column("entries", "ENTRIES", lambda m: m.entries, right=True),
        Column("max_entries", "MAX_ENTRIES", lambda m: m.max_entries, right=True),
        Column("full", "FULL", _full, right=True),
    ),
    name=lambda m: m.name,
)


COUNTERS: View[Counter] = View(
    "ctctl/counter/v1",
    "counters",
    (
        Column("hook", "HOOK", lambda c: c.hook),
        Column("reason", "REASON", lambda c: c.reason, prose=True),
        Column("packets", "PACKETS", lambda c: c.packets, right=True),
        Column("bytes", "BYTES", lambda c: c.bytes, right=True),
    ),
    name=lambda c: f"{c.hook} {c.reason}",
)


def _attached(node: NodeStatus) -> str | None:
    if not node.live:
        return None
    return f"{sum(program.attached for program in node.programs)}/{len(node.programs)}"


NODES: View[NodeStatus] = View(
    "ctctl/status/v1",
    "nodes",
    (
        Column("name", "NAME", lambda n: n.name),
        Column("owner", "OWNER", lambda n: n.owner),
        Column("version", "VERSION", lambda n: n.version, wide=True),
        Column("device", "DEVICE", lambda n: n.device),
        Column("netns", "NETNS", lambda n: n.netns),
        Column("attach", "ATTACH", lambda n: n.attach),
        Column("programs", "PROGRAMS", _attached, right=True),
        Column("drops", "DROPS", lambda n: n.drops, right=True),
        Column("events_lost", "EVENTS_LOST", lambda n: n.events_lost, right=True),
        Column("problems", "PROBLEMS", lambda n: len(n.problems), right=True),
    ),
    name=lambda n: n.name,
    record=lambda n: {**asdict(n), "drops": n.drops},
    # The rest of the record: what a section for people says in sentences and tables of their own.
    extra=[
        Column(name, name.upper(), lambda n, name=name: _plain(getattr(n, name)))  # type: ignore[misc]
        for name in (
            *("path", "tunnel", "file", "changing", "maps", "counters", "create_failed", "snat_exhausted"),
            *("facts", "live"),
        )
    ],
)


def _plain(value: object) -> object:
    """Rows inside of a row as JSON has them."""
    return [asdict(row) for row in value] if isinstance(value, tuple) else value


def write_status(nodes: Sequence[NodeStatus], options: OutputOptions, stream: TextIO) -> None:
    """Every node: for people as one section each, else as rows."""
    if options.format not in (Format.table, Format.wide) or options.asks_for_rows:
        write_rows(NODES, nodes, options, stream)
        return
    for number, node in enumerate(nodes):
        if number:
            stream.write("\n")
        _write_node(node, options, stream)


def _write_node(node: NodeStatus, options: OutputOptions, stream: TextIO) -> None:
    if node.owner != "ctctl":
        _write_foreign(node, options, stream)
        return
    facts = [
        ("device", node.device),
        ("netns", node.netns),
        ("attached by", node.attach),
        ("tunnel", node.tunnel),
        ("file", node.file),
        ("ctctl", node.version),
    ]
    told = ", ".join(f"{what} {value}" for what, value in facts if value)
    stream.write(prose(safe(f"Node {node.name}" + (f": {told}" if told else "")), stream, rest="  "))
    if node.changing:
        stream.write("  another ctctl is changing this node now\n")
    for problem in node.problems:
        stream.write(prose(safe(problem), stream, "  ! "))
    plain = replace(options, sort=None, limit=None)
    _section(PROGRAMS, node.programs, plain, stream)
    maps = node.maps if options.format is Format.wide else [m for m in node.maps if m.entries is not None]
    _section(MAPS, maps, plain, stream)
    _section(COUNTERS, node.counters, plain, stream)
    if node.events_lost is not None:
        stream.write(
            f"\nevents lost: {node.events_lost}, conntrack entries not created: {node.create_failed or 0}, "
            f"packets without a free SNAT port: {node.snat_exhausted or 0}\n"
        )


#: Tables of a foreign node that people ask about; -o wide shows all.
_WELL_KNOWN = ("ct", "snat", "lb", "ipcache", "lxc", "policy", "tunnel")


def _write_foreign(node: NodeStatus, options: OutputOptions, stream: TextIO) -> None:
    """A live Cilium node: version and mode in lines of their own, then what is pinned and attached."""
    by = node.facts.get("version by")
    version = f"Cilium {node.version} by {by}" if node.version else "Cilium of unknown version"
    version = version if node.owner == "cilium" else node.owner
    where = f"{'pinned in' if node.live else 'read from'} {node.path}"
    stream.write(prose(safe(f"Node {node.name}: {version}, {where}"), stream, rest="  "))
    for topic, word in node.facts.items():
        if topic != "version by":
            stream.write(prose(safe(f"{topic}: {word}"), stream, "  ", "    "))
    for problem in node.problems:
        stream.write(prose(safe(problem), stream, "  ! "))
    plain = replace(options, sort=None, limit=None)
    _section(PROGRAMS, node.programs, plain, stream)
    wide = options.format is Format.wide
    shown = [
        m
        for m in node.maps
        if wide or not node.live or (m.entries is not None and m.name.removeprefix("cilium_").startswith(_WELL_KNOWN))
    ]
    _section(MAPS, shown, plain, stream)
    _section(COUNTERS, node.counters, plain, stream)


def _section(view: View[T], rows: Iterable[T], options: OutputOptions, stream: TextIO) -> None:
    listed = list(rows)
    if listed:
        stream.write("\n")
        write_rows(view, listed, options, stream)


FEATURES: View[FeatureRow] = View(
    "ctctl/features/v1",
    "features",
    (
        Column("name", "NAME", lambda f: f.name),
        Column("available", "AVAILABLE", lambda f: f.available, style=lambda f: "" if f.available else "yellow"),
        Column("needed_for", "NEEDED_FOR", lambda f: f.needed_for, prose=True),
        Column("detail", "DETAIL", lambda f: f.detail or None, prose=True),
    ),
    name=lambda f: f.name,
)

_ACTION_STYLE = {"add": "green", "remove": "red", "change": "yellow"}

CHANGES: View[TableChange] = View(
    "ctctl/apply/v1",
    "changes",
    (
        Column("action", "ACTION", lambda c: c.action, style=lambda c: _ACTION_STYLE.get(c.action, "")),
        Column("kind", "KIND", lambda c: c.kind),
        Column("name", "NAME", lambda c: c.name),
        Column("before", "BEFORE", lambda c: c.before, prose=True),
        Column("after", "AFTER", lambda c: c.after, prose=True),
    ),
    name=lambda c: f"{c.action} {c.kind} {c.name}",
)


def _load_summary(report: LoadReport) -> str:
    """One line on what a load did or would do."""
    done = "would load" if report.planned else "loaded"
    where = f" in {report.netns}" if report.netns else ""
    programs = [
        f"{len(slots)} {word}"
        for slots, word in ((report.attached, "attached"), (report.replaced, "replaced"), (report.detached, "detached"))
        if slots
    ]
    return (
        f"{done} node {report.node}{where}: programs {', '.join(programs) or 'none'} by {report.attach}, "
        f"{counted(len(report.kept), 'table')} kept, {len(report.made)} made, pinned in {report.path}"
    )


def _unload_summary(report: UnloadReport) -> str:
    """One line on what an unload removed or would remove."""
    done = "would unload" if report.planned else "unloaded"
    programs, tables = counted(len(report.detached), "program"), counted(len(report.maps), "table")
    return f"{done} node {report.node}: {programs}, {tables}"


def report_summary(report: LoadReport | UnloadReport) -> str:
    """One line on what was or would be done."""
    return _load_summary(report) if isinstance(report, LoadReport) else _unload_summary(report)
