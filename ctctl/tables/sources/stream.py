"""Reading text of unknown origin with bounded memory: lines, JSON arrays, YAML lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ctctl.errors import DecodeError

#: A line, and an element of an array, may be this long; nothing real comes near.
MAX_LINE = 1 << 16
MAX_ELEMENT = 1 << 22
_CHUNK = 1 << 18


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
        self.seen = 0

    def read(self, size: int = _CHUNK, /) -> bytes:
        if self._head:
            part, self._head = self._head[:size], self._head[size:]
        else:
            part = self._rest.read(size)
        self.seen += len(part)
        return part

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes (fewer at the end) without taking them."""
        while len(self._head) < size:
            more = self._rest.read(max(size - len(self._head), 1))
            if not more:
                break
            self._head += more
        return self._head[:size]


def lines(stream: Reader) -> Iterator[str]:
    """Lines without their ends. Raises DecodeError for a line longer than 64 KiB."""
    rest, number = b"", 0
    while chunk := stream.read(_CHUNK):
        parts = (rest + chunk).split(b"\n")
        rest = parts.pop()
        for part in parts:
            number += 1
            if len(part) > MAX_LINE:
                break
            yield text_of(part)
        else:
            if len(rest) <= MAX_LINE:
                continue
        raise DecodeError(f"line {number + 1} is longer than {MAX_LINE} bytes: not a listing")
    if rest:
        yield text_of(rest)


def json_array(stream: Reader, repair: Callable[[str], str] | None = None, start: str = "") -> Iterator[Any]:
    """Elements of one JSON array, one at a time. ``repair`` changes text first, whole lines at a time.

    ``start`` is text that was read already. Raises EndedEarlyError where the array stops in the
    middle, DecodeError where it is no JSON.
    """
    decoder = json.JSONDecoder()
    buffer = _Buffer(stream, repair, start)
    if not buffer.skip("["):
        raise DecodeError("not a JSON array")
    while True:
        if buffer.skip("]"):
            return
        buffer.skip(",")
        yield buffer.element(decoder)


class _Buffer:
    def __init__(self, stream: Reader, repair: Callable[[str], str] | None, start: str) -> None:
        self._stream = stream
        self._repair = repair
        self._text = start
        self._pending = b""
        self._at = 0
        self._ended = False

    def _more(self) -> bool:
        if self._ended:
            return False
        chunk = self._stream.read(_CHUNK)
        self._ended = not chunk
        raw = self._pending + chunk
        # Cut at a line's end where lines are repaired, else where no UTF-8 sequence is split.
        cut = len(raw) if self._ended else raw.rfind(b"\n") + 1 if self._repair else _whole(raw)
        self._pending = raw[cut:]
        if len(self._pending) > MAX_ELEMENT:
            raise DecodeError("a line of the dump is too long")
        text = text_of(raw[:cut])
        self._text = self._text[self._at :] + (self._repair(text) if self._repair else text)
        self._at = 0
        return bool(chunk)

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
                raise EndedEarlyError("the dump ends in the middle")

    def element(self, decoder: json.JSONDecoder) -> Any:
        self.skip("")
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except ValueError as error:
                if len(self._text) - self._at > MAX_ELEMENT:
                    raise DecodeError(f"not JSON, or an element of more than {MAX_ELEMENT} bytes") from error
                if not self._more():
                    raise EndedEarlyError("the dump ends in the middle of an entry, or is damaged there") from error
                continue
            except RecursionError:
                raise DecodeError("JSON nested too deeply") from None
            if end == len(self._text) and self._more():
                continue
            self._at = end
            return value


def _whole(raw: bytes) -> int:
    """Length of ``raw`` without an incomplete UTF-8 sequence at its end."""
    for back in range(1, min(4, len(raw)) + 1):
        byte = raw[-back]
        if byte >= 0xC0:
            return len(raw) - back
        if byte < 0x80:
            break
    return len(raw)


def yaml_items(stream: Reader) -> Iterator[Any]:
    """Elements of one YAML list, one at a time. Raises DecodeError, EndedEarlyError."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    def parse(block: list[str]) -> Any:
        try:
            return yaml.load("\n".join(block), loader)[0]
        except (yaml.YAMLError, TypeError, LookupError, ValueError, RecursionError) as error:
            raise EndedEarlyError("an entry of the YAML list is damaged or cut off") from error

    block: list[str] = []
    size = 0
    for line in lines(stream):
        if line.startswith("- ") and block:
            yield parse(block)
            block, size = [], 0
        if line.strip() in ("", "[]", "---") and not block:
            continue
        size += len(line)
        if size > MAX_LINE:
            raise DecodeError("an element of the YAML list is too long")
        block.append(line)
    if block:
        yield parse(block)
