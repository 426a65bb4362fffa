#!/usr/bin/env python3
"""Write what docs/ has from elsewhere: commands and words from the code, figures from what was measured. They cannot
disagree.

Usage: tools/gen_docs.py [--check]     --check: write nothing, exit 1 if a file is out of date
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from ctctl import __version__, errors
from ctctl.cli.cluster import below_of
from ctctl.cli.commands import COMMANDS
from ctctl.cli.complete import KNOWN, terms
from ctctl.cli.main import EPILOG, app
from ctctl.cli.schemas import SCHEMAS
from ctctl.gc.metrics import GcMetrics
from ctctl.metrics.tables import TablesCollector
from ctctl.tables.query import values
from ctctl.tables.query.aliases import ALIASES, NAT_ALIASES
from ctctl.tables.query.parse import FIELD_NAMES, KNOWN_WORDS, NAT_WORDS

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100
#: No line of help is as long.
WHOLE = 10_000


def walk(command: Any, context: Any) -> Iterator[tuple[str, Any, Any]]:
    """Every command with its path and context, groups before their members."""
    yield context.command_path, command, context
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            if member is not None and not member.hidden:
                yield from walk(member, type(context)(member, info_name=name, parent=context))


def tree() -> list[tuple[str, Any, Any]]:
    root = typer.main.get_command(app)
    settings = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    context = root.make_context("ctctl", [], resilient_parsing=True, **settings)
    return list(walk(root, context))


def markdown(commands: list[tuple[str, Any, Any]]) -> str:
    out = ["# Command line reference", "", "Generated from `--help` by `make docs`.", ""]
    for path, _, _ in commands:
        out.append(f"- [{path}](#{path.replace(' ', '-')})")
    for path, command, context in commands:
        out += ["", f"## {path}", "", "```text", command.get_help(context).rstrip(), "```"]
    return "\n".join(out) + "\n"


def roff(text: str) -> str:
    """Text as it may stand in a man page."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in escaped.splitlines())


def man(commands: list[tuple[str, Any, Any]]) -> str:
    out = [
        f'.TH CTCTL 1 "" "ctctl {__version__}" "User Commands"',
        ".SH NAME",
        roff("ctctl - show, trace and repair the connection tracking of a Cilium-style eBPF datapath"),
        ".SH SYNOPSIS",
        ".B ctctl",
        "[OPTIONS] COMMAND [ARGS]...",
    ]
    for path, command, context in commands:
        title = "DESCRIPTION" if path == "ctctl" else path.removeprefix("ctctl ").upper()
        out += [f".SH {roff(title)}", ".nf", roff(command.get_help(context).rstrip()), ".fi"]
    out += [".SH EXIT STATUS", roff(" ".join(EPILOG.split()))]
    return "\n".join(out) + "\n"


def tab(command: Any, context: Any) -> dict[str, Any]:
    """What ``ctctl.cli.tab`` offers of a command, and of those below it."""
    below = command.list_commands(context) if hasattr(command, "list_commands") else []
    members = [command.get_command(context, name) for name in below]
    return {
        "help": listed_as(command, context),
        "filter": filter_at(command.params),
        "runs": runs() if command.context_settings.get("allow_extra_args") else None,
        "options": [
            {
                # Those of --help come out of a set.
                "names": sorted(parameter.opts, key=len) if parameter.name == "help" else names_of(parameter),
                "help": " ".join((parameter.help or "").split()),
                "multiple": parameter.multiple,
                "takes": not (parameter.is_flag or parameter.count) and constants(parameter),
            }
            for parameter in command.get_params(context)
            if parameter.param_type_name == "option" and not parameter.hidden
        ],
        "commands": {
            name: tab(member, type(context)(member, info_name=name, parent=context))
            for name, member in zip(below, members, strict=True)
            if not member.hidden
        },
    }


def runs() -> dict[str, list[str]]:
    """The commands that follow ``ctctl cluster``, each with those of its own."""
    return {name: list(below_of((name,))) for name in below_of(())}


def filter_at(parameters: list[Any]) -> int | None:
    """How many arguments stand in front of a filter, which is all the rest; None: the command takes none."""
    arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
    found = [at for at, one in enumerate(arguments) if completer_of(one) is terms]
    single = found and all(argument.nargs == 1 for argument in arguments[: found[0]])
    return found[0] if single and arguments[found[0]].nargs == -1 else None


def names_of(parameter: Any) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts]


def listed_as(command: Any, context: Any) -> str:
    """The sentence beside a command's name where commands are listed."""
    if context.parent is not None and context.parent.parent is None:
        return COMMANDS[command.name].help
    return " ".join(command.get_short_help_str(WHOLE).split())


def constants(parameter: Any) -> list[str] | bool:
    """The values of an option that are always the same; True where they are not."""
    if parameter._custom_shell_complete is not None:
        known = getattr(completer_of(parameter), KNOWN, None)
        return list(known) if known is not None else True
    choices = getattr(parameter.type, "choices", None)
    return [getattr(choice, "value", choice) for choice in choices] if choices is not None else True


def completer_of(parameter: Any) -> Any:
    """The function that completes its values, which typer wraps twice; None: it has none."""
    if parameter._custom_shell_complete is None:
        return None
    (found,) = inspect.getclosurevars(parameter._custom_shell_complete).nonlocals.values()
    return inspect.unwrap(found)


_ABOUT_FILTERS = (
    "`==`, `!=`, `<`, `<=`, `>`, `>=`, and `in (A, B)` compare a field; `and`, `or`, `not` and brackets join.",
    "`<` and `>` are for fields that have an order. A protocol, a state, a direction or an address may stand alone.",
)


