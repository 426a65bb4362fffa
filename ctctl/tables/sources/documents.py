"""JSON and YAML of unknown origin, an element at a time, with bounded memory and time."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from ctctl.config.budget import yaml_work
from ctctl.errors import DecodeError
from ctctl.tables.sources.gaps import MAX_MARK, is_left_out
from ctctl.tables.sources.regular import Sample
from ctctl.tables.sources.stream import CHUNK, EndedEarlyError, Lines, Reader, Unquoted, text_of

_Decoded = TypeVar("_Decoded")

#: An element of an array may be this long; nothing real comes near.
MAX_ELEMENT = 1 << 22
#: How much of a document is read at first: many are small, and follow one another.
_FIRST = 1 << 12
#: What an element of a document costs beside its bytes.
ELEMENT_WORK = 5
#: What a record costs beside its line or text: also to be shown later.
RECORD_WORK = 40


class DamagedJsonError(DecodeError):
    """A JSON document that is cut off or damaged; ``text`` is all of it."""

    text = ""


class TooLongError(DecodeError):
    """A JSON document, or an element of one, that is too long; ``text`` is what was read of it."""

    text = ""


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of a table")


#: What an anchor or an alias starts with, and the rest of its word.
_ANCHOR, _YAML_WORD = re.compile(r"(?:^|[\s\[{,:-])[&*]"), re.compile(r"[^\s,\[\]{}]+")
#: What stands between members and elements, and between a member's name and value; what a mark does not start with.
_BETWEEN, _COLON, _STARTS = re.compile(r"[ \t\r\n,]*"), re.compile(r"[ \t\r\n:]*"), '"]}{'
#: JSON without NaN and Infinity.
DECODER = json.JSONDecoder(parse_constant=_no_number)


def json_array(
    stream: Reader | Elements,
    *,
    lenient: bool = False,
    left_out: Callable[[], None] = lambda: None,
) -> Iterator[Any]:
    """Elements of one JSON array, one at a time. Between two of them others may be taken from ``Elements``.

    ``left_out`` is called where a line between elements says that some were left out by hand.
    What follows the array is put back where the stream can take it; ``lenient``: also where it turns out
    to be no JSON, from the next line on. Raises EndedEarlyError where the array stops in the middle,
    DecodeError where it is no JSON.
    """
    buffer = stream if isinstance(stream, Elements) else Elements(stream)
    try:
        if not buffer.skip("["):
            raise DecodeError("not a JSON array")
        while not buffer.skip("]"):
            while buffer.skip(","):
                pass  # where an element was taken out by hand; read in passes it is no other
            if buffer.is_left_out():
                left_out()
                buffer.next_line()
            else:
                yield buffer.element()
    except DecodeError:
        if lenient:
            buffer.next_line()
            buffer.give_back()
        raise
    buffer.give_back()


class Elements:
    """The text of a document's elements, read ahead. What ``unquoted`` finds in them stands for a string.

    Text without other characters than those of ASCII can be taken as bytes too (``regular.Ahead``).
    """

    def __init__(self, stream: Reader, unquoted: re.Pattern[str] | None = None) -> None:
        self._stream = stream
        self._unquoted = unquoted
        self._text = ""
        self._pending = b""
        self._at = 0
        self._ended = False
        self._broken: EndedEarlyError | None = None
        self._element = ""
        self._plain = True
        #: more than one list is read of it: what follows one is not put back
        self.held = False

    @property
    def last(self) -> str:
        """The text of the last element."""
        return self._element

    def sample(self, element: Any) -> Sample:
        """The last element as others may be, by what stands before the next one."""
        match = _BETWEEN.match(self._text, self._at)
        return Sample(element, self._element, match[0] if match is not None else "")

    def window(self) -> tuple[bytes, int]:
        """What was read ahead of it, up to the first character that is not plain."""
        text = self._text[self._at :]
        try:
            raw, self._plain = text.encode("ascii"), True
        except UnicodeEncodeError as error:
            raw, self._plain = text[: error.start].encode(), False
        return raw, 0

    def pass_to(self, at: int) -> None:
        """Take the window up to there."""
        self._at += at

    def read_on(self) -> bool:
        """Make the window longer. False: nothing follows that may be taken so."""
        return self._plain and self._more()

    def has(self, size: int) -> bool:
        """Whether so many characters follow; they are read ahead."""
        while len(self._text) - self._at < size and self._more():
            pass
        return len(self._text) - self._at >= size

    def _more(self) -> bool:
        """Read on until there is twice as much as before: an element is looked at few times only."""
        if self._ended:
            return False
        wanted, parts, size = max(CHUNK, len(self._text) - self._at), [self._pending], 0
        while size < wanted and not self._ended:
            try:
                chunk = self._stream.read(CHUNK)
            except EndedEarlyError as error:
                chunk, self._broken = b"", error
            self._ended = not chunk
            size += len(chunk)
            parts.append(chunk)
        raw = b"".join(parts)
        cut = len(raw) if self._ended else _whole(raw)  # where no UTF-8 sequence is split
        self._pending = raw[cut:]
        self._text = self._text[self._at :] + text_of(raw[:cut])
        self._at = 0
        return size > 0

    def _early(self, text: str) -> EndedEarlyError:
        return self._broken or EndedEarlyError(text)

    def skip(self, char: str) -> bool:
        """Skip white space, and ``char`` if it is next."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                found = self._text[self._at] == char
                self._at += found
                return found
            if not self._more():
                raise self._early("the dump ends in the middle")

    def ahead(self, size: int) -> str:
        """The beginning of the next element, and what follows, without taking it."""
        self.skip("")
        self.has(size)
        return self._text[self._at : self._at + size]

    def is_left_out(self) -> bool:
        """Whether the rest of the line stands for elements that were left out."""
        self.skip("")
        if self._text.startswith(("{", '"'), self._at):
            return False
        while self._text.find("\n", self._at) < 0 and len(self._text) - self._at < MAX_MARK and self._more():
            pass
        return _mark_at(self._text, self._at) > 0

    def element(self) -> Any:
        return self._next_by(self._decoded, "an element")

    def member(self, marks: Members) -> tuple[Any, Any]:
        """The next member of an object: its name and value. Of a list in it, ``marks`` counts gaps left by hand."""
        name, value, found = self._next_by(self._decoded_member, "a member")
        marks.marks += found
        return name, value

    def _next_by(self, decode: Callable[[], tuple[_Decoded, int]], what: str) -> _Decoded:
        """What is next, as ``decode`` has it and where it ends of the text at hand; more of it is read as it needs."""
        self.skip("")
        while True:
            try:
                value, end = decode()
            except (ValueError, IndexError) as error:
                if len(self._text) - self._at > MAX_ELEMENT:
                    too_long = TooLongError(f"not JSON, or {what} of more than {MAX_ELEMENT} bytes")
                    too_long.text = self._text[self._at :]
                    raise too_long from error
                if not self._more():
                    raise self._early("the dump ends in the middle of an entry, or is damaged there") from error
                continue
            except RecursionError:
                raise DecodeError("JSON nested too deeply") from None
            if end == len(self._text) and self._more():
                continue
            self._element = self._text[self._at : end]
            self._at = end
            return value

    def _decoded_member(self) -> tuple[tuple[Any, Any, int], int]:
        """The member that is next with the count of its gaps left by hand, and where it ends. Raises as ``_member``."""
        found = Members()
        name, value, end = _member(self._text, self._at, found)
        return (name, value, found.marks), end

    def _decoded(self) -> tuple[Any, int]:
        """The element that is next, and where it ends. Raises ValueError."""
        if self._unquoted is None:
            return DECODER.raw_decode(self._text, self._at)
        size = len(self._element) + _FIRST // 8
        while True:
            part = self._text[self._at : self._at + size]
            last = self._at + size >= len(self._text)
            places = [match.span(1) for match in self._unquoted.finditer(part)]
            with contextlib.nullcontext() if last else contextlib.suppress(ValueError):
                value, end = DECODER.raw_decode(_quoted(part, places), 0)
                # Each string before the end has two marks that the text has not.
                end -= 2 * sum(stop + 2 * number < end for number, (_, stop) in enumerate(places))
                if last or end < len(part):
                    return value, self._at + end
            size *= 4

    def next_line(self) -> None:
        """Leave what is left of the line."""
        end = self._text.find("\n", self._at)
        self._at = len(self._text) if end < 0 else end + 1

    def give_back(self) -> None:
        """Put what follows back into the stream, where that can take it."""
        if self.held:
            return
        back = getattr(self._stream, "back", None)
        if back is not None:
            back(self._text[self._at :].encode() + self._pending)


