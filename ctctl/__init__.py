"""ctctl: show, trace and repair the connection tracking of a Cilium-style eBPF datapath."""

__version__ = "0.1.0"
