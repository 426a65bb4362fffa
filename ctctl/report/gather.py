"""Everything a report shows, read once from a source."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ctctl import __version__
from ctctl.ct.arrange import rows
from ctctl.ct.get import get
from ctctl.ct.report import Connection, TableStats
from ctctl.ct.show import top_view
from ctctl.ct.stats import stats
from ctctl.ct.top import By, top
from ctctl.doctor.diagnose import examine
from ctctl.doctor.finding import Diagnosis
from ctctl.out.output import Column, View, jsonable, text_of
from ctctl.services.show_lb import frontend_view, frontends
from ctctl.services.show_nat import port_use_view
from ctctl.tables.names import names_of
from ctctl.tables.port_use import port_use
from ctctl.tables.query.filter import EVERYTHING
from ctctl.tables.show.entry import ct_view
from ctctl.tables.snat_ports import range_of
from ctctl.tables.sources.base import Source

#: Entries shown of a table: the ones that were active last. All of a million would be 500 MB of page.
ENTRIES = 1000
#: Rows of every other list.
ROWS = 500
_TOPS = (By.src, By.dst, By.service, By.backend)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of the page: texts as people read them, and what each column sorts by (a number or the text)."""

    title: str
    note: str
    headers: tuple[str, ...]
    rows: tuple[tuple[tuple[str, str], ...], ...]
    numeric: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What the page says. ``made_at`` is UTC; ``facts`` are pairs of what and how it is known."""

    title: str
    made_at: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[TableStats, ...]
    diagnoses: tuple[tuple[str | None, Diagnosis], ...]
    sheets: tuple[Sheet, ...]
    asked: str | None = None
    connections: tuple[Connection, ...] = ()
    members: tuple[Sheet, ...] = ()


def gather(source: Source, asked: str | None = None, *, where: str = "") -> Report:
    """Read what the report needs. ``asked`` is a flow as ``ct get`` takes it, ``where`` the source's options.

    Raises what ``ct get`` raises for a flow that is none.
    """
    names = names_of(source)
    connections = tuple(get(source, asked)) if asked is not None else ()
    tables = tuple(stats(source))
    view = ct_view(nodes=len(source.nodes()) > 1)
    return Report(
        title=source.description,
        made_at=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        facts=_facts(source),
        tables=tables,
        diagnoses=tuple(examine(source, gc_interval_s=None, where=where)) if source.has_ct else (),
        sheets=tuple(_sheets(source, names, view, sum(table.entries for table in tables))),
        asked=asked,
        connections=connections,
        members=tuple(
            _sheet("Entries", "", view, [member.row for member in connection.members], wide=True)
            for connection in connections
        ),
    )


def _facts(source: Source) -> tuple[tuple[str, str], ...]:
    found = [("source", source.description), ("nodes", ", ".join(source.nodes()) or "one, without a name")]
    found += sorted({("layout", f"{table.layout.value} ({table.layout_evidence})") for table in source.tables})
    found += sorted({("clock", f"{table.clock} ({table.clock.evidence})") for table in source.tables})
    found += [("note", note) for note in source.notes]
    found += [("missing", part) for part in source.partial]
    return (*found, ("made by", f"ctctl {__version__} on Linux {platform.release()}"))


def _sheets(source: Source, names: dict[str, str], view: View[Any], entries: int) -> list[Sheet]:
    sheets = [
        _sheet(f"Most entries by {by.value}", "", top_view(by.value), top(source, by, limit=20, names=names))
        for by in _TOPS
    ]
    nodes: list[str | None] = [*source.nodes()] or [None]
    for node in nodes:
        listings = source.some(node, "services", "backends")
        on = f" of {node}" if node is not None else ""
        found = frontends(listings.services, listings.backends, names)
        sheets.append(_sheet(f"Services{on}", "", frontend_view(source.minor_of(node)), found))
        use = port_use(partial(source.nat_rows, node), range_of(source, node))
        sheets.append(_sheet(f"SNAT ports in use{on}", "", port_use_view(names), use))
    shown = list(rows(source, EVERYTHING, sort="-last_tx_report", limit=ENTRIES, names=names))
    note = f"{len(shown)} of {entries}, the most recently active" if entries > len(shown) else ""
    return [sheet for sheet in (*sheets, _sheet("Entries", note, view, shown)) if sheet.rows]


def _sheet(title: str, note: str, view: View[Any], found: Sequence[Any], *, wide: bool = False) -> Sheet:
    columns = [column for column in view.columns if wide or not column.wide]
    shown = found[: max(ROWS, ENTRIES if title == "Entries" else 0)]
    if len(shown) < len(found):
        note = f"{len(shown)} of {len(found)}"
    cells = tuple(tuple(_cell(column, row) for column in columns) for row in shown)
    return Sheet(
        title, note, tuple(column.title for column in columns), cells, tuple(column.right for column in columns)
    )


def _cell(column: Column[Any], row: Any) -> tuple[str, str]:
    value = column.value(row)
    key = str(int(value)) if isinstance(value, bool) else "" if value is None else str(jsonable(value))
    return text_of(column, row), key
