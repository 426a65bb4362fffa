"""YAML with line numbers: a document as a tree of items that know where they were written.

Scalars keep their text as typed, so that a MAC address or a duration is never taken for one of
YAML 1.1's sexagesimal numbers. JSON is YAML, so ``kubectl -o json`` reads the same way. Work is bounded (``budget``)
before any is done: this module and ``tables/sources/documents.py``, whose elements are paid for, call the parser.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ctctl.config.budget import Budget, LimitError, yaml_work
from ctctl.errors import ConfigError, NotFoundError

_SCALARS = {
    "tag:yaml.org,2002:null": "null",
    "tag:yaml.org,2002:bool": "bool",
    "tag:yaml.org,2002:int": "int",
    "tag:yaml.org,2002:float": "float",
}
_TRUE = frozenset({"true", "yes", "on"})
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Bytes of a file of YAML: a cluster's objects are a tenth of it.
_MAX_BYTES = 64 << 20
#: Items a document may have beyond one a character: only aliases of aliases make more.
_ALIASED_ITEMS = 10_000
_WORDS = {"map": "a mapping", "seq": "a list", "null": "nothing", "str": "text", "int": "a number"}


@dataclass(frozen=True, slots=True)
class Item:
    """One YAML value: its kind (map, seq, str, int, float, bool, null), where it stands and what is in it."""

    kind: str
    path: str
    line: int
    text: str = ""
    entries: dict[str, Item] = field(default_factory=dict)
    #: line of each key of a map
    key_lines: dict[str, int] = field(default_factory=dict)
    items: tuple[Item, ...] = ()

    def error(self, message: str) -> ConfigError:
        """An error that points here."""
        return ConfigError(message, path=self.path, line=self.line)

    @property
    def shown(self) -> str:
        """The value as an error message quotes it."""
        return repr(self.text) if self.kind not in ("map", "seq", "null") else _WORDS[self.kind]

    def plain(self) -> Any:
        """The value as plain Python objects: dict, list, str, int, float, bool or None."""
        match self.kind:
            case "map":
                return {key: item.plain() for key, item in self.entries.items()}
            case "seq":
                return [item.plain() for item in self.items]
            case "int":
                return parse_int(self.text) if parse_int(self.text) is not None else self.text
            case "float":
                return parse_float(self.text)
            case "bool":
                return self.text.lower() in _TRUE
            case "null":
                return None
        return self.text


def parse_int(text: str) -> int | None:
    """A whole number in decimal, 0x, 0o or 0b notation; None if the text is none."""
    try:
        return int(text.replace("_", ""), 0)
    except ValueError:
        return None


def parse_float(text: str) -> float | str:
    """A finite number; the text itself where it is none (YAML has words for infinity, and numbers to base 60)."""
    try:
        number = float(text.replace("_", ""))
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def load_yaml(path: str | Path) -> list[Item]:
    """All documents of a file that are not empty.

    Raises NotFoundError where there is no such file, ConfigError (unreadable, too large, not YAML, a key twice).
    """
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise ConfigError(f"more than {_MAX_BYTES >> 20} MiB: not read", path=str(path))
        text = raw.decode()
    except UnicodeDecodeError as err:
        raise ConfigError(f"not UTF-8 text: {err.reason} at byte {err.start}", path=str(path)) from err
    except FileNotFoundError:
        from ctctl.kernel.build import is_an_example

        raise NotFoundError(f"{path}: there is no such file{is_an_example(path)}") from None
    except OSError as err:
        raise ConfigError(f"cannot read it: {err.strerror}", path=str(path)) from err
    return parse_yaml(text, str(path))


def parse_yaml(text: str, path: str, spend: Callable[[int], None] | None = None) -> list[Item]:
    """All documents in ``text`` that are not empty; ``path`` is what errors call it. Raises ConfigError.

    ``spend`` is told the work before it is done, and may refuse it (LimitError); without it the text itself pays.
    """
    if spend is None:
        _pay(text, path)
    else:
        spend(yaml_work(text))
    try:
        nodes = list(yaml.compose_all(text, Loader=_LOADER))
    except RecursionError:  # only of the parser that is no library in C
        raise ConfigError("not valid YAML: nested too deeply", path=path) from None
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        message = f"not valid YAML: {err.problem or err.context}"
        raise ConfigError(message, path=path, line=mark.line + 1 if mark else None) from err
    except yaml.YAMLError as err:
        raise ConfigError(f"not valid YAML: {str(err).splitlines()[0]}", path=path) from err
    tree = _Tree(path, len(text) + _ALIASED_ITEMS)
    documents = [tree.item(node, ()) for node in nodes if node is not None]
    return [item for item in documents if item.kind != "null"]


def _pay(text: str, path: str) -> None:
    """Spend what a text costs of what its bytes pay for, and what any file may take for nothing."""
    budget = Budget()
    budget.packed = len(text)
    try:
        budget.spend(yaml_work(text))
    except LimitError:
        raise ConfigError("more lists and mappings than a file of its size has: not read", path=path) from None


class _Tree:
    """Items from the nodes of one file; ``room`` is how many more it may have."""

    def __init__(self, path: str, room: int) -> None:
        self._path = path
        self._room = room

    def item(self, node: Any, parents: tuple[int, ...]) -> Item:
        line = node.start_mark.line + 1
        self._room -= 1
        if id(node) in parents:
            raise self._error("an alias refers to itself", line)
        if len(parents) > 64:
            raise self._error("nested deeper than 64 levels", line)
        if self._room < 0:
            raise self._error("aliases of aliases make the file too large", line)
        inside = (*parents, id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, line, inside)
        if isinstance(node, yaml.SequenceNode):
            return Item("seq", self._path, line, items=tuple(self.item(child, inside) for child in node.value))
        return Item(_SCALARS.get(node.tag, "str"), self._path, line, text=node.value)

    def _mapping(self, node: Any, line: int, parents: tuple[int, ...]) -> Item:
        entries: dict[str, Item] = {}
        key_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error("a key must be a word", key_line)
            key = key_node.value
            if key in entries:
                raise self._error(f"key {key!r} is already on line {key_lines[key]}", key_line)
            entries[key] = self.item(value_node, parents)
            key_lines[key] = key_line
        return Item("map", self._path, line, entries=entries, key_lines=key_lines)

    def _error(self, message: str, line: int) -> ConfigError:
        return ConfigError(message, path=self._path, line=line)
