"""``ctctl doctor``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ctctl.cli.groups import OutputArgs, SourceArgs, grouped
from ctctl.cli.numbers import seconds

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@grouped
def doctor(
    gc_interval: Annotated[
        float | None,
        typer.Option(
            "--gc-interval", metavar="TIME", parser=seconds(0), help="How often GC runs here; 5m unless it is known."
        ),
    ] = None,
    sample: Annotated[
        float,
        typer.Option(
            "--sample",
            metavar="TIME",
            parser=seconds(0),
            show_default=False,
            help="Count live tables twice, this far apart, for the trend.",
        ),
    ] = 0.0,
    *,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """Find and explain what is wrong with the tables, live or in a dump. Reads only.

    \b
    ctctl doctor
    ctctl doctor --sample 5s        with the trend: when a table will be full
    ctctl doctor --from cilium-sysdump.zip -o json

    Each finding has its evidence, its severity, and the commands that show and mend it. Exit code 3 with
    findings. "healthy" is said only where the table sizes and the time were known, and no table of the node
    was missing; else it is "unknown".
    """
    from ctctl.cli.report import opened, source_words
    from ctctl.doctor.diagnose import examine
    from ctctl.doctor.show import write_diagnoses
    from ctctl.errors import UsageError

    with opened(where, pages=True) as source:
        if sample and all(table.live is None for table in source.tables):
            raise UsageError("--sample needs a live table: a file does not change")
        diagnoses = examine(source, gc_interval_s=gc_interval, sample_s=sample, where=source_words(where))
        write_diagnoses(diagnoses, out.options(), sys.stdout)
    if any(diagnosis.findings for _, diagnosis in diagnoses):
        raise typer.Exit(3)
