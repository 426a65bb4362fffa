"""Every command of the command line, from the command line itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from ctctl.cli.main import app


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group with its path, from the command line itself."""
    command = command or typer.main.get_command(app)
    yield path, command
    context = typer.Context(command)
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from commands(command.get_command(context, name), (*path, name))
