"""What a command takes, and what a small input may take: a bound by what the smallest listing takes here, now."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support import hostile
from tests.support.children import PROGRAM, run_ctctl

MEMORY_BYTES = 300 << 20
#: Two seconds on a quiet machine of today, where the smallest listing takes an eighth of one.
_QUIET_S, _LISTINGS = 2.0, 15
#: A process starts with its parent's peak memory: only a small parent can measure a small child.
_MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, code)
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds and peak memory of a program that has ended, its exit code and what it said on stderr."""

    cpu_s: float
    memory_bytes: int
    code: int
    said: str


def cost_of(*words: str | Path) -> Cost:
    """What a command takes beyond the start of Python: run by what has started already, as ``run_ctctl`` does."""
    done = run_ctctl(*words)
    return Cost(done.cpu_s, done.memory_bytes, done.returncode, done.stderr)


def cost_of_program(*words: str | Path) -> Cost:
    """Run ctctl to its end, in a process that is started for it; what it prints is thrown away."""
    command = [sys.executable, "-c", _MEASURE, PROGRAM, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    cpu_s, memory_kib, code = done.stdout.split()
    return Cost(float(cpu_s), int(memory_kib) << 10, int(code), done.stderr)


def is_soon(cpu_s: float) -> bool:
    """Whether a small input may take so many CPU seconds on this machine."""
    return cpu_s < _QUIET_S or cpu_s < _LISTINGS * _listing_s()


def _listing_s() -> float:
    """What the smallest listing takes here, now."""
    with tempfile.TemporaryDirectory(prefix="ctctl-test-") as folder:
        path = Path(folder) / "ct.txt"
        path.write_bytes(hostile.lines("ct", 1))
        return min(cost_of_program("ct", "list", "--from", path).cpu_s for _ in range(3))
