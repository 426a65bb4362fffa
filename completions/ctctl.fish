function __ctctl_complete
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
        case '--bpffs/*' '--file/*' '--from/*' '--kubeconfig/*' '--lake/*' '--names/*' '--out/*' '--pcap/*' '--png/*' '--scenario/*' '--svg/*' '--tables/*' '--undo/*' '--undo-file/*' '-f/*'
            printf '%s\n' $before(__fish_complete_path (string replace -- "$before" '' $word))
        case '*/ct diff/*' '*/ct export/*' '*/ct import/*' '*/fleet collect/*' '*/gc simulate/*' '*/gc undo/*' '*/sizing'
            string match --quiet -- '-*' $word; or __fish_complete_path $word
    end
end

complete --command ctctl --no-files --keep-order --arguments '(__ctctl_complete)'
