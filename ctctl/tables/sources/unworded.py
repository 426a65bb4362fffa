"""Lines that are read ahead without the words in front of each, for passes (``regular.Ahead``)."""

from __future__ import annotations

import re

from ctctl.tables.sources.stream import CHUNK, Lines

#: So many bytes are looked at first, then twice as many: a pass may end soon.
_FIRST = 1 << 14
#: What a line costs whose words are taken off before a pass.
_LINE_WORK = 4


class Unworded:
    """What follows in a stream, line by line without ``words``; a line that has none stays as it is.

    It ends before a line of ``other_length``. ``work``: of reading what was taken.
    """

    def __init__(self, lines: Lines, words: re.Pattern[bytes], other_length: int) -> None:
        self._lines = lines
        self._words = words
        self._other = re.compile(b"^[^\r\n]{%d}\r*$" % other_length, re.MULTILINE) if other_length else None
        self._size = _FIRST
        self._text = b""
        self._at = 0
        self._ended = False
        self.work = 0

    def window(self) -> tuple[bytes, int]:
        """What was read ahead, and from where on in it nothing was taken."""
        if self._at >= len(self._text) and not self._ended:
            self._look()
        return self._text, self._at

    def has(self, size: int) -> bool:
        """Whether so many bytes follow; they are read ahead."""
        return self._lines.has(size)

    def pass_to(self, at: int) -> None:
        """Take the window up to there, the end of a line."""
        count = self._text.count(b"\n", self._at, at)
        if count:
            data, start = self._lines.window()
            end = start
            for _ in range(count):
                end = data.index(b"\n", end) + 1
            self._lines.pass_to(end)
            self.work += _LINE_WORK * count + (end - start - count >> 4)
        self._at = at

    def read_on(self) -> bool:
        """Make the window longer. False: nothing follows, or a line that is another's."""
        if self._at < len(self._text) or self._ended:
            return False
        self._look()
        return bool(self._text)

    def _look(self) -> None:
        self._lines.has(self._size)
        data, start = self._lines.window()
        end = data.rfind(b"\n", start, start + self._size) + 1
        raw = data[start:end]
        other = self._other.search(raw) if self._other is not None else None
        if other is not None:
            raw, self._ended = raw[: other.start()], True
        self._ended |= not raw
        self._text, self._at = self._words.sub(b"", raw), 0
        self._size = min(2 * self._size, CHUNK)
