"""Mounts of a test, and their end."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.wait import wait_for


def unmount(where: Path | str) -> None:
    """Unmount, once nobody that the test started is in it any more: who was told to end may be for a moment."""

    def is_gone() -> bool:
        done = subprocess.run(["umount", where], check=False, capture_output=True, text=True)
        if done.returncode and "busy" not in done.stderr:
            raise OSError(done.stderr.strip())
        return not done.returncode

    wait_for(is_gone, what=f"the end of the mount {where}")
