"""What is said of a command line that is not right: one line, with the nearest right word.

A word is wrong in three ways: misspelt, right somewhere else (``ctctl list``), or what another tool calls it
(``ctctl service list``, ``ct dump``, ``--json``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ctctl.cli.commands import COMMANDS
from ctctl.cli.commands import OPTIONS as OF_ROOT

#: What other tools, and other people, call a command of the root.
ELSEWHERE: Mapping[str, Sequence[str]] = {
    "ct list": ("conntrack", "ctmap", "dump", "show", "ls"),
    "lb list": ("service", "services", "svc", "frontend", "frontends", "backend", "backends"),
    "nat list": ("snat",),
    "ipcache list": ("identity", "identities", "ip"),
    "trace": ("monitor", "observe", "capture", "tcpdump", "pcap", "pwru"),
    "doctor": ("check", "diagnose", "health", "troubleshoot", "verify"),
    "load": ("install", "attach", "start"),
    "unload": ("uninstall", "detach", "remove", "stop"),
    "gc simulate": ("predict", "forecast"),
    "status": ("node", "nodes", "map", "maps"),
    "ui": ("tui", "dashboard"),
    "--help": ("help",),
}
#: And one of a group: whichever of these the group has.
IN_GROUPS: Mapping[str, Sequence[str]] = {
    "list": ("ls", "show", "dump", "print", "view", "find", "lookup", "search", "get"),
    "get": ("show", "find", "lookup", "search", "describe", "inspect"),
    "delete": ("rm", "remove", "del"),
    "flush": ("clear", "reset"),
    "stats": ("count", "summary", "statistics"),
    "events": ("watch", "monitor", "follow"),
    "diff": ("compare",),
    "decode": ("explain", "parse"),
    "export": ("save", "write", "snapshot"),
    "import": ("restore", "load"),
    "sql": ("query",),
    "ask": ("query",),
    "up": ("start", "create"),
    "down": ("stop", "destroy", "delete"),
    "exec": ("shell", "enter"),
    "--help": ("help",),
}
#: And an option, where the command has what stands first in its line.
OPTIONS: Mapping[str, Sequence[str]] = {
    "-o json": ("json",),
    "-o jsonl": ("jsonl", "ndjson"),
    "-o yaml": ("yaml",),
    "-o csv": ("csv",),
    "-o wide": ("wide",),
    "--output": ("format",),
    "--color never": ("no-color", "no-colour", "nocolor"),
    "--from": ("file", "input", "source", "dump"),
    "--watch": ("follow", "interval"),
    "--yes": ("force",),
    "--limit": ("max", "top", "head"),
    "--sort": ("order", "order-by"),
    "--fields": ("columns",),
    "--from-ip": ("src", "saddr", "orig-src"),
    "--to-ip": ("dst", "daddr", "orig-dst"),
    "--from-port": ("sport", "orig-port-src"),
    "--to-port": ("dport", "orig-port-dst"),
    "--protocol": ("proto",),
}


def no_command(word: str) -> str:
    """What is said of a first word that is no command."""
    known = {name: name for name in COMMANDS}
    for name, group in _members():
        known.setdefault(name, f"ctctl {group} {name}")
    near = _nearest(word, known)
    ours = [f"ctctl {line}" for line in _named(word, ELSEWHERE)] or ([known[near]] if near else [])
    return f"no command {word!r}{_hint(*ours)}"


def usage_message(error: Exception, message: str) -> str:
    """What was typed wrong, in one line, with the nearest right word."""
    command = getattr(getattr(error, "ctx", None), "command", None)
    option = getattr(error, "option_name", None)
    if option is not None and getattr(error, "possibilities", None) is not None:
        if option in {word for words in OF_ROOT for word in words.split(", ")}:
            return f"{option} stands before the command: ctctl {option} …"
        return f"no option {option}{_option_hint(option, command)}"
    line = " ".join(message.split())
    if line.startswith("No such command '"):
        return _not_in_group(line.split("'")[1], list(getattr(command, "commands", ())))
    if line.startswith("Got unexpected extra argument"):
        return f"{line}; what has blanks in it is one word in quotes"
    # Whatever takes one of some words says so alike: "'jso' is not one of 'json', 'yaml'."
    typed, _, known = line.rstrip(".").rpartition(" is not one of ")
    if known and "'" in typed:
        near = _nearest(typed.rsplit("'", 2)[1], known.strip("'").split("', '"))
        return line.rstrip(".") + _hint(*[near] if near else [])
    return line


def _not_in_group(word: str, known: Sequence[str]) -> str:
    ours = [line for line in _named(word, IN_GROUPS) if line in known or line.startswith("-")]
    near = _nearest(word, known)
    ours += [near] if near else []
    if word in COMMANDS:
        ours.append(f"ctctl {word}")
    return f"no command {word!r}{_hint(*ours[:1]) or '; one of: ' + ', '.join(known)}"


def _option_hint(option: str, command: Any) -> str:
    known = list(dict.fromkeys(name for one in getattr(command, "params", ()) for name in one.opts if name[:1] == "-"))
    ours = [line for line in _named(option.lstrip("-"), OPTIONS) if line.split()[0] in known]
    near = _nearest(option, [*known, "--help"])
    return _hint(*[*ours, *([near] if near else [])][:1])


def _named(word: str, table: Mapping[str, Sequence[str]]) -> list[str]:
    return [ours for ours, theirs in table.items() if word.casefold() in theirs]


def _nearest(word: str, known: Collection[str]) -> str | None:
    from ctctl.model.suggest import WORD_LIKE, nearest

    # Dashes are part of every option: they make none like another.
    bare = {one.lstrip("-"): one for one in reversed(list(known))}
    close = nearest(word.lstrip("-"), bare, WORD_LIKE, starts=False)
    return bare[close] if close is not None else None


def _hint(*words: str) -> str:
    return f"; did you mean {words[0]!r}?" if words else ""


def _members() -> Iterator[tuple[str, str]]:
    """The commands of groups, each with its group: of a name that several have, the first counts."""
    import importlib

    from ctctl.cli.lazy import names_of

    for group, where in COMMANDS.items():
        if where.group:
            app = getattr(importlib.import_module(where.module), where.attribute)
            yield from ((name, group) for name in names_of(app))
