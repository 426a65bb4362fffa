"""A dry run on what is no live table: snapshots, dumps, archives. Nothing here can write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ctctl.errors import CtctlError
from ctctl.gc import interval
from ctctl.gc.explain import Scrub, explain_rows
from ctctl.gc.report import EngineName, Explanation, Report, TableReport
from ctctl.gc.tally import Tally
from ctctl.tables import classes
from ctctl.tables.sources.base import CtTable, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray


def preview(source: Source, interval_s: float = interval.START_S, scrub: Scrub | None = None) -> Report:
    """What a run, or a scrub, would do to the tables of ``source``.

    Tables whose time is unknown are left out with a note, unless a scrub asks, which needs no time. Raises
    CtctlError where no time is known.
    """
    started = time.monotonic()
    timed, notes = (list(source.tables), []) if scrub is not None else _timed(source)
    reports = tuple(_table(table, scrub) for table in timed)
    ratio = max((report.expired / report.max_entries for report in reports if report.max_entries), default=0.0)
    notes += [
        f"{_named(report.map, report.node)}: the source does not say how large the table is: no part in the interval"
        for report in reports
        if not report.max_entries and scrub is None
    ]
    return Report(
        source=source.description,
        engine=EngineName.BATCH,
        dry_run=True,
        now=max((table.now or 0 for table in timed), default=0),
        tables=reports,
        orphans=None,
        duration_s=time.monotonic() - started,
        complete=not source.partial and len(timed) == len(source.tables),
        interval_s=interval_s,
        next_interval_s=interval.next_interval(interval_s, ratio),
        notes=tuple(dict.fromkeys(notes)),
        scrubbed=scrub.name if scrub is not None else None,
        nodes=tuple(source.nodes()),
    )


def explanations(source: Source, scrub: Scrub | None = None) -> tuple[list[Explanation], list[str]]:
    """Why the entries of ``source`` would go or stay, and which tables cannot be told of.

    Raises CtctlError where no time is known, unless a scrub asks, which needs none.
    """
    timed, notes = (list(source.tables), []) if scrub is not None else _timed(source)
    found = [
        replace(one, node=table.node)
        for table in timed
        for one in explain_rows(table.name, _rows(table), table.now, scrub, table.clock)
    ]
    return found, notes


def _timed(source: Source) -> tuple[list[CtTable], list[str]]:
    """The tables whose time is known, and a note for each other. Raises CtctlError if there is none of them."""
    # An empty table has no line that tells a time, and needs none.
    timed = [table for table in source.tables if table.now is not None or table.count == 0]
    unknown = [
        f"{_named(table.name, table.node)}: the time of the dump is unknown: give --now"
        for table in source.tables
        if table.now is None and table.count != 0
    ]
    if unknown and not timed:
        raise CtctlError(unknown[0])
    return timed, unknown


def _named(table: str, node: str | None) -> str:
    return table if node is None else f"{node}: {table}"


def _now(table: CtTable) -> int:
    assert table.now is not None or table.count == 0
    return table.now or 0


def _rows(table: CtTable) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    yield from ((keys, values) for keys, values in table.read())


def _table(table: CtTable, scrub: Scrub | None) -> TableReport:
    started, tally = time.monotonic(), Tally()
    for keys, values in _rows(table):
        numbers = classes.class_numbers(keys)
        gone = scrub.of(keys) if scrub is not None else classes.expired(values, _now(table))
        tally.expired += classes.count(numbers[gone])
        tally.alive += classes.count(numbers[~gone])
    family = table.family_label
    return TableReport(
        map=table.name,
        family=family,
        protocol=table.protocol,
        max_entries=table.max_entries or 0,
        rows=tally.rows(table.name, family),
        nat_deleted=0,
        resets=0,
        complete=True,
        duration_s=time.monotonic() - started,
        node=table.node,
    )
