"""How lines were pasted: with words in front of each, broken at a terminal's width, cut off at the end.

The Cilium CLI's lines are told by their content; what stands around them is found out here, by rules: words in
front are the ones that stand before a table's head or an entry, and count only where each line has the like.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice

from ctctl.tables.sources import counter_text, policy_text
from ctctl.tables.sources.dress import is_dressed, without_dress
from ctctl.tables.sources.gaps import is_left_out
from ctctl.tables.sources.hosts import named_in
from ctctl.tables.sources.listing_text import HEADERS
from ctctl.tables.sources.own_rows import TITLES
from ctctl.tables.sources.service_text import SERVICE_HEADER
from ctctl.tables.sources.stream import Lines, text_of
from ctctl.tables.sources.values import has_any

#: Words in front of a line at most (a time, a pod, a container), and how long they are together.
MAX_WORDS = 8
MAX_PREFIX = 160
#: Widths of terminals at which lines may have been broken.
_WIDTHS = range(60, 301)
_MAX_PIECES = 12
#: No record that was broken between words is longer.
_MAX_JOINED = 4096
_MAX_NAMED = 5
#: So much of the next line tells whether it is the rest of this one.
_LEAST = 80
#: So many commas are those between cells.
_CELLS = 5
#: What it costs to put a line together again.
_JOIN_WORK = 40
#: A file of which so many lines are whole though they are as wide as its widest was not broken, or is no listing.
_MAX_IN_VAIN = 200
#: How much of the file is looked at for its widest line.
_SAMPLE = 1 << 16
#: How a line of a conntrack or SNAT listing starts: no piece of another.
_ENTRY = re.compile(r"(?:[A-Za-z][A-Za-z0-9]{1,7}|\d{1,3})[ \t]+(?:OUT|IN|SVC)[ \t]+[\[0-9a-fA-F:]")
_ENTRY_BYTES = re.compile(_ENTRY.pattern.encode())
#: How a line starts that is the rest of the one before it: with what no record starts with. Mails and pages break
#: lines between words.
_FIELDS = (
    "(?:[RT]x)?(?:Packets|Bytes|FlagsSeen)|Last[RT]xReport|Flags|RevNAT|SourceSecurityID|IfIndex|BackendID|NatPort|Created"
    "|NeedsCT|HostLocal|expires|identity|encryptkey|tunnelendpoint|nodeid|flags|id|sec_id|ifindex|mac|nodemac|parent_ifindex"
)
_END = r"\[?[0-9a-fA-F.:]{2,45}\]?:\d{1,5}"
_STATE = r"\((?:active|terminating|quarantined|maintenance)\)"
_REST = re.compile(
    rf"[ \t>|]*+(?:(?:{_FIELDS})=|-> {_END}|(?:{_END} )?(?:related |service )?(?:expires=|XLATE_|Created=)"
    r"|\(remaining: |-?\d{1,20} sec\(s\)\)|sec\(s\)\)|ago\b|\[ |(?:[A-Z][A-Za-z]{2,20} ){0,12}\] "
    rf"|(?:[a-z][A-Za-z, -]{{0,60}}\]|{_END}(?:/[A-Z]{{1,8}})?(?: {_STATE})?|{_STATE})[ \t\r]*(?:\n|\Z)"
    r"|(?:disabled|spire|(?:test-)?always-fail)[ \t])".encode()
)
#: No rest of an entry that has its time already: a name above the next listing.
_ADDRESS_ALONE = re.compile(rf"\s*+{_END}\s*")
_NAME = re.compile(r"\b(\w++)=")
#: What ends text that was marked as code.
_MARKUP = re.compile(r"\s*+(?:\[/?\w{1,20}\]|\{\w{1,20}\}|</?\w{1,20}>|`{3,}|~{3,})\s*")
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"\s*+\S+\s?")
#: A word that stands in a line as it was written: no mark, quote or character that is taken for another.
_PLAIN_WORD = re.compile(r"[A-Za-z0-9\[({+.,:;/@#%*=_~!?$^-][!#-%'-;=?-~]*")
#: How much of the line that follows is looked at.
_FOLLOWING = 1000
#: So much of a document tells what it is: an element of it.
_DOCUMENT_LINES = 80
#: What ends words in front that no blank follows.
_JOINTS = (":", "-", "+")
_JOINT = "[:-]"
#: The head of a table.
HEAD = re.compile(
    r"(?<![^\s:+-])(?:"
    + "|".join(
        pattern.pattern.removeprefix(r"\s*+")
        for pattern in (SERVICE_HEADER, policy_text.HEADER, counter_text.HEADER, TITLES, HEADERS)
    )
    + r"|Endpoint ID: \d)"
)


#: What none is without.
_IN_HEAD = (
    "ADDRESS",
    "PROTO",
    "POLICY",
    "REASON",
    "Service Type",
    "REVNAT_ID",
    "LOOKUP",
    "Cookie",
    "TUNNEL",
    "proto,direction",
    "Endpoint ID: ",
)


def may_be_head(line: str) -> bool:
    """Whether a line has a word of a table's head, whichever: one without is none."""
    return has_any(line, _IN_HEAD)


