"""Programs that run inside the lab's namespaces, by path and by themselves: standard library only."""
