"""Lines without what stands in front of each, piece by piece as they are read: quote marks, and words of a log."""

from __future__ import annotations

import re
from collections.abc import Callable

from ctctl.tables.sources.dress import as_printed

#: So much of a line without its end is waited for: a longer one is a document, and its end says nothing of its front.
_WAIT = 1 << 16
#: Quote marks as ``dress.QUOTE`` has them, behind the end of the line before; what may be one at its line's end.
_MARK = rb"(?:[>|]|\xe2\x94\x82)"
_QUOTE = re.compile(rb"\n[ \t\xc2\xa0]*+(?:%b(?:[ \t]|\xc2\xa0)?)++" % _MARK)
_QUOTED = re.compile(rb"\n[ \t\xc2\xa0]*+%b" % _MARK)
_BOX = ("$", "|", "│")
_ENDS = tuple(map(str.encode, _BOX))
#: Quote marks that all lines may have alike.
_USUAL = (b"\n> ", b"\n| ", b"\n\xe2\x94\x82 ")
#: What a line of a box costs, of which somebody else's marks are taken from both ends.
_BOX_WORK = 16


class Bare:
    """Takes what stands in front off lines that come in pieces. ``off`` does so for lines, each with its end."""

    def __init__(self, off: Callable[[bytes], bytes]) -> None:
        self._off = off
        self._left = b""
        #: the front of a line that has no end yet was taken off
        self._inside = False

    def take(self, piece: bytes, *, last: bool) -> bytes:
        """What is known of the text up to the end of this piece; all of it behind the ``last`` one."""
        data, self._left, start = self._left + piece, b"", 0
        if self._inside:
            start = data.find(b"\n") + 1
            if not start:
                return data
            self._inside = False
        end = max(data.rfind(b"\n") + 1, start)
        if not last and len(data) - end <= _WAIT:
            self._left = data[end:]
        else:
            self._inside, end = len(data) > end, len(data)
        return data[:start] + self._off(data[start:end])


def quotes_off(spend: Callable[[int], None]) -> Callable[[bytes], bytes]:
    """What takes the quote marks off lines, and what is at the end of those that have some: a box is around them."""

    def off(lines: bytes) -> bytes:
        if b">" not in lines and b"|" not in lines and b"\xe2\x94\x82" not in lines:
            return lines
        text = b"\n" + lines
        first = _QUOTE.search(text)
        if first is None:
            return lines
        spend(len(lines) >> 7)  # of the same marks in front of each line it is a copy, and no more
        usual = first[0] if first[0] in _USUAL else b""
        bare = text.replace(usual, b"\n") if usual else text
        if not usual or _QUOTED.search(bare) is not None:
            spend(len(lines) >> 4)
            bare = _QUOTE.sub(b"\n", text)
        if any(mark in bare for mark in _ENDS):
            spend(_BOX_WORK * lines.count(b"\n"))
            bare = b"\n".join(map(_unboxed, text.split(b"\n")))
        return bare[1:]

    return off


def _unboxed(line: bytes) -> bytes:
    """A line without its quote marks; at its end, it has none without those in front."""
    front = _QUOTE.match(b"\n" + line)
    if front is None:
        return line
    bare = line[front.end() - 1 :]
    if not any(mark in bare for mark in _ENDS):
        return bare
    text = bare.decode("utf-8", "surrogateescape").rstrip()
    if not text.endswith(_BOX):
        text = as_printed(text).rstrip()  # a colour may end behind it
    return text.rstrip("".join(_BOX)).rstrip().encode("utf-8", "surrogateescape") if text.endswith(_BOX) else bare
