"""GC reports and explanations as tables and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from ctctl.gc.report import Explanation, Report, Row, TableReport
from ctctl.model.tuples import protocol_name
from ctctl.model.units import counted, format_duration
from ctctl.out.fetched import says_node
from ctctl.out.fit import CommandLine, told
from ctctl.out.options import Format, OutputOptions
from ctctl.out.output import write_rows
from ctctl.out.view import Column, View, by_node
from ctctl.tables.writer.undo import undo_command

REPORT_SCHEMA = "ctctl/gc-report/v1"
EXPLAIN_SCHEMA = "ctctl/gc-explain/v1"


def _protocol(number: int) -> str:
    return protocol_name(number)


def _direction(row: Row | Explanation) -> str:
    return row.entry_class.direction.value + (" related" if row.entry_class.related else "")


ROWS: View[Row] = View(
    schema=REPORT_SCHEMA,
    plural="rows",
    columns=(
        Column("map", "MAP", lambda row: row.map),
        Column("protocol", "PROTOCOL", lambda row: _protocol(row.entry_class.protocol)),
        Column("direction", "DIRECTION", lambda row: row.entry_class.direction.value, text=_direction),
        Column("related", "RELATED", lambda row: row.entry_class.related, wide=True),
        Column("family", "FAMILY", lambda row: row.family, wide=True),
        Column("alive", "ALIVE", lambda row: row.alive, right=True),
        Column("expired", "EXPIRED", lambda row: row.expired, right=True),
        Column("deleted", "DELETED", lambda row: row.deleted, right=True),
        Column("skipped", "SKIPPED", lambda row: row.skipped, right=True, priority=1),
    ),
    name=lambda row: f"{row.map}/{_protocol(row.entry_class.protocol)}/{_direction(row).replace(' ', '-')}",
)

#: A scrub does not ask whether entries are expired, so its figures are called otherwise.
SCRUBBED: View[Row] = View(
    schema=REPORT_SCHEMA,
    plural="rows",
    columns=(
        *ROWS.columns[:5],
        Column("others", "OTHERS", lambda row: row.alive, right=True),
        Column("selected", "SELECTED", lambda row: row.expired, right=True),
        *ROWS.columns[-2:],
    ),
    name=ROWS.name,
)

EXPLANATIONS: View[Explanation] = View(
    schema=EXPLAIN_SCHEMA,
    plural="classes",
    columns=(
        Column("map", "MAP", lambda e: e.map),
        Column("protocol", "PROTOCOL", lambda e: _protocol(e.entry_class.protocol)),
        Column("direction", "DIRECTION", lambda e: e.entry_class.direction.value, text=_direction),
        Column("related", "RELATED", lambda e: e.entry_class.related, wide=True),
        Column("state", "STATE", lambda e: e.state.value),
        Column("fate", "FATE", lambda e: "go" if e.goes else "stay"),
        Column("count", "COUNT", lambda e: e.count, right=True),
        Column("least_s", "LEAST_S", lambda e: e.least_s, right=True, wide=True),
        Column("most_s", "MOST_S", lambda e: e.most_s, right=True, wide=True),
        Column("timeout", "TIMEOUT", lambda e: e.timeout, wide=True),
        Column("why", "WHY", lambda e: e.why, prose=True),
    ),
    name=lambda e: f"{e.map}/{_protocol(e.entry_class.protocol)}/{_direction(e).replace(' ', '-')}/{e.state.value}",
)


def report_document(report: Report) -> dict[str, object]:
    """A report as JSON has it, without its rows."""
    return {
        "source": report.source,
        "engine": report.engine.value,
        "dry_run": report.dry_run,
        "now": report.now,
        "complete": report.complete,
        "duration_s": round(report.duration_s, 6),
        **_counts(sum(table.alive for table in report.tables), sum(table.expired for table in report.tables), report),
        "deleted": report.deleted,
        "skipped": sum(table.skipped for table in report.tables),
        "nat_deleted": report.nat_deleted,
        "refused": report.refused,
        "orphans": report.orphans,
        "ratio": report.ratio,
        "interval_s": report.interval_s,
        "next_interval_s": report.next_interval_s,
        "undo_file": str(report.undo_file) if report.undo_file is not None else None,
        "notes": list(report.notes),
        "maps": [_table(table, report) for table in report.tables],
    }


def _counts(others: int, chosen: int, report: Report) -> dict[str, object]:
    """The two figures by what they count: alive and expired, or in a scrub the entries of others and the selected."""
    if report.scrubbed is None:
        return {"alive": others, "expired": chosen}
    return {"scrubbed": report.scrubbed, "others": others, "selected": chosen}


def _table(table: TableReport, report: Report) -> dict[str, object]:
    return {
        **({"node": table.node} if says_node(report.nodes) else {}),
        "map": table.map,
        "family": table.family,
        "protocol": table.protocol,
        "max_entries": table.max_entries,
        **_counts(table.alive, table.expired, report),
        "deleted": table.deleted,
        "skipped": table.skipped,
        "nat_deleted": table.nat_deleted,
        "refused": table.refused,
        "resets": table.resets,
        "complete": table.complete,
        "duration_s": round(table.duration_s, 6),
    }


def write_report(report: Report, options: OutputOptions, stream: TextIO, notes: TextIO) -> None:
    """The report's rows on ``stream``; what a table has no column for on ``notes`` (stderr)."""
    meta = report_document(report)
    view = ROWS if report.scrubbed is None else SCRUBBED
    more = meta if options.format in (Format.json, Format.yaml) else None
    if says_node(report.nodes):
        pairs = [(table.node, row) for table in report.tables for row in table.rows]
        write_rows(by_node(dict.fromkeys((None, *report.nodes), view)), pairs, options, stream, meta=more)
    else:
        write_rows(view, report.rows, options, stream, meta=more)
    if more is not None:
        return
    stream.flush()
    for line in summary(report):
        notes.write(told(line, notes, rest="  "))


