"""``nat list`` of tables whose bytes are there: the rows of ``nat_view`` by row programs.

A million cost what listing them must, in every format, in order too, and on a terminal. What other listings show of
SNAT entries goes entry by entry (``show_nat``); a property test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from ctctl.decode.nat_rows import NatRows, NatTable
from ctctl.out.fit import columns_of, say_dropped
from ctctl.out.options import Format, OutputOptions, use_color
from ctctl.out.rowtext import RowProgram
from ctctl.out.view import View
from ctctl.services.nat_form import RECORD, NatForm
from ctctl.services.nat_sheet import SAMPLE, Sheet
from ctctl.tables.query.nat import NatFilter
from ctctl.tables.show.encode import Style

if TYPE_CHECKING:
    from ctctl.model.nat import NatEntry

Write: TypeAlias = Callable[[bytes | memoryview], object]
#: the form of a table's entries
FormOf: TypeAlias = Callable[[NatTable], NatForm]
ProgramOf: TypeAlias = Callable[[NatForm], RowProgram]


@dataclass(slots=True)
class Listed:
    """An SNAT table while it is listed: its form, its first rows, and what is still to be read."""

    form: NatForm
    batches: Iterator[NatRows]
    first: NatRows | None = None

    def rows(self) -> Iterator[NatRows]:
        """All of it."""
        if self.first is not None:
            yield self.first
            yield from self.batches


def listed(tables: Sequence[NatTable], form: FormOf, wanted: NatFilter) -> list[Listed]:
    """The entries of these tables that are wanted."""
    found = []
    for table in tables:
        batches = matching(table, wanted)
        found.append(Listed(form(table), batches, next(batches, None)))
    return found


def matching(table: NatTable, wanted: NatFilter) -> Iterator[NatRows]:
    """The entries that the filter wants, batch by batch."""
    absent = table.absent - {"created"}
    for rows in table.read():
        if wanted.node is None:
            yield rows
            continue
        import numpy as np

        from ctctl.tables.query.nat_mask import NatColumns, mask_of

        keys, values = (np.frombuffer(memory, np.uint8).reshape(-1, width) for memory, width in rows.matrices[:2])
        ages = None if rows.ages is None else np.frombuffer(rows.ages, np.int64)
        mask = mask_of(wanted, NatColumns(rows.family, rows.name, keys, values, ages, absent))
        if mask.any():
            yield rows.where(mask)


def write_tables(tables: Sequence[Listed], view: View[NatEntry], options: OutputOptions, stream: TextIO) -> None:
    """Write the entries in the format asked for. Raises UsageError for an unknown field."""
    chosen = [view.column(name).name for name in options.fields]
    stream.flush()
    lines: Lines = Lines(tables, options.limit, _writer(stream))
    if options.sort is not None:
        lines = Sorted(tables, options, view.column(options.sort.removeprefix("-"), "sort field").name, _writer(stream))
    if options.format in (Format.table, Format.wide):
        _write_sheet(lines, view, chosen, options, stream)
    else:
        _write_lines(lines, view, chosen, options)
    stream.flush()


class Lines:
    """Rows of tables as text, one table behind the other, at most ``limit``."""

    def __init__(self, tables: Sequence[Listed], limit: int | None, write: Write) -> None:
        self.tables, self.limit, self.write = tables, limit, write

    @property
    def some(self) -> bool:
        """Whether there is any row."""
        return self.limit != 0 and any(table.first is not None for table in self.tables)

    def sample(self) -> list[tuple[NatForm, NatRows]]:
        """The first rows of each table."""
        return [(table.form, table.first) for table in self.tables if table.first is not None]

    def by_family(self) -> list[Lines]:
        """The same in one piece a family, those without rows left out; at least one."""
        some = [table for table in self.tables if table.first is not None]
        families = dict.fromkeys(table.form.family for table in some)
        parts = [[table for table in some if table.form.family == family] for family in families]
        return [Lines(part, self.limit, self.write) for part in parts] or [self]

    def run(self, program_of: ProgramOf, write: Write | None = None, end: bytes = b"") -> int:
        """Write the lines, ``end`` after those of a table that has any; returns how many rows."""
        to = write or self.write
        left, count = self.limit, 0
        for table in self.tables:
            noted = _Noted(to)
            program = program_of(table.form)
            for batch in table.rows():
                if left == 0:
                    break
                rows = batch if left is None else batch.first(left)
                left = None if left is None else left - len(rows)
                count += len(rows)
                program.run(rows, noted)
            if noted.any:
                to(end)
        return count


class _Noted:
    """Passes pieces on and knows whether there were any."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self.any = False

    def __call__(self, piece: memoryview) -> None:
        self.any = True
        self._write(piece)


