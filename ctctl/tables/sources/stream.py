"""Reading text of unknown origin line by line, with bounded memory and time."""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Callable
from typing import Protocol

from ctctl.errors import DecodeError
from ctctl.tables.sources import mailed
from ctctl.tables.sources.bare import Bare, quotes_off
from ctctl.tables.sources.dress import MARKS, QUOTE, as_printed, unwrapped

#: What a line costs of a budget's work, whatever it is; sixteen bytes of anything cost one.
LINE_WORK = 16
#: And one with characters that no program writes.
_DRESSED_WORK = 16
#: Lines are looked at for one that is as its program printed it up to this length.
_PLAIN, _PLAIN_WORK = 400, 8
#: A line may be this long (a Maglev table is one line); nothing else real comes near.
MAX_LINE = 1 << 20
#: How much of a longer one tells whether it starts a document.
_HEAD = 1 << 12
#: What is read at once.
CHUNK = 1 << 18
#: A return with text behind it ends a line too: old files, and what a terminal's recording has.
_RETURN = re.compile(rb"(?<!\r)\r++(?=[^\r\n])")


class Reader(Protocol):
    """A binary stream, as far as it is used here."""

    def read(self, size: int, /) -> bytes: ...


class EndedEarlyError(DecodeError):
    """The data stops in the middle of something; what came before is good."""


def text_of(raw: bytes) -> str:
    """UTF-8, with whatever is not as ``\\xNN``."""
    return raw.decode("utf-8", "backslashreplace")


