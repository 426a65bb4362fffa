"""Records and documents behind words that stand in front of each line: what ``grep`` and the like write."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice

from ctctl.model.service import SERVICE_TYPES
from ctctl.model.tuples import is_address
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.listing_documents import Form, form_of, is_listing
from ctctl.tables.sources.shape import MAX_PREFIX, MAX_WORDS, Shape
from ctctl.tables.sources.stream import Lines
from ctctl.tables.sources.values import has_any

#: Of a longer line only this much is looked at.
HEAD = 4096
#: A document behind words, and how often it is looked whether there is one.
_WORDED = re.compile(
    r"""\s*+\S.{0,160}?[\s:-](?=[\[{]\s*(?:$|[\[{"])|- [Kk]ey:\s*(?:$|\{)|key:\s*(?:$|[0-9a-f]{2}\s)|schema: ctctl/)"""
)
_MAX_WORDED = 100
#: Where words in front of a record end, and what no record that is told by its shape is without.
_JOINTS = re.compile(r"[\s:+-]+")
#: What none of its marks is without.
_IN_MARK = ("(", "y=", "id=", "://", " => ", "GRESS", "gress", "src=", "ID=", "]/v", *SERVICE_TYPES)
_IN_DOCUMENT = ("[", "{", "ey:", "schema: ctctl/")
_NUMBER = re.compile(r"(\d{1,9})[:-]")
#: What ends words in front, and may be the beginning of an IPv6 address: then what follows goes on with one.
_PART = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{1,4}:(?:[0-9a-fA-F]{1,4}:){0,6}$")
_PARTS = re.compile(r"[0-9a-fA-F:]{0,40}")
_MARK = re.compile(
    r" \(\d{1,5}\)|\bidentity=\d|\bsec_id=\d|\(localhost\)|[A-Z]://[\[0-9a-f]|\(revnat=| => \[?[0-9a-f]|(?:IN|E)GRESS"
    r"|\b(?:Allow|Deny)[ \t]+(?:In|E)gress\b|:\d{1,5}(?:/[A-Z]{1,8})?(?:/i)?[ \t]+(?:"
    + "|".join(SERVICE_TYPES)
    + r")\b|\bsrc=[0-9a-f]|\bID=\d|\]/v[46]\b"
)


def starts_document(head: str) -> bool:
    """Whether the beginning of a line is that of a listing's document, by itself or behind words."""
    start = _WORDED.match(head)
    return form_of(head) is not None or (start is not None and is_listing(head[start.end() :]))


def _goes_on(line: str, at: int) -> bool:
    """Whether what stands before a place and behind it may be one IPv6 address."""
    before = _PART.search(line, max(at - 36, 0), at)
    behind = _PARTS.match(line, at)
    if before is None or behind is None or ":" not in behind[0]:
        return False
    whole = before[0] + behind[0]
    return any(is_address(text) for text in (whole, whole.rpartition(":")[0]))


class Worded:
    """The words that a stream's lines may have in front. ``alone`` says what a line is by itself (``head``: that of a
    table; None: no record), ``take`` takes a record."""

    def __init__(
        self, lines: Lines, shape: Shape, dump: Dump, alone: Callable[[str], str | None], take: Callable[[str], bool]
    ) -> None:
        self._lines = lines
        self._shape = shape
        self._dump = dump
        self._alone = alone
        self._take = take
        #: lines that might have had such words
        self._tried = 0

    def record(self, line: str) -> bool:
        """A record behind words that stand in front of each line (what ``grep`` writes): it goes on without them.

        Where a line follows, it has such words and the marks of a record too.
        """
        if self._tried > _MAX_WORDED or len(line) > HEAD or not has_any(line, _IN_MARK):
            return False
        self._lines.spend(len(line) >> 2)  # the dearest look at a line that is none
        if _MARK.search(line) is None:
            return False
        if form_of(line) is Form.JSON:
            return False  # what is in its strings is the document's
        self._tried += 1
        for joint in islice(_JOINTS.finditer(line, 0, MAX_PREFIX), 2 * MAX_WORDS):
            at = joint.end()
            if _MARK.search(line, at) is None:
                return False
            if self._alone(line[at:]) in (None, "head"):
                continue
            if _goes_on(line, at):
                self._dump.lose("line(s) of a listing behind words that may be of an address", line)
                return True
            number = _NUMBER.match(line, at)
            if number is not None and self._alone(line[number.end() :]) not in (None, "head"):
                # "FILE:11:fd00::1": the number of a line, which grows, or the beginning of an address
                before = _NUMBER.match(self._shape.following(), at)
                if before is None:
                    self._dump.lose("line(s) of a listing behind a number that may be of an address", line)
                    return True
                at = number.end() if int(before[1]) > int(number[1]) else at
            if self._shape.learn_if_next(line[:at], _MARK):
                self._tried = 0
                return self._take(line[at:])
        return False

    def document(self, line: str) -> bool:
        """A line that starts a document behind words that stand in front of each line: it goes on without them."""
        start = _WORDED.match(line) if has_any(line, _IN_DOCUMENT) else None
        if start is None or self._tried > _MAX_WORDED:
            return False
        self._tried += 1
        front = self._shape.before_document(start[0], line[start.end() :], is_listing)
        if front is None:
            return False
        self._shape.give_back()
        if not self._lines.is_head:
            self._lines.back(line + "\n")
        self._lines.without(self._shape.named_off(front, start[0]))
        return True
