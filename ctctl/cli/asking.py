"""Asking before a change: the one place, so that every command asks alike and refuses alike."""

from __future__ import annotations

import sys

import typer

from ctctl.errors import UsageError
from ctctl.out.text import safe


def ask(question: str, *, yes: bool, needed_for: str | None) -> None:
    """Go on, or not: raises typer.Abort where a terminal's user says no (exit status 1).

    ``needed_for``: what it is that needs ``--yes`` where there is no terminal to ask; None for what giving the
    command is answer enough for. Raises UsageError there.
    """
    if yes:
        return
    if sys.stdin.isatty():
        typer.confirm(safe(question), abort=True, err=True)
    elif needed_for is not None:
        raise UsageError(f"{needed_for} needs --yes where there is no terminal to ask")