class Sorted(Lines):
    """The same in one order over all tables, whose rows are kept."""

    def __init__(self, tables: Sequence[Listed], options: OutputOptions, name: str, write: Write) -> None:
        super().__init__(tables, options.limit, write)
        from ctctl.services.nat_order import order_of

        self._kept = [(table.form, _kept(table)) for table in tables]
        descending = options.sort is not None and options.sort.startswith("-")
        #: of each row in order: which of the tables, and which of its rows
        self._table, self._row = order_of(self._kept, name, descending=descending, limit=options.limit)

    def sample(self) -> list[tuple[NatForm, NatRows]]:
        """The first rows in order."""
        return [
            (form, rows.chosen(self._row[self._table == number][:SAMPLE]))
            for number, (form, rows) in enumerate(self._kept)
        ]

    def by_family(self) -> list[Lines]:
        """In one piece: the order is one over all tables."""
        return [self]

    def run(self, program_of: ProgramOf, write: Write | None = None, end: bytes = b"") -> int:
        """Write the lines; with ``end`` table by table, as the Cilium CLI has them."""
        to = write or self.write
        programs = [program_of(form) for form, _rows in self._kept]
        if end or len(self._kept) == 1:
            for number, ((_form, rows), program) in enumerate(zip(self._kept, programs, strict=True)):
                noted = _Noted(to)
                program.run(rows, noted, self._row[self._table == number])
                if noted.any:
                    to(end)
            return len(self._row)
        for start in range(0, len(self._row), _CHUNK):
            tables, rows_at = self._table[start : start + _CHUNK], self._row[start : start + _CHUNK]
            found: list[bytes] = [b""] * len(tables)
            for number, ((_form, rows), program) in enumerate(zip(self._kept, programs, strict=True)):
                places = (tables == number).nonzero()[0]
                for place, line in zip(places.tolist(), program.lines(rows, rows_at[places]), strict=True):
                    found[place] = line
            to(b"".join(found))
        return len(self._row)


_CHUNK = 1 << 14


def _kept(table: Listed) -> NatRows:
    return NatRows.joined(table.form.family, table.form.name, table.rows())


def _write_sheet(lines: Lines, view: View[NatEntry], chosen: list[str], options: OutputOptions, stream: TextIO) -> None:
    """A table for people, on a terminal one a family: IPv6 must not take the room that IPv4 has.

    What does not fit a terminal is said on stderr.
    """
    wide = options.format is Format.wide
    names = chosen or [column.name for column in view.columns if wide or not column.wide]
    room = columns_of(stream)
    dropped: dict[str, None] = {}
    left = lines.limit
    for number, part in enumerate([lines] if room is None else lines.by_family()):
        if number and left == 0:
            break
        part.limit = left
        columns = [view.column(name) for name in names]
        sheet = Sheet(columns, room=None if wide else room, header=not options.no_headers)
        sheet.fit(part.sample(), may_drop=not chosen)
        if not options.no_headers:
            part.write((b"\n" if number else b"") + sheet.header(color=use_color(options, stream)))
        count = part.run(sheet.program) if sheet.in_one_line else part.run(sheet.parted, sheet.laid_out(part.write))
        left = None if left is None else left - count
        dropped |= dict.fromkeys(sheet.dropped)
    if room is not None:
        say_dropped(list(dropped), room, stream)


def _write_lines(lines: Lines, view: View[NatEntry], chosen: list[str], options: OutputOptions) -> None:
    record = chosen or list(RECORD)
    if options.format is Format.csv:
        columns = chosen or [column.name for column in view.columns]
        if not options.no_headers:
            lines.write((",".join(columns) + "\n").encode())
        lines.run(lambda form: form.fields(columns, Style.CSV, ("", ",", "\n")))
    elif options.format is Format.name:
        lines.run(NatForm.name_line)
    elif options.format is Format.cilium:
        lines.run(NatForm.cilium_line, end=b"\n")
    elif options.format is Format.jsonl:
        start = f'{{"schema": {json.dumps(view.schema)}, '
        lines.run(lambda form: form.fields(record, Style.JSON, (start, ", ", "}\n"), '"{}": '))
    else:
        _document(lines, record, view, options)


def _document(lines: Lines, record: list[str], view: View[NatEntry], options: OutputOptions) -> None:
    """json or yaml: the list as it comes."""
    write, some = lines.write, lines.some
    if options.format is Format.yaml:
        write(f"schema: {view.schema}\n{view.plural}:{'' if some else ' []'}\n".encode())
        lines.run(lambda form: form.fields(record, Style.YAML, ("- ", "  ", ""), "{}:"))
        return
    write(f'{{"schema": {json.dumps(view.schema)}, {json.dumps(view.plural)}: ['.encode())
    begun = False

    def without_comma(piece: bytes | memoryview) -> None:
        nonlocal begun
        write(piece if begun else piece[1:])
        begun = True

    lines.run(lambda form: form.fields(record, Style.JSON, (",\n  {", ", ", "}"), '"{}": '), without_comma)
    write(b"\n]}\n" if some else b"]}\n")


def _writer(stream: TextIO) -> Write:
    binary: Any = getattr(stream, "buffer", None)
    if binary is not None:
        write: Write = binary.write
        return write
    return lambda piece: stream.write(bytes(piece).decode())
