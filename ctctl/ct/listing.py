"""What a listing is made of: how to list, rows of a batch, and where the text goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from ctctl.model.light import light
from ctctl.out.options import OutputOptions
from ctctl.tables.names import Names, no_names
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.decode.columns import CtColumns
    from ctctl.out.rowtext import RowProgram
    from ctctl.tables.show.lines import Builder
    from ctctl.tables.show.rowform import EntryForm

    Order = NDArray[np.int64]


class Listing(NamedTuple):
    """How to list."""

    options: OutputOptions
    names: Names = no_names
    raw: bool = False
    time_diff: bool = False


Batches = Callable[[CtTable], Iterator["CtColumns"]]


@light
class Run:
    """Rows of one batch, in the order given, or all as they lie. ``places``: where each stands in its chunk."""

    form: EntryForm
    columns: CtColumns
    order: Order | None = None
    places: Order | None = None

    def __len__(self) -> int:
        return len(self.columns) if self.order is None else len(self.order)


class Out:
    """Bytes to a text stream, past its encoder where it has a binary layer."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._binary: Any = getattr(stream, "buffer", None)
        self._programs: dict[tuple[Builder, EntryForm], RowProgram] = {}
        if self._binary is not None:
            stream.flush()

    def write(self, data: bytes | memoryview) -> None:
        """Write a piece whose characters are whole."""
        if self._binary is None:
            self.stream.write(bytes(data).decode())
        else:
            self._binary.write(data)

    def emit(self, builder: Builder, chunk: list[Run]) -> int:
        """Write the lines of a chunk at once, so that the first rows do not wait; returns how many."""
        count = self._emit(builder, chunk)
        if self._binary is not None:
            self._binary.flush()
        return count

    def _emit(self, builder: Builder, chunk: list[Run]) -> int:
        if len(chunk) == 1 and chunk[0].places is None:
            run = chunk[0]
            self._program(builder, run.form).run(run.columns, self.write, run.order)
            return len(run)
        count = sum(len(run) for run in chunk)
        found = [b""] * count
        for run in chunk:
            lines = self._program(builder, run.form).lines(run.columns, run.order)
            places = range(len(run)) if run.places is None else run.places.tolist()
            for place, line in zip(places, lines, strict=True):
                found[place] = line
        self.write(b"".join(found))
        return count

    def _program(self, builder: Builder, form: EntryForm) -> RowProgram:
        """The program of a table's lines, made once."""
        known = self._programs.get((builder, form))
        if known is None:
            known = self._programs[builder, form] = builder(form)
        return known


class Skipping(Out):
    """Leaves out the first byte of what passes."""

    def __init__(self, out: Out) -> None:
        super().__init__(out.stream)
        self._out = out
        self._begun = False

    def write(self, data: bytes | memoryview) -> None:
        """Pass on, but for the first byte of all."""
        self._out.write(data if self._begun else data[1:])
        self._begun = True


def limited(runs: Iterable[Run], limit: int | None) -> Iterator[list[Run]]:
    """A chunk for each run, up to so many rows; what comes after them is not read."""
    left = limit
    if left == 0:
        return
    for run in runs:
        if left is None:
            yield [run]
            continue
        yield [run if len(run) <= left else Run(run.form, run.columns.first(left))]
        left -= min(left, len(run))
        if left == 0:
            return


class Document(NamedTuple):
    """What stands around the elements of a list: before the first, behind the last, or instead of any."""

    opening: str
    closing: str
    empty: str
    #: each element begins with a comma, which the first has not
    commas: bool

    def write(self, builder: Builder, chunks: Iterable[list[Run]], out: Out) -> int:
        """Write the list as it comes; returns how many elements it has."""
        count = 0
        for chunk in chunks:
            if not any(map(len, chunk)):
                continue
            if not count:
                out.write(self.opening.encode())
            count += (Skipping(out) if self.commas and not count else out).emit(builder, chunk)
        out.write((self.closing if count else self.empty).encode())
        return count
