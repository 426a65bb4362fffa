"""How far the reading of big tables has come: on stderr, only on a terminal, only when it takes over a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from ctctl.tables.sources.base import CtTable, Rows, Source

AFTER_S = 1.0
EVERY_S = 0.1
_WIDTH = 30


class Progress:
    """Counts what is read from a source's tables and draws a bar. ``clock`` is monotonic seconds."""

    def __init__(self, source: Source, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._read = 0
        self._total = sum(table.count or table.max_entries or 0 for table in source.tables)
        self._next = clock() + AFTER_S
        self._shown = False
        for table in source.tables:
            self._watch(table)

    def _watch(self, table: CtTable) -> None:
        original = table.read

        def read() -> Iterator[Rows]:
            for rows in original():
                self._seen(len(rows[0] if isinstance(rows, tuple) else rows))
                yield rows

        table.read, table.seen = read, self._seen

    def _seen(self, count: int) -> None:
        self._read += count
        self._draw()

    def _draw(self) -> None:
        now = self._clock()
        if now < self._next:
            return
        self._next = now + EVERY_S
        self._shown = True
        share = min(self._read / self._total, 1.0) if self._total else 0.0
        bar = "#" * round(share * _WIDTH)
        self._stream.write(f"\r[{bar:<{_WIDTH}}] {self._read:,} entries read\x1b[K")
        self._stream.flush()

    def close(self) -> None:
        """Remove the bar."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
