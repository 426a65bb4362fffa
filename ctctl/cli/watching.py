"""The loops behind ``--watch``."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ctctl.cli.options import TOP_ROWS
from ctctl.errors import UsageError
from ctctl.kernel.stopping import hear_interrupts
from ctctl.out.fit import columns_of, wrap
from ctctl.out.options import ColorMode, Format, OutputOptions
from ctctl.out.output import arrange, write_rows
from ctctl.out.view import Column, View

if TYPE_CHECKING:
    from ctctl.ct.top import By
    from ctctl.ct.watch import Marked
    from ctctl.out.watch import Screen
    from ctctl.tables.query.filter import Filter
    from ctctl.tables.sources.base import Source

#: A row of a narrow terminal has so many lines, or fewer.
_LINES_OF_A_ROW = 3
_MARKS = {"new": "+", "closing": "~", "gone": "-", "": " "}


def _height() -> int | None:
    return shutil.get_terminal_size().lines - 1 if sys.stdout.isatty() else None


def _screen() -> Screen:
    from ctctl.out.watch import Screen

    return Screen(sys.stdout, _height(), shutil.get_terminal_size().columns if sys.stdout.isatty() else None)


def _start(source: Source, options: OutputOptions) -> None:
    """Listen to Ctrl-C, which ends the loop. Raises UsageError for what cannot be watched."""
    if any(table.live is None for table in source.tables):
        raise UsageError("--watch needs a live table: a file does not change")
    if options.format not in (Format.table, Format.wide, Format.jsonl):
        raise UsageError("--watch goes with -o table, wide or jsonl")
    hear_interrupts()


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched: entries of a source that a filter wants, in the words it was given."""

    source: Source
    selection: Filter
    words: str = ""

    def head(self, shown: int, total: int, what: str, gone: int = 0) -> str:
        """What stands above the rows: how many of how many, where, when, and of what; ``gone``: since the last look."""
        where = ", ".join(self.source.nodes()) or self.source.description
        matching = f" that match {self.words}" if self.words else ""
        went = f", {gone:,} gone" if gone else ""
        return f"{time.strftime('%H:%M:%S')}  {where}  {shown:,} of {total:,} {what}{matching}{went}"


class _Sheet(io.StringIO):
    """Text that is laid out for the terminal which shows it."""

    def isatty(self) -> bool:
        return sys.stdout.isatty()


def _lines(view: View[Any], rows: Sequence[Any], options: OutputOptions, head: str) -> list[str]:
    """The rows under their head. Which columns have no room is said in the head, not on stderr each time."""
    text, said = _Sheet(), io.StringIO()
    room = columns_of(sys.stdout)
    wide = options.format is Format.wide and room is not None
    if wide:
        # A row that is kept up to date is a line or two: the columns that have no room go, the last first.
        columns = [replace(c, wide=False, priority=c.priority + at * c.wide) for at, c in enumerate(view.columns, 1)]
        view, options = replace(view, columns=columns), replace(options, format=Format.table)
    with contextlib.redirect_stderr(said):
        write_rows(view, rows, replace(options, limit=None, color=ColorMode.never), text)
    missing = " ".join(said.getvalue().split()).removeprefix("ctctl: ")
    missing = missing.replace("; -o wide shows all", "; --fields chooses") if wide else missing
    heads = [head, *([missing] if missing else [])]
    wrapped = heads if room is None else [line for one in heads for line in wrap(one, room)]
    return [*wrapped, *text.getvalue().splitlines()]


