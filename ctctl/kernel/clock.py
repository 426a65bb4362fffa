"""The clocks conntrack lifetimes are in: CLOCK_MONOTONIC, and jiffies of older Cilium builds."""

from __future__ import annotations

import functools
import re
import time
from pathlib import Path

#: Older Cilium builds count in jiffies64 >> 8 (docs/reference/abi.md): 256/HZ seconds a unit.
JIFFIES_SHIFT = 8
_TIMER_LIST = Path("/proc/timer_list")


def monotonic_ns() -> int:
    """CLOCK_MONOTONIC in nanoseconds as the kernel has it: what bpf_ktime_get_ns() reads.

    In a time namespace (time_namespaces(7)) this process's own clock is shifted against it.
    """
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) - monotonic_offset_ns()


def boot_id() -> str | None:
    """The kernel's name for this boot: times of CLOCK_MONOTONIC compare within one only."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def started_at() -> float | None:
    """When the kernel started, in seconds since 1970 by the wall clock of now; None where it does not say."""
    try:
        with Path("/proc/stat").open(encoding="ascii") as lines:
            return next((float(line.split()[1]) for line in lines if line.startswith("btime ")), None)
    except (OSError, ValueError, IndexError):
        return None


@functools.cache
def monotonic_offset_ns(offsets: Path = Path("/proc/self/timens_offsets")) -> int:
    """How far this process's CLOCK_MONOTONIC is ahead of the kernel's: not 0 in a time namespace.

    A process cannot change it once it runs. The file is of the namespace for children, which is the process's own
    but for who called unshare(CLONE_NEWTIME) itself.
    """
    try:
        with offsets.open(encoding="utf-8") as lines:
            for line in lines:
                name, seconds, nanoseconds = line.split()
                if name in ("monotonic", "1"):
                    return int(seconds) * 1_000_000_000 + int(nanoseconds)
    except (OSError, ValueError):
        return 0
    return 0


def monotonic_s() -> int:
    """CLOCK_MONOTONIC in whole seconds: the unit of a lifetime in the reference layout."""
    return monotonic_ns() // 1_000_000_000


def jiffies(timer_list: Path = _TIMER_LIST) -> int | None:
    """jiffies64 now, or None where the kernel does not show it (/proc/timer_list, root only)."""
    try:
        with timer_list.open(encoding="utf-8") as lines:
            for line in lines:
                if match := re.match(r"jiffies: (\d+)", line):
                    return int(match[1])
    except OSError:
        return None
    return None


def jiffies_units(timer_list: Path = _TIMER_LIST) -> int | None:
    """``jiffies64 >> 8`` now, or None."""
    now = jiffies(timer_list)
    return None if now is None else now >> JIFFIES_SHIFT


def kernel_hz(seconds: float = 0.05) -> int | None:
    """CONFIG_HZ measured over ``seconds`` (jiffies against CLOCK_MONOTONIC), as the nearest usual value; or None."""
    before, started = jiffies(), monotonic_ns()
    if before is None:
        return None
    while (elapsed := monotonic_ns() - started) < seconds * 1e9:
        time.sleep(0.005)
    after = jiffies()
    if after is None:
        return None
    rate = (after - before) * 1e9 / elapsed
    return min((100, 250, 300, 1000), key=lambda usual: abs(usual - rate))