def _quoted(text: str, places: Iterable[tuple[int, int]]) -> str:
    """Text with marks around what stands in these places."""
    parts, at = [], 0
    for start, stop in places:
        parts += [text[at:start], '"', text[start:stop], '"']
        at = stop
    return "".join([*parts, text[at:]])


def json_object(lines: Lines | Unquoted, limit: int) -> Any:
    """One JSON value that starts at the next line, read whole up to ``limit`` bytes; what follows stays.

    Raises DecodeError for what is none.
    """
    parts: list[bytes] = []
    size, wanted, broken = 0, _FIRST, None
    while True:
        while size < min(wanted, limit + 1):
            try:
                chunk = lines.read(wanted - size)
            except EndedEarlyError as error:
                chunk, broken = b"", error
            if not chunk:
                break
            parts.append(chunk)
            size += len(chunk)
        raw = b"".join(parts)
        parts = [raw]
        lines.spend(len(raw) >> 3)
        text = text_of(raw)
        at = len(text) - len(text.lstrip())
        try:
            value, end = DECODER.raw_decode(text, at)
        except RecursionError:
            raise DecodeError("JSON nested too deeply") from None
        except ValueError as error:
            if size > limit:
                too_long = TooLongError(f"a JSON object of more than {limit >> 20} MiB")
                too_long.text = text
                raise too_long from None
            if size >= wanted:
                wanted *= 4
                continue
            damaged = DamagedJsonError(str(broken) if broken else f"damaged JSON: {str(error)[:120]}")
            damaged.text = text[at:]
            raise damaged from error
        lines.back(text[end:].encode())
        return value


