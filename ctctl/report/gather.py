"""Everything a report shows, read once from a source."""

from __future__ import annotations

import heapq
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

from ctctl import __version__
from ctctl.ct.arrange import rows
from ctctl.ct.get import get
from ctctl.ct.report import Connection, TableStats
from ctctl.ct.show import top_view
from ctctl.ct.stats import stats
from ctctl.ct.top import By, top
from ctctl.doctor.diagnose import examine
from ctctl.doctor.finding import HERE, Diagnosis, Finding, Severity, Where
from ctctl.out.cells import jsonable
from ctctl.out.view import Column, View, by_node, text_of
from ctctl.services.show_lb import Frontend, frontend_view, frontends, has_scopes
from ctctl.services.show_nat import port_use_view
from ctctl.tables.names import NodeNames
from ctctl.tables.port_use import PortUse, port_use
from ctctl.tables.query.filter import EVERYTHING
from ctctl.tables.show.entry import ct_view
from ctctl.tables.snat_ports import range_of
from ctctl.tables.sources.base import CtTable, Source

#: Entries shown of a table: the ones that were active last. All of a million would be 500 MB of page.
ENTRIES = 1000
#: Rows of every other list, of all nodes together: a source may have thousands of nodes.
ROWS = 500
#: Findings that are told in full, the worst first, and names of nodes where many have the same.
FINDINGS = 200
NAMED = 50
T = TypeVar("T")
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
class Verdicts:
    """What the doctor says of one node, or of several of which it says the same; ``untold`` counts findings."""

    who: str
    diagnosis: Diagnosis
    findings: tuple[Finding, ...]
    untold: int


@dataclass(frozen=True, slots=True)
class Report:
    """What the page says. ``made_at`` is UTC; ``facts`` are pairs of what and how it is known.

    ``tables`` are the fullest where there are too many, ``tables_note`` says so.
    """

    title: str
    made_at: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[TableStats, ...]
    tables_note: str
    verdicts: tuple[Verdicts, ...]
    sheets: tuple[Sheet, ...]
    asked: str | None = None
    connections: tuple[Connection, ...] = ()
    members: tuple[Sheet, ...] = ()


def gather(source: Source, asked: str | None = None, *, where: Where = HERE) -> Report:
    """Read what the report needs. ``asked`` is a flow as ``ct get`` takes it, ``where`` the source's options.

    Raises what ``ct get`` raises for a flow that is none.
    """
    names = NodeNames(source)
    connections = tuple(get(source, asked)) if asked is not None else ()
    every = list(stats(source))
    tables = _fullest(every)
    view = ct_view(nodes=len(source.nodes()) > 1)
    diagnoses = examine(source, gc_interval_s=None, where=where) if source.has_ct else []
    return Report(
        title=source.description,
        made_at=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        facts=_facts(source),
        tables=tables,
        tables_note=f"{len(tables)} of {len(every)}, the fullest" if len(tables) < len(every) else "",
        verdicts=tuple(_verdicts(diagnoses, source.description)),
        sheets=tuple(_sheets(source, names, view, sum(table.entries for table in every))),
        asked=asked,
        connections=connections,
        members=tuple(
            _sheet("Entries", "", view, [member.row for member in connection.members], wide=True)
            for connection in connections
        ),
    )


def _fullest(tables: Sequence[TableStats]) -> tuple[TableStats, ...]:
    if len(tables) <= ROWS:
        return tuple(tables)
    return tuple(heapq.nlargest(ROWS, tables, key=lambda table: (table.pressure or 0.0, table.entries)))


