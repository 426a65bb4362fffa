"""What the hooks of a node of ours tell: decoded, streamed, filtered, and in words.

In the kernel: ``bpf/lib/event.h``, in every program of the datapath.
"""