@dataclass(slots=True)
class Members:
    """The members of a JSON object, up to the first that is not whole.

    ``marks`` counts lines that say that something was left out by hand, between members or the elements of a list.
    ``end`` is where the object ends; None: before that it is no JSON.
    """

    found: dict[str, Any] = field(default_factory=dict)
    marks: int = 0
    end: int | None = None


def members_of(text: str) -> Members:
    """What can be read of a JSON object that is cut off, damaged, or of which somebody left something out."""
    members = Members()
    at = text.find("{") + 1
    with contextlib.suppress(ValueError, RecursionError, IndexError):
        while at > 0 and text[at := _next(text, at, members)] != "}":
            name, value, at = _member(text, at, members)
            members.found[str(name)] = value
        members.end = at + 1 if at > 0 else None
    return members


def _member(text: str, at: int, members: Members) -> tuple[Any, Any, int]:
    """The name and value of a member, and where it ends. Raises ValueError, and IndexError where the text ends."""
    name, at = DECODER.raw_decode(text, at)
    at = _end_of(_COLON, text, at)
    if text[at] == "[":
        return name, *_elements(text, at + 1, members)
    return name, *DECODER.raw_decode(text, at)


def _elements(text: str, at: int, members: Members) -> tuple[list[Any], int]:
    """The elements of a list from behind its bracket on, and where it ends."""
    found = []
    while text[at := _next(text, at, members)] != "]":
        value, at = DECODER.raw_decode(text, at)
        found.append(value)
    return found, at + 1


