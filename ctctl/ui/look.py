"""One look at a source: the rows that are on the screen as text, and the counts of all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ctctl.ct.arrange import Arranger
from ctctl.ct.events import refresh_now
from ctctl.ct.listing import Run
from ctctl.ct.report import TableStats
from ctctl.ct.show_table import Sheet
from ctctl.ct.stats import stats
from ctctl.model.row import CtRow
from ctctl.out.options import OutputOptions
from ctctl.tables.names import Names, NodeNames, no_names
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.rows import matching, row_of
from ctctl.tables.show.encode import Style
from ctctl.tables.show.entry import ct_view
from ctctl.tables.show.rowform import EntryForm
from ctctl.tables.sources.base import CtTable, Source

if TYPE_CHECKING:
    from ctctl.decode.columns import CtColumns
    from ctctl.tables.show.lines import TableColumn
    from ctctl.tables.sources.base import Rows

GAP = "  "


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted on the screen: ``count`` rows from ``first`` on, laid out for ``width`` characters."""

    wanted: Filter = EVERYTHING
    sort: str | None = None
    first: int = 0
    count: int = 512
    width: int = 80


@dataclass(frozen=True, slots=True)
class Shown:
    """A column on the screen: the field, where it begins, how wide it is."""

    name: str
    start: int
    width: int


