"""``ctctl completion``: the scripts in ``completions/`` are this command's output, a test keeps them in step."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


class Shell(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


@app.command(no_args_is_help=True)
def completion(shell: Annotated[Shell, typer.Argument(help="The shell to print the script for.")]) -> None:
    """Print a completion script. Commands, options and values complete; no root is needed.

    \b
    bash:  ctctl completion bash > /etc/bash_completion.d/ctctl
    zsh:   ctctl completion zsh > "${fpath[1]}/_ctctl"
    fish:  ctctl completion fish > ~/.config/fish/completions/ctctl.fish
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(prog_name="ctctl", complete_var="_CTCTL_COMPLETE", shell=shell.value)
    typer.echo(script.strip())
