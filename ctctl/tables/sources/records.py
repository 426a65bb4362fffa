"""Records out of JSON that anyone may have written: every field is held to what its record says it is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import is_dataclass
from enum import Enum
from ipaddress import IPv4Address, ip_address, ip_network
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
#: What a value of JSON becomes. Raises what ``record_of`` does.
_Reader = Callable[[Any], object]

#: Texts of which more is known.
_TEXTS: Final[dict[str, Callable[[str], object]]] = {
    "prefix": functools.partial(ip_network, strict=False),
    "cidr": functools.partial(ip_network, strict=False),
    "tunnel_endpoint": ip_address,
}
#: Numbers that may be below 0.
_SIGNED: Final = frozenset({"age_s"})


def record_of(kind: type[T], item: Any) -> T:
    """The record (a dataclass) that a JSON object is: addresses are texts, bytes are hex.

    Raises KeyError, TypeError or ValueError for one that is none, has a field of another kind, or lacks one.
    """
    if not isinstance(item, dict):
        raise TypeError(f"{str(item)[:40]!r} is no {kind.__name__}")
    readers = _readers_of(cast("Hashable", kind))
    return kind(**{name: readers[name](value) for name, value in item.items()})


@functools.cache
def _readers_of(kind: Any) -> dict[str, _Reader]:
    return {name: _reader(name, hint) for name, hint in get_type_hints(kind).items()}


def _reader(name: str, hint: Any) -> _Reader:
    options = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    read = _reader_of_one(name, options[0])
    if NoneType not in options:
        return read
    return lambda value: None if value is None else read(value)


def _reader_of_one(name: str, option: Any) -> _Reader:
    if get_origin(option) is tuple:
        element = get_args(option)[0]
        return lambda value: _all(element, value)
    if is_dataclass(option):
        return lambda value: record_of(option, value)  # type: ignore[arg-type]
    if issubclass(option, Enum):
        word: _Reader = option
        return word
    if option is IPv4Address:
        return lambda value: ip_address(_is(str, value))
    if option is bytes:
        return lambda value: bytes.fromhex(_is(str, value))
    if option is int:
        low, high = -1 << 63 if name in _SIGNED else 0, _highest(name)
        return lambda value: _number(value, low, high)
    if name in _TEXTS:
        return lambda value: _text(name, value)
    return lambda value: _is(option, value)


def _highest(name: str) -> int:
    if name == "port_bits":
        return 16
    return 0xFFFF if name.endswith("port") else 0xFF if name == "proto" else (1 << 64) - 1


def _is(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{str(value)[:40]!r} is no {kind.__name__}")
    return value


def _all(kind: type[T], value: Any) -> tuple[T, ...]:
    """The elements of a list, of which there may be a hundred thousand."""
    if not set(map(type, _is(list, value))) <= {kind}:
        raise TypeError(f"not everything in {str(value)[:40]} is {kind.__name__}")
    return tuple(value)


def _number(value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not low <= _is(int, value) <= high:
        raise ValueError(f"{str(value)[:40]!r} is no number from {low} to {high}")
    return int(value)


def _text(name: str, value: Any) -> str:
    text = _is(str, value)
    _TEXTS[name](text)
    return text
