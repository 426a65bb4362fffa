"""Mounts of a test, and their end."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.wait import wait_for


def unmount(where: Path | str) -> None:
    """Unmount, once nobody is in it any more.

    A ctctl that looks for nodes opens every bpffs of the machine for a moment (`bpffs.mounts`), those of tests that
    run beside it too: the mount is busy then, and no fault of its test.
    """

    def is_gone() -> bool:
        done = subprocess.run(["umount", where], check=False, capture_output=True, text=True)
        if done.returncode and "busy" not in done.stderr:
            raise OSError(done.stderr.strip())
        return not done.returncode

    wait_for(is_gone, what=f"the end of the mount {where}")
