"""``ct diff`` in every format: what differs, written batch by batch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, TextIO

from ctctl.ct.diff_form import DiffForm, json_differences, yaml_differences
from ctctl.ct.listing import Document, Out, Run, limited
from ctctl.ct.report import Change, Difference
from ctctl.ct.show import DIFF_SCHEMA, SIGN_CODES, SIGNS, diff_view
from ctctl.ct.show_table import sized
from ctctl.out.fit import INDENT, columns_of
from ctctl.out.options import Format, OutputOptions, use_color
from ctctl.out.output import write_rows
from ctctl.tables.show import lines
from ctctl.tables.show.encode import Style
from ctctl.tables.show.lines import TableColumn, header_line, table_lines, width_of

if TYPE_CHECKING:
    from ctctl.ct.differing import Kind
    from ctctl.out.rowtext import RowProgram
    from ctctl.out.view import Column
    from ctctl.tables.show.lines import Builder
    from ctctl.tables.show.rowform import EntryForm

#: How wide columns have to be is looked at in so many rows at least, as far as there are.
_LOOKED_AT = 1 << 14
#: Rows that are sorted are written so many at a time.
_CHUNK = 1 << 14
_HEAD = f'{{"schema": "{DIFF_SCHEMA}", "differences": ['
_JSON = Document(_HEAD, "\n]}\n", f"{_HEAD}]}}\n", commas=True)
_LIST = f"schema: {DIFF_SCHEMA}\ndifferences:"
_YAML = Document(f"{_LIST}\n", "", f"{_LIST} []\n", commas=False)
#: Stands before a row whose lines are still to be broken: no text that is shown has it.
_ROW = "\x01"


def write_differences(found: Iterable[list[Kind]], options: OutputOptions, stream: TextIO) -> int:
    """Write what differs; returns how many entries do. Raises UsageError for a field or a form there is not."""
    view = diff_view()
    names = [view.column(name).name for name in options.fields]
    if options.format is Format.cilium:
        return write_rows(view, (), options, stream)  # which says what there is
    sort = None if options.sort is None else view.column(options.sort.removeprefix("-"), "sort field").name
    out, forms = Out(stream), _forms(found)
    if options.format in (Format.table, Format.wide):
        sample, forms = _looked_at(forms)
        columns = [view.column(name) for name in names] or [
            column for column in view.columns if options.format is Format.wide or not column.wide
        ]
        return _write_table(columns, sample, _chunks(forms, sort, options), options, out)
    chunks = _chunks(forms, sort, options)
    if options.format is Format.csv:
        names = names or [column.name for column in view.columns]
        if not options.no_headers:
            out.write((",".join(names) + "\n").encode())
        return _emit(lines.csv_lines(names), chunks, out)
    if options.format is Format.name:
        return _emit(lines.name_lines(), chunks, out)
    if options.format is Format.yaml:
        return _YAML.write(lines.yaml_elements(names) if names else yaml_differences(), chunks, out)
    element = options.format is Format.json
    builder = json_differences(element=element)
    if names:
        builder = lines.json_fields(names, element=element, schema=DIFF_SCHEMA)
    return _JSON.write(builder, chunks, out) if element else _emit(builder, chunks, out)


def _forms(found: Iterable[list[Kind]]) -> Iterator[tuple[DiffForm, Kind]]:
    for kinds in found:
        for kind in kinds:
            yield DiffForm(kind), kind


def _looked_at(forms: Iterator[tuple[DiffForm, Kind]]) -> tuple[list[Run], Iterator[tuple[DiffForm, Kind]]]:
    """The first rows of each kind, of as many tables as it takes to have seen some, and all kinds again."""
    sample: list[Run] = []
    seen: list[tuple[DiffForm, Kind]] = []
    for form, kind in forms:
        seen.append((form, kind))
        sample += islice(_runs(form, kind), 1)
        if kind.change is Change.CHANGED and sum(map(len, sample)) >= _LOOKED_AT:
            break
    return sample, chain(seen, forms)


def _chunks(forms: Iterator[tuple[DiffForm, Kind]], sort: str | None, options: OutputOptions) -> Iterator[list[Run]]:
    """What is to be written, a piece at a time."""
    if sort is not None:
        return _sorted(forms, sort, options)
    return limited((run for form, kind in forms for run in _runs(form, kind)), options.limit)


def _runs(form: DiffForm, kind: Kind) -> Iterator[Run]:
    return (Run(form, columns) for columns in kind.batches())


def _sorted(forms: Iterator[tuple[DiffForm, Kind]], name: str, options: OutputOptions) -> Iterator[list[Run]]:
    """All of it in the order of a field's text, alike ones as they come."""
    import numpy as np

    runs = [run for form, kind in forms for run in _runs(form, kind)]
    keys = [key for run in runs for key in _keys(run, name)]
    descending = (options.sort or "").startswith("-")
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__, reverse=descending)[: options.limit], np.int64)
    starts = np.cumsum([0, *(len(run) for run in runs)])
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        which = np.searchsorted(starts, chunk, "right") - 1
        places = [(at, np.flatnonzero(which == at)) for at in np.unique(which).tolist()]
        yield [Run(runs[at].form, runs[at].columns, chunk[place] - starts[at], place) for at, place in places]


