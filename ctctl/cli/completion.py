"""``ctctl completion``: the scripts in ``completions/`` are this command's output, a test keeps them in step.

At TAB each shell asks ``ctctl`` itself, once, with the words up to the cursor, quoted; the answer is a line for each
word that fits, a tab, and its help. That is what typer answers fish, which is the plainest of its forms. What the
shells differ in is how they take words apart and put an answer back, and that is what the scripts are about.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


class Shell(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


#: Words of a metavar that stand for a file or a folder.
_PATHS = ("FILE", "SRC", "DIR", "NODE.yaml", "WORKLOAD", "LAKE")

# @OPTIONS@ and @COMMANDS@: whose values, and whose arguments, are files. Nowhere else are files offered.
_SCRIPTS = {
    # readline replaces a word from its last = or : on, or from the quote that it is in; COMP_WORDS cannot be used: it
    # is cut at each = and :, and a word in quotes that ends in a space is lost in it.
    Shell.bash: r"""_ctctl() {
    local line="${COMP_LINE:0:COMP_POINT}" word='' quote='' begun='' option='' char at asked answer cut
    local -a words=()
    for ((at = 0; at < ${#line}; at++)); do
        char=${line:at:1}
        if [[ -n $quote ]]; then
            if [[ $char == "$quote" ]]; then quote=''; else word+=$char; fi
        elif [[ $char == [\'\"] ]]; then quote=$char begun=1
        elif [[ $char == \\ ]]; then word+=${line:$((++at)):1} begun=1
        elif [[ $char == [[:space:]] ]]; then
            if [[ -n $begun ]]; then words+=("$word"); fi
            word='' begun=''
        else word+=$char begun=1
        fi
    done
    printf -v asked '%q ' "${words[@]}"
    printf -v asked '%s%q' "$asked" "$word"
    cut=''
    if [[ $word == --*=* ]]; then option=${word%%=*} word=${word#*=}; fi
    if [[ -z $quote && $word == *[:=]* ]]; then cut=${word%"${word##*[:=]}"}; fi
    COMPREPLY=()
    while IFS=$'\t' read -r answer _; do
        if [[ -n $answer ]]; then COMPREPLY+=("${answer#"$cut"}"); fi
    done < <(
        _CTCTL_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args _TYPER_COMPLETE_ARGS="$asked" \
            exec "$1" 2>/dev/null
    )
    if ((${#COMPREPLY[@]} == 0)); then
        at=${option:-${words[${#words[@]}-1]}}
        case "$at/${words[1]-} ${words[2]-}/${words[1]-}" in
            @OPTIONS@) compopt -o filenames -o default ;;
            @COMMANDS@) [[ -n $option || $word == -* ]] || compopt -o filenames -o default ;;
        esac
    fi
}

complete -F _ctctl ctctl""",
    Shell.zsh: r"""#compdef ctctl

_ctctl() {
    local word=$PREFIX option='' asked answer
    local -a answers described
    if [[ -z ${compstate[quote]} ]]; then word=${(Q)word}; fi
    asked=${(j: :)${(@q)${(@Q)words[1,CURRENT-1]}}}
    if [[ -n $word ]]; then asked+=" ${(q)word}"; else asked+=" ''"; fi
    answers=(${(f)"$(
        _CTCTL_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args _TYPER_COMPLETE_ARGS=$asked \
            ${words[1]} 2>/dev/null
    )"})
    if [[ $word == --*=* ]]; then
        option=${word%%=*}
        compset -P '*='
    fi
    if (( ${#answers} )); then
        for answer in $answers; do
            if [[ $answer == *$'\t'* ]]; then
                described+=("${${answer%%$'\t'*}//:/\\:}:${answer#*$'\t'}")
            else
                described+=("${answer//:/\\:}")
            fi
        done
        _describe ctctl described
        return 0
    fi
    case "${option:-${words[CURRENT-1]}}/${words[2]-} ${words[3]-}/${words[2]-}" in
        @OPTIONS@) _files ;;
        @COMMANDS@) [[ $word == -* ]] || _files ;;
    esac
}

# Loaded by compinit at the first TAB this file is the function itself; sourced it only names it.
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
    _ctctl "$@"
else
    compdef _ctctl ctctl
fi""",
    Shell.fish: r"""function __ctctl_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l word (commandline --current-token --cut-at-cursor | string trim --left --chars '\'"')
    set -l before ''
    set -l option $words[-1]
    if string match --quiet -- '--*=*' $word
        set option (string replace --regex '=.*' '' -- $word)
        set before $option=
    end
    set -l asked (string escape -- $words $word | string join ' ')
    set -lx _CTCTL_COMPLETE complete_fish
    set -lx _TYPER_COMPLETE_FISH_ACTION get-args
    set -lx _TYPER_COMPLETE_ARGS $asked
    set -l answers ($words[1] 2>/dev/null)
    if test -n "$answers"
        printf '%s\n' $before$answers
        return
    end
    switch "$option/$words[2] $words[3]/$words[2]"
        case @FISH_OPTIONS@
            printf '%s\n' $before(__fish_complete_path (string replace -- "$before" '' $word))
        case @FISH_COMMANDS@
            string match --quiet -- '-*' $word; or __fish_complete_path $word
    end
end

complete --command ctctl --no-files --keep-order --arguments '(__ctctl_complete)'""",
}


def _commands(command: Any, context: Any) -> Iterator[tuple[list[str], Any]]:
    """Every command that is no group, with the words that lead to it."""
    if not hasattr(command, "list_commands"):
        yield context.command_path.split()[1:], command
        return
    for name in command.list_commands(context):
        member = command.get_command(context, name)
        yield from _commands(member, type(context)(member, info_name=name, parent=context))


def _script(shell: Shell) -> str:
    """The script, with the options and commands of this ctctl that take files."""
    from ctctl.cli.main import app as whole

    root = typer.main.get_command(whole)
    options: set[str] = set()
    commands: set[str] = set()
    for path, command in _commands(root, root.make_context("ctctl", [], resilient_parsing=True)):
        for parameter in command.params:
            metavar = str(getattr(parameter, "metavar", None) or "")
            if not any(word in metavar for word in _PATHS):
                continue
            if parameter.param_type_name == "option":
                options.update(parameter.opts)
            else:
                commands.add(" ".join(path))
    by_option = [f"{name}/*" for name in sorted(options)]
    by_command = [f"*/{name}/*" if " " in name else f"*/{name}" for name in sorted(commands)]
    return (
        _SCRIPTS[shell]
        .replace("@FISH_OPTIONS@", " ".join(f"'{pattern}'" for pattern in by_option))
        .replace("@FISH_COMMANDS@", " ".join(f"'{pattern}'" for pattern in by_command))
        .replace("@OPTIONS@", " | ".join(by_option))
        .replace("@COMMANDS@", " | ".join(pattern.replace(" ", "\\ ") for pattern in by_command))
    )


@app.command(no_args_is_help=True)
def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell to print the script for.")],
) -> None:
    """Print a completion script. Commands, options and values complete; no root is needed.

    \b
    bash:  ctctl completion bash > /etc/bash_completion.d/ctctl
    zsh:   ctctl completion zsh > "${fpath[1]}/_ctctl"
    fish:  ctctl completion fish > ~/.config/fish/completions/ctctl.fish
    """
    typer.echo(_script(shell))
