"""Mails with parts in base64 as they are sent (RFC 2045): the text of each part as it was written.

A part is told by its header: in base64, or quoted-printable beside such. One that is no text (a picture, an archive)
stays as it is, and that it does is said: so is what of a part is not decoded.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable

#: The header of a part of a mail that is to be made text.
PACKED = re.compile(
    rb"^content-transfer-encoding:(?:[ \t]|\r?\n[ \t])*\"?(?:base64|quoted-printable)\b", re.IGNORECASE | re.MULTILINE
)
#: The same header of any part: of one that is text as it stands, too.
ANY = re.compile(rb"^content-transfer-encoding:[ \t]*(?:[78]bit|binary)[ \t]*\r?$|" + PACKED.pattern, PACKED.flags)
#: What stands between the parts of a mail.
_BOUNDARY = re.compile(rb"--(?=[^\s]{0,200}[A-Za-z0-9])[^\s]{4,200}\s*")
_NAME = b"content-transfer-encoding:"
_HEADER = re.compile(_NAME + rb"[ \t]*\"?(base64|quoted-printable)\"?[ \t]*(?:[;(].*)?", re.IGNORECASE)
#: A line of such a part: RFC 2045 has 76 characters, other programs more, or all in one.
_BODY = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
#: A line behind a part's end that is of it: no word of a text is as long.
_MORE = re.compile(rb"[A-Za-z0-9+/]{60,}={0,2}")
#: Bytes that text has none of.
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def nothing_lost(_line: str) -> None:
    """What is lost of a mail, of which nobody is told."""


class Unpacker:
    """Turns whole lines of a mail into what was written, one piece of them after the other.

    ``spend`` is told the work of each line: many may make nothing that a reader would see, and count. ``lose`` is told
    the first line of what is not decoded.
    """

    def __init__(self, spend: Callable[[int], None], lose: Callable[[str], None] = nothing_lost) -> None:
        self._spend = spend
        self._lose = lose
        self._take: Callable[[bytes], bytes] = self._outside
        #: characters of a part that make no byte by themselves
        self._left = b""
        self._ends_line = True
        self._padded = False
        self._quoted = False

    def __call__(self, lines: bytes) -> bytes:
        """What these lines are."""
        each = lines.splitlines(keepends=True)
        self._spend(len(each))
        return b"".join([self._take(line) for line in each])  # which a line may change

    def _outside(self, line: bytes) -> bytes:
        if match := _HEADER.fullmatch(line.strip()):
            self._take, self._quoted = self._headers, match[1][:1] in b"qQ"
        elif line.strip().lower() == _NAME:
            self._take = self._folded
        return line

    def _folded(self, line: bytes) -> bytes:
        """What a header says on its second line."""
        self._take = self._outside
        if line[:1] in b" \t" and line.strip():
            self._outside(_NAME + line)
            return line
        return self._outside(line)

    def _headers(self, line: bytes) -> bytes:
        if not line.strip():
            self._take, self._left, self._ends_line = self._printable if self._quoted else self._first, b"", True
        return line

    def _printable(self, line: bytes) -> bytes:
        if line.startswith(b"--") and _BOUNDARY.fullmatch(line) is not None:
            self._take = self._outside
            return line
        return binascii.a2b_qp(line)

    def _first(self, line: bytes) -> bytes:
        """The first line of a part tells whether it is text."""
        text = line.strip()
        if not text:
            return line
        data = self._decoded(text) if _BODY.fullmatch(text) else b""
        if not data or _NO_TEXT.search(data):
            self._take = self._outside
            if not line.startswith(b"--"):
                self._lost(text)
            return self._outside(line)
        self._take = self._body
        return data

    def _body(self, line: bytes) -> bytes:
        text = line.strip()
        if text and _BODY.fullmatch(text):
            return self._decoded(text)
        self._take = self._behind
        if self._left or (text and not text.startswith(b"--") and not self._padded):
            self._lost(self._left or text)
            self._take = self._outside
        return (b"" if self._ends_line else b"\n") + self._take(line)

    def _behind(self, line: bytes) -> bytes:
        """What follows a part: more of it, behind an empty or a damaged line, is not joined to it."""
        if line.startswith(b"--"):
            self._take = self._outside
        elif _MORE.fullmatch(line.strip()):
            self._take = self._outside
            self._lost(line.strip())
        return self._outside(line)

    def _lost(self, text: bytes) -> None:
        self._lose(text[:80].decode("ascii", "replace"))

    def _decoded(self, text: bytes) -> bytes:
        text = self._left + text
        whole = len(text) & ~3
        self._left = text[whole:]
        try:
            data = binascii.a2b_base64(text[:whole])
        except binascii.Error:
            self._lost(text)
            return b""
        self._padded = text.endswith(b"=")
        self._ends_line = data.endswith(b"\n") if data else self._ends_line
        return data
