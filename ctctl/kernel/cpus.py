"""CPUs: how many values a per-CPU map has, and staying on one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def possible_cpus() -> int:
    """How many CPUs a per-CPU value has (/sys/devices/system/cpu/possible)."""
    text = Path("/sys/devices/system/cpu/possible").read_text(encoding="utf-8").strip()
    return 1 + max(int(part.split("-")[-1]) for part in text.split(","))


@contextmanager
def one_cpu() -> Iterator[None]:
    """Keep this thread on one of its CPUs. Which one is the process's own, so that processes spread over them."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[os.getpid() % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