def summary(report: Report) -> list[str | CommandLine]:
    """What a report says beside its rows, for people."""
    others, chosen = sum(t.alive for t in report.tables), sum(t.expired for t in report.tables)
    if report.scrubbed is None:
        totals = [f"{others} alive", f"{chosen} expired"]
    else:
        totals = [f"{counted(chosen, 'entry', 'entries')} of {report.scrubbed}, expired or not", f"{others} of others"]
    if not report.dry_run:
        totals += [f"{report.deleted} deleted", f"{sum(t.skipped for t in report.tables)} skipped{_refused(report)}"]
        totals += [f"{counted(report.nat_deleted, 'SNAT entry', 'SNAT entries')} along"] if report.nat_deleted else []
    if report.orphans is not None:
        totals.append(f"{report.orphans} SNAT entries {'would go' if report.dry_run else 'purged'} by themselves")
    head = "dry run, nothing deleted: " if report.dry_run else ""
    lines: list[str | CommandLine] = [
        f"{head}{', '.join(totals)} ({report.engine.value} engine, {report.duration_s:.3f} s)",
        *report.notes,
    ]
    if report.undo_file is not None:
        lines.append(undo_command(report.undo_file, report.source, foreign=report.foreign))
    if not all(table.complete for table in report.tables):
        lines.append("stopped before the end: the figures count what was done until then")
    if report.scrubbed is not None:
        return lines
    lines.append(
        f"next interval {format_duration(report.next_interval_s)} (was {format_duration(report.interval_s)}, "
        f"{'would be ' if report.dry_run else ''}deleted/capacity {_ratio(report):.1%})"
    )
    return lines


def _refused(report: Report) -> str:
    """What is to be said of the skipped: entries that the kernel refused to delete are among them, SNAT entries not."""
    if not report.refused:
        return ""
    return f" (of these and of SNAT entries the kernel refused to delete {report.refused})"


def _ratio(report: Report) -> float:
    if not report.dry_run:
        return report.ratio
    return max((table.expired / table.max_entries for table in report.tables if table.max_entries), default=0.0)


def write_explanations(
    rows: list[Explanation], options: OutputOptions, stream: TextIO, nodes: Sequence[str] = ()
) -> None:
    """Why each class of entries would go or stay; ``nodes`` are those of the source."""
    if says_node(nodes):
        view = by_node(dict.fromkeys((None, *nodes), EXPLANATIONS))
        write_rows(view, [(row.node, row) for row in rows], options, stream)
    else:
        write_rows(EXPLANATIONS, rows, options, stream)
