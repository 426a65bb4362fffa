"""``ct list`` as a table for people: widths from a sample, columns that fit the screen."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from ctctl.out.output import Column, Format, OutputOptions, View, use_color
from ctctl.tables.show.lines import TableColumn, stacked_lines, table_lines

if TYPE_CHECKING:
    from ctctl.ct.listing import Out, Run
    from ctctl.model.row import CtRow

#: Rows of a batch whose texts say how wide the columns have to be.
_SAMPLE = 1000
_GAP = 2


def write_table(
    view: View[CtRow], chosen: list[str], chunks: Iterator[list[Run]], options: OutputOptions, out: Out
) -> int:
    """Write the rows as they come; returns how many. What does not fit a terminal is said on stderr."""
    stream = out.stream
    names = chosen or [c.name for c in view.columns if options.format is Format.wide or not c.wide]
    columns = [view.column(name) for name in names]
    first = next(chunks, None)
    if first is None:
        first = []
    layout = [_sized(column, first, header=not options.no_headers) for column in columns]
    room = shutil.get_terminal_size().columns if stream.isatty() and options.format is Format.table else None
    dropped: list[str] = []
    stacked = False
    if room is not None and not chosen:
        layout, dropped = _fitting(layout, columns, room)
        if _width(layout) > room:
            short = {"source": "source_short", "destination": "destination_short"}
            columns = [view.column(short.get(column.name, column.name)) for column in layout]
            layout = [_sized(column, first, header=not options.no_headers) for column in columns]
        stacked = _width(layout) > room
    color = use_color(options, stream)
    builder = stacked_lines(layout, color=color) if stacked else table_lines(layout, color=color)
    if not options.no_headers:
        titles = {column.name: column.title for column in columns}
        out.write(_header(layout, titles, color=color, stacked=stacked))
    count = sum(out.emit(builder, chunk) for chunk in chain([first] if first else [], chunks))
    if dropped:
        stream.flush()
        words = ", ".join(name.upper() for name in dropped)
        print(f"ctctl: not shown at {room} columns: {words}; -o wide shows all", file=sys.stderr)
    return count


def _sized(column: Column[CtRow], sample: list[Run], *, header: bool) -> TableColumn:
    from ctctl.tables.show.rowform import Style

    width = len(column.title) if header else 0
    for run in sample:
        rows = run.columns.first(_SAMPLE) if run.order is None else run.columns.select(run.order[:_SAMPLE])
        program = run.form.program(rows)
        run.form.put(program, rows, column.name, Style.TEXT)
        width = max([width, *(len(line.decode()) for line in program.lines())])
    return TableColumn(column.name, width, column.right, column.style is not None)


def _width(layout: list[TableColumn]) -> int:
    return sum(column.width for column in layout) + _GAP * (len(layout) - 1)


def _fitting(layout: list[TableColumn], columns: list[Column[Any]], room: int) -> tuple[list[TableColumn], list[str]]:
    """The columns that have room, and those dropped: the least important first."""
    order = sorted(range(len(columns)), key=lambda at: (columns[at].priority, at), reverse=True)
    kept, dropped = list(range(len(columns))), []
    for at in order:
        if _width([layout[index] for index in kept]) <= room or not columns[at].priority:
            break
        kept.remove(at)
        dropped.append(columns[at].name)
    return [layout[index] for index in kept], dropped


def _header(layout: list[TableColumn], titles: dict[str, str], *, color: bool, stacked: bool) -> bytes:
    names = [column.name for column in layout]
    shown = [column for column in layout if not (stacked and column.name == "destination_short")]
    texts = [
        f"{titles[column.name]} > {titles['destination_short']}"
        if stacked and column.name == "source_short" and "destination_short" in names
        else titles[column.name]
        for column in shown
    ]
    cells = [
        text.rjust(column.width) if column.right else text.ljust(column.width)
        for text, column in zip(texts, shown, strict=True)
    ]
    line = (" " * _GAP).join(cells).rstrip()
    return (f"\033[1m{line}\033[0m\n" if color else line + "\n").encode()
