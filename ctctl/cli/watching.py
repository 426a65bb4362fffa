"""The loops behind ``--watch``."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
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

#: Lines above the rows: what is shown, what has no room, the titles.
_HEAD_LINES = 5
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

    def head(self, shown: int, total: int, what: str) -> str:
        """What stands above the rows: how many of how many, where, when, and of what."""
        where = ", ".join(self.source.nodes()) or self.source.description
        matching = f" that match {self.words}" if self.words else ""
        return f"{time.strftime('%H:%M:%S')}  {where}  {shown:,} of {total:,} {what}{matching}"


class _Sheet(io.StringIO):
    """Text that is laid out for the terminal which shows it."""

    def isatty(self) -> bool:
        return sys.stdout.isatty()


def _lines(view: View[Any], rows: Sequence[Any], options: OutputOptions, head: str) -> list[str]:
    """The rows under their head. Which columns have no room is said in the head, not on stderr each time."""
    text, said = _Sheet(), io.StringIO()
    with contextlib.redirect_stderr(said):
        write_rows(view, rows, replace(options, limit=None, color=ColorMode.never), text)
    missing = " ".join(said.getvalue().split()).removeprefix("ctctl: ")
    room = columns_of(sys.stdout)
    heads = [head, *([missing] if missing else [])]
    wrapped = heads if room is None else [line for one in heads for line in wrap(one, room)]
    return [*wrapped, *text.getvalue().splitlines()]


def watch_list(watched: Watched, options: OutputOptions, interval_s: float, rounds: int | None = None) -> None:
    """``ct list --watch`` until interrupted. JSON lines say only what changed."""
    from ctctl.ct.stats import stats
    from ctctl.ct.watch import Watch

    source, selection = watched.source, watched.selection
    _start(source, options)
    screen = _screen()
    limit = options.limit
    if limit is None and sys.stdout.isatty():
        limit = max((_height() or 25) - _HEAD_LINES, 1)
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
            shown = sum(row.mark != "gone" for row in rows)
            screen.show(_lines(view, rows, options, watched.head(shown, total, "entries")))
        first = False
        rounds = None if rounds is None else rounds - 1
        if rounds is None or rounds > 0:
            time.sleep(interval_s)


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
            head = watched.head(len(rows), len(groups), f"groups by {by.value}")
            screen.show(_lines(view, rows, replace(options, sort=None), head))
        rounds = None if rounds is None else rounds - 1
        if rounds is None or rounds > 0:
            time.sleep(interval_s)
