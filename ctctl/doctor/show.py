"""Findings as text and JSON."""

from __future__ import annotations

from typing import TextIO

from ctctl.doctor.finding import Diagnosis, Finding, Verdict
from ctctl.model.units import counted
from ctctl.out.cells import cell, jsonable
from ctctl.out.fit import command, prose
from ctctl.out.options import Format, OutputOptions, use_color
from ctctl.out.output import write_rows
from ctctl.out.text import safe
from ctctl.out.view import Column, View

SCHEMA = "ctctl/doctor/v1"

_MARKS = {"critical": "31", "warning": "33", "info": "36"}

Row = tuple[str | None, Finding]

FINDINGS: View[Row] = View(
    schema=SCHEMA,
    plural="findings",
    columns=(
        Column("severity", "SEVERITY", lambda row: row[1].severity.value),
        Column("check", "CHECK", lambda row: row[1].check),
        Column("node", "NODE", lambda row: row[0], wide=True),
        Column("map", "MAP", lambda row: row[1].map),
        Column("summary", "SUMMARY", lambda row: row[1].summary, prose=True),
        Column("advice", "ADVICE", lambda row: row[1].advice, wide=True),
        Column("evidence", "EVIDENCE", lambda row: dict(row[1].evidence), wide=True),
        Column("show", "SHOW", lambda row: list(row[1].show), lambda row: "; ".join(row[1].show) or "-", wide=True),
        Column("mend", "MEND", lambda row: list(row[1].mend), lambda row: "; ".join(row[1].mend) or "-", wide=True),
    ),
    name=lambda row: row[1].check if row[1].map is None else f"{row[1].check}/{row[1].map}",
)


def write_diagnoses(diagnoses: list[tuple[str | None, Diagnosis]], options: OutputOptions, stream: TextIO) -> None:
    """Findings node by node: a block each in ``table``, else as rows."""
    if options.format is Format.table and not options.asks_for_rows:
        color = use_color(options, stream)
        for node, diagnosis in diagnoses:
            _write_text(node, diagnosis, stream, color=color)
        return
    rows = [(node, finding) for node, diagnosis in diagnoses for finding in diagnosis.findings]
    meta = {
        "sources": [
            {
                "source": diagnosis.source,
                "node": node,
                "verdict": diagnosis.verdict.value,
                "checks": list(diagnosis.checks),
                "skipped": dict(diagnosis.skipped),
            }
            for node, diagnosis in diagnoses
        ]
    }
    write_rows(FINDINGS, rows, options, stream, meta=meta)


def _write_text(node: str | None, diagnosis: Diagnosis, stream: TextIO, *, color: bool) -> None:
    head = safe(node or diagnosis.source)
    stream.write(prose(f"{head}: {_headline(diagnosis)}", stream, rest="  "))
    for finding in diagnosis.findings:
        word = finding.severity.value
        mark = f"\x1b[{_MARKS[word]}m{word}\x1b[0m" if color else word
        where = f" {safe(finding.map)}" if finding.map else ""
        stream.write(f"\n{mark} {finding.check}{where}\n")
        stream.write(prose(safe(finding.summary), stream, "  "))
        for name, value in finding.evidence.items():
            stream.write(prose(f"{name.replace('_', ' ')}: {evidence_text(value)}", stream, " " * 4, " " * 6))
        stream.write(prose(safe(finding.advice), stream, "  do: "))
        for what, commands in (("show", finding.show), ("mend", finding.mend)):
            for line in commands:
                stream.write(command(safe(line), stream, f"  {what}: "))
    stream.write("\n" if diagnosis.skipped else "")
    for name, reason in diagnosis.skipped.items():
        stream.write(prose(f"not checked: {name}: {safe(reason)}", stream, rest="  "))


def _headline(diagnosis: Diagnosis) -> str:
    ran, left = len(diagnosis.checks), len(diagnosis.skipped)
    if diagnosis.verdict is Verdict.FINDINGS:
        return counted(len(diagnosis.findings), "finding")
    if diagnosis.verdict is Verdict.UNKNOWN:
        blind = ", ".join(name for name in diagnosis.skipped if name in diagnosis.essential)
        return f"unknown: {counted(ran, 'check')} found nothing, but {blind} could not be looked at"
    return f"healthy, {counted(ran, 'check')}" + (f" ({left} not possible here)" if left else "")


def evidence_text(value: object) -> str:
    """What a finding was told by, in words: lists and names with their numbers one behind the other."""
    value = jsonable(value)
    if isinstance(value, dict):
        return ", ".join(f"{safe(str(name))} {cell(item)}" for name, item in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(cell(item) for item in value) or "-"
    return cell(value)
