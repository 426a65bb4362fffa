"""What the cells of ctctl's own tables say: each as text, without the blanks around it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ctctl.model.entry import CtFlags
from ctctl.model.tuples import PROTOCOL_NUMBERS
from ctctl.model.units import parse_duration
from ctctl.tables.query.printed import OVER
from ctctl.tables.sources.values import digits

_RELATED_WORD = re.compile(r"(?:^| )related(?:,|$)")


def end_of(text: str) -> tuple[str, int]:
    """Address and port, without the name that may stand behind them."""
    address, _, port = text.partition(" ")[0].removeprefix("'").rpartition(":")
    return address.strip("[]"), digits(port, 16)


def protocol_of(text: str) -> int:
    """A protocol by its number or name."""
    return digits(text, 8) if text.isdecimal() else PROTOCOL_NUMBERS[text.lower()]


def flags_of(text: str) -> int:
    """Flag bits by their names; those without one in hex."""
    found = 0
    for word in text.split():
        found |= int(word, 16) if word.startswith("0x") else CtFlags[word]
    return found


def is_related(row: Mapping[str, str]) -> bool:
    """Whether an entry is of an ICMP error: a column says so, or its state does."""
    return row["related"] in ("True", "yes") if "related" in row else bool(_RELATED_WORD.search(row.get("state", "")))


def number_of(text: str) -> int | None:
    """A number, without the name that may stand behind it; None where there is none."""
    word = text.partition(" ")[0]
    if not word:
        return None
    return int(word, 16) if word.startswith("0x") else digits(word, 64)


def seconds_of(text: str) -> int:
    """What is left of an entry's life; below 0 where it has expired."""
    if (over := OVER.fullmatch(text)) is not None:
        return -int(parse_duration(over[1]))
    return int(text) if re.fullmatch(r"-?\d{1,12}", text) else int(parse_duration(text))
