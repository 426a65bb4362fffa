"""Differences as lines in every format: row programs, as ``ct.show.diff_view`` says what stands in each field."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from ctctl._ffi.rows import Field
from ctctl.ct.diff import COMPARED
from ctctl.ct.differing import DIFFERING, OLD_VALUES
from ctctl.ct.report import Change
from ctctl.ct.show import DIFF_SCHEMA, SIGN_CODES, SIGNS
from ctctl.decode.ct import LAYOUT_LACKS
from ctctl.model.entry import TIMES
from ctctl.tables.show.encode import Style, encode
from ctctl.tables.show.entry import record_fields
from ctctl.tables.show.entry_facts import NUMBERS
from ctctl.tables.show.lines import put_record
from ctctl.tables.show.rowform import OPTIONAL, EntryForm
from ctctl.tables.show.shared_texts import shared_texts

if TYPE_CHECKING:
    from ctctl.ct.differing import Kind
    from ctctl.out.rowtext import RowProgram
    from ctctl.tables.show.lines import Builder

_BITS = Field(DIFFERING, 0, 4)


class DiffForm(EntryForm):
    """The fields of the differences of one change between two tables as text."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind.table)
        self.change = kind.change
        before = kind.before or kind.table
        lacking = self.lacks | LAYOUT_LACKS[before.layout] | before.absent
        #: what may differ: bit and name
        self._compared = [(1 << at, name) for at, name in enumerate(COMPARED) if name not in lacking]

    def put(self, program: RowProgram, name: str, style: Style, *, record: bool = False) -> None:
        """Add a field of a difference, or of its entry."""
        special = _SPECIAL.get(name)
        if record or special is None:
            super().put(program, name, style, record=record)
        else:
            special(self, program, style)

    def put_style(self, program: RowProgram) -> None:
        """The escape sequence of the sign's colour."""
        program.literal(f"\033[{SIGN_CODES[self.change.value]}m".encode())

    def _change(self, program: RowProgram, style: Style) -> None:
        program.literal(encode(style, self.change, SIGNS[self.change.value]))

    def _state_word(self, program: RowProgram, style: Style) -> None:
        super().put(program, "state", Style.CSV if style is Style.TEXT else style)

    def _fields(self, program: RowProgram, style: Style) -> None:
        if self.change is not Change.CHANGED:
            program.literal(encode(style, {}, "-"))
        elif style is Style.TEXT:
            self._each(program, ", ", lambda name: self._words(program, name))
        elif style.yaml:
            program.literal(b"\n")
            self._each(program, "", lambda name: self._mapping(program, name))
        else:
            mark = '""' if style is Style.CSV else '"'
            program.literal(b'"{' if style is Style.CSV else b"{")
            self._each(program, ", ", lambda name: self._object(program, name, mark))
            program.literal(b'}"' if style is Style.CSV else b"}")

    def _each(self, program: RowProgram, between: str, put: Callable[[str], None]) -> None:
        """Each field that differs, in the order in which they are compared."""
        for bit, name in self._compared:
            with program.where(_BITS, bit, 0, other=True):
                if between:
                    with program.where(_BITS, bit - 1, 0, other=True):
                        program.literal(between.encode())
                put(name)

    def _object(self, program: RowProgram, name: str, mark: str) -> None:
        program.literal(f"{mark}{name}{mark}: {{".encode())
        for word, matrix in (("before", OLD_VALUES), ("after", 1)):
            program.literal(f"{'' if word == 'before' else ', '}{mark}{word}{mark}: ".encode())
            if name == "nat_addr":
                program.literal(mark.encode())
                self.put_nat_octets(program, Style.TEXT, matrix)
                program.literal(mark.encode())
            else:
                program.decimal(self._place(name, matrix))
        program.literal(b"}")

    def _mapping(self, program: RowProgram, name: str) -> None:
        program.literal(f"    {name}:\n".encode())
        for word, matrix in (("before", OLD_VALUES), ("after", 1)):
            program.literal(f"      {word}:".encode())
            if name == "nat_addr":
                self.put_nat_octets(program, Style.YAML, matrix)
            else:
                program.literal(b" ").decimal(self._place(name, matrix)).literal(b"\n")

    def _words(self, program: RowProgram, name: str) -> None:
        """In the words of a trace (``value_words``)."""
        from ctctl.events.lines import ARROW  # with the hooks' events, which only these lines need

        program.literal(f"{name} ".encode())
        self._value(program, name, OLD_VALUES)
        program.literal(f" {ARROW} ".encode())
        self._value(program, name, 1)

    def _value(self, program: RowProgram, name: str, matrix: int) -> None:
        from ctctl.events.lines import value_words

        clock, now, place = self.table.clock, self.table.now, self._place(name, matrix)
        if name == "nat_addr":
            self.put_nat_octets(program, Style.TEXT, matrix)
        elif name in TIMES:
            never = name != "lifetime"
            if never:
                with program.where(place, (1 << 32) - 1, 0):
                    program.literal(value_words(name, 0, clock, now).encode())
            with program.where(place, (1 << 32) - 1, 0, other=True) if never else nullcontext():
                if now is None:
                    program.decimal(place)
                else:
                    seconds = clock.seconds(now)
                    left = program.number((name, matrix), lambda to: program.seconds(to, place, clock.hz, seconds))
                    program.signed(left).literal(b" s")
        elif name in ("flags", "tx_flags_seen", "rx_flags_seen"):
            kind = "flags" if name == "flags" else "tcp flags"
            limit = 1 << 8 * place.width
            texts = shared_texts(
                f"{kind} in a change", Style.TEXT, limit, lambda number: value_words(name, number, clock, now).encode()
            )
            program.text(place, texts)
        else:
            program.decimal(place)

    def _place(self, name: str, matrix: int) -> Field:
        """Where a field lies, now (1) or before."""
        if name == "nat_addr":
            return Field(matrix, 0, 8)
        return self.fields[NUMBERS.get(name, name)]._replace(matrix=matrix)


_SPECIAL: dict[str, Callable[[DiffForm, RowProgram, Style], None]] = {
    "change": DiffForm._change,
    "entry": DiffForm.put_entry_name,
    "state": DiffForm._state_word,
    "fields": DiffForm._fields,
}


def json_differences(*, element: bool) -> Builder:
    """A difference as a line of ``-o jsonl``, or as an element of the list of ``-o json`` with a comma before it."""
    start, end = (b",\n  {", b"}}") if element else (f'{{"schema": "{DIFF_SCHEMA}", '.encode(), b"}}\n")

    def build(form: EntryForm) -> RowProgram:
        program = form.program().literal(start + b'"change": ')
        form.put(program, "change", Style.JSON)
        put_record(form, program.literal(b', "entry": '), "{").literal(b'}, "fields": ')
        form.put(program, "fields", Style.JSON)
        return program.literal(end[1:])

    return build


def yaml_differences() -> Builder:
    """The elements of the list of ``-o yaml``."""

    def build(form: EntryForm) -> RowProgram:
        program = form.program().literal(b"- change:")
        form.put(program, "change", Style.YAML)
        program.literal(b"  entry:\n")
        for name in record_fields(form.table):
            if name not in OPTIONAL:  # a difference is shown without names
                program.literal(f"    {name}:".encode())
                form.put(program, name, Style.DEEP_YAML, record=True)
        program.literal(b"  fields:")
        form.put(program, "fields", Style.YAML)
        return program

    return build
