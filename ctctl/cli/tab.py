"""What TAB offers where the commands themselves say it, without the time that importing typer takes.

``tab.json`` is made of the commands (``tools/gen_docs.py``, held in step by a test): their names, their options, the
values of an option that are always the same, and the fields of filters. What depends on more than that (a table, a
node, a flow) is typer's to answer, and so is whatever is out of the ordinary. A test holds the two to the same answers.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

TABLE = Path(__file__).with_name("tab.json")
#: Of a command in the table.
Node = dict[str, Any]
#: Such an option ends the run where it stands.
_ENDING = frozenset({"-h", "--help", "--version"})
#: What a command reads, where another says it.
_SOURCES = frozenset({"--from", "--all-nodes"})
_UNKNOWN: Node = {"help": ""}


class Offer(NamedTuple):
    """A word that fits, and what it means; empty for a value."""

    word: str
    help: str = ""


def answered() -> str | None:
    """The answer to the shell that asks through the environment; None: typer has to find it."""
    protocol = os.environ["_CTCTL_COMPLETE"]
    if protocol == "complete_fish" and os.environ.get("_TYPER_COMPLETE_FISH_ACTION") == "get-args":
        asked = _words(os.environ.get("_TYPER_COMPLETE_ARGS", ""))
        at = len(asked) - 1 if not os.environ["_TYPER_COMPLETE_ARGS"].endswith(" ") else len(asked)
    elif protocol == "complete_bash":
        asked, at = _words(os.environ["COMP_WORDS"]), int(os.environ["COMP_CWORD"])
    else:
        return None
    if at < 1 or at > len(asked):
        return None
    found = offers(json.loads(TABLE.read_bytes()), asked[1:at], asked[at] if at < len(asked) else "")
    if found is None:
        return None
    described = protocol == "complete_fish"
    return "\n".join(f"{word}\t{text}" if described and text else word for word, text in found)


def _words(line: str) -> list[str]:
    """A command line taken apart as a shell does. Raises ValueError where a quote is open."""
    if not any(c in line for c in "'\"\\"):
        return line.split()
    import shlex

    return shlex.split(line)


class _Typed(NamedTuple):
    """What stands before the word that is being typed: a command, its options by their first name, and how many
    arguments. ``waiting``: the option whose value comes next."""

    node: Node
    given: set[str]
    waiting: Node | None
    arguments: int


def offers(table: Node, words: list[str], incomplete: str) -> list[Offer] | None:
    """What fits behind ``words``; None where the table does not tell."""
    typed = _typed(table, words)
    if typed is None or incomplete == "=":
        return None
    node = typed.node
    if typed.waiting is not None:
        return None if incomplete.startswith("-") else _values(typed.waiting, incomplete)
    if incomplete.startswith("-"):
        name, equals, value = incomplete.partition("=")
        if not equals:
            return list(_options(node, typed.given, incomplete))
        if not name.startswith("--"):
            return []  # -o=json is the value "=json"
        option = _option(node, name)
        return None if option is None else _values(option, value)
    if node["filter"] is not None and typed.arguments >= node["filter"]:
        return [Offer(term) for term in terms(table["fields"], table["values"], incomplete)]
    below = node["commands"] or {name: table["commands"].get(name, _UNKNOWN) for name in node["runs"] or ()}
    if not below or (incomplete and not incomplete.isalnum()):
        return None
    return [Offer(name, command["help"]) for name, command in below.items() if name.startswith(incomplete)]


def _typed(table: Node, words: list[str]) -> _Typed | None:
    """The words taken apart; None where something is out of the ordinary."""
    typed = _Typed(table, set(), None, 0)
    rest = iter(words)
    for word in rest:
        node = typed.node
        if word.startswith("-"):
            option = _option(node, word)
            if option is None or word in _ENDING:
                return None
            typed.given.add(option["names"][0])
            value = next(rest, None) if option["takes"] else ""
            if value is None:
                return typed._replace(waiting=option)
            if option["takes"] and (value.startswith("-") or not value):
                return None
        elif word in node["commands"]:
            typed = _Typed(node["commands"][word], set(), None, 0)
        elif word in table["commands"] and word in (node["runs"] or ()):
            typed = _Typed(_run_by(node, table["commands"][word], node["runs"][word]), set(), None, 0)
        elif not word or node["commands"] or node["runs"] is not None:
            return None
        else:
            typed = typed._replace(arguments=typed.arguments + 1)
    return typed


def _run_by(runner: Node, command: Node, below: list[str]) -> Node:
    """A command as ``runner`` runs it: with those of its commands, what to read left out, and the runner's options."""
    theirs = [option for option in command["options"] if not _SOURCES & {*option["names"]}]
    known = {name for option in theirs for name in option["names"]}
    ours = [option for option in runner["options"] if not known & {*option["names"]}]
    members = {name: _run_by(runner, command["commands"][name], []) for name in below}
    return {**command, "options": theirs + ours, "commands": members}


def terms(fields: Sequence[str], values: Mapping[str, Sequence[str]], incomplete: str) -> list[str]:
    """A filter: the field at its end completes, or the value of one; what stands before it stays."""
    last = re.search(r"[\w-]*$", incomplete)
    before = incomplete[: last.start()] if last else incomplete
    asked = _field_of_value(before)
    known = fields if asked is None else values.get(asked, ())
    return [before + name for name in known if (before + name).startswith(incomplete)]


def _field_of_value(before: str) -> str | None:
    """The field whose value comes next: behind an operator, or in a list of values; None: a field does."""
    at = max(before.rfind("("), before.rfind("{"))
    if at >= 0 and not any(closing in before[at:] for closing in ")}"):
        # Of a list only what is in front of it counts: "proto in (tcp, ", "flag(".
        found = re.search(r"(?<!\w)(?:(\w+)\s+(?:not\s+)?in|(flag))\s*$", before[:at], re.IGNORECASE)
        if found:
            return (found[1] or found[2]).lower()
    found = re.search(r"(?<!\w)(\w+)(?:\s*(?:==?|!=|[<>]=?)|\s+(?:not\s+)?in\s)\s*$", before, re.IGNORECASE)
    return found[1].lower() if found else None


def _option(node: Node, word: str) -> Node | None:
    return next((option for option in node["options"] if word in option["names"]), None)


def _values(option: Node, incomplete: str) -> list[Offer] | None:
    """The values of an option that are always the same; None: it has none, or others."""
    if not isinstance(option["takes"], list):
        return None
    return [Offer(value) for value in option["takes"] if value.startswith(incomplete)]


def _options(node: Node, given: set[str], incomplete: str) -> Iterator[Offer]:
    for option in node["options"]:
        if option["multiple"] or option["names"][0] not in given:
            yield from (Offer(name, option["help"]) for name in option["names"] if name.startswith(incomplete))
