"""``ctctl lab``: a small cluster in network namespaces, with ordinary programs and real traffic."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from ctctl.cli.options import (
    Attach,
    ColorOpt,
    DryRunOpt,
    FieldsOpt,
    LimitOpt,
    NoHeadersOpt,
    OutputOpt,
    SortOpt,
    output_options,
)
from ctctl.errors import UsageError
from ctctl.model.suggest import unknown_name
from ctctl.out.options import ColorMode, Format, OutputOptions, use_color
from ctctl.out.output import write_rows
from ctctl.out.text import safe

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="A small cluster in network namespaces of this machine, with its own datapath and real traffic.",
    no_args_is_help=True,
    epilog="Example: ctctl lab up && ctctl lab run loadbalancer-dsr; ctctl lab down",
)


class Tunnel(StrEnum):
    """Values of ``--tunnel``, as in a node file."""

    bpf = "bpf"
    device = "device"


def _complete_stories(incomplete: str) -> list[str]:
    try:
        from ctctl.lab.stories import STORIES
    except Exception:  # completion never fails
        return []
    return [name for name in STORIES if name.startswith(incomplete)]


def _complete_members(incomplete: str) -> list[str]:
    from ctctl.lab.topology import MEMBERS

    return [name for name in MEMBERS if name.startswith(incomplete)]


NameOpt = Annotated[
    str, typer.Option("--name", metavar="LAB", help="Which lab: several can be up side by side.", show_default=True)
]


def _say(line: str) -> None:
    typer.echo(safe(line), err=True)


@app.command()
def up(
    name: NameOpt = "lab",
    attach: Annotated[
        Attach, typer.Option("--attach", help="TCX links, clsact filters, or what the kernel has.")
    ] = Attach.auto,
    tunnel: Annotated[
        Tunnel, typer.Option("--tunnel", help="Geneve by the programs themselves, or by a device of the kernel.")
    ] = Tunnel.bpf,
    dry_run: DryRunOpt = False,
) -> None:
    """Bring the lab up, or repair it: two nodes, two pods each, a client behind a router.

    \b
    Everything is in network namespaces ctctl-LAB-*, the node files are in
    /run/ctctl/lab-LAB/.
    Examples:
      ctctl lab up
      ctctl lab up --name second
      ctctl lab up --tunnel device
    """
    from ctctl.lab import cluster
    from ctctl.lab.topology import MEMBERS, Topology
    from ctctl.node.attach import AttachMode

    topology = Topology(name)
    nodes = ", ".join(topology.datapath_node(node.name) for node in topology.nodes)
    if dry_run:
        there = cluster.find(topology).namespaces
        missing = [netns for member in MEMBERS if (netns := topology.netns(member)) not in there]
        _say(f"would make namespaces: {', '.join(missing) or 'none, all are there'}")
        _say(f"would load, or load again: {nodes}")
        return
    cluster.up(topology, _say, AttachMode(attach), tunnel.value)
    _say(f"lab {name!r} is up; nodes {nodes}. Next: ctctl lab run --list")


@app.command()
def down(name: NameOpt = "lab", dry_run: DryRunOpt = False) -> None:
    """Remove the lab: processes, datapaths, namespaces, files; also what a killed "up" left.

    \b
    It asks nothing: all that it removes is the lab's own.
    Example:
      ctctl lab down
    """
    from ctctl.lab import cluster
    from ctctl.lab.topology import Topology

    topology = Topology(name)
    if dry_run:
        found = cluster.find(topology)
        _say(f"would end processes: {', '.join(map(str, found.processes)) or 'none'}")
        _say(f"would unload: {', '.join(found.datapaths) or 'nothing'}")
        _say(f"would remove namespaces: {', '.join(found.namespaces) or 'none'}")
        return
    removed = cluster.down(topology)
    if removed.anything:
        counts = f"{removed.namespaces} namespaces, {removed.datapaths} datapaths, {removed.processes} processes"
        _say(f"lab {name!r} is down: removed {counts}")
    else:
        _say(f"there is no lab {name!r}")


@app.command()
def run(
    stories: Annotated[
        list[str] | None, typer.Argument(metavar="STORY...", help="What to show.", autocompletion=_complete_stories)
    ] = None,
    *,
    name: NameOpt = "lab",
    list_stories: Annotated[bool, typer.Option("--list", help="List the stories and do nothing.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All stories, one after the other.")] = False,
    output: OutputOpt = Format.table,
    color: ColorOpt = ColorMode.auto,
) -> None:
    """Send real traffic through the lab, check what the datapath made of it, show the tables.

    A story empties the conntrack, SNAT and affinity tables of the lab's nodes first. It ends with exit code 1
    as soon as something is not as it has to be.

    \b
    Examples:
      ctctl lab run pod-to-pod
      ctctl lab run clusterip loadbalancer-dsr
      ctctl lab run --list
    """
    from ctctl.lab.stories import STORIES, find_story

    if list_stories:
        from ctctl.lab.show import STORY_VIEW

        write_rows(STORY_VIEW, STORIES.values(), output_options(output, color=color), sys.stdout)
        return
    if every == bool(stories):
        raise UsageError("name one or more stories, or --all; ctctl lab run --list shows them")
    if output is not Format.table:
        raise UsageError("a story is told as text; -o goes with --list")
    chosen = list(STORIES.values()) if every else [find_story(story) for story in stories or ()]
    from ctctl.lab.run import run_story
    from ctctl.lab.show import StoryWriter
    from ctctl.lab.topology import Topology

    writer = StoryWriter(sys.stdout, color=use_color(OutputOptions(color=color), sys.stdout))
    for story in chosen:
        run_story(Topology(name), story, writer)
        writer.end(story)


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(
    member: Annotated[
        str, typer.Argument(metavar="MEMBER", help="pod1, node-a, client, …", autocompletion=_complete_members)
    ],
    command: Annotated[list[str], typer.Argument(metavar="-- CMD [ARG...]", help="Program and its arguments.")],
    name: NameOpt = "lab",
) -> None:
    """Run a program in a member's network namespace; its exit status becomes ctctl's.

    \b
    Examples:
      ctctl lab exec pod1 -- curl http://10.68.0.10/
      ctctl lab exec client -- ping -c1 10.64.1.36
      ctctl lab exec node-b -- tcpdump -ni eth0 udp port 6081
    """
    from ctctl.lab.processes import interactive
    from ctctl.lab.topology import Topology

    if member.startswith("-"):  # what a program's own options are, only what stands before them tells
        raise UsageError(unknown_name("option", member, ("--name", "--help")))
    argv = command[1:] if command[0] == "--" else command
    if not argv:
        raise UsageError("no program named: ctctl lab exec MEMBER -- CMD [ARG...]")
    raise typer.Exit(interactive(Topology(name), member, argv))


@app.command("list")
def list_members(
    *,
    name: NameOpt = "lab",
    output: OutputOpt = Format.table,
    fields: FieldsOpt = None,
    sort: SortOpt = None,
    limit: LimitOpt = None,
    no_headers: NoHeadersOpt = False,
    color: ColorOpt = ColorMode.auto,
) -> None:
    """What the lab consists of, and what of it is up.

    \b
    Examples:
      ctctl lab list
      ctctl lab list -o json
    """
    from ctctl.lab.cluster import members
    from ctctl.lab.show import MEMBER_VIEW
    from ctctl.lab.stories import STORIES
    from ctctl.lab.topology import Topology

    rows = members(Topology(name))
    meta: dict[str, object] = {
        "lab": name,
        "up": all(row.up for row in rows),
        "namespaces": [row.netns for row in rows if row.up],
        "nodes": [row.datapath for row in rows if row.kind == "node"],
        "pods": [row.name for row in rows if row.kind == "pod"],
        "stories": list(STORIES),
    }
    options = output_options(output, fields, sort, limit, no_headers, color=color)
    write_rows(MEMBER_VIEW, rows, options, sys.stdout, meta=meta)
