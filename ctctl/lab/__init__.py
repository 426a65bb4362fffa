"""A small cluster in network namespaces, with ordinary programs and real traffic."""
