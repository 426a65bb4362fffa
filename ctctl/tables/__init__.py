"""Tables of entries: where they come from (``sources``), the filter language (``query``), names, looks (``show``).

In the kernel: ``bpf/ctscan.bpf.c`` counts and picks where that is faster than copying; ``bpf/writer.bpf.c`` is
behind ``writer``, the one way to change a table.
"""
