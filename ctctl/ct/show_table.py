"""``ct list`` as a table for people: widths from a sample, columns that fit the screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ctctl.out.fit import columns_of, fitting, say_dropped
from ctctl.out.options import Format, OutputOptions, use_color
from ctctl.out.view import Column, View
from ctctl.tables.show.lines import Stacked, TableColumn, header_line, table_lines, width_of

if TYPE_CHECKING:
    from ctctl.ct.listing import Out, Run
    from ctctl.model.row import CtRow
    from ctctl.tables.show.lines import Builder

#: Rows of a batch whose texts say how wide the columns have to be.
_SAMPLE = 1000


def write_table(
    view: View[CtRow], chosen: list[str], chunks: Iterator[list[Run]], options: OutputOptions, out: Out
) -> int:
    """Write the rows as they come; returns how many. What does not fit a terminal is said on stderr.

    On a terminal IPv4 and IPv6 tables have widths of their own, each found from its first rows.
    """
    stream = out.stream
    names = chosen or [c.name for c in view.columns if options.format is Format.wide or not c.wide]
    room = columns_of(stream)
    sheet = Sheet(view, names, options, None if chosen or options.format is Format.wide else room)
    builder: Builder | None = None
    family, count = 0, 0
    for chunk in chunks:
        found = chunk[0].form.table.family
        apart = room is not None and options.sort is None
        if builder is None or (apart and (found != family or not sheet.has_room(chunk))):
            if builder is not None and not options.no_headers:
                out.write(b"\n")
            builder = sheet.lines(chunk, out, color=use_color(options, stream))
            family = found
        count += out.emit(builder, chunk)
    if builder is None:
        sheet.lines([], out, color=use_color(options, stream))
    if room is not None:
        say_dropped(sheet.dropped, room, stream)
    return count


class Sheet:
    """How rows are laid out: the columns asked for, as far as there is room."""

    def __init__(self, view: View[CtRow], names: list[str], options: OutputOptions, room: int | None) -> None:
        self._view = view
        self._names = names
        self._header = not options.no_headers
        self._room = room
        self._layout: list[TableColumn] = []
        self.dropped: list[str] = []

    def lines(self, sample: list[Run], out: Out, *, color: bool) -> Builder:
        """Write the header and say how the lines are made; widths are those of the sample."""
        columns, layout = self.fitted(sample)
        room = self._room
        stacked = Stacked(layout, room) if room is not None and width_of(layout) > room else None
        if self._header:
            titles = {column.name: column.title for column in columns}
            for line in stacked.header(titles) if stacked is not None else [header_line(layout, titles)]:
                out.write((f"\033[1m{line}\033[0m\n" if color else line + "\n").encode())
        return stacked.lines(color=color) if stacked is not None else table_lines(layout, color=color)

    def fitted(self, sample: list[Run]) -> tuple[list[Column[CtRow]], list[TableColumn]]:
        """The columns that there is room for, and their widths in the sample; what goes is added to ``dropped``."""
        columns = [self._view.column(name) for name in self._names]
        layout = self._sized(columns, sample)
        room = self._room
        if room is not None:
            kept = fitting([column.width for column in layout], [column.priority for column in columns], room)
            self.dropped += [c.name for at, c in enumerate(columns) if at not in kept and c.name not in self.dropped]
            columns, layout = [columns[at] for at in kept], [layout[at] for at in kept]
            if width_of(layout) > room:
                short = {"source": "source_short", "destination": "destination_short"}
                columns = [self._view.column(short.get(column.name, column.name)) for column in columns]
                layout = self._sized(columns, sample)
        self._layout = layout
        return columns, layout

    def has_room(self, sample: list[Run]) -> bool:
        """Whether rows of another table go with the lines made for the first one."""
        room = self._room
        if room is None:
            return True
        columns = [self._view.column(column.name) for column in self._layout]
        pairs = zip(self._sized(columns, sample), self._layout, strict=True)
        both = [had._replace(width=max(needed.width, had.width)) for needed, had in pairs]
        if width_of(self._layout) <= room:
            return width_of(both) <= room
        # In two lines a row: also those may be too narrow for another table's.
        ours, theirs = Stacked(self._layout, room), Stacked(both, room)
        return ours.alike(theirs) and (theirs.width <= room or ours.width > room)

    def _sized(self, columns: list[Column[CtRow]], sample: list[Run]) -> list[TableColumn]:
        return [sized(column, sample, header=self._header) for column in columns]


def sized(column: Column[Any], sample: list[Run], *, header: bool) -> TableColumn:
    """A column as wide as its widest text in the first rows of each run, or its title."""
    from ctctl.tables.show.encode import Style

    width = len(column.title) if header else 0
    for run in sample:
        rows = run.columns.first(_SAMPLE) if run.order is None else run.columns.select(run.order[:_SAMPLE])
        program = run.form.program()
        run.form.put(program, column.name, Style.TEXT)
        width = max([width, *(len(line.decode()) for line in program.lines(rows))])
    return TableColumn(column.name, width, column.right, column.style is not None)
