"""``nat list`` of live tables: the rows of ``nat_view`` by row programs, so that a million cost what listing them must.

What a dump shows of SNAT entries, and what is sorted or laid out for a terminal, goes entry by entry (``show_nat``); a
property test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeAlias

from ctctl.abi import pins
from ctctl.errors import KernelError, NotFoundError
from ctctl.kernel.map import Map
from ctctl.out.fit import GAP, columns_of
from ctctl.out.output import Format, OutputOptions, View, use_color
from ctctl.out.rowtext import RowProgram
from ctctl.services.nat_form import RECORD, NatForm, NatRows
from ctctl.tables.pairs import KEY_LAYOUTS
from ctctl.tables.query.nat import NatFilter
from ctctl.tables.show.encode import Style

if TYPE_CHECKING:
    from ctctl.model.nat import NatEntry

_BATCH = 8192
_SAMPLE = 1000
Write: TypeAlias = Callable[[bytes | memoryview], object]
#: the form of a table's entries, by its name and family
FormOf: TypeAlias = Callable[[str, int], NatForm]


@dataclass(frozen=True, slots=True)
class Place:
    """The SNAT tables pinned in a directory, or the one called ``only`` there, and which entries are wanted."""

    directory: Path
    only: str | None
    wanted: NatFilter


@dataclass(slots=True)
class NatTable:
    """An SNAT table while it is listed: its form, its first rows, and what is still to be read."""

    form: NatForm
    batches: Iterator[NatRows]
    first: NatRows | None = None


def write_nat(place: Place, form: FormOf, view: View[NatEntry], options: OutputOptions, stream: TextIO) -> bool:
    """List the SNAT entries of a place.

    False, with nothing written, where this is no case for row programs. Raises UsageError for an unknown field.
    """
    table_like = options.format in (Format.table, Format.wide)
    if options.sort is not None or (table_like and (columns_of(stream) is not None or use_color(options, stream))):
        return False
    chosen = [view.column(name).name for name in options.fields]
    with ExitStack() as opened:
        found = _open(place, form, opened)
        if not found:
            return False
        tables = [NatTable(form, batches, next(batches, None)) for form, batches in found]
        write_tables(tables, view, chosen, options, stream)
    return True


def _open(place: Place, form: FormOf, opened: ExitStack) -> list[tuple[NatForm, Iterator[NatRows]]]:
    """The tables and their rows; none where one is not as it should be."""
    found = []
    for family, name in pins.SNAT_TABLES.items():
        if place.only not in (None, name):
            continue
        try:
            table = opened.enter_context(Map.open_pinned(place.directory / name, read_only=True))
        except NotFoundError:
            continue
        except KernelError:
            return []
        layout = KEY_LAYOUTS[family]
        if (table.info.key_size, table.info.value_size) != (layout.size, layout.nat_value_size):
            return []
        made = form(name, family)
        found.append((made, _rows(table, made, place.wanted)))
    return found


def _rows(table: Map, form: NatForm, wanted: NatFilter) -> Iterator[NatRows]:
    for batch in table.batches(_BATCH):
        if wanted.node is None:
            yield NatRows(form.family, batch.key_bytes, batch.value_bytes)
            continue
        from ctctl.tables.query.nat_mask import NatColumns, mask_of

        mask = mask_of(wanted, NatColumns(form.family, form.name, batch.keys, batch.values))
        if mask.any():
            keys, values = (part[mask].tobytes() for part in batch)
            yield NatRows(form.family, keys, values)


def write_tables(
    tables: Sequence[NatTable], view: View[NatEntry], chosen: list[str], options: OutputOptions, stream: TextIO
) -> None:
    """Write the entries in the format asked for; ``chosen`` fields, or all."""
    wide = options.format is Format.wide
    names = chosen or [column.name for column in view.columns if wide or not column.wide]
    json_start = f'{{"schema": {json.dumps(view.schema)}, '
    record = chosen or list(RECORD)
    stream.flush()
    write = _writer(stream)
    if options.format in (Format.table, Format.wide):
        widths = _widths(tables, view, names, header=not options.no_headers)
        if not options.no_headers:
            titles = (_stood(view.column(name).title, *widths[name]) for name in names)
            write(((" " * GAP).join(titles).rstrip() + "\n").encode())
        _run(tables, lambda form: form.table(names, widths), options.limit, write)
    elif options.format is Format.csv:
        columns = chosen or [column.name for column in view.columns]
        if not options.no_headers:
            write((",".join(columns) + "\n").encode())
        _run(tables, lambda form: form.fields(columns, Style.CSV, ("", ",", "\n")), options.limit, write)
    elif options.format is Format.name:
        _run(tables, NatForm.name_line, options.limit, write)
    elif options.format is Format.cilium:
        _run(tables, NatForm.cilium_line, options.limit, write, end=b"\n")
    elif options.format is Format.jsonl:
        lines = lambda form: form.fields(record, Style.JSON, (json_start, ", ", "}\n"), '"{}": ')  # noqa: E731
        _run(tables, lines, options.limit, write)
    else:
        _document(tables, record, view, options, write)
    stream.flush()


def _document(
    tables: Sequence[NatTable],
    record: list[str],
    view: View[NatEntry],
    options: OutputOptions,
    write: Write,
) -> None:
    """json or yaml: the list as it comes."""
    some = options.limit != 0 and any(table.first is not None for table in tables)
    if options.format is Format.yaml:
        write(f"schema: {view.schema}\n{view.plural}:{'' if some else ' []'}\n".encode())
        lines = lambda form: form.fields(record, Style.YAML, ("- ", "  ", ""), "{}:")  # noqa: E731
        _run(tables, lines, options.limit, write)
        return
    write(f'{{"schema": {json.dumps(view.schema)}, {json.dumps(view.plural)}: ['.encode())
    begun = False

    def without_comma(piece: bytes | memoryview) -> None:
        nonlocal begun
        write(piece if begun else piece[1:])
        begun = True

    elements = lambda form: form.fields(record, Style.JSON, (",\n  {", ", ", "}"), '"{}": ')  # noqa: E731
    _run(tables, elements, options.limit, without_comma)
    write(b"\n]}\n" if some else b"]}\n")


def _run(
    tables: Sequence[NatTable],
    program_of: Callable[[NatForm], RowProgram],
    limit: int | None,
    write: Write,
    end: bytes = b"",
) -> None:
    """Write each table's lines; ``end`` after those of a table that has any."""
    left = limit
    for table in tables:
        program, any_line = program_of(table.form), False

        def written(piece: memoryview) -> None:
            nonlocal any_line
            any_line = True
            write(piece)

        rows = table.first
        while rows is not None and left != 0:
            rows = rows if left is None else rows.first(left)
            left = None if left is None else left - len(rows)
            program.run(rows, written)
            rows = next(table.batches, None)
        if any_line:
            write(end)


def _widths(
    tables: Sequence[NatTable], view: View[NatEntry], names: list[str], *, header: bool
) -> dict[str, tuple[int, bool]]:
    """How wide each column is in the first rows of each table, and whether its text stands right."""
    found = {}
    for name in names:
        column = view.column(name)
        width = len(column.title) if header else 0
        for table in tables:
            if table.first is not None:
                program = RowProgram()
                table.form.put(program, name, Style.TEXT)
                width = max([width, *(len(line.decode()) for line in program.lines(table.first.first(_SAMPLE)))])
        found[name] = (width, column.right)
    return found


def _stood(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def _writer(stream: TextIO) -> Write:
    binary = getattr(stream, "buffer", None)
    if binary is not None:
        write: Write = binary.write
        return write
    return lambda piece: stream.write(bytes(piece).decode())
