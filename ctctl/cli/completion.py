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


#: What each shell is to do at TAB: ask ``ctctl`` itself, in the environment that typer reads.
_SCRIPTS = {
    Shell.bash: r"""_ctctl() {
    local IFS=$'\n'
    local -x _CTCTL_COMPLETE=complete_bash
    COMPREPLY=($(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" "$1" 2>/dev/null))
}

complete -o default -F _ctctl ctctl""",
    Shell.zsh: r"""#compdef ctctl

_ctctl() {
    eval "$(env _CTCTL_COMPLETE=complete_zsh _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" ctctl 2>/dev/null)"
}

# Loaded by compinit at the first TAB this file is the function itself; sourced it only names it.
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
    _ctctl "$@"
else
    compdef _ctctl ctctl
fi""",
    Shell.fish: r"""function __ctctl_complete
    env _CTCTL_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] \
        _TYPER_COMPLETE_ARGS=(commandline --current-process --cut-at-cursor | string collect) ctctl 2>/dev/null
end

complete --command ctctl --no-files --condition '__ctctl_complete is-args' --arguments '(__ctctl_complete get-args)'""",
}


@app.command(no_args_is_help=True)
def completion(shell: Annotated[Shell, typer.Argument(help="The shell to print the script for.")]) -> None:
    """Print a completion script. Commands, options and values complete; no root is needed.

    \b
    bash:  ctctl completion bash > /etc/bash_completion.d/ctctl
    zsh:   ctctl completion zsh > "${fpath[1]}/_ctctl"
    fish:  ctctl completion fish > ~/.config/fish/completions/ctctl.fish
    """
    typer.echo(_SCRIPTS[shell])
