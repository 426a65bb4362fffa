"""Listings within a JSON document of another kind: ``{"items": [...]}``, what a tool reports of a command's output."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ctctl.errors import DecodeError
from ctctl.tables.sources.documents import ELEMENT_WORK, Elements
from ctctl.tables.sources.json_kinds import is_known, is_listing_by_pairs, is_rows
from ctctl.tables.sources.shape import HEAD

#: How much of a list or object is looked at to tell what it is.
_HEAD = 4096
#: A list of rows is looked for so many lists and objects deep.
_MAX_DEPTH = 8
#: No text of a listing is shorter.
_SHORTEST = 16
#: What a list of objects or an object starts with that is a member of an object or an element of a list; how many of
#: them are looked at, and what one costs.
_STARTS = re.compile(r'[:,\[]\s*(?=(?:\[\s*)?\{\s*")')
_MAX_STARTS, _START_WORK = 20, 4
#: What a list of rows costs beside them.
_LIST_WORK = 60
#: What the text of a listing has, wherever in a document it is kept, and what one line of it has.
TOLD = re.compile(
    r"expires=\d|\"(?:Lifetime|NeedsCT)\": ?\d|XLATE_[SD]|identity=\d|sec_id=\d|" + HEAD.pattern, re.MULTILINE
)
#: What the text of conntrack entries has.
CONNECTIONS = re.compile(r"expires=\d|\"Lifetime\": ?\d")
_TOLD_LINE = re.compile(r" (?:OUT|IN|SVC) .{3,200}?(?:expires=\d|XLATE_[SD])")
#: How nodes and pods are called.
NODE = re.compile(r"[\w.-]{1,100}")
#: Members of an object that say which node, or which pod of the agent's, it tells of; those that such may be in; and
#: those, objects, whose own members are called as nodes are. An inner one that says less (a host may be where something
#: was asked for) is not taken for an outer one: node, then pod, then the others.
_WHOSE = ("node", "node_name", "nodeName", "host", "hostname", "_HOSTNAME", "pod", "pod_name", "podName", "instance")
_STRENGTH = dict.fromkeys(_WHOSE, 1) | {"node": 3, "node_name": 3, "nodeName": 3}
_STRENGTH |= {"pod": 2, "pod_name": 2, "podName": 2}
_NODE_ITSELF, _SAYS = 3, {3: "node", 2: "pod", 1: "host"}
_LABELS = ("stream", "labels", "metadata", "kubernetes", "resource", "tags")
_BY_NODE = ("hosts", "nodes", "contacted")
#: What is in such is not called by a node where it is one of these: all nodes are in it.
_ALL = frozenset(("items", "list", "entries", "data", "results", "values", "elements", "nodes", "hosts", "all"))
#: What every node calls itself.
_ANY_NODE = frozenset(("localhost", "localhost.localdomain", "127.0.0.1"))


def encloses_rows(head: str, spend: Callable[[int], None]) -> bool:
    """Whether a list of rows, or a listing by pairs, starts within the beginning of a document, not with it."""
    for _, start in zip(range(_MAX_STARTS), _STARTS.finditer(head, 1), strict=False):
        spend(_START_WORK)
        found = head[start.end() :]
        if is_rows(found) if found[0] == "[" else is_known(found):
            return True
    return False


class Enclosed:
    """A document that is gone through, as it comes, for the lists of rows in it; ``rest`` is what else is in it.

    ``read_rows`` is given the beginning of a list or an object, the name of the member that it is in, and the node that
    the document has said it is of; where it knows it as a listing it reads it and is true.
    """

    def __init__(
        self, elements: Elements, read_rows: Callable[[str, str, str | None], bool], spend: Callable[[int], None]
    ) -> None:
        self._elements = elements
        self._read_rows = read_rows
        self._spend = spend
        self.rest: list[Any] = []

    def read(self) -> None:
        """All of it. Raises what ``Elements.element`` does."""
        self._elements.held = True
        self._value(0, "", None, 0)
        self._elements.held = False
        self._elements.give_back()

    def _value(self, depth: int, name: str, node: str | None, strength: int) -> Any:
        """The next value, of the member ``name``; None for a list or object. ``strength``: of what said the node."""
        elements = self._elements
        self._spend(2 * ELEMENT_WORK)
        head = elements.ahead(_HEAD)
        if head[:1] in ("[", "{") and self._read_rows(head, name, node):
            self._spend(_LIST_WORK)
            return None
        if depth < _MAX_DEPTH and head[:1] == "[":
            elements.skip("[")
            while not elements.skip("]"):
                elements.skip(",")
                self._value(depth + 1, "" if name in _BY_NODE else name, node, strength)
            return None
        if depth < _MAX_DEPTH and head[:1] == "{":
            self._object(depth, name, node, strength)
            return None
        value = elements.element()
        told = isinstance(value, (dict, list)) or (isinstance(value, str) and len(value) >= _SHORTEST)
        self.rest.append({_SAYS[strength]: node, "kept": value} if node is not None and told else value)
        return value

    def _object(self, depth: int, name: str, node: str | None, strength: int) -> None:
        elements = self._elements
        elements.skip("{")
        while not elements.skip("}"):
            elements.skip(",")
            member = elements.element()
            self._spend(2 * ELEMENT_WORK)
            if not isinstance(member, str) or not elements.skip(":"):
                raise DecodeError("not JSON: a member of an object without a name")
            if name in _BY_NODE and _is_called(member):
                value = self._value(depth + 1, member, member, _NODE_ITSELF)
            else:
                value = self._value(depth + 1, member, node, strength)
            said = _STRENGTH.get(member, 0)
            if said and said >= strength and isinstance(value, str) and value not in _ANY_NODE:
                node, strength = (value, said) if NODE.fullmatch(value) else (None, 0)


def _is_called(member: str) -> bool:
    """Whether a member of an object by node may be called as a node is."""
    return NODE.fullmatch(member) is not None and member not in _ALL


class Kept(NamedTuple):
    """A listing in a document: the node that it is of, if that is said, the member that it is in, its text."""

    node: str | None
    member: str
    text: str


def kept_in(document: Any) -> Iterator[Kept]:
    """The listings that a document of JSON keeps, in order.

    They are lists of rows, listings by pairs, texts of several lines, lists of lines, and lines of conntrack or SNAT
    entries.
    """
    left: list[tuple[Any, str | None, int, str]] = [(document, None, 0, "")]
    while left:
        item, node, strength, member = left.pop()
        if isinstance(item, str):
            if (("\n" in item or item[:1] in ("[", "{")) and TOLD.search(item)) or _TOLD_LINE.search(item[:_HEAD]):
                yield Kept(node, member, item)
        elif isinstance(item, dict) and is_listing_by_pairs(item):
            yield Kept(node, member, json.dumps(item))
        elif isinstance(item, dict):
            said, by = _said_of(item)
            if said is not None and by >= strength:
                node, strength = said, by
            for name, value in reversed(item.items()):
                called = member in _BY_NODE and _is_called(str(name))
                left.append((value, str(name), _NODE_ITSELF, name) if called else (value, node, strength, str(name)))
        elif isinstance(item, list) and item and all(isinstance(text, str) for text in item):
            text = "\n".join(line for line in item if not line.isdigit())  # a time and what was said then
            if TOLD.search(text):
                yield Kept(node, member, text)
        elif isinstance(item, list) and item and isinstance(item[0], dict) and is_rows(json.dumps(item[:1])[:_HEAD]):
            yield Kept(node, member, json.dumps(item))
        elif isinstance(item, list):
            left += [(value, node, strength, "" if member in _BY_NODE else member) for value in reversed(item)]


def node_of(item: dict[str, Any]) -> str | None:
    """The node that an object says it is of."""
    return _said_of(item)[0]


def _said_of(item: dict[str, Any]) -> tuple[str | None, int]:
    """The node that an object says it is of, and how strong that is said."""
    for part in (item, *(item.get(name) for name in _LABELS)):
        if not isinstance(part, dict):
            continue
        for name in _WHOSE:
            value = part.get(name)
            if isinstance(value, dict):
                value = value.get("name")
            if isinstance(value, str) and NODE.fullmatch(value) and value not in _ANY_NODE:
                return value, _STRENGTH[name]
    return None, 0
