"""One value as JSON knows it, as a cell of a table, and as one of a spreadsheet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ctctl.out.text import safe

#: What is JSON's as it stands: nearly every value.
_PLAIN = (str, int, bool, float, type(None))


def jsonable(value: object) -> Any:
    """A model value as JSON knows it: addresses and words as text, flags as numbers, bytes as hex."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, IPv4Address | IPv6Address):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    return value


def cell(value: object) -> str:
    """A value as one line of text: "-" for None, lists joined by spaces, safe to print."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if type(value) is str:
        return safe(value)
    value = jsonable(value)
    if isinstance(value, list):
        return " ".join(cell(item) for item in value) or "-"
    if isinstance(value, dict):
        import json

        return safe(json.dumps(value))
    return safe(str(value))


def cells(values: Iterable[object]) -> list[str]:
    """The same of each."""
    found = [value if type(value) is str else str(value) if type(value) is int else cell(value) for value in values]
    return found if "".join(found).isprintable() else [safe(text) for text in found]


#: What makes a spreadsheet take a text for a formula, also in its full-width forms (OWASP, "CSV injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_cell(value: object) -> object:
    """Absent is empty; numbers stay numbers; a text that could start a formula gets an apostrophe before it."""
    if value is None:
        return ""
    value = jsonable(value)
    if isinstance(value, bool | int | float):
        return value
    text = " ".join(safe(str(item)) for item in value) if isinstance(value, list) else cell(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA_STARTS) else text
