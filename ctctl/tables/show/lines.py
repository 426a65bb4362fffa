"""Conntrack entries in the formats that are lists: what stands between the fields, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ctctl.out.rowtext import RowProgram
from ctctl.tables.show.cilium_rows import cilium_program
from ctctl.tables.show.encode import Style
from ctctl.tables.show.entry import SCHEMA, record_fields
from ctctl.tables.show.rowform import OPTIONAL, EntryForm


class TableColumn(NamedTuple):
    """A column of a table for people: its width in characters, where the text stands in it, its colours."""

    name: str
    width: int
    right: bool = False
    styled: bool = False


#: makes the program of a table's lines
Builder = Callable[[EntryForm], RowProgram]


class Adder(Protocol):
    """A builder that can also go on with a program."""

    def __call__(self, form: EntryForm, program: RowProgram | None = None) -> RowProgram:
        """The program, with the rows added to it."""


def json_lines(*, raw: bool = False) -> Builder:
    """``-o jsonl``: an object a line."""
    return lambda form: _record(form, f'{{"schema": "{SCHEMA}", ', b"}\n", raw=raw)


def json_elements(*, raw: bool = False) -> Builder:
    """The elements of the list of ``-o json``, with a comma before each."""
    return lambda form: _record(form, ",\n  {", b"}", raw=raw)


def json_fields(names: Sequence[str], *, element: bool = False, schema: str = SCHEMA) -> Builder:
    """As the two above, of these fields only."""
    start = ",\n  {" if element else f'{{"schema": "{schema}", '
    return _joined(names, Style.JSON, start, ", ", "}" if element else "}\n", label=lambda name: f'"{name}": ')


def yaml_elements(names: Sequence[str] = (), *, raw: bool = False) -> Builder:
    """The elements of the list of ``-o yaml``."""

    def build(form: EntryForm) -> RowProgram:
        program, start = form.program(), "- "
        for name in names or record_fields(form.table, raw=raw):
            if not names and name in OPTIONAL:
                if not form.knows(name):
                    continue
                with form.where_known(program, name):
                    program.literal(f"  {name}:".encode())
                    form.put(program, name, Style.YAML)
            else:
                program.literal(f"{start}{name}:".encode())
                form.put(program, name, Style.YAML, record=not names)
            start = "  "
        return program

    return build


def csv_lines(names: Sequence[str]) -> Builder:
    """``-o csv``: without its header."""
    return _joined(names, Style.CSV, "", ",", "\n", label=lambda _name: "")


def name_lines() -> Builder:
    """``-o name``: what ``ct get`` takes."""

    def build(form: EntryForm) -> RowProgram:
        program = form.program()
        form.put_entry_name(program, Style.CSV)
        return program.literal(b"\n")

    return build


def table_lines(layout: Sequence[TableColumn], *, color: bool = False) -> Adder:
    """Rows of a table; the last column is not padded. Added to a program where one is given."""

    def build(form: EntryForm, program: RowProgram | None = None) -> RowProgram:
        program = form.program() if program is None else program
        for index, column in enumerate(layout):
            last = index == len(layout) - 1
            if color and column.styled:
                form.put_style(program)
            with program.cell(0 if last and not column.right else column.width, right=column.right):
                form.put(program, column.name, Style.TEXT)
            if color and column.styled:
                program.literal(b"\033[0m")
            program.literal(b"\n" if last else b"  ")
        return program

    return build


class Stacked:
    """As ``table_lines``, with each destination on a line of its own below the source: for long addresses.

    Where even that has no room, what follows the source stands behind the destination.
    """

    def __init__(self, layout: Sequence[TableColumn], room: int) -> None:
        above = [column for column in layout if column.name != "destination_short"]
        end = [column.name for column in above].index("source_short") + 1
        below = next(column for column in layout if column.name == "destination_short")
        if width_of(above) <= room:
            self.first, self.second = above, [below]
            self.indent = " " * width_of(above[: end - 1])
        else:
            self.first, self.second, self.indent = above[:end], [below, *above[end:]], "  "

    @property
    def width(self) -> int:
        """Of the wider of the two lines."""
        return max(width_of(self.first), len(self.indent) + 2 + width_of(self.second))

    def alike(self, other: Stacked) -> bool:
        """Whether the other has the same columns in each of its lines."""
        return [column.name for column in self.first] == [column.name for column in other.first]

    def lines(self, *, color: bool = False) -> Builder:
        """The two lines of a row."""
        head, tail = table_lines(self.first, color=color), table_lines(self.second, color=color)
        between = f"{self.indent}> ".encode()
        return lambda form: tail(form, head(form).literal(between))

    def header(self, titles: Mapping[str, str]) -> list[str]:
        """The two lines above them, each title where its column is."""
        return [header_line(self.first, titles), f"{self.indent}> {header_line(self.second, titles)}"]


def width_of(layout: Sequence[TableColumn]) -> int:
    """Characters of a line of ``table_lines``."""
    return sum(column.width + 2 for column in layout) - 2


def header_line(layout: Sequence[TableColumn], titles: Mapping[str, str]) -> str:
    """The titles of columns, where ``table_lines`` puts them."""
    cells = ((titles[column.name], column) for column in layout)
    return "  ".join(
        text.rjust(column.width) if column.right else text.ljust(column.width) for text, column in cells
    ).rstrip()


def cilium_lines() -> Builder:
    """``-o cilium``. Entries of protocol 0 have no line."""

    def build(form: EntryForm) -> RowProgram:
        return cilium_program(form)

    return build


def _joined(
    names: Sequence[str], style: Style, start: str, between: str, end: str, *, label: Callable[[str], str]
) -> Builder:
    def build(form: EntryForm) -> RowProgram:
        program = form.program()
        for index, name in enumerate(names):
            program.literal(f"{between if index else start}{label(name)}".encode())
            form.put(program, name, style)
        return program.literal(end.encode())

    return build


def _record(form: EntryForm, start: str, end: bytes, *, raw: bool) -> RowProgram:
    return put_record(form, form.program(), start, raw=raw).literal(end)


def put_record(form: EntryForm, program: RowProgram, start: str, *, raw: bool = False) -> RowProgram:
    """Add the members of an entry's JSON form, the first behind ``start``."""
    for index, name in enumerate(record_fields(form.table, raw=raw)):
        label = f'{", " if index else start}"{name}": '.encode()
        if name not in OPTIONAL:
            form.put(program.literal(label), name, Style.JSON, record=True)
            continue
        if form.knows(name):
            with form.where_known(program, name):
                form.put(program.literal(label), name, Style.JSON)
    return program
