#!/usr/bin/env python3
"""Write docs/cli.md and docs/ctctl.1 from the command tree, so that they cannot disagree with --help.

Usage: tools/gen_docs.py [--check]     --check: write nothing, exit 1 if a file is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ctctl import __version__
from ctctl.cli.main import EPILOG, app

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100


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


def main() -> int:
    commands = tree()
    stale = []
    for name, text in (("docs/cli.md", markdown(commands)), ("docs/ctctl.1", man(commands))):
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
