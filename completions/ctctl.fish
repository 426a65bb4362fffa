function __ctctl_complete
    env _CTCTL_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] \
        _TYPER_COMPLETE_ARGS=(commandline --current-process --cut-at-cursor | string collect) ctctl 2>/dev/null
end

complete --command ctctl --no-files --condition '__ctctl_complete is-args' --arguments '(__ctctl_complete get-args)'