def _verdicts(diagnoses: Sequence[tuple[str | None, Diagnosis]], source: str) -> Iterator[Verdicts]:
    """Nodes with findings one by one, the worst first; the others together where the same is said of them."""
    same: dict[tuple[object, ...], tuple[list[str], Diagnosis]] = {}
    found: list[tuple[str, Diagnosis]] = []
    untold: list[tuple[str, Diagnosis]] = []
    for node, diagnosis in diagnoses:
        name = node or source
        if diagnosis.findings:
            found.append((name, diagnosis))
            continue
        key = (diagnosis.verdict, diagnosis.checks, tuple(diagnosis.skipped.items()))
        same.setdefault(key, ([], diagnosis))[0].append(name)
    order = list(Severity)
    found.sort(key=lambda one: order.index(one[1].findings[0].severity))
    left = FINDINGS
    for name, diagnosis in found:
        told = diagnosis.findings[:left]
        if told:
            yield Verdicts(name, diagnosis, told, len(diagnosis.findings) - len(told))
        left -= len(told)
        if not told:
            untold.append((name, diagnosis))
    if untold:
        number = sum(len(diagnosis.findings) for _, diagnosis in untold)
        yield Verdicts(_some_of([name for name, _ in untold]), untold[0][1], (), number)
    for names, diagnosis in same.values():
        yield Verdicts(_some_of(names), diagnosis, (), 0)


def _some_of(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _facts(source: Source) -> tuple[tuple[str, str], ...]:
    found = [("source", source.description), ("nodes", _some_of([*source.nodes()]) or "one, without a name")]
    found += _of_tables(source, "layout", lambda table: f"{table.layout.value} ({table.layout_evidence})")
    found += _of_tables(source, "clock", lambda table: f"{table.clock} ({table.clock.evidence})")
    found += [("note", note) for note in source.notes]
    found += [("missing", part) for part in source.partial]
    return (*found, ("made by", f"ctctl {__version__} on Linux {platform.release()}"))


def _of_tables(source: Source, title: str, text_of: Callable[[CtTable], str]) -> list[tuple[str, str]]:
    """What is said of the tables, each once; where it is not the same of all, with the nodes that it is said of."""
    found: dict[str, dict[str, None]] = {}
    for table in source.tables:
        found.setdefault(text_of(table), {})[table.node or "the node without a name"] = None
    alike = len(found) == 1 or len(source.nodes()) < 2
    return [(title, text if alike else f"{text}: {_some_of(list(nodes))}") for text, nodes in sorted(found.items())]


def _sheets(source: Source, names: NodeNames, view: View[Any], entries: int) -> list[Sheet]:
    sheets = [
        _sheet(f"Most entries by {by.value}", "", top_view(by.value, found), found)
        for by in _TOPS
        for found in [top(source, by, limit=20, names=names)]
    ]
    nodes: list[str | None] = [*source.nodes()] or [None]
    fronts: dict[str | None, list[Frontend]] = {}
    uses: dict[str | None, list[PortUse]] = {}
    for node in nodes:
        listings = source.some(node, "services", "backends")
        backends = None if "backends" in listings.missing else listings.backends
        fronts[node] = frontends(listings.services, backends, names(node))
        uses[node] = port_use(partial(source.nat_rows, node), range_of(source, node))
    several, view_of = len(nodes) > 1, cache(partial(frontend_view, scopes=any(map(has_scopes, fronts.values()))))
    sheets += _of_nodes("Services", lambda node: view_of(source.minor_of(node)), fronts, several=several)
    sheets += _of_nodes("SNAT ports in use", lambda node: port_use_view(names(node)), uses, several=several)
    shown = list(rows(source, EVERYTHING, sort="-last_tx_report", limit=ENTRIES, names=names))
    note = f"{len(shown)} of {entries}, the most recently active" if entries > len(shown) else ""
    return [sheet for sheet in (*sheets, _sheet("Entries", note, view, shown)) if sheet.rows]


def _of_nodes(
    title: str, view_of: Callable[[str | None], View[T]], found: dict[str | None, list[T]], *, several: bool
) -> list[Sheet]:
    """A table of all nodes that have rows, the node as a column where there are several; none without any."""
    views = {node: view_of(node) for node, rows_of in found.items() if rows_of}
    if not views:
        return []
    if not several:
        ((node, view),) = views.items()
        return [_sheet(title, "", view, found[node])]
    return [_sheet(title, "", by_node(views), [(node, row) for node in views for row in found[node]])]


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