class Prefixed:
    """A stream with bytes put back in front. ``seen`` counts what was handed out."""

    def __init__(self, head: bytes, rest: Reader) -> None:
        self._head = head
        self._rest = rest
        self._ended: EndedEarlyError | None = None
        self.seen = 0

    def read(self, size: int = CHUNK, /) -> bytes:
        if self._head:
            part, self._head = self._head[:size], self._head[size:]
        elif self._ended is not None:
            raise self._ended
        else:
            part = self._rest.read(size)
        self.seen += len(part)
        return part

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes (fewer at the end) without taking them.

        That the stream ends early is said behind what came before, by ``read``: who peeks has not lost it.
        """
        parts, have = [self._head], len(self._head)
        try:
            while self._ended is None and have < size and (more := self._rest.read(max(size - have, 1))):
                parts.append(more)
                have += len(more)
        except EndedEarlyError as error:
            self._ended = error
        finally:  # before any other error, too
            self._head = b"".join(parts)
        return self._head[:size]


class _Recoded:
    """UTF-16 as UTF-8, as a ``Reader``."""

    def __init__(self, stream: Reader, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("backslashreplace")
        self._ended = False

    def read(self, size: int = CHUNK, /) -> bytes:
        while not self._ended:
            raw = self._stream.read(size)
            self._ended = not raw
            # A lone surrogate is no text: as an escape, like every byte that is none.
            if text := self._decoder.decode(raw, final=self._ended):
                return text.encode("utf-8", "backslashreplace")
        return b""


#: How much of a file tells that it is a mail: by ends of lines that are none, by blanks in front of others. Then an
#: end that is one.
_MAIL_HEAD = 1 << 14
_SOFT_END = re.compile(rb"=(?:20)?\r?\n")
_BLANK_END = re.compile(rb"[ \t]=20\r?\n")
_HARD_END = re.compile(rb"(?<!=)(?<!=\r)\n")


class LateEnd:
    """A stream, as a ``Reader``, whose early end is said by ``settle``, once what came before it is used up."""

    def __init__(self, stream: Reader) -> None:
        self._stream = stream
        self._ended: EndedEarlyError | None = None

    def read(self, size: int = CHUNK, /) -> bytes:
        """The next piece; nothing at the end, early or not."""
        if self._ended is None:
            try:
                return self._stream.read(size)
            except EndedEarlyError as error:
                self._ended = error
        return b""

    def settle(self) -> None:
        """Raise what the stream ended with, if it ended early."""
        if self._ended is not None:
            raise self._ended


class _Anew:
    """A stream that is made anew, as a ``Reader``, piece by piece: up to where ``end_of`` says, or 1 MiB at once.

    That it ends early is said behind what came before.
    """

    def __init__(self, stream: Reader, end_of: Callable[[bytes], int], made: Callable[[bytes], bytes]) -> None:
        self._stream = LateEnd(stream)
        self._end_of = end_of
        self._made = made
        self._left = b""

    def read(self, size: int = CHUNK, /) -> bytes:
        while True:
            raw = self._stream.read(size)
            data = self._left + raw
            end = self._end_of(data) if raw else 0
            cut = end if end or (raw and len(data) <= MAX_LINE) else len(data)
            self._left = data[cut:]
            if cut and (made := self._made(data[:cut])):  # a piece of which nothing is left is no end
                return made
            if not raw:
                self._stream.settle()
                return b""


def _mailed(stream: Reader) -> Reader:
    """Text as mails carry it (RFC 2045, quoted-printable), as it was written."""

    def end_of(data: bytes) -> int:
        return max((found.end() for found in _HARD_END.finditer(data, max(len(data) - _MAIL_HEAD, 0))), default=0)

    return _Anew(stream, end_of, binascii.a2b_qp)


def _is_mailed(head: bytes) -> bool:
    return (b"=3D" in head and _SOFT_END.search(head) is not None) or _BLANK_END.search(head) is not None


def nothing_spent(_work: int) -> None:
    """Work that nobody counts."""


def utf8(
    stream: Reader,
    spend: Callable[[int], None] = nothing_spent,
    lose: Callable[[str], None] = mailed.nothing_lost,
) -> Reader:
    """The stream in UTF-8. UTF-16 is turned, by its mark or by every other byte: PowerShell's ``>`` writes that.

    Of a mail as it was sent, lines are made whole, and parts in base64 are what was written; ``lose`` is told of those
    that are not.
    """
    whole = Prefixed(b"", stream)
    head = whole.peek(_MAIL_HEAD)
    quoted = b"=" in head and _is_mailed(head)
    # of a quoted part no header may say so: without one that says what any part is in, all is taken as quoted
    if b":" in head and (mailed.PACKED if quoted else mailed.ANY).search(head) is not None:
        return _Anew(whole, lambda data: data.rfind(b"\n") + 1, mailed.Unpacker(spend, lose))
    if quoted:
        return _mailed(whole)
    head = head[:8]
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return _Recoded(whole, "utf-16")
    for first, encoding in ((0, "utf-16-le"), (1, "utf-16-be")):
        if len(head) == 8 and not any(head[1 - first :: 2]) and all(0 < byte < 0x80 for byte in head[first::2]):
            return _Recoded(whole, encoding)
    return whole


class Lines:
    """A stream as lines, at any of which a document can be read instead: what it leaves is lines again.

    Lines come without terminal colours, quote marks and their ends; ``spend`` is told the work of each.
    ``overlong`` counts those of more than 1 MiB, which are skipped, but where ``starts`` says that their head starts a
    document: programs write one in a single line. Of the last line: ``quoted`` (it had
    quote marks in front), ``damaged`` (bytes that are no text), ``blanks`` (how many stood at its end),
    ``unfinished`` (no end of line).
    """

    def __init__(
        self,
        stream: Reader,
        spend: Callable[[int], None] = nothing_spent,
        starts: Callable[[str], bool] = lambda _head: False,
    ) -> None:
        self._stream = stream
        self.spend = spend
        self._starts = starts
        #: the last line was only the head of one of more than 1 MiB that starts a document, and was not taken
        self.is_head = False
        self._data = b""
        self._at = 0
        self._taken = 0
        self._return = b""
        self._fronts = [Bare(quotes_off(spend))]
        self._ended: Exception | None = None
        self.overlong = 0
        self.quoted = False
        self.damaged = False
        self.blanks = 0
        self.unfinished = False
        self._dollar = False

    def _more(self) -> bool:
        """Append what comes next; a stream that breaks ends, and says so after the last line."""
        chunk = self._bare_chunk()
        self._data = self._data[self._at :] + chunk
        self._at = 0
        self._taken += len(chunk)
        return bool(chunk)

    def _bare_chunk(self) -> bytes:
        """What comes next without what stands in front of lines; nothing at the end."""
        while True:
            chunk = self._chunk()
            last, bare = not chunk, chunk
            for front in self._fronts:
                bare = front.take(bare, last=last)
            if bare or last:
                return bare

    def _chunk(self) -> bytes:
        """What comes next, returns that end a line as line feeds; nothing at the end.

        What returns at the end of a piece are, only the next one tells: one of them waits for it.
        """
        while self._ended is None:
            try:
                raw = self._stream.read(CHUNK)
            except EndedEarlyError as error:
                self._ended = error
                break
            if not raw:
                break
            raw = self._return + raw
            chunk = raw.rstrip(b"\r")
            self._return = b"\r" if len(chunk) < len(raw) else b""
            if chunk:
                return _RETURN.sub(b"\n", chunk) if b"\r" in chunk else chunk
            self.spend(len(raw) >> 4)
        chunk, self._return = self._return, b""
        return chunk

    @property
    def position(self) -> int:
        """Bytes that were taken and not put back."""
        return self._taken - (len(self._data) - self._at)

    def next(self, *, document: bool = False) -> str | None:
        """The next line, None at the end. Raises EndedEarlyError there if the stream broke off.

        ``document``: of JSON, where a string in its marks is none that somebody put around the line.
        """
        searched = 0
        if self.is_head:  # nobody read the document
            self.is_head = False
            self._skip_line()
        while (end := self._data.find(b"\n", self._at + searched)) < 0:
            searched = len(self._data) - self._at
            if searched > MAX_LINE:
                head = text_of(self._data[self._at : self._at + _HEAD])
                if self._starts(head):
                    self.is_head, self.unfinished, self.damaged, self.quoted, self.blanks = True, False, False, False, 0
                    return head
                self._skip_line()
                searched = 0
            elif not self._more():
                if self._data:
                    end = len(self._data)
                    break
                if self._ended is not None:
                    raise self._ended
                return None
        raw, self._at = self._data[self._at : end], end + 1
        self.unfinished = end == len(self._data)
        if self.unfinished:
            self._data, self._at = b"", 0
        self.spend(LINE_WORK + (len(raw) >> 4))
        text = self._cleaned(raw)
        return unwrapped(text) if (text[:1] in MARKS or text[-1:] == '"') and not document else text

    def plain(self, other_length: int) -> tuple[str, str] | None:
        """The next line as ``next`` gives it, and as it stands, where it is short and as a program printed it.

        None: it is another, or has ``other_length``; nothing is taken then.
        """
        end = self._data.find(b"\n", self._at, self._at + _PLAIN)
        if end < 0 or self.is_head:
            return None
        try:
            text = self._data[self._at : end].decode("ascii")
        except UnicodeDecodeError:
            return None
        line, whole = text.rstrip(), text.rstrip("\r")
        if len(whole) == other_length or not line or line[0] in MARKS or line[-1] in '"$|' or as_printed(text) != text:
            return None
        self._at = end + 1
        self.quoted = self.damaged = self.unfinished = False
        self.blanks = len(whole) - len(line)
        self.spend(_PLAIN_WORK + (len(text) >> 4))
        return line, text

    def taken(self, start: re.Pattern[bytes]) -> bytes:
        """What of the text at hand is of this pattern, if the next line starts so; it is taken."""
        match = start.match(self._data, self._at)
        if match is None:
            return b""
        self._at = match.end()
        self.spend(len(match[0]) >> 4)
        return match[0]

    def window(self) -> tuple[bytes, int]:
        """What was read ahead, and from where on in it nothing was taken."""
        return self._data, self._at

    def window_starts(self, head: bytes) -> bool:
        """Whether what was read ahead starts so."""
        return self._data.startswith(head, self._at)

    def has(self, size: int) -> bool:
        """Whether so many bytes follow; they are read ahead."""
        while len(self._data) - self._at < size and self._more():
            pass
        return len(self._data) - self._at >= size

    def pass_to(self, at: int) -> None:
        """Take the window up to there, the end of a line. Its work is spent by whoever read it."""
        self._at = at

    def read_on(self) -> bool:
        """Make the window longer. False: nothing follows, or nothing that may belong to its last line."""
        return len(self._data) - self._at <= MAX_LINE and self._more()

    def goes_on_with(self, start: re.Pattern[bytes]) -> bool:
        """Whether the next line is at hand and starts so."""
        return start.match(self._data, self._at) is not None

    def _skip_line(self) -> None:
        """Forget the rest of an endless line."""
        self.overlong += 1
        while True:
            self.spend(len(self._data) >> 4)
            self._data, self._at = b"", 0
            if not self._more():
                return
            end = self._data.find(b"\n")
            if end >= 0:
                self._at = end + 1
                return

    def _cleaned(self, raw: bytes) -> str:
        try:
            text = raw.decode()
            self.damaged = False
        except UnicodeDecodeError:
            text, self.damaged = text_of(raw), True
        printed = as_printed(text)
        if printed != text or "<" in text or not text.isascii():
            self.spend(_DRESSED_WORK + (len(text) >> 3))
        bare = printed.rstrip()
        self.blanks = len(printed.rstrip("\r")) - len(bare)
        # Marks of bytes are gone already: there are those that a page has by their names, or behind a colour.
        quote = QUOTE.match(bare) if printed != text and bare[:1] in " \t>|│" else None
        self.quoted = quote is not None
        text = bare
        if text.endswith(("$", "|", "│")) and (self._shows_ends(text) or quote is not None):
            text = text.rstrip("$|│").rstrip()
        return text[quote.end() :] if quote is not None else text

    def _shows_ends(self, text: str) -> bool:
        """Whether this line and the one beside it end in what ``cat -A`` shows there."""
        end = self._data.find(b"\n", self._at)
        before, self._dollar = self._dollar, text[-1] == "$"
        return self._dollar and (before or (end > 0 and self._data[end - 1 : end] == b"$"))

    def read(self, size: int = CHUNK, /) -> bytes:
        """What follows as it is, as a ``Reader``. Raises EndedEarlyError after the last of a broken stream."""
        self.is_head = False
        if self._at >= len(self._data) and not self._more():
            if self._ended is not None:
                raise self._ended
            return b""
        part = self._data[self._at : self._at + size]
        self._at += len(part)
        self.spend(len(part) >> 4)
        return part

    def without(self, off: Callable[[bytes], bytes]) -> None:
        """Go on with the lines that follow as ``off`` makes them, and without quote marks behind that."""
        rest, self._at, self.is_head = self._data[self._at :], 0, False
        self._taken -= len(rest)

        def counted(lines: bytes) -> bytes:
            self.spend(len(lines) >> 4)
            return off(lines)

        for front in (Bare(counted), Bare(quotes_off(self.spend))):
            self._fronts.append(front)
            rest = front.take(rest, last=False)
        self._data = rest
        self._taken += len(rest)

    def back(self, text: str | bytes) -> None:
        """Put text back in front."""
        raw = text.encode() if isinstance(text, str) else text
        start = self._at - len(raw)
        if start >= 0 and self._data.startswith(raw, start):  # as it was: nothing is copied
            self._at = start
        else:
            self._data, self._at = raw + self._data[self._at :], 0

    def add(self, text: str) -> None:
        """Put text in front that is read as if it stood in the stream."""
        self.back(quotes_off(self.spend)(text.encode("utf-8", "backslashreplace")))

    def peek(self, size: int) -> str:
        """The text that follows, about ``size`` bytes, without taking it."""
        self.has(size)
        return text_of(self._data[self._at : self._at + size])


class Unquoted:
    """What follows with the quote marks of each line gone, and its colours, as a ``Reader``."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.spend = lines.spend

    def read(self, _size: int = CHUNK, /) -> bytes:
        line = self._lines.next(document=True)
        return b"" if line is None else line.encode() + b"\n"

    def back(self, text: str | bytes) -> None:
        """Put text back in front, its quote marks gone already."""
        self._lines.back(text)
