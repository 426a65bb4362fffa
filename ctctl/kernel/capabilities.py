"""What this thread may do (capabilities(7))."""

from __future__ import annotations

from pathlib import Path


def effective_capabilities() -> int:
    """This thread's effective capabilities as a bit set (proc(5), CapEff)."""
    for line in Path("/proc/thread-self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
