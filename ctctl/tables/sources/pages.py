"""A saved HTML page as the text that a browser shows: listings stand in it as ``&gt;`` and between tags."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from ctctl.tables.sources.stream import LateEnd, Prefixed, Reader

#: So much of a file tells that it is a page: a mail's head may stand before it.
_HEAD = 1 << 14
#: How a page starts, also one that a browser saved with its parts (MHTML).
_PAGE = re.compile(rb"(?:\A|\n)[^\S\n]{0,100}+<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_TAG = re.compile(rb"<(?:(?P<comment>!--)|[!?]|(?P<close>/?)(?P<name>[A-Za-z][A-Za-z0-9:-]{0,30})(?![A-Za-z0-9:-]))")
#: The rest of a tag, whose attributes may have its end in them.
_END = re.compile(rb"(?:[^\"'>]++|\"[^\"]*+\"|'[^']*+')*+>")
#: What may stand before a page: the head of a mail or of a page that was saved with its parts, and other tags.
_BEFORE = re.compile(rb"[A-Za-z][A-Za-z0-9-]{1,40}:|[ \t]|--|<|\s*\Z")
#: A tag may be so long: pages keep a copy of a listing in an attribute.
_LONGEST_TAG = 1 << 20
#: What is not shown, by what ends it.
_HIDDEN = {name: re.compile(rb"</%b\b" % name, re.IGNORECASE) for name in (b"script", b"style", b"template")}
_COMMENT_END = re.compile(rb"-->")
#: Each but the last of several in a row begins no tag.
_NO_TAGS = re.compile(rb"<+(?=<)")
#: So much of what is passed over may be the beginning of its end.
_LONGEST_END = 16
_CHARACTER = re.compile(rb"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_OPEN_CHARACTER = re.compile(rb"&[#A-Za-z0-9]{0,31}\Z")
_BREAKS = frozenset(
    b"address article aside blockquote br dd details div dl dt fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr"
    b" li main nav ol p pre section summary table tbody tfoot thead title tr ul".split()
)
_CELLS = frozenset((b"td", b"th"))
#: Other elements: anything else in points and without attributes is text ("flags=<none>").
_INLINE = frozenset(
    b"a abbr b body button center code del em font head html i iframe img input ins kbd label link mark meta noscript"
    b" option picture q s samp select small source span strong sub sup svg textarea time tt u var wbr path use".split()
)
#: What a tag costs, and a character that has a name.
_TAG_WORK, _CHARACTER_WORK = 6, 3


def shown(stream: Reader, spend: Callable[[int], None]) -> Reader:
    """The stream, or the text of the page that it is."""
    whole = Prefixed(b"", stream)
    head = whole.peek(_HEAD)
    start = _PAGE.search(head) if b"<" in head else None
    # A page within a paste is a piece of text like others.
    if start is None or not all(map(_BEFORE.match, head[: start.start()].splitlines())):
        return whole
    return Page(whole, spend)


class Page:
    """The text of a page, as a stream, piece by piece. Rows of its tables are lines, their cells two blanks apart."""

    def __init__(self, stream: Reader, spend: Callable[[int], None]) -> None:
        self._stream = LateEnd(stream)
        self._spend = spend
        self._data = b""
        self._until: re.Pattern[bytes] | None = None
        self._in_row = self._in_pre = False
        #: there was text in this cell of a row
        self._cell = False
        #: the last that was written was the end of a line, by a tag
        self._broke = True
        #: a tag without an end was met: from there on a tag ends at the next point
        self._plain_tags = False
        #: where the next point stands in what is gone through; -1: not looked for
        self._point = -1
        self._out: list[bytes] = []

    def read(self, size: int = 1 << 18, /) -> bytes:
        """The next piece; nothing at the end. Raises what the stream does, behind what came before."""
        while True:
            raw = self._stream.read(size)
            self._data += raw
            self._spend(len(raw) >> 4)
            self._data = self._data[self._take(final=not raw) :]
            text, self._out = b"".join(self._out), []
            if text:
                return text
            if not raw:
                self._stream.settle()
                return b""

    def _take(self, *, final: bool) -> int:
        """Go through what is there; how far that went."""
        data, at, self._point = self._data, 0, -1
        while at < len(data):
            if self._until is not None:
                found = self._until.search(data, at)
                if found is None:
                    return len(data) if final else max(at, len(data) - _LONGEST_END)
                self._until, at = None, found.end() if self._until is _COMMENT_END else found.start()
                continue
            start = data.find(b"<", at)
            if start != at:
                end = start if start >= 0 else len(data)
                if start < 0 and not final and (half := _OPEN_CHARACTER.search(data, max(at, end - 33))) is not None:
                    self._text(data[at : half.start()])
                    return half.start()
                self._text(data[at:end])
                at = end
                continue
            if not final and len(data) - at < _LONGEST_END << 1:
                return at  # what it is, more of it tells
            end = self._tag(data, at, final=final)
            if end == at:
                return at
            at = end
        return at

    def _tag(self, data: bytes, at: int, *, final: bool) -> int:
        """What a ``<`` begins: where it ends; where it begins if its end is not there yet."""
        self._spend(_TAG_WORK)
        tag = _TAG.match(data, at)
        if tag is None:
            none = _NO_TAGS.match(data, at)
            self._text(b"<" if none is None else none[0])
            return at + 1 if none is None else none.end()
        if tag["comment"]:
            self._until = _COMMENT_END
            return tag.end()
        end = 0
        if not self._plain_tags:
            whole = _END.match(data, tag.end())
            if whole is None and not final and len(data) - at < _LONGEST_TAG:
                return at
            self._plain_tags = whole is None
            end = whole.end() if whole is not None else 0
        end = end or self._next_point(data, tag.end()) + 1
        name = (tag["name"] or b"").lower()
        known = name in _BREAKS or name in _CELLS or name in _INLINE or name in _HIDDEN
        if end == 0 or (tag["name"] and not known and not tag["close"] and end == tag.end() + 1):
            self._text(data[at : tag.end()])
            return tag.end()
        self._shown(name, closes=bool(tag["close"]))
        return end

    def _next_point(self, data: bytes, at: int) -> int:
        """Where the next ``>`` stands, -1 for nowhere: looked for once for all tags before it."""
        if self._point < at:
            found = data.find(b">", at)
            self._point = found if found >= 0 else len(data)
        return self._point if self._point < len(data) else -1

    def _shown(self, name: bytes, *, closes: bool) -> None:
        """What a tag does to the text."""
        if name in _HIDDEN and not closes:
            self._until = _HIDDEN[name]
            return
        if name == b"pre":
            self._in_pre = not closes
        if name in _CELLS:
            self._cell = False
            if closes:
                self._out.append(b"  ")
        elif name in _BREAKS:
            in_row, self._in_row = self._in_row, not closes if name == b"tr" else self._in_row
            # What fills a cell is no line of its own; what follows it in the same cell is.
            if name == b"br" or not (self._broke or (in_row and name != b"tr" and (closes or not self._cell))):
                self._out.append(b"\n")
            self._broke = self._out[-1:] == [b"\n"] or self._broke

    def _text(self, text: bytes) -> None:
        if self._in_row and not self._in_pre:
            text = text.replace(b"\n", b" ")
        elif self._broke:
            text = text.removeprefix(b"\r").removeprefix(b"\n")
        if not text:
            return
        if b"&" in text:
            self._spend(_CHARACTER_WORK * text.count(b"&"))
            text = _CHARACTER.sub(lambda found: html.unescape(found[0].decode()).encode("utf-8", "replace"), text)
        self._out.append(text)
        self._broke, self._cell = False, self._cell or bool(text.strip())
