"""SNAT entries as a table for people: widths from the first rows, columns that fit the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ctctl.decode.nat_rows import NatRows
from ctctl.out.fit import GAP, Layout, fitting, least_of
from ctctl.out.rowtext import RowProgram
from ctctl.out.view import Column
from ctctl.services.nat_form import NatForm
from ctctl.tables.show.encode import Style

if TYPE_CHECKING:
    from ctctl.model.nat import NatEntry

#: Rows of a table in which widths are found.
SAMPLE = 1000
#: Between the cells of a row that is still to be laid out: no printed text has it.
_PART = "\x1f"


class Sheet:
    """How rows are laid out in ``room`` columns; None: in one line each, however long."""

    def __init__(self, columns: Sequence[Column[NatEntry]], *, room: int | None, header: bool) -> None:
        self._columns = list(columns)
        self._room = room
        self._titled = header
        self._layout = Layout((), (), ())
        #: titles of the columns that had no room
        self.dropped: list[str] = []
        #: whether every row is one line, whose cells are only padded
        self.in_one_line = True

    def fit(self, sample: Sequence[tuple[NatForm, NatRows]], *, may_drop: bool) -> None:
        """Find the widths in the first rows of each table, and drop columns that have no room.

        Where a row still takes more than a line, names stand in the place of the addresses they are of.
        """
        self._arrange(sample, may_drop=may_drop)
        if may_drop and not self.in_one_line:
            short = {name: short for short, name in NatForm.SHORT.items()}
            self._columns = [replace(one, name=short.get(one.name, one.name)) for one in self._columns]
            self._arrange(sample, may_drop=False)

    def _arrange(self, sample: Sequence[tuple[NatForm, NatRows]], *, may_drop: bool) -> None:
        texts = [self._texts(column, sample) for column in self._columns]
        widths = [max(map(len, some), default=0) for some in texts]
        least = [
            least_of(some, width) if column.prose else width
            for column, some, width in zip(self._columns, texts, widths, strict=True)
        ]
        room = self._room if sample else None
        if room is not None and may_drop:
            kept = fitting(least, [column.priority for column in self._columns], room)
            self.dropped = [column.title for at, column in enumerate(self._columns) if at not in kept]
            self._columns = [self._columns[at] for at in kept]
            widths, least = ([some[at] for at in kept] for some in (widths, least))
        self._layout = Layout.of(widths, [column.right for column in self._columns], least, room)
        self.in_one_line = self._layout.in_one_line(widths)

    def _texts(self, column: Column[NatEntry], sample: Sequence[tuple[NatForm, NatRows]]) -> list[str]:
        found = [column.title] if self._titled else []
        for form, rows in sample:
            program = RowProgram()
            form.put(program, column.name, Style.TEXT)
            found += [line.decode() for line in program.lines(rows.first(SAMPLE))]
        return found

    def header(self, *, color: bool) -> bytes:
        """The titles."""
        lines = ["".join(text for _, text in line).rstrip() for line in self._layout.lines(self._titles())]
        return "".join(f"\033[1m{line}\033[0m\n" if color else f"{line}\n" for line in lines).encode()

    def _titles(self) -> list[str]:
        return [column.title for column in self._columns]

    def program(self, form: NatForm) -> RowProgram:
        """A row that is one line."""
        program, last = RowProgram(), len(self._columns) - 1
        for index, (column, width) in enumerate(zip(self._columns, self._layout.widths, strict=True)):
            with program.cell(0 if index == last and not column.right else width, right=column.right):
                form.put(program, column.name, Style.TEXT)
            program.literal(b"\n" if index == last else b" " * GAP)
        return program

    def parted(self, form: NatForm) -> RowProgram:
        """The cells of a row, for ``laid_out``."""
        return form.fields([column.name for column in self._columns], Style.TEXT, ("", _PART, "\n"))

    def laid_out(self, write: Callable[[bytes], object]) -> Callable[[bytes | memoryview], None]:
        """Takes what ``parted`` writes, and writes rows of several lines."""

        def take(piece: bytes | memoryview) -> None:
            rows = bytes(piece).decode().splitlines()
            lines = (line for row in rows for line in self._layout.lines(row.split(_PART)))
            write("".join("".join(text for _, text in line).rstrip() + "\n" for line in lines).encode())

        return take