def _keys(run: Run, name: str) -> list[bytes]:
    program = run.form.program()
    run.form.put(program, name, {"fields": Style.JSON, "change": Style.CSV}.get(name, Style.TEXT))
    return program.lines(run.columns)


def _emit(builder: Builder, chunks: Iterator[list[Run]], out: Out) -> int:
    return sum(out.emit(builder, chunk) for chunk in chunks)


# ---- for people


def _write_table(
    columns: list[Column[Difference]], sample: list[Run], chunks: Iterator[list[Run]], options: OutputOptions, out: Out
) -> int:
    """A table, whose columns are as wide as the sample has them."""
    color = use_color(options, out.stream)
    layout = [sized(column, sample, header=not options.no_headers) for column in columns]
    titles = {column.name: column.title for column in columns}
    room = columns_of(out.stream) if options.format is Format.table else None
    if room is None or width_of(layout) <= room:
        if not options.no_headers:
            _write_header([header_line(layout, titles)], out, color=color)
        return _emit(table_lines(layout, color=color), chunks, out)
    below = layout[-1].name == "fields" and len(layout) > 1
    head, rest = (layout[:-1], layout[-1:]) if below else (layout, [])
    head = _narrower(head, room)
    if not options.no_headers:
        text = f"{_ROW}{header_line(head, titles)}\n" + "".join(f"{titles[column.name]}\n" for column in rest)
        _write_header(Broken(room, {}).lines(text).splitlines(), out, color=color)
    codes = {SIGNS[name]: code for name, code in SIGN_CODES.items()} if color and head[0].name == "change" else {}
    return _emit(_in_rows(head, below=bool(rest)), chunks, _Breaking(out, Broken(room, codes)))


def _narrower(head: list[TableColumn], room: int) -> list[TableColumn]:
    """Long entries, as those of IPv6, go on below: what is in a line without them stays in one."""
    over = width_of(head) - room
    return [c._replace(width=max(c.width - max(over, 0), 0)) if c.name == "entry" else c for c in head]


def _write_header(header: list[str], out: Out, *, color: bool) -> None:
    for line in header:
        out.write((f"\033[1m{line}\033[0m\n" if color else f"{line}\n").encode())


def _in_rows(head: list[TableColumn], *, below: bool) -> Builder:
    """Lines that are still to be broken, ``_ROW`` before each row; what changed is a line of its own."""
    above = table_lines([column._replace(styled=False) for column in head])

    def build(form: EntryForm) -> RowProgram:
        program = above(form, form.program().literal(_ROW.encode()))
        if below and isinstance(form, DiffForm) and form.change is Change.CHANGED:
            form.put(program, "fields", Style.TEXT)
            program.literal(b"\n")
        return program

    return build


class Broken:
    """Lines as long as a terminal is wide: many are broken at once. ``codes``: colours of the first letters."""

    def __init__(self, room: int, codes: Mapping[str, str]) -> None:
        least = max(room - INDENT, 1)
        self._line = re.compile(rf"({_ROW}.{{1,{room}}}|.{{1,{least}}})(?: +|\n)|(.{{{least}}})")
        self._codes = codes

    def lines(self, text: str) -> str:
        """The lines of rows: each row's first starts at the left, what follows stands in."""
        behind = " " * INDENT
        text = self._line.sub(rf"{behind}\1\2\n", text)
        for letter, code in self._codes.items():
            text = text.replace(f"{behind}{_ROW}{letter}", f"\033[{code}m{letter}\033[0m")
        return text.replace(f"{behind}{_ROW}", "")


class _Breaking(Out):
    """Breaks the lines of rows that pass."""

    def __init__(self, out: Out, broken: Broken) -> None:
        super().__init__(out.stream)
        self._out = out
        self._broken = broken

    def write(self, data: bytes | memoryview) -> None:
        """Write whole rows."""
        self._out.write(self._broken.lines(bytes(data).decode()).encode())
