"""What a scenario's step expects, held against the step's JSON. Pure.

A key is a path into the JSON with dots (``ct.cilium_ct4_global.0.state``; a key that stands there as
it is wins). Against a list a number is its length, against an object of lists the lengths together
(``ct: 1``); related entries, which come along with their connection, may be counted or not. A list
must have as many elements and each must match another one, in any order; a mapping must match in the
keys it names. Anything else must be equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ctctl.model.units import decimal

_MISSING = object()


def differences(expect: Mapping[str, Any], got: Any, where: str = "") -> Iterator[str]:
    """A sentence for everything in ``expect`` that does not hold for ``got``."""
    for path, wanted in expect.items():
        full = f"{where}.{path}" if where else path
        found = _find(got, path)
        if found is _MISSING:
            yield f"{full}: is not there, expected {_shown(wanted)}"
        else:
            yield from _compare(wanted, found, full)


def matches(wanted: Any, found: Any) -> bool:
    """Whether ``found`` is what was wanted."""
    return next(_compare(wanted, found, ""), None) is None


def _find(value: Any, path: str) -> Any:
    if isinstance(value, Mapping) and path in value:
        return value[path]
    head, _, rest = path.partition(".")
    if isinstance(value, Mapping) and head in value:
        inner = value[head]
    elif isinstance(value, list) and _is_index(head) and -len(value) <= int(head) < len(value):
        inner = value[int(head)]
    else:
        return _MISSING
    return _find(inner, rest) if rest else inner


def _compare(wanted: Any, found: Any, where: str) -> Iterator[str]:
    if isinstance(wanted, int) and not isinstance(wanted, bool) and (elements := _elements(found)) is not None:
        yield from _compare_count(wanted, elements, where)
    elif isinstance(wanted, Mapping) and isinstance(found, Mapping):
        yield from differences(wanted, found, where)
    elif isinstance(wanted, list) and isinstance(found, list):
        yield from _compare_lists(wanted, found, where)
    elif wanted != found or isinstance(wanted, bool) != isinstance(found, bool):
        yield f"{where}: is {_shown(found)}, expected {_shown(wanted)}"


def _elements(found: Any) -> list[Any] | None:
    """What a number counts: a list's elements, or those of all lists of an object; None for anything else."""
    if isinstance(found, list):
        return found
    if isinstance(found, Mapping) and all(isinstance(value, list) for value in found.values()):
        return [element for value in found.values() for element in value]
    return None


def _compare_count(wanted: int, elements: list[Any], where: str) -> Iterator[str]:
    related = sum(isinstance(element, Mapping) and element.get("related") is True for element in elements)
    if wanted not in (len(elements), len(elements) - related):
        without = f" ({related} of them related)" if related else ""
        yield f"{where}: {len(elements)} entries{without}, expected {wanted}"


def _compare_lists(wanted: list[Any], found: list[Any], where: str) -> Iterator[str]:
    if len(wanted) != len(found):
        yield f"{where}: {len(found)} entries, expected {len(wanted)}"
    left = list(found)
    for number, element in enumerate(wanted):
        match = next((index for index, candidate in enumerate(left) if matches(element, candidate)), None)
        if match is None:
            yield f"{where}.{number}: nothing matches {_shown(element)}{_nearest(element, left)}"
        else:
            del left[match]


def _nearest(wanted: Any, left: list[Any]) -> str:
    """Of the elements left over the one that differs least, and how."""
    reports = [list(_compare(wanted, candidate, "")) for candidate in left]
    if not reports:
        return ""
    return f" (nearest: {'; '.join(line.lstrip('.') for line in min(reports, key=len))})"


def _shown(value: Any) -> str:
    import json

    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _is_index(text: str) -> bool:
    return decimal(text.removeprefix("-")) is not None
