_ctctl() {
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
            --bpffs/* | --file/* | --from/* | --kubeconfig/* | --lake/* | --names/* | --out/* | --pcap/* | --png/* | --scenario/* | --svg/* | --tables/* | --undo/* | --undo-file/* | -f/*) compopt -o filenames -o default ;;
            */ct\ diff/* | */ct\ export/* | */ct\ import/* | */fleet\ collect/* | */gc\ simulate/* | */gc\ undo/* | */sizing) [[ -n $option || $word == -* ]] || compopt -o filenames -o default ;;
        esac
    fi
}

complete -F _ctctl ctctl
