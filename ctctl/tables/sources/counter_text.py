"""The Cilium CLI's ``bpf metrics list``: rows of text and the JSON forms of up to 1.15 and of later versions."""

from __future__ import annotations

import re
from typing import Any

from ctctl.errors import DecodeError
from ctctl.model.drops import DatapathCounter, reason_number
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.values import digits, has_any, whole

HEADER = re.compile(r"\s*+REASON\s+DIRECTION\s+PACKETS\s+BYTES\b")
_ROW = re.compile(
    r"\s*+(?P<reason>\S(?:.{0,79}?\S)?)\s++(?P<way>INGRESS|EGRESS|SERVICE|UNKNOWN)\s+(?P<packets>\d{1,20})\s+(?P<bytes>\d{1,20})"
    r"(?:\s+(?P<line>\d{1,5})\s+(?P<file>[\w.-]{1,40}(?:\(\d{1,3}\))?))?\s*+$"
)
#: What no row is without.
_WAYS = ("GRESS", "SERVICE", "UNKNOWN")
_UNKNOWN_FILE = re.compile(r"unknown\((\d{1,3})\)")
_DIRECTIONS = ("ingress", "egress", "service", "unknown")


def add_line(dump: Dump, line: str) -> bool:
    """Whether the line is a row; it is added then."""
    match = _ROW.match(line) if len(line) <= 400 and has_any(line, _WAYS) else None
    number = reason_number(" ".join(match["reason"].split())) if match is not None else None
    if match is None or number is None:
        return False
    try:
        found = DatapathCounter(
            number,
            match["way"].lower(),
            digits(match["packets"], 64),
            digits(match["bytes"], 64),
            digits(match["line"], 16) if match["line"] else 0,
            *_file(match["file"]),
        )
    except DecodeError:
        return False
    dump.listings.counters.append(found)
    return True


def _file(text: str | None) -> tuple[int, str | None]:
    """Number and name of a file: a listing has one of them."""
    unknown = _UNKNOWN_FILE.fullmatch(text) if text else None
    return (digits(unknown[1], 8), None) if unknown is not None else (0, text)


def is_counter(item: Any) -> bool:
    """Whether an element of a JSON list is one of ``bpf metrics list -o json``."""
    return isinstance(item, dict) and "reason" in item and ("direction" in item or "values" in item)


def add_item(dump: Dump, item: Any) -> None:
    """One element. Up to 1.15 it is a reason with the values of each direction. Raises DecodeError."""
    dump.listings.shown.add("counters")
    if not is_counter(item):
        raise DecodeError("an element is no counter")
    if "values" in item:
        number = whole(item["reason"], 8)
        values = item["values"] if isinstance(item["values"], dict) else {}
        found = [
            DatapathCounter(number, _direction(way), _count(part, "packets"), _count(part, "bytes"))
            for way, part in values.items()
        ]
    else:
        name = str(item["reason"])[:100]
        known = reason_number(name)
        if known is None:
            raise DecodeError(f"{name!r} is no reason")
        file = item.get("file")
        number, place = _file(str(file)[:60]) if file else (0, None)
        packets, octets, line = _count(item, "packets"), _count(item, "bytes"), whole(item.get("line", 0), 16)
        found = [DatapathCounter(known, _direction(item["direction"]), packets, octets, line, number, place)]
    dump.listings.counters += found


def _count(part: Any, name: str) -> int:
    return whole(part.get(name, 0) if isinstance(part, dict) else None, 64)


def _direction(word: Any) -> str:
    text = str(word)[:20].lower()
    if text not in _DIRECTIONS:
        raise DecodeError(f"{text!r} is no direction")
    return text
