"""``ctctl trace``: what happens to a packet."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ctctl.cli.options import ColorOpt, NodeOpt, OutputOpt, RawOpt, output_options
from ctctl.errors import UsageError
from ctctl.render.output import ColorMode, Format, use_color

app = typer.Typer()

ScenarioOpt = Annotated[
    Path | None,
    typer.Option("--scenario", metavar="FILE", help="Run a node file's steps on private maps.", dir_okay=False),
]


@app.command()
def trace(
    scenario: ScenarioOpt = None,
    node: NodeOpt = None,
    output: OutputOpt = Format.table,
    raw: RawOpt = False,
    color: ColorOpt = ColorMode.auto,
) -> None:
    """What happens to a packet."""
    if scenario is None:
        raise UsageError("give --scenario FILE")
    raise typer.Exit(run_scenario_file(scenario, node, output, raw, color))


def run_scenario_file(path: Path, node: str | None, output: Format, raw: bool, color: ColorMode) -> int:
    """Run the scenario and write its steps; 3 if an expectation does not hold, else 0."""
    from ctctl.ops import scenario
    from ctctl.render.scenario import StepLines, step_record, write_json_step

    if output not in (Format.table, Format.jsonl):
        raise UsageError(f"-o {output}: a scenario is a stream: table or jsonl")

    def describe(record: scenario.StepRecord, raw: bool = False) -> dict[str, Any]:
        return step_record(record.number, record.now, record.tables, record.result, raw=raw)

    lines = StepLines(sys.stdout, color=use_color(output_options(output, color=color), sys.stdout))
    failed = 0
    for record in scenario.run(path, partial(describe, raw=True), node=node):
        if output is Format.jsonl:
            if record.result is not None:
                write_json_step(sys.stdout, describe(record, raw))
        else:
            lines.step(record.number, record.title, record.tables, record.result)
        for text in record.failures:
            failed += 1
            print(f"ctctl: {path}:{record.step.step.line}: step {record.number}: {text}", file=sys.stderr)
    return 3 if failed else 0
