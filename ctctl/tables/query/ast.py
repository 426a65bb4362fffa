"""What a filter says, before it is bound to a table."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

#: Greatest number a slot can hold.
MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from ``low`` to ``high``, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Name:
    """A name where an address, an identity or a service belongs: its source knows what it stands for."""

    text: str


Value: TypeAlias = Range | Network | Name | str


@dataclass(frozen=True, slots=True)
class Term:
    """``field`` is one of ``values``: number ranges, networks or words by the field's kind."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class HasFlags:
    """All bits of ``mask`` are set in the entry's flags."""

    mask: int


@dataclass(frozen=True, slots=True)
class Not:
    item: Node


@dataclass(frozen=True, slots=True)
class And:
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    items: tuple[Node, ...]


Node: TypeAlias = Term | HasFlags | Not | And | Or


def has_names(node: Node | None) -> bool:
    """Whether a filter asks for what has a name, which only some sources know."""
    if isinstance(node, Term):
        return any(isinstance(value, Name) for value in node.values)
    if isinstance(node, Not):
        return has_names(node.item)
    return isinstance(node, And | Or) and any(has_names(item) for item in node.items)


def fields_of(node: Node) -> set[str]:
    """Names of all fields a filter looks at."""
    if isinstance(node, Term):
        return {node.field}
    if isinstance(node, Not):
        return fields_of(node.item)
    if isinstance(node, And | Or):
        return set().union(*(fields_of(item) for item in node.items))
    return {"flags"}
