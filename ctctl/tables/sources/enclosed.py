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
#: those, objects, whose own members are called as nodes are.
_WHOSE = ("node", "node_name", "nodeName", "host", "hostname", "_HOSTNAME", "pod", "pod_name", "podName", "instance")
_LABELS = ("stream", "labels", "metadata", "kubernetes", "resource", "tags")
_BY_NODE = ("hosts", "nodes", "contacted")


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

    ``read_rows`` is given the beginning of a list, the name of the member that it is in, and the node that the document
    has said it is of; where it knows the list it reads it and is true.
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
        self._value(0, "", None)
        self._elements.held = False
        self._elements.give_back()

    def _value(self, depth: int, name: str, node: str | None) -> Any:
        """The next value, of the member ``name``; None for a list or object."""
        elements = self._elements
        self._spend(2 * ELEMENT_WORK)
        head = elements.ahead(_HEAD)
        if head[:1] == "[" and self._read_rows(head, name, node):
            return None
        if depth < _MAX_DEPTH and head[:1] == "[":
            elements.skip("[")
            while not elements.skip("]"):
                elements.skip(",")
                self._value(depth + 1, "" if name in _BY_NODE else name, node)
            return None
        if depth < _MAX_DEPTH and head[:1] == "{" and not is_known(head):
            self._object(depth, name, node)
            return None
        value = elements.element()
        told = isinstance(value, (dict, list)) or (isinstance(value, str) and len(value) >= _SHORTEST)
        self.rest.append({"node": node, "kept": value} if node is not None and told else value)
        return value

    def _object(self, depth: int, name: str, node: str | None) -> None:
        elements = self._elements
        elements.skip("{")
        while not elements.skip("}"):
            elements.skip(",")
            member = elements.element()
            if not isinstance(member, str) or not elements.skip(":"):
                raise DecodeError("not JSON: a member of an object without a name")
            of_node = member if name in _BY_NODE and NODE.fullmatch(member) else node
            value = self._value(depth + 1, member, of_node)
            if member in _WHOSE and isinstance(value, str):
                node = value if NODE.fullmatch(value) else None


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
    left: list[tuple[Any, str | None, str]] = [(document, None, "")]
    while left:
        item, node, member = left.pop()
        if isinstance(item, str):
            if (("\n" in item or item[:1] in ("[", "{")) and TOLD.search(item)) or _TOLD_LINE.search(item[:_HEAD]):
                yield Kept(node, member, item)
        elif isinstance(item, dict) and is_listing_by_pairs(item):
            yield Kept(node, member, json.dumps(item))
        elif isinstance(item, dict):
            node = node_of(item) or node
            by_node = member in _BY_NODE
            left += [(value, str(name) if by_node else node, str(name)) for name, value in reversed(item.items())]
        elif isinstance(item, list) and item and all(isinstance(text, str) for text in item):
            text = "\n".join(line for line in item if not line.isdigit())  # a time and what was said then
            if TOLD.search(text):
                yield Kept(node, member, text)
        elif isinstance(item, list) and item and isinstance(item[0], dict) and is_rows(json.dumps(item[:1])[:_HEAD]):
            yield Kept(node, member, json.dumps(item))
        elif isinstance(item, list):
            left += [(value, node, "" if member in _BY_NODE else member) for value in reversed(item)]


def node_of(item: dict[str, Any]) -> str | None:
    """The node that an object says it is of."""
    for part in (item, *(item.get(name) for name in _LABELS)):
        if not isinstance(part, dict):
            continue
        for name in _WHOSE:
            value = part.get(name)
            if isinstance(value, dict):
                value = value.get("name")
            if isinstance(value, str) and NODE.fullmatch(value):
                return value
    return None
