"""Traces on a stream: a line or a block an event for people, a JSON line an event for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TextIO

from ctctl.events.brief import brief_line
from ctctl.events.ending import Ending
from ctctl.events.lines import Line, event_lines
from ctctl.events.record import EVENT_SCHEMA, event_record, wall_clock
from ctctl.model.event import HookEvent
from ctctl.model.recent import RecentSet
from ctctl.model.units import counted
from ctctl.out.fit import columns_of, wrapped


class LineWriter:
    """Styled lines to a stream: rich for colours, plain text elsewhere. Nothing is cut; a terminal's width wraps."""

    def __init__(self, stream: TextIO, *, color: bool) -> None:
        self._stream = stream
        self._room = columns_of(stream)
        self._console = None
        if color:
            from rich.console import Console  # 60 ms, only for colour

            self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, soft_wrap=True)

    def line(self, line: Line) -> None:
        """Write one line, on a terminal as many as it needs."""
        for one in [line] if self._room is None else wrapped(line, self._room):
            self._write(one)

    def _write(self, line: Line) -> None:
        if self._console is None:
            self._stream.write("".join(text for text, _ in line).rstrip() + "\n")
            return
        from rich.text import Text

        self._console.print(Text.assemble(*line), soft_wrap=True)

    def lines(self, lines: Iterable[Line]) -> None:
        """Write a block and let a waiting reader have it."""
        for line in lines:
            self.line(line)
        self._stream.flush()


#: Connections whose end is told; a trace of everything may see very many.
_ENDINGS = 1000


class TableTrace:
    """A line per packet and hook, and at the end what became of each connection.

    ``verbose``: a block instead, with a heading wherever another connection comes up.
    """

    def __init__(
        self, stream: TextIO, *, color: bool, wall_offset_ns: int | None = None, verbose: bool = False
    ) -> None:
        self._verbose = verbose
        self._endings: dict[int, tuple[HookEvent, Ending]] = {}
        #: connections whose end is not told, and how many there were
        self._untold: RecentSet[int] = RecentSet()
        self._more = 0
        self._writer = LineWriter(stream, color=color)
        self._offset_ns = wall_offset_ns
        self._connection: int | None = None
        self._known: RecentSet[int] = RecentSet()

    def event(self, event: HookEvent, connection: int | None = None) -> None:
        """Write one event."""
        if connection is not None:
            self._remember(event, connection)
        if not self._verbose:
            self._writer.lines([brief_line(event, time_text=self._time(event), connection=connection)])
            return
        if connection is not None and connection != self._connection:
            self._heading(event, connection)
        self._writer.lines(event_lines(event, time_text=self._time(event)))

    def finish(self, lost: int = 0) -> None:
        """Write what became of each connection. ``lost``: events that no reader had."""
        for number, (first, ending) in self._endings.items():
            self._writer.lines(
                [[(f"── connection {number}: {first.tuple_in}: ", "bold magenta"), (ending.sentence(), "bold")]]
            )
        if self._more:
            self._writer.lines([[(f"── and {counted(self._more, 'connection')} more", "bold magenta")]])
        if lost and self._endings:
            self._writer.lines([[(f"── {lost} events were lost: there may have been more than this says", "yellow")]])

    def _remember(self, event: HookEvent, connection: int) -> None:
        if connection in self._endings or len(self._endings) < _ENDINGS:
            self._endings.setdefault(connection, (event, Ending()))[1].add(event)
        else:
            self._more += connection not in self._untold
            self._untold.add(connection)

    def _heading(self, event: HookEvent, connection: int) -> None:
        self._connection = connection
        again = "" if connection not in self._known else ", continued"
        self._known.add(connection)
        self._writer.line([(f"── connection {connection}{again}: {event.tuple_in}", "bold magenta")])

    def _time(self, event: HookEvent) -> str:
        if self._offset_ns is None:
            return f"{event.now_s}s"
        return wall_clock(event.time_ns, self._offset_ns)[11:26]


class JsonTrace:
    """One JSON object a line and event, flushed at once."""

    def __init__(self, stream: TextIO, *, wall_offset_ns: int | None = None, raw: bool = False) -> None:
        self._stream = stream
        self._offset_ns = wall_offset_ns
        self._raw = raw

    def event(self, event: HookEvent, connection: int | None = None) -> None:
        """Write one event's line."""
        record = event_record(event, wall_offset_ns=self._offset_ns, connection=connection, raw=self._raw)
        self._stream.write(json.dumps({"schema": EVENT_SCHEMA, **record}) + "\n")
        self._stream.flush()
