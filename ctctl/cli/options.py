"""Options that many commands share, each declared once so that every command spells it alike.

Only typer and the standard library at import time: ``ctctl ct list --help`` loads this module.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ctctl.cli import complete
from ctctl.cli.numbers import table_time
from ctctl.errors import UsageError
from ctctl.out.options import ColorMode, Format, OutputOptions

#: Groups that ``ct top`` shows unless ``--limit`` says otherwise.
TOP_ROWS = 20


class Attach(StrEnum):
    """Values of ``--attach``; the loader's ``AttachMode`` without importing what it needs."""

    auto = "auto"
    tcx = "tcx"
    tc = "tc"


_OUTPUT = "Output"
_SOURCE = "Source"

OutputOpt = Annotated[
    Format, typer.Option("-o", "--output", help="Form of the output.", show_default=True, rich_help_panel=_OUTPUT)
]
FieldsOpt = Annotated[
    str | None,
    typer.Option(
        "--fields",
        metavar="A,B",
        help="Only these fields, in this order.",
        autocompletion=complete.several,
        rich_help_panel=_OUTPUT,
    ),
]
SortOpt = Annotated[
    str | None,
    typer.Option(
        "--sort",
        metavar="[-]FIELD",
        help="Sort by a field; - for descending.",
        autocompletion=complete.fields,
        rich_help_panel=_OUTPUT,
    ),
]
LimitOpt = Annotated[
    int | None, typer.Option("--limit", min=0, metavar="N", help="At most N rows.", rich_help_panel=_OUTPUT)
]
NoHeadersOpt = Annotated[bool, typer.Option("--no-headers", help="No header line.", rich_help_panel=_OUTPUT)]
ColorOpt = Annotated[
    ColorMode, typer.Option("--color", help="Colour; auto: on a terminal without NO_COLOR.", rich_help_panel=_OUTPUT)
]
RawOpt = Annotated[
    bool, typer.Option("--raw", help="Add key and value as hex to JSON and YAML.", rich_help_panel=_OUTPUT)
]

FromOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="SRC",
        help="auto, a bpffs directory, a pinned map, a snapshot, a dump, a folder or archive, nf (nf_conntrack), "
        "or - for stdin; several times: all of them, with the node as a column.",
        rich_help_panel=_SOURCE,
    ),
]
NodeOpt = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="NAME",
        help="Loaded node, where there are several.",
        autocompletion=complete.nodes,
        rich_help_panel=_SOURCE,
    ),
]
NodesOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--node",
        metavar="NAME",
        help="Loaded node, where there are several; several times: those. Else $CTCTL_NODE.",
        autocompletion=complete.nodes,
        rich_help_panel=_SOURCE,
    ),
]
EveryNodeOpt = Annotated[
    bool,
    typer.Option(
        "-A", "--all-nodes", help="Every node of this machine, with the node as a column.", rich_help_panel=_SOURCE
    ),
]
MapOpt = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="NAME",
        help="Only this table, e.g. cilium_ct4_global.",
        autocompletion=complete.maps,
        rich_help_panel=_SOURCE,
    ),
]
NowOpt = Annotated[
    int | None,
    typer.Option(
        "--now",
        metavar="T",
        parser=table_time,
        help="The time of the dump, in its clock's units.",
        rich_help_panel=_SOURCE,
    ),
]
ClockOpt = Annotated[
    str | None,
    typer.Option(
        "--clock",
        metavar="ktime|jiffies:HZ",
        help="Clock of the lifetimes; else by evidence.",
        autocompletion=complete.words("ktime", "jiffies:100", "jiffies:250", "jiffies:300", "jiffies:1000"),
        rich_help_panel=_SOURCE,
    ),
]
LayoutOpt = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="1.14…1.19",
        help="Cilium version that a table without BTF is of; else by evidence.",
        autocompletion=complete.words("1.14", "1.15", "1.16", "1.17", "1.18", "1.19"),
        rich_help_panel=_SOURCE,
    ),
]

NamesOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--names",
        metavar="FILE",
        help="Names of pods, services and nodes: Kubernetes objects, a sysdump, a folder of them.",
        rich_help_panel=_SOURCE,
    ),
]
VerboseOpt = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Say on stderr what the tables are read by.", rich_help_panel=_SOURCE),
]

YesOpt = Annotated[bool, typer.Option("-y", "--yes", help="Do it without asking.")]
DryRunOpt = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
SameBootOpt = Annotated[
    bool, typer.Option("--same-boot", help="Believe a file that names no boot to be of this one (an older ctctl's).")
]
ForeignOpt = Annotated[
    bool, typer.Option("--allow-foreign", help="Also change tables that another program owns (a live Cilium).")
]


def split_fields(text: str | None) -> tuple[str, ...]:
    """``a,b`` as a tuple; None as an empty one. Raises UsageError for ``--fields ''``."""
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UsageError("--fields: no field named")
    return names


def output_options(
    output: Format = Format.table,
    fields: str | None = None,
    sort: str | None = None,
    limit: int | None = None,
    no_headers: bool = False,
    *,
    color: ColorMode = ColorMode.auto,
    follow: bool = False,
) -> OutputOptions:
    """The output options as the render layer takes them."""
    return OutputOptions(output, split_fields(fields), sort, limit, no_headers, color, follow)