def _next(text: str, at: int, members: Members) -> int:
    """Where the next member or element, or the end, is. Raises IndexError where the text ends."""
    while True:
        at = _end_of(_BETWEEN, text, at)
        if text[at] in _STARTS or (mark := _mark_at(text, at)) == 0:
            return at
        members.marks += 1
        at += mark


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match is not None else at


def _mark_at(text: str, at: int) -> int:
    """The length of a line that says that something was left out by hand; 0 where there is none."""
    line = text[at : at + MAX_MARK].partition("\n")[0]
    return len(line) if is_left_out(line.rstrip(" \t\r,")) else 0


def _whole(raw: bytes) -> int:
    """Length of ``raw`` without an incomplete UTF-8 sequence at its end."""
    for back in range(1, min(4, len(raw)) + 1):
        byte = raw[-back]
        if byte >= 0xC0:
            return len(raw) - back
        if byte < 0x80:
            break
    return len(raw)


def _has_anchor(text: str) -> bool:
    """Whether a word of YAML is an anchor or an alias. Each word is looked at once, however many marks are in it."""
    end = 0
    for mark in _ANCHOR.finditer(text):
        if mark.end() >= end and (word := _YAML_WORD.match(text, mark.end())) is not None:
            end = word.end()
            if text[end : end + 1] not in ("[", "{"):
                return True
    return False


def yaml_value(text: str) -> Any:
    """One YAML document. Aliases and what they could blow up are refused. Raises DecodeError."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if _has_anchor(text):
        raise DecodeError("YAML with anchors")
    try:
        return yaml.load(text, loader)
    except (yaml.YAMLError, TypeError, LookupError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise DecodeError(f"damaged YAML: {' '.join(str(error).split())[:120]}") from error


class YamlItems:
    """Elements of one YAML list from the next line on, one at a time, with the indentation of the first.

    It ends before the first line that is none of it. Between two of them others may be taken from the lines.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._block: list[str] = []
        self._indented = False

    def __iter__(self) -> Iterator[Any]:
        """Raises DecodeError, EndedEarlyError."""
        for block, indent in _yaml_blocks(self._lines):
            self._block, self._indented = block, indent > 0
            yield _yaml_item(block)

    def sample(self, element: Any) -> Sample:
        """The last element, as others may be."""
        text = "" if self._indented else "\n".join([*self._block, ""])
        return Sample(element, text, yaml=True)


def _yaml_blocks(lines: Lines) -> Iterator[tuple[list[str], int]]:
    """The lines of each element without their indentation, and how much that is."""
    block: list[str] = []
    size, indent, first = 0, 0, True
    while (line := lines.next()) is not None:
        left = len(line) - len(line.lstrip())
        if not line.strip():
            continue
        if first:
            indent = left
        text = line[indent:] if left >= indent else line.lstrip()
        starts = left <= indent and text.startswith("- ")
        if not first and ((left <= indent and not starts) or is_left_out(text)):
            lines.back(line + "\n")
            break
        first = False
        if starts and block:
            lines.spend(yaml_work("\n".join(block)))
            lines.back(line + "\n")
            yield block, indent
            block, size = [], 0
            continue
        size += len(text)
        if size > 1 << 16:
            raise DecodeError("an element of the YAML list is too long")
        block.append(text)
    if block:
        lines.spend(yaml_work("\n".join(block)))
        yield block, indent


def _yaml_item(block: list[str]) -> Any:
    try:
        return yaml_value("\n".join(block))[0]
    except (TypeError, LookupError):
        raise EndedEarlyError("an entry of the YAML list is damaged or cut off") from None
    except DecodeError as error:
        raise EndedEarlyError(f"an entry of the YAML list is damaged or cut off: {error}") from error
