"""Numbers and durations as people type and read them: ``80``, ``90s``, ``2h13m20s``, ``1.5m``."""

from __future__ import annotations

import re

_UNITS_S: dict[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"(\d++(?:\.\d++)?)(ms|s|m|h|d)")
#: Nothing waits longer, and no clock of the kernel's API takes much more.
MAX_DURATION_S = 100 * 365 * 86400.0
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def decimal(text: str, high: int = 2**32 - 1) -> int | None:
    """A whole number of ASCII digits from 0 to ``high``; None for anything else, however long it is."""
    if not text.isascii() or not text.isdecimal() or len(text) > 20:
        return None
    number = int(text)
    return number if number <= high else None


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number of things in words: ``1 entry``, ``2 entries``; ``many`` where it is not ``one`` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``30s``, ``2h13m20s`` or a bare number of seconds.

    Raises ValueError for anything else, negative durations and those of more than a century included.
    """
    text = text.strip()
    seconds = float(text) if _NUMBER.fullmatch(text) else _sum_of_parts(text)
    if seconds > MAX_DURATION_S:
        raise ValueError(f"{text[:40]!r} is too long: a century at most")
    return seconds


def _sum_of_parts(text: str) -> float:
    position, total = 0, 0.0
    while (match := _PART.match(text, position)) is not None:
        total += float(match[1]) * _UNITS_S[match[2]]
        position = match.end()
    if not text or position != len(text):
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 5m or 2h13m20s")
    return total


def format_duration(seconds: float) -> str:
    """A duration in its largest units, ``2h13m20s``; negative ones with a leading minus."""
    sign, rest = ("-", -seconds) if seconds < 0 else ("", seconds)
    if rest < 1 and rest:
        return f"{sign}{rest * 1000:.0f}ms"
    whole, text = int(rest), ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= size:
            text += f"{whole // size}{unit}"
            whole %= size
    return sign + text + (f"{whole}s" if whole or not text else "")


def short_duration(seconds: float) -> str:
    """The two largest units of a duration, ``2h13m``: for columns of a table."""
    text = format_duration(seconds)
    parts = re.findall(r"-?\d+(?:ms|[dhms])", text)
    return "".join(parts[:2])
