"""What this thread may do (capabilities(7)), and what it lacks for something."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path


class Capability(IntEnum):
    """Bit numbers of the capabilities that ctctl can use (linux/capability.h)."""

    CAP_DAC_READ_SEARCH = 2
    CAP_NET_ADMIN = 12
    CAP_SYS_ADMIN = 21
    CAP_SYS_RESOURCE = 24
    CAP_PERFMON = 38
    CAP_BPF = 39


#: What CAP_SYS_ADMIN stands for, as in the kernel.
_OF_SYS_ADMIN = frozenset({Capability.CAP_PERFMON, Capability.CAP_BPF})


def effective_capabilities() -> int:
    """This thread's effective capabilities as a bit set (proc(5), CapEff)."""
    for line in Path("/proc/thread-self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def missing_capabilities(*needed: Capability) -> list[str]:
    """Names of those of ``needed`` that this thread does not have."""
    effective = effective_capabilities()
    may_all = effective >> Capability.CAP_SYS_ADMIN & 1
    return [
        capability.name
        for capability in needed
        if not (effective >> capability & 1 or (may_all and capability in _OF_SYS_ADMIN))
    ]
