"""One ``lab up``, ``down`` or ``run`` at a time per lab, with a lock that dies with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from ctctl.errors import BusyError, PermissionDenied
from ctctl.lab.topology import Topology

_POLL_S = 0.05


@contextlib.contextmanager
def locked(topology: Topology, *, wait_s: float = 60.0, remove: bool = False) -> Iterator[None]:
    """Hold the lab's lock; with ``remove`` the lock file is gone afterwards.

    Raises:
        BusyError: another ctctl held it for ``wait_s`` seconds.
        PermissionDenied: /run is not writable.
    """
    fd = _acquire(topology, time.monotonic() + wait_s)
    try:
        yield
    finally:
        if remove:
            forget(topology)
        os.close(fd)


def forget(topology: Topology) -> None:
    """Remove the lock file. Only for its holder: whoever opened it meanwhile finds that the name is gone."""
    topology.lock_path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        topology.lock_path.parent.rmdir()


def _acquire(topology: Topology, deadline: float) -> int:
    path = topology.lock_path
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError:
            raise PermissionDenied(f"cannot write {path}: the lab needs root") from None
        except FileNotFoundError:
            continue  # the directory went between the two lines, with another lab's last lock
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink and path.stat().st_ino == os.fstat(fd).st_ino:
                return fd
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(fd)
        if time.monotonic() > deadline:
            raise BusyError(f"another ctctl is working on the lab {topology.name!r}; try again when it is done")
        time.sleep(_POLL_S)