def head_of(line: str) -> re.Match[str] | None:
    """Where in a line the head of a table starts; None where it is none."""
    if ("=" in line and "->" in line) or not may_be_head(line):
        return None
    return HEAD.search(line[:400])


@dataclass(frozen=True, slots=True)
class _Line:
    """A line as ``Lines`` gave it."""

    text: str
    blanks: int
    quoted: bool
    damaged: bool
    unfinished: bool

    @property
    def length(self) -> int:
        return len(self.text) + self.blanks


@dataclass(frozen=True, slots=True)
class Front:
    """Words in front of each line. ``glued``: what ends them without a blank (grep's ``FILE:NUMBER:``), any number
    for its numbers."""

    words: tuple[str, ...]
    glued: re.Pattern[str] | None

    def plain(self, node: str | None = None) -> re.Pattern[bytes] | None:
        """The same for bytes, of a line's beginning on; None where there is more to a line than its bytes.

        ``node``: only those that name it.
        """
        if not all(map(_PLAIN_WORD.fullmatch, self.words)):
            return None
        blank = r"(?:[ \t]|(?=\r?$))"
        words = [re.escape(word).replace("0", r"\d{1,20}") + blank for word in self.words]
        pattern = "[ \t]*".join(["", *words])
        if self.glued is not None:
            glued = self.glued.pattern
            if _PLAIN_WORD.fullmatch(glued.replace("\\", "").replace("[:-]", ":")) is None:
                return None
            pattern += "[ \t]*" + glued.removeprefix(r"\s*")
        named = rf"(?=[^\r\n]{{0,{MAX_PREFIX}}}?{_whole(node)})" if node is not None else ""
        return re.compile(f"^{named}{pattern}".encode(), re.MULTILINE)

    def off_lines(self, lines: bytes) -> bytes:
        """Lines without them."""
        plain = self.plain()
        if plain is not None:
            return plain.sub(b"", lines)
        text = lines.decode("utf-8", "surrogateescape")
        return "\n".join(map(self.off, text.split("\n"))).encode("utf-8", "surrogateescape")

    def off(self, line: str) -> str:
        """A line without them; the line itself where it has others."""
        at = 0
        for word in self.words:
            match = _WORD.match(line, at)
            if match is None or _shape_of(match[0].strip()) != word:
                return line
            at = match.end()
        if self.glued is not None:
            match = self.glued.match(line, at)
            if match is None:
                return line
            at = match.end()
        return line[at:]


def _whole(node: str) -> str:
    """A pattern of a node's name that is no part of another's."""
    return rf"(?<![\w.]){re.escape(node)}(?![\w-])"


