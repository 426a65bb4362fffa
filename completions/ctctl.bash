_ctctl() {
    local IFS=$'\n'
    local -x _CTCTL_COMPLETE=complete_bash
    COMPREPLY=($(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" "$1" 2>/dev/null))
}

complete -o default -F _ctctl ctctl
