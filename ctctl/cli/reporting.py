"""``ctctl report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctctl.cli.groups import SourceArgs, grouped

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@grouped
def report(
    flow: Annotated[
        str | None, typer.Argument(metavar="FLOW", help="A connection to tell the story of, as ct get takes it.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page to write.")] = Path("ctctl-report.html"),
    *,
    where: SourceArgs,
) -> None:
    """Write one HTML page for a ticket: tables, pressure, top talkers, findings, and one connection's story.

    \b
    ctctl report
    ctctl report 'tcp 10.64.0.36:54260 > 10.64.0.64:8000' --out incident.html
    ctctl report --from cilium-sysdump.zip --out incident.html

    The page is one file: nothing is loaded from the network, tables can be searched and sorted.
    """
    from ctctl.cli.report import addressed, opened, say, source_words
    from ctctl.out.files import replacing
    from ctctl.report.gather import gather
    from ctctl.report.page import page, require_jinja2

    require_jinja2()
    with opened(where) as source:
        asked = addressed(source, where.node, flow) if flow is not None else None
        text = page(gather(source, asked, where=source_words(where))).encode()
        with replacing(out) as stream:
            stream.write(text)
        say(f"wrote {out} ({len(text) // 1024 + 1} kB)")
