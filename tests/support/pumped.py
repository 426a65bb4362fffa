"""Texts that make a regular expression go back as often as it can: each of its repetitions fed with what it takes.

In front stands the shortest text that leads there, behind it something that nothing takes. A pattern that tries every
way to share a run between two repetitions needs the square of the run's length for such a text, or its cube.
"""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from re import _constants as code
from re import _parser as parser
from types import ModuleType
from typing import Any, NamedTuple

import ctctl

_OF_ONE = (code.LITERAL, code.RANGE)
_REPEATS = (code.MAX_REPEAT, code.MIN_REPEAT)
#: Characters to choose from for a class of them.
_ALPHABET = "a0 _-.:/=xA,\t'\"()[]{}<>|#*~+!@$%^&;?`\\5eé\n"
#: What ends a run: nothing, what hardly a pattern takes, the same behind other characters.
_ENDS = ("", "\x01", "!\x01", " \x01")
#: Of one pattern: runs, pairs of runs.
_MOST, _MOST_PAIRED = 120, 24


class Used(NamedTuple):
    """A pattern, and how the code asks it."""

    where: str
    pattern: re.Pattern[Any]
    methods: frozenset[str]


def patterns() -> Iterator[Used]:
    """Every pattern that is compiled where a module of ctctl is imported."""
    for found in pkgutil.walk_packages(ctctl.__path__, "ctctl."):
        try:
            module = importlib.import_module(found.name)
        except ImportError:  # of an extra that is not here
            continue
        for name, value in vars(module).items():
            for pattern in _within(value):
                if _is_made_in(module, name):
                    yield Used(f"{found.name}.{name}", pattern, _methods(name, module))


def _within(value: object, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif depth < 3 and isinstance(value, tuple | list | set | frozenset):
        for one in value:
            yield from _within(one, depth + 1)
    elif depth < 3 and isinstance(value, dict):
        for one in (*value, *value.values()):
            yield from _within(one, depth + 1)
    elif depth < 2 and type(value).__module__.startswith("ctctl"):
        names = [*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ())]
        for name in names:
            yield from _within(getattr(value, name, None), depth + 1)


@functools.cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))


def _is_made_in(module: ModuleType, name: str) -> bool:
    """Whether the name is bound there, and not imported."""
    made = [node for node in _tree(module).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = [one for node in made for one in (node.targets if isinstance(node, ast.Assign) else [node.target])]
    return any(isinstance(one, ast.Name) and one.id == name for one in targets)


def _methods(name: str, module: ModuleType) -> frozenset[str]:
    """``match``, ``fullmatch`` or ``search``: how the module asks it; what another does with it counts as a match."""
    asked = {
        node.attr
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
    }
    searching = asked & {"search", "finditer", "findall", "sub", "subn", "split"}
    return frozenset(asked & {"match", "fullmatch"} | ({"search"} if searching else set())) or frozenset({"match"})


def texts(pattern: re.Pattern[Any], length: int) -> list[str]:
    """Texts of about this length, for patterns of text and of bytes."""
    source = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
    runs = list(dict.fromkeys(_runs(parser.parse(source, pattern.flags & ~re.UNICODE), "")))[:_MOST]
    found = {front + run * (length // len(run)) + end: None for front, run in runs for end in _ENDS}
    for front, run in runs[:_MOST_PAIRED]:
        for _, other in runs[:_MOST_PAIRED]:
            half = length // 2
            found[front + run * (half // len(run)) + other * (half // len(other)) + "\x01"] = None
    return list(found)


def _runs(sequence: Any, front: str) -> Iterator[tuple[str, str]]:
    """Each repetition of a pattern: what stands in front of it, and what it takes."""
    for op, value in sequence:
        if op in _REPEATS:
            least, most, inner = value
            if most >= 3:
                single = len(inner) == 1 and inner[0][0] in (code.LITERAL, code.NOT_LITERAL, code.ANY, code.IN)
                for run in _members(*inner[0]) if single else [_shortest(inner) or "a"]:
                    yield front, run
            yield from _runs(inner, front)
            front += _shortest(inner) * least
        elif op is code.BRANCH:
            for way in value[1]:
                yield from _runs(way, front)
            front += _shortest(value[1][0])
        elif op is code.SUBPATTERN:
            yield from _runs(value[3], front)
            front += _shortest(value[3])
        elif op in (code.ASSERT, code.ASSERT_NOT):
            yield from _runs(value[1], front)
        elif op is code.ATOMIC_GROUP:
            yield from _runs(value, front)
            front += _shortest(value)
        else:
            front += _shortest([(op, value)])


def _shortest(sequence: Any) -> str:
    text = ""
    for op, value in sequence:
        if op in _REPEATS or op is code.POSSESSIVE_REPEAT:
            text += _shortest(value[2]) * value[0]
        elif op is code.BRANCH:
            text += _shortest(value[1][0])
        elif op is code.SUBPATTERN:
            text += _shortest(value[3])
        elif op is code.ATOMIC_GROUP:
            text += _shortest(value)
        else:
            text += next(iter(_members(op, value)), "")
    return text


def _members(op: Any, value: Any) -> list[str]:
    """Some of the characters that one place takes."""
    if op is code.LITERAL:
        return [chr(value)]
    if op is code.NOT_LITERAL:
        return [one for one in _ALPHABET if ord(one) != value][:6]
    if op is code.ANY:
        return ["a", " ", "."]
    if op is code.IN:
        own = [chr(told if kind is code.LITERAL else told[0]) for kind, told in value if kind in _OF_ONE]
        return [one for one in _ALPHABET if _takes(value, one)] or own
    return []


def _takes(members: Any, letter: str) -> bool:
    negated = hit = False
    for kind, told in members:
        if kind is code.NEGATE:
            negated = True
        elif kind is code.LITERAL:
            hit |= ord(letter) == told
        elif kind is code.RANGE:
            hit |= told[0] <= ord(letter) <= told[1]
        elif kind is code.CATEGORY:
            name = str(told)
            isa = {"DIGIT": letter.isdigit(), "SPACE": letter.isspace(), "WORD": letter.isalnum() or letter == "_"}
            hit |= next(value for word, value in isa.items() if name.endswith(word)) != ("_NOT_" in name)
    return hit != negated
