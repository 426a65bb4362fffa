"""The machine's bpffs while test runs need it: the first of those side by side mounts it, the last takes it away."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ctctl.kernel.bpffs import DEFAULT_ROOT, is_bpffs

#: What is mounted, as mountinfo has it: what somebody else mounted stays.
_SOURCE = "ctctl-tests"


@contextlib.contextmanager
def mounted_bpffs(place: Path = DEFAULT_ROOT) -> Iterator[None]:
    """A bpffs at ``place``. One that a run mounted goes when the last run ends: all pins of the others are in it."""
    runs = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(runs, fcntl.LOCK_SH)
        if not is_bpffs(place):
            place.mkdir(exist_ok=True)
            subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", _SOURCE, place], check=True)
        try:
            yield
        finally:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(runs, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_ours(place):
                    subprocess.run(["umount", place], check=False, capture_output=True)
    finally:
        os.close(runs)


def _is_ours(place: Path) -> bool:
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [_SOURCE, str(place)] in [fields[:2] for fields in lines]
