"""One ``lab up``, ``down`` or ``run`` at a time per lab, with a lock that dies with its holder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ctctl.errors import BusyError, PermissionDenied
from ctctl.lab.topology import Topology
from ctctl.node.lock import lock_file, take

_POLL_S = 0.05


@contextlib.contextmanager
def locked(topology: Topology, *, wait_s: float = 60.0, remove: bool = False) -> Iterator[None]:
    """Hold the lab's lock; with ``remove`` the lock file is gone afterwards.

    Raises:
        BusyError: another ctctl held it for ``wait_s`` seconds.
        PermissionDenied: /run is not writable.
    """
    fd = _acquire(topology, wait_s)
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


def _acquire(topology: Topology, wait_s: float) -> int:
    path = topology.lock_path

    def opening() -> int | None:
        try:
            return lock_file(path)
        except PermissionError:
            raise PermissionDenied(f"cannot write {path}: the lab needs root") from None

    def waiting(_fd: int | None, waited_s: float) -> None:
        if waited_s > wait_s:
            raise BusyError(f"another ctctl is working on the lab {topology.name!r}; try again when it is done")

    return take(path, opening, waiting, pause_s=_POLL_S)