def words() -> str:
    """What filters, outputs, metrics and exit codes are made of, as the code has it."""
    out = ["# Fields, metrics, schemas, exit codes", "", "Generated from the code by `make docs`.", ""]
    out += ["## Fields of a filter", "", *_ABOUT_FILTERS, ""]
    out += _table(("field", "also written", "value", "order"), map(_filter_field, sorted(FIELD_NAMES)))
    out += ["", "Of SNAT entries also:", ""]
    out += _table(("field", "also written", "value", "order"), map(_filter_field, sorted(values.NAT_READERS)))
    out += ["", f"`flag(NAME, …)`: all of these are set; NAME is one of {_codes(values.FLAG_NAMES)}.", ""]
    out += ["## Metrics", "", "`metrics serve` and `gc --metrics`, in Prometheus' text form.", ""]
    out += _table(("metric", "kind", "what"), sorted(_metrics()))
    out += ["", "## Schemas", "", "What JSON says of itself in `schema`; `ctctl schema NAME` prints one whole.", ""]
    out += _table(("schema", "fields"), ((f"`{name}`", _codes(_fields_of(schema))) for name, schema in SCHEMAS.items()))
    out += ["", "## Exit codes", "", " ".join(EPILOG.split()[2:]), "", "An error's class, and where it ends:", ""]
    out += _table(("code", "error", "when"), sorted(_errors()))
    return "\n".join(out) + "\n"


BENCH = Path("tests/bench")
#: What has a page of its own.
_ELSEWHERE = frozenset({"fleet"})


def measured() -> str:
    """The committed results of every benchmark: tables where one writes them, else what it measures and where."""
    out = ["# What was measured", "", "Generated by `make docs` from `tests/bench/results`.", ""]
    out += ["Ratios are to something that was measured in the same run, so that they hold on other machines too;"]
    out += [
        "where a row says that its bar does not hold, it did not in that run. Each is repeated, as root in a checkout"
    ]
    out += ["after `make setup`, by `.venv/bin/python FILE`; its `--help` says what it takes."]
    rest = []
    for result in sorted((ROOT / BENCH / "results").glob("*.json")):
        program = BENCH / f"{result.stem}.py"
        if result.stem in _ELSEWHERE or not (ROOT / program).exists():
            continue
        table = result.with_suffix(".md")
        if table.exists():
            title, _, text = table.read_text().partition("\n")
            out += ["", f"#{title}", "", f"By `{program}`.", "", text.strip()]
        else:
            what = ast.get_docstring(ast.parse((ROOT / program).read_text())) or ""
            rest.append((" ".join(what.split("\n\n")[0].split()), f"`{program}`", f"`{BENCH}/results/{result.name}`"))
    out += ["", "## Also measured", "", *_table(("what", "by", "result"), rest)]
    return "\n".join(out) + "\n"


def _table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in (head, ["---"] * len(head), *rows)]


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _filter_field(name: str) -> tuple[str, str, str, str]:
    spellings = [other for other, meant in (ALIASES | NAT_ALIASES).items() if meant == name]
    ordered = "yes" if name in NAT_WORDS.ordered else ""
    return f"`{name}`", _codes(spellings), _value_of(name), ordered


def _value_of(name: str) -> str:
    """What a field is compared with, by who reads it."""
    known = values.KNOWN_WORDS.get(name)
    reader = NAT_WORDS.readers[name]
    texts = {
        values.address: "an IP, a CIDR, a name",
        values.port: "a port, A-B",
        values.service: "a name, an IP, IP:PORT",
        values.identity: "a number, a label, or",
        values.protocol: "a number, or",
        values.duration: "a duration: 30s, 5m, -1h",
        str: "text",
    }
    said = texts.get(reader, "" if known else "a number, A..B, 0x…")
    return f"{said} {_codes(known or ())}".strip()


def _metrics() -> Iterator[tuple[str, str, str]]:
    """As samples are called: a counter ends in _total."""
    for family in (*TablesCollector(Path("/nonexistent")).describe(), *GcMetrics().registry.collect()):
        name = family.name + ("_total" if family.type == "counter" else "")
        yield f"`{name}`", family.type, family.documentation


def _fields_of(schema: dict[str, Any]) -> list[str]:
    """The fields of a record: of a document that is a list of them, those of what it lists."""
    if "oneOf" in schema:
        return _fields_of(schema["oneOf"][-1])
    fields = {name: of for name, of in schema.get("properties", {}).items() if name != "schema"}
    items = next(iter(fields.values()), {}).get("items", {})
    return _fields_of(items) if len(fields) == 1 and "properties" in items else list(fields)


def _errors() -> Iterator[tuple[str, str, str]]:
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.CtctlError) and error is not errors.CtctlError:
            code = error.exit_code
            yield str(code), f"`{name}`", " ".join((error.__doc__ or "").split("\n\n")[0].split())


#: What completes in a filter.
FILTER_WORDS = {"fields": sorted(FIELD_NAMES), "values": KNOWN_WORDS}


def main() -> int:
    commands = tree()
    _, root, context = commands[0]
    stale = []
    for name, text in (
        ("docs/cli.md", markdown(commands)),
        ("docs/reference/words.md", words()),
        ("docs/reference/measured.md", measured()),
        ("docs/ctctl.1", man(commands)),
        ("ctctl/cli/tab.json", json.dumps(FILTER_WORDS | tab(root, context), indent=1) + "\n"),
    ):
        path = ROOT / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
    if stale and "--check" in sys.argv[1:]:
        print(f"out of date: {', '.join(stale)}; run make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
