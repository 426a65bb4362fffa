"""The layouts of ``bpf/include/ctctl/abi.h`` in Python: generated, and checked against the BTF of real maps."""
