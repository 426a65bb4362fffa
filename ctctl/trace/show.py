"""Traces on a stream: blocks for people, a JSON line an event for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TextIO

from ctctl.events.lines import Line, event_lines
from ctctl.events.record import EVENT_SCHEMA, event_record, wall_clock
from ctctl.model.event import HookEvent


class LineWriter:
    """Styled lines to a stream: rich on a terminal, plain text elsewhere. Never wraps, never cuts."""

    def __init__(self, stream: TextIO, *, color: bool) -> None:
        self._stream = stream
        self._console = None
        if color:
            from rich.console import Console  # 60 ms, only for colour

            self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, soft_wrap=True)

    def line(self, line: Line) -> None:
        """Write one line."""
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


class TableTrace:
    """A block per packet and hook, with a heading wherever another connection comes up."""

    def __init__(self, stream: TextIO, *, color: bool, wall_offset_ns: int | None = None) -> None:
        self._writer = LineWriter(stream, color=color)
        self._offset_ns = wall_offset_ns
        self._connection: int | None = None
        self._known: set[int] = set()

    def event(self, event: HookEvent, connection: int | None = None) -> None:
        """Write one event's block."""
        if connection is not None and connection != self._connection:
            self._heading(event, connection)
        self._writer.lines(event_lines(event, time_text=self._time(event)))

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
