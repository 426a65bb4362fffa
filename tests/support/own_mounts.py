"""Mounts of one run of tests: what it pins, names and mounts is on no other run's machine, nor theirs on its own.

Commands that look at the whole machine (``features``, ``status``, ``-A``, ``lab list``) say the same then whatever
runs beside the tests, and what a killed run leaves goes with it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from ctctl._ffi import CallError, syscall
from ctctl.kernel.bpffs import DEFAULT_ROOT, mounts
from ctctl.kernel.netns import NETNS_DIR
from ctctl.lab.topology import STATE_ROOT

_CLONE_NEWNS = 0x00020000


def mount_our_own() -> None:
    """Give this process, and each that it starts from now on, a mount namespace of its own, where it may have one."""
    try:
        syscall.unshare(_CLONE_NEWNS)
    except CallError:
        return  # Not root: kernel tests are skipped, with the reason.
    _run("mount", "--make-rprivate", "/")
    for place in reversed(mounts()):
        _run("umount", "-l", place)
    if DEFAULT_ROOT.is_dir():
        # Where the kernel has no BPF, kernel tests are skipped with the reason.
        subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", DEFAULT_ROOT], check=False)
    for place in (NETNS_DIR, STATE_ROOT):
        place.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", place)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)