def _screenful(lines_of: Callable[[int], list[str]], most: int) -> list[str]:
    """What ``lines_of`` makes of as many rows, at most ``most``, as there is room for; without a terminal of all."""
    height = _height()
    count = most if height is None else min(most, height)
    lines = lines_of(count)
    while height is not None and len(lines) > height and count:
        # A row takes some lines: fewer rows than are too many lines have to go.
        count -= max((len(lines) - height) // _LINES_OF_A_ROW, 1)
        lines = lines_of(count)
    return lines


def watch_list(watched: Watched, options: OutputOptions, interval_s: float, rounds: int | None = None) -> None:
    """``ct list --watch`` until interrupted. JSON lines say only what changed."""
    from ctctl.ct.stats import stats
    from ctctl.ct.watch import Watch

    source, selection = watched.source, watched.selection
    _start(source, options)
    screen = _screen()
    limit = options.limit
    if limit is None:
        limit = _height()
    watch = Watch(source, selection, sort=options.sort, limit=limit)
    view = _marked_view()
    first = True
    while rounds is None or rounds > 0:
        rows = watch.look()
        if options.format is Format.jsonl:
            changed = rows if first else [row for row in rows if row.mark]
            write_rows(view, changed, replace(options, sort=None, limit=None, follow=True), sys.stdout)
        else:
            total = sum(table.entries for table in stats(source, selection))
            gone = [row for row in rows if row.mark == "gone"]
            there = rows[: len(rows) - len(gone)]
            screen.show(_screenful(partial(_list_lines, watched, view, there, gone, options, total), len(rows)))
        first = False
        rounds = None if rounds is None else rounds - 1
        if rounds is None or rounds > 0:
            time.sleep(interval_s)


def _list_lines(
    watched: Watched,
    view: View[Marked],
    there: list[Marked],
    gone: list[Marked],
    options: OutputOptions,
    total: int,
    count: int,
) -> list[str]:
    # What went is seen once only: it has up to half of a screen that has no room for all.
    went = gone[: len(gone) if count >= len(there) + len(gone) else count // 2]
    shown = there[: count - len(went)]
    return _lines(view, [*shown, *went], options, watched.head(len(shown), total, "entries", len(gone)))


def _marked_view() -> View[Marked]:
    from ctctl.tables.show.entry import SCHEMA, ct_view, entry_name, row_record

    base = ct_view()

    def lifted(column: Column[object]) -> Column[Marked]:
        text = column.text
        return Column(
            column.name,
            column.title,
            lambda marked: column.value(marked.row),
            (lambda marked: text(marked.row)) if text is not None else None,
            column.wide,
            column.right,
        )

    mark: Column[Marked] = Column("mark", "MARK", lambda marked: marked.mark, lambda marked: _MARKS[marked.mark])
    columns = [mark, *(lifted(column) for column in base.columns)]  # type: ignore[arg-type]
    extra = [lifted(column) for column in base.extra]  # type: ignore[arg-type]
    return View(
        SCHEMA,
        "entries",
        columns,
        lambda marked: entry_name(marked.row.entry),
        lambda marked: {"mark": marked.mark, **row_record(marked.row)},
        extra=extra,
        aliases=base.aliases,
    )


def watch_top(watched: Watched, by: By, options: OutputOptions, interval_s: float, rounds: int | None = None) -> None:
    """``ct top --watch``: with each group's growth in entries a second."""
    from ctctl.ct.events import refresh_now
    from ctctl.ct.show import top_view
    from ctctl.ct.top import top
    from ctctl.tables.names import NodeNames

    source, selection = watched.source, watched.selection
    _start(source, options)
    screen, names = _screen(), NodeNames(source)
    before: dict[tuple[str | None, str], int] | None = None
    last = time.monotonic()
    while rounds is None or rounds > 0:
        for table in source.tables:
            refresh_now(table)
        groups = top(source, by, selection, limit=None, names=names)
        now = time.monotonic()
        if before is not None:
            passed = max(now - last, 1e-6)
            groups = [
                replace(group, rate=(group.entries - before.get((group.node, group.key), 0)) / passed)
                for group in groups
            ]
        before, last = {(group.node, group.key): group.entries for group in groups}, now
        view = top_view(by.value, groups)
        shown = replace(options, limit=options.limit if options.limit is not None else TOP_ROWS)
        if options.format is Format.jsonl:
            write_rows(view, groups, replace(shown, follow=True), sys.stdout)
        else:
            rows = [*arrange(view, groups, shown)]
            screen.show(_screenful(partial(_top_lines, watched, view, rows, options, (len(groups), by)), len(rows)))
        rounds = None if rounds is None else rounds - 1
        if rounds is None or rounds > 0:
            time.sleep(interval_s)


def _top_lines(
    watched: Watched, view: View[Any], rows: list[Any], options: OutputOptions, of: tuple[int, By], count: int
) -> list[str]:
    total, by = of
    head = watched.head(min(count, len(rows)), total, f"groups by {by.value}")
    return _lines(view, rows[:count], replace(options, sort=None), head)