def _front_of(prefix: str) -> Front | None:
    """What stands before a record as words in front of each line; None for something else."""
    words = prefix.split()
    if not 0 < len(words) <= MAX_WORDS or len(prefix) > MAX_PREFIX or prefix[-1:].isalnum() or words[0] in ("$", "#"):
        return None
    glued = None
    if not prefix[-1:].isspace() and prefix[-1:] in _JOINTS:
        parts = (re.escape(part).replace(":", _JOINT).replace(r"\-", _JOINT) for part in _DIGITS.split(words.pop()))
        glued = re.compile(r"\s*" + r"\d{1,9}".join(parts))
    return Front(tuple(_shape_of(word) for word in words), glued)


class Shape:
    """The lines of a stream as the program printed them. ``alone`` says what record a line is by
    itself, None for none.

    Of the last line: ``quoted``, ``damaged`` and ``unfinished`` as ``Lines`` has them; ``cut``: it lacks its end,
    and the blanks there that every record before it had.
    """

    def __init__(self, lines: Lines, alone: Callable[[str], str | None]) -> None:
        self._lines = lines
        self._alone = alone
        self._ahead: deque[_Line] = deque()
        self._front: Front | None = None
        #: the nodes that words in front of lines name
        self.named: dict[str, None] = {}
        self._node: str | None = None
        self._width: int | None = None
        #: lines of the full width that turned out to be whole, or to be nothing
        self._in_vain = 0
        self._records = self._padded = 0
        self._blanks = 0
        self.cut = self.quoted = self.damaged = self.unfinished = False

    def next(self) -> str | None:
        """The next line, None at the end. Raises what ``Lines.next`` does."""
        if self._width is None:
            sample = self._lines.peek(_SAMPLE)
            self._width = _width_of(without_dress(sample) if is_dressed(sample) else sample)
        line = self._take()
        if line is None:
            return None
        if self._width and line.length == self._width and self._in_vain < _MAX_IN_VAIN:
            self._without_words(line.text)
            if self._front is None and not self._ahead and self._lines.goes_on_with(_ENTRY_BYTES):
                self._in_vain += 1  # as a look at the next line would find
            else:
                line = self._whole(line)
        if self._front is None and self._in_vain < _MAX_IN_VAIN and self._goes_on():
            line = self._joined(line)
        self._blanks, self.quoted, self.damaged = line.blanks, line.quoted, line.damaged
        self.unfinished = line.unfinished
        self.cut = line.unfinished and not line.blanks and 1 < self._records == self._padded
        return self._without_words(line.text)

    def plain(self, is_record: Callable[[str], bool]) -> bool:
        """Whether the line that follows is a record, and as its program printed it; else it is left where it is.

        What can be told of such a line soon is not asked of it at length: it stands among others like it.
        """
        other = self.other_length()
        found = self._lines.plain(other) if other is not None else None
        if found is None:
            return False
        line, whole = found
        broken = head_of(line) is not None or (self._in_vain < _MAX_IN_VAIN and self._goes_on())
        blanks = self._blanks = self._lines.blanks
        self.cut = self.quoted = self.damaged = self.unfinished = False
        if broken or not is_record(line):
            self._lines.back(whole + "\n")
            return False
        self.records(1, int(blanks > 0), blanks)
        return True

    def taken(self, start: re.Pattern[bytes]) -> bytes:
        """Lines at hand that are as their program printed them, each of which is a record, by their pattern."""
        if self.other_length() != 0:
            return b""
        lines = self._lines.taken(start)
        self.records(lines.count(b"\n"), lines.count(b" \n"), int(lines.endswith(b" \n")))
        return lines

    def record(self) -> None:
        """The last line was a record."""
        self._records += 1
        self._padded += self._blanks > 0

    def other_length(self) -> int | None:
        """The length of lines that may be broken ones (0: none is), where others are as the program printed them.

        None: they have words in front, or were looked at already.
        """
        if self._front is not None or self._ahead or self._width is None:
            return None
        return self._width if self._in_vain < _MAX_IN_VAIN else 0

    def worded(self) -> tuple[re.Pattern[bytes], int] | None:
        """The words in front of lines, where those are otherwise as the program printed them; ``other_length``.

        Where they name a node they are that one's: numbers in its name are no others.
        """
        if (
            self._front is None
            or self._ahead
            or self._width is None
            or (plain := self._front.plain(self._node)) is None
        ):
            return None
        return plain, self._width if self._in_vain < _MAX_IN_VAIN else 0

    def records(self, count: int, padded: int, blanks: int) -> None:
        """So many lines were records that somebody else read; so many had blanks at their end, so many the last one."""
        self._records += count
        self._padded += padded
        self._blanks = blanks
        self.cut = self.quoted = self.damaged = self.unfinished = False

    def learn(self, prefix: str) -> bool:
        """Take what stands before an entry for words in front of each line. False: it is something else."""
        if prefix.strip():
            front = _front_of(prefix)
            self._take_front(front or self._front, prefix)
            return front is not None
        return True

    def learn_if_next(self, prefix: str, mark: re.Pattern[str]) -> bool:
        """The same, but only where the line that follows, if any does, has such words too, and ``mark`` behind them."""
        front = _front_of(prefix)
        if front is None:
            return False
        following = self.following()
        bare = front.off(following)
        if following.strip() and (bare == following or mark.search(bare) is None):
            return False
        self._take_front(front, prefix)
        return True

    def name(self, node: str | None) -> None:
        """A node that a line itself says it is of."""
        if node is not None and len(self.named) < _MAX_NAMED:
            self.named[node] = None

    def named_off(self, front: Front, prefix: str) -> Callable[[bytes], bytes]:
        """How words come off the lines of documents, where the nodes that the words name are noted."""
        self._name(prefix)
        node, plain = self._node, front.plain()
        if node is None or plain is None:
            return front.off_lines
        own = re.compile(_whole(node).encode())

        def off(lines: bytes) -> bytes:
            others = (words for words in set(plain.findall(lines)) if own.search(words) is None)
            for words in islice(others, _MAX_NAMED):
                self.name(named_in(text_of(words)))
            return front.off_lines(lines)

        return off

    def _take_front(self, front: Front | None, prefix: str) -> None:
        self._front = front
        self._name(prefix)

    def _name(self, prefix: str) -> None:
        self._node = named_in(prefix) if len(self.named) < _MAX_NAMED else None
        self.name(self._node)

    def following(self) -> str:
        """The line that follows, at most its beginning, as it is."""
        return self._ahead[0].text if self._ahead else self._lines.peek(_FOLLOWING).partition("\n")[0].rstrip()

    def before_document(self, prefix: str, rest: str, is_listing: Callable[[str], bool]) -> Front | None:
        """What stands before the first line of a document, where it stands before each of its lines too.

        ``is_listing`` tells a document by its beginning.
        """
        front = _front_of(prefix)
        ahead: list[_Line] = []
        head = rest
        while front and not self._lines.is_head and len(ahead) < _DOCUMENT_LINES and (line := self._take()) is not None:
            ahead.append(line)
            bare = front.off(line.text)
            if bare == line.text:
                break
            head += f"\n{bare}"
        self._ahead.extendleft(reversed(ahead))
        return front if is_listing(head) else None

    def give_back(self) -> None:
        """Put the lines that were looked at ahead back into the stream: a document's reader takes over."""
        while self._ahead:
            line = self._ahead.pop()
            self._lines.back(line.text + " " * line.blanks + ("" if line.unfinished else "\n"))

    def _take(self) -> _Line | None:
        if self._ahead:
            return self._ahead.popleft()
        lines = self._lines
        text = lines.next()
        return None if text is None else _Line(text, lines.blanks, lines.quoted, lines.damaged, lines.unfinished)

    def _whole(self, line: _Line) -> _Line:
        """A line that was broken at the terminal's width with its other pieces, where they make a record."""
        pieces: list[_Line] = []
        text = line.text + " " * line.blanks
        while len(pieces) < _MAX_PIECES and (piece := self._take()) is not None:
            pieces.append(piece)
            bare = self._without_words(piece.text)
            cells = line.text.count(",")
            if cells >= _CELLS and bare.count(",") == cells:
                break  # rows of CSV, its head one of them, may all be of one width
            ends = not bare.strip() or _ENTRY.match(bare) or is_left_out(bare) or _MARKUP.fullmatch(bare)
            if ends or self._alone(bare) is not None:
                break
            text += piece.text + " " * piece.blanks
            if piece.length != self._width:
                break
        found = self._alone(self._without_words(text.rstrip())) if len(text) > line.length else None
        # What adds nothing to an entry is talk that follows; a table's rows have ends that say nothing.
        told = "expires=" in text or (pieces and pieces[-1].unfinished)
        adds = found is not None and (not told or found != self._alone(self._without_words(line.text)))
        whole = adds and not any(piece.damaged for piece in pieces)
        rest = pieces
        self._in_vain += 0 if whole else max(len(pieces), 1)
        if whole:
            used = next(at for at in range(len(pieces) + 1) if line.length + _length(pieces[:at]) == len(text))
            rest = pieces[used:]
            last = pieces[used - 1]
            line = replace(line, text=text.rstrip(), blanks=last.blanks, unfinished=last.unfinished)
        # The blanks at the end of a row, in a line of their own.
        if rest and not rest[0].text and rest[0].blanks and rest[0].length != self._width:
            rest = rest[1:]
        self._ahead.extendleft(reversed(rest))
        return line

    def _joined(self, line: _Line) -> _Line:
        """A line with the ones that are the rest of it, where they make a record and no field stands in it twice."""
        pieces: list[_Line] = []
        text = line.text
        while (
            len(pieces) < _MAX_PIECES
            and len(text) < _MAX_JOINED
            and self._goes_on()
            and (piece := self._take()) is not None
        ):
            pieces.append(piece)
            text += f" {piece.text.strip()}"
        self._lines.spend(_JOIN_WORK + (len(text) >> 3))
        names = _NAME.findall(text)
        named = "expires=" in line.text and pieces and _ADDRESS_ALONE.fullmatch(pieces[0].text) is not None
        if pieces and not named and len(names) == len(set(names)) and self._alone(text) not in (None, "head"):
            return replace(pieces[-1], text=text)
        self._in_vain += len(pieces)
        self._ahead.extendleft(reversed(pieces))
        return line

    def _goes_on(self) -> bool:
        """Whether the next line is the rest of this one."""
        if self._ahead:
            return _REST.match(f"{self._ahead[0].text}\n".encode()) is not None
        self._lines.has(_LEAST)
        return self._lines.goes_on_with(_REST)

    def _without_words(self, line: str) -> str:
        head = head_of(line)
        if head is not None:
            prefix = line[: head.start()]
            if not prefix.strip() or not self.learn(prefix):
                self._front = None
        if self._front is None:
            return line
        bare = self._front.off(line)
        words = line[: len(line) - len(bare)]
        if self._node is not None and words and (self._node not in words or not re.search(_whole(self._node), words)):
            self._name(words)  # as far as a number goes, words in front may differ
        return bare


def _length(lines: Iterable[_Line]) -> int:
    return sum(line.length for line in lines)


def _shape_of(word: str) -> str:
    """A word with its numbers left out: times and numbers of pods differ from line to line."""
    return _DIGITS.sub("0", word)


def _width_of(text: str) -> int:
    """The width at which the lines of a text may have been broken: that of several, which none goes beyond; else 0."""
    lengths = [len(line.rstrip("\r")) for line in text.split("\n")[:-1]]
    widest = max(lengths, default=0)
    return widest if widest in _WIDTHS and lengths.count(widest) > 1 else 0