@dataclass(frozen=True, slots=True)
class Head:
    """What stands over rows: titles, their columns, and the columns that there was no room for."""

    titles: str
    shown: tuple[Shown, ...]
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A row as text, its SGR codes, and what stands over it: rows of IPv4 and of IPv6 may have widths of their own."""

    text: str
    style: str
    head: Head


@dataclass(frozen=True, slots=True)
class Frame:
    """The answer to an ``Ask``: ``lines`` are rows ``ask.first`` on of ``matched``. ``at`` is wall-clock seconds."""

    ask: Ask
    at: float
    tables: tuple[TableStats, ...]
    matched: int
    lines: tuple[Line, ...]
    head: Head
    _rows: tuple[tuple[CtTable, CtColumns, int], ...] = field(repr=False, default=())
    _names: Names = field(repr=False, default=no_names)

    @property
    def entries(self) -> int:
        """Entries of all tables."""
        return sum(table.entries for table in self.tables)

    def row(self, index: int) -> CtRow | None:
        """The row that is ``index``-th of all that match, if it is in the frame."""
        at = index - self.ask.first
        if not 0 <= at < len(self._rows):
            return None
        table, columns, place = self._rows[at]
        return row_of(table, columns, place, self._names(table.node))


class Looker:
    """Looks at a source; for one thread. What does not change is read once and kept as bytes of the tables."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.names = NodeNames(source)
        self.view = ct_view(nodes=len(source.nodes()) > 1)
        self.live = any(table.live is not None for table in source.tables)
        self._forms = [EntryForm(table, self.names(table.node)) for table in source.tables]
        self._widths: dict[int, dict[str, int]] = {}
        self._laid_out: tuple[Filter, int] | None = None
        self._counts: tuple[TableStats, ...] | None = None
        for table in source.tables:
            if table.live is None:
                _hold(table)

    def look(self, ask: Ask) -> Frame:
        """The frame now. Raises UsageError for a sort field or a name in the filter that nobody knows."""
        if ask.sort is not None:
            self.view.column(ask.sort.removeprefix("-"), "sort field")
        for table in self.source.tables:
            refresh_now(table)
        if self._counts is None or self.live:
            self._counts = tuple(stats(self.source))
        runs, matched = self._sorted(ask) if ask.sort is not None else self._plain(ask)
        if ask.wanted == EVERYTHING and ask.sort is None:
            matched = sum(table.entries for table in self._counts)
        return self._frame(ask, runs, matched)

    def _plain(self, ask: Ask) -> tuple[list[Run], int]:
        """Rows in the table's order. Without a filter the reading ends with the last row of the screen."""
        runs: list[Run] = []
        seen, end = 0, ask.first + ask.count
        for form in self._forms:
            for columns in matching(form.table, ask.wanted):
                start, stop = max(ask.first - seen, 0), min(end - seen, len(columns))
                if start < stop:
                    chosen = np.arange(start, stop)
                    runs.append(Run(form, columns.select(chosen), None, chosen + (seen - ask.first)))
                seen += len(columns)
                if seen >= end and ask.wanted == EVERYTHING:
                    return runs, seen
        return runs, seen

    def _sorted(self, ask: Ask) -> tuple[list[Run], int]:
        assert ask.sort is not None
        end, matched = ask.first + ask.count, 0
        arranger = Arranger(ask.sort, end)
        for form in self._forms:
            for columns in matching(form.table, ask.wanted):
                matched += len(columns)
                arranger.add(form, columns)
        runs = []
        for form, columns, order, places in next(arranger.chunks(end), ()):
            stand = np.arange(len(order)) if places is None else places
            visible = stand >= ask.first
            if visible.any():
                runs.append(Run(form, columns.select(order[visible]), None, stand[visible] - ask.first))
        return runs, matched

    def _frame(self, ask: Ask, runs: list[Run], matched: int) -> Frame:
        count = sum(len(run) for run in runs)
        lines: dict[int, Line] = {}
        rows: dict[int, tuple[CtTable, CtColumns, int]] = {}
        head = Head("", (), ())
        for group in self._groups(ask, runs):
            head, layout = self._layout(ask, group)
            for run in group:
                assert run.places is not None
                cells = [_texts(run, column.name) for column in layout]
                program = run.form.program()
                run.form.put_style(program)
                codes = [code.decode()[2:-1] for code in program.lines(run.columns)]
                for at, place in enumerate(run.places.tolist()):
                    text = GAP.join(_padded(texts[at], c) for texts, c in zip(cells, layout, strict=True)).rstrip()
                    lines[place] = Line(text, codes[at], head)
                    rows[place] = (run.form.table, run.columns, at)
        first = lines[0].head if lines else head
        places = range(count)
        return Frame(
            ask,
            time.time(),
            self._counts or (),
            matched,
            tuple(lines[at] for at in places),
            first,
            tuple(rows[at] for at in places),
            self.names,
        )

    def _groups(self, ask: Ask, runs: list[Run]) -> list[list[Run]]:
        """Rows that are laid out alike: all, where that fits the screen, else those of a family."""
        families = sorted({run.columns.family for run in runs})
        if len(families) < 2:
            return [runs]
        _head, layout = self._layout(ask, runs)
        if _width(layout) <= ask.width and not _head.dropped:
            return [runs]
        return [[run for run in runs if run.columns.family == family] for family in families]

    def _layout(self, ask: Ask, runs: list[Run]) -> tuple[Head, list[TableColumn]]:
        plain = [column.name for column in self.view.columns if not column.wide]
        sheet = Sheet(self.view, plain, OutputOptions(), ask.width)
        columns, layout = sheet.fitted([replace(run, places=None) for run in runs])
        if _width(layout) > ask.width:  # what runs over the edge is the other end, not the state
            order = sorted(range(len(columns)), key=lambda at: columns[at].name.startswith(("source", "destination")))
            columns, layout = [columns[at] for at in order], [layout[at] for at in order]
        layout = self._steady(ask, layout, runs[0].columns.family if runs else 0)
        titles = [_padded(column.title, place) for column, place in zip(columns, layout, strict=True)]
        return Head(GAP.join(titles).rstrip(), tuple(_places(layout)), tuple(sheet.dropped)), layout

    def _steady(self, ask: Ask, layout: list[TableColumn], family: int) -> list[TableColumn]:
        """Columns only grow while the filter and the screen are the same, as far as there is room."""
        if self._laid_out != (ask.wanted, ask.width):
            self._laid_out, self._widths = (ask.wanted, ask.width), {}
        known = self._widths.setdefault(family, {})
        grown = [column._replace(width=max(column.width, known.get(column.name, 0))) for column in layout]
        if _width(grown) > ask.width:
            grown = layout
        known.update((column.name, column.width) for column in grown)
        return grown


def _width(layout: list[TableColumn]) -> int:
    return sum(column.width + len(GAP) for column in layout) - len(GAP)


def _hold(table: CtTable) -> None:
    """Read a table that does not change once: later looks are at its bytes in memory."""
    held: list[Rows] = [(keys.copy(), values.copy()) for keys, values in table.read()]
    table.read = lambda: iter(held)


def _texts(run: Run, name: str) -> list[str]:
    program = run.form.program()
    run.form.put(program, name, Style.TEXT)
    return [text.decode() for text in program.lines(run.columns)]


def _padded(text: str, column: TableColumn) -> str:
    return text.rjust(column.width) if column.right else text.ljust(column.width)


def _places(layout: list[TableColumn]) -> Iterator[Shown]:
    start = 0
    for column in layout:
        yield Shown(column.name, start, column.width)
        start += column.width + len(GAP)
