"""Cgroups of tests: made, and removed with whatever is still in them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from ctctl.kernel.cgroup import cgroup2_mount
from tests.support.names import unique_name
from tests.support.needs import lacking
from tests.support.wait import wait_for


@contextlib.contextmanager
def made_cgroup() -> Iterator[Path]:
    """A cgroup of its own, below the root of the hierarchy."""
    mount = cgroup2_mount()
    if mount is None:
        lacking("no cgroup2 file system is mounted")
    place = mount / unique_name("cg")
    place.mkdir()
    try:
        yield place
    finally:
        for pid in (place / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        wait_for(lambda: not (place / "cgroup.procs").read_text(), what="empty cgroup")
        place.rmdir()
