"""``ctctl doctor``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ctctl.cli.groups import OutputArgs, SourceArgs, grouped

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@grouped
def doctor(
    gc_interval: Annotated[
        str | None, typer.Option("--gc-interval", metavar="TIME", help="How often GC runs here; 5m unless it is known.")
    ] = None,
    sample: Annotated[
        str, typer.Option("--sample", metavar="TIME", help="Count live tables twice, this far apart, for the trend.")
    ] = "0s",
    *,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """Find and explain what is wrong with the tables, live or in a dump. Reads only.

    \b
    ctctl doctor
    ctctl doctor --sample 5s              with the trend: when a table will be full
    ctctl doctor --from cilium-sysdump.zip -o json

    Each finding has its evidence, its severity, and the commands that show and mend it. Exit code 3 with
    findings. "healthy" is said only where the table sizes and the time were known; else it is "unknown".
    """
    from ctctl.cli.report import opened, source_words
    from ctctl.doctor.diagnose import examine
    from ctctl.doctor.show import write_diagnoses
    from ctctl.errors import UsageError
    from ctctl.model.units import parse_duration

    try:
        interval_s = parse_duration(gc_interval) if gc_interval is not None else None
        sample_s = parse_duration(sample)
    except ValueError as error:
        raise UsageError(str(error)) from None
    with opened(where, pages=True) as source:
        diagnoses = examine(source, gc_interval_s=interval_s, sample_s=sample_s, where=source_words(where))
        write_diagnoses(diagnoses, out.options(), sys.stdout)
    if any(diagnosis.findings for _, diagnosis in diagnoses):
        raise typer.Exit(3)
