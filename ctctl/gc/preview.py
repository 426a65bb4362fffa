"""A dry run on what is no live table: snapshots, dumps, archives. Nothing here can write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ctctl.errors import CtctlError
from ctctl.gc import interval
from ctctl.gc.explain import explain_rows
from ctctl.gc.report import EngineName, Explanation, Report, TableReport
from ctctl.gc.tally import Tally
from ctctl.tables import classes
from ctctl.tables.sources.base import CtTable, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray


def preview(source: Source, interval_s: float = interval.START_S) -> Report:
    """What a run would do to the tables of ``source``. Raises CtctlError where the time of the dump is unknown."""
    started = time.monotonic()
    reports = tuple(_table(table) for table in source.tables)
    ratio = max((report.expired / report.max_entries for report in reports if report.max_entries), default=0.0)
    return Report(
        source=source.description,
        engine=EngineName.BATCH,
        dry_run=True,
        now=max((_now(table) for table in source.tables), default=0),
        tables=reports,
        orphans=None,
        duration_s=time.monotonic() - started,
        complete=not source.partial,
        interval_s=interval_s,
        next_interval_s=interval.next_interval(interval_s, ratio),
        notes=tuple(
            f"{report.map}: the source does not say how large the table is: no part in the interval"
            for report in reports
            if not report.max_entries
        ),
    )


def explanations(source: Source) -> list[Explanation]:
    """Why the entries of ``source`` would go or stay. Raises CtctlError where the time of the dump is unknown."""
    return [found for table in source.tables for found in explain_rows(table.name, _rows(table), _now(table))]


def _now(table: CtTable) -> int:
    if table.now is None:
        raise CtctlError(f"{table.name}: the time of the dump is unknown: give --now")
    return table.now


def _rows(table: CtTable) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    yield from table.read()


def _table(table: CtTable) -> TableReport:
    started, tally = time.monotonic(), Tally()
    for keys, values in _rows(table):
        numbers = classes.class_numbers(keys)
        gone = classes.expired(values, _now(table))
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
    )
