"""What the rows of a command are: their columns, and their other forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Generic, TypeVar

from ctctl.errors import UsageError
from ctctl.model.light import light
from ctctl.model.suggest import unknown_name
from ctctl.out.cells import cell, cells
from ctctl.out.text import safe

T = TypeVar("T")


@light
class Column(Generic[T]):
    """One field of a row.

    ``value`` is what JSON, CSV and sorting see; ``text`` what a table shows (default: the value as
    text, "-" for None). ``wide``: only with ``-o wide``. ``style`` names a rich style for a
    terminal. ``width`` is the least width in a table whose rows are still to come.
    """

    name: str
    title: str
    value: Callable[[T], object]
    text: Callable[[T], str] | None = None
    wide: bool = False
    right: bool = False
    style: Callable[[T], str] | None = None
    width: int = 0
    #: columns that may go where a terminal is too narrow: the highest number first; 0 stays
    priority: int = 0
    #: words: on a terminal the text may go on in the lines below
    prose: bool = False
    #: what stands for the text where a row would not fit in a line of the terminal
    short: Callable[[T], str] | None = None


@light
class View(Generic[T]):
    """What a command's rows are: schema name, key of the list in JSON, columns, and the other forms.

    ``record`` is a row's JSON form (default: its columns). ``cilium`` is the line of ``-o cilium``
    where there is one, ``cilium_lines`` all lines of a table whose columns are aligned. ``extra`` are
    fields that ``--fields`` and ``--sort`` know and tables do not show.
    """

    schema: str
    plural: str
    columns: Sequence[Column[T]]
    name: Callable[[T], str]
    record: Callable[[T], dict[str, object]] | None = None
    cilium: Callable[[T], str] | None = None
    extra: Sequence[Column[T]] = ()
    #: other spellings of fields, as the filter language has them; a field's own name wins
    aliases: Mapping[str, str] = field(default_factory=dict)
    cilium_lines: Callable[[Iterable[T]], Iterable[str]] | None = None
    #: on a terminal, rows for which this differs have widths of their own: IPv6 must not take the room of IPv4
    apart: Callable[[T], object] | None = None

    def column(self, name: str, kind: str = "field") -> Column[T]:
        """The column called ``name``. Raises UsageError that names the nearest right one."""
        known = {column.name: column for column in (*self.columns, *self.extra)}
        spelled = name if name in known else self.aliases.get(name, name)
        if spelled not in known:
            raise UsageError(unknown_name(kind, name, known))
        return known[spelled]


def by_node(views: Mapping[str | None, View[T]]) -> View[tuple[str | None, T]]:
    """Rows of several nodes, the node first; each row is shown as the view of its node shows it."""
    first = next(iter(views.values()))

    theirs = {node: (*view.columns, *view.extra) for node, view in views.items()}

    def column(at: int, one: Column[T]) -> Column[tuple[str | None, T]]:
        def value(row: tuple[str | None, T]) -> object:
            return theirs[row[0]][at].value(row[1])

        def text(row: tuple[str | None, T]) -> str:
            return text_of(theirs[row[0]][at], row[1])

        def short(row: tuple[str | None, T]) -> str:
            of_its_node = theirs[row[0]][at].short
            return text(row) if of_its_node is None else safe(of_its_node(row[1]))

        style = None if one.style is None else lambda row: (theirs[row[0]][at].style or _plain)(row[1])
        shorter = None if one.short is None else short
        return Column(
            one.name, one.title, value, text, one.wide, one.right, style, one.width, one.priority, one.prose, shorter
        )

    def record(row: tuple[str | None, T]) -> dict[str, object]:
        view = views[row[0]]
        known = view.record(row[1]) if view.record is not None else {c.name: c.value(row[1]) for c in view.columns}
        return {"node": row[0], **known}

    def lines(rows: Iterable[tuple[str | None, T]]) -> Iterator[str]:
        listed = list(rows)
        for node, view in views.items():
            if view.cilium_lines is not None:
                yield from view.cilium_lines([row for at, row in listed if at == node])

    lifted = [column(at, one) for at, one in enumerate((*first.columns, *first.extra))]
    return View(
        first.schema,
        first.plural,
        [Column("node", "NODE", lambda row: row[0]), *lifted[: len(first.columns)]],
        lambda row: f"{row[0]} {views[row[0]].name(row[1])}",
        record,
        extra=lifted[len(first.columns) :],
        aliases=first.aliases,
        cilium_lines=lines if first.cilium_lines is not None else None,
        apart=None if first.apart is None else lambda row: (views[row[0]].apart or _plain)(row[1]),
    )


def _plain(_row: object) -> str:
    return ""


def text_of(column: Column[T], row: T) -> str:
    """What a table shows of a row in a column."""
    return safe(column.text(row)) if column.text is not None else cell(column.value(row))


def texts_of(column: Column[T], rows: Iterable[T]) -> list[str]:
    """``text_of`` of each row."""
    if column.text is None:
        return cells(map(column.value, rows))
    found = list(map(column.text, rows))
    return found if "".join(found).isprintable() else [safe(text) for text in found]
