"""Locks: one writer per node, and the one way to take a lock, for listeners and labs too.

A node's lock is on its pin directory itself:
bpffs directories take flock(2), so the lock needs no file elsewhere, dies with its holder (also
by SIGKILL) and cannot be about another node than the one whose pins are changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ctctl.errors import BusyError, NotFoundError, PermissionDenied
from ctctl.node.owner import check_place

#: Pause between two tries. flock has no time limit of its own, and a blocking one could not be bounded.
_RETRY_S = 0.02

#: ``is_locked`` holds a shared lock for a moment: shorter than this is nobody at work.
_GLANCE_S = 0.1

DEFAULT_WAIT_S = 30.0


@contextlib.contextmanager
def node_lock(
    directory: Path, *, create: bool, wait_s: float = DEFAULT_WAIT_S, on_wait: Callable[[str], None] | None = None
) -> Iterator[bool]:
    """Hold the lock of the node pinned at ``directory``; yields whether the directory was made here.

    Waits up to ``wait_s`` seconds for another holder, after one call of ``on_wait`` with a line for
    the operator. A directory that was made here and is still empty at the end is removed.
    Raises BusyError, NotFoundError (``create`` false and nothing there), PermissionDenied, NotOursError
    (the directory is a link, a mount or another user's: no node of ctctl's).
    """
    check_place(directory)
    fd, created = _acquire(directory, create, wait_s, on_wait)
    try:
        yield created
    finally:
        if created:
            with contextlib.suppress(OSError):
                directory.rmdir()
        os.close(fd)


def is_locked(directory: Path) -> bool:
    """Whether somebody is changing this node now. Never waits."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def take(
    path: Path,
    opening: Callable[[], int | None],
    waiting: Callable[[int | None, float], None],
    *,
    pause_s: float = _RETRY_S,
) -> int:
    """A descriptor of ``path`` that holds its lock, which dies with it.

    ``opening`` opens it, None: it went away just now. Where another holds the lock (or it keeps going away)
    ``waiting`` is told, with the descriptor and the seconds waited; it raises to give up.
    """
    started = time.monotonic()
    while True:
        fd = opening()
        try:
            if fd is None or not _try_lock(fd):
                waiting(fd, time.monotonic() - started)
            else:
                # The holder before us may have removed it: then this is the lock of something that is gone.
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_ino == os.fstat(fd).st_ino:
                        held, fd = fd, None
                        return held
                continue
        finally:
            if fd is not None:
                os.close(fd)
        time.sleep(pause_s)


def lock_file(path: Path) -> int | None:
    """Open a lock file in a directory that is made if need be. None: the directory went with another's last lock.

    Raises PermissionError.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None


def _acquire(directory: Path, create: bool, wait_s: float, on_wait: Callable[[str], None] | None) -> tuple[int, bool]:
    limit_s, created = max(wait_s, _GLANCE_S), False

    def opening() -> int | None:
        nonlocal created
        created = _make(directory) if create else False
        return _open(directory, create)

    def waiting(fd: int | None, waited_s: float) -> None:
        nonlocal on_wait
        if fd is None:
            if waited_s >= limit_s:
                raise NotFoundError(f"cannot keep {directory}: it is removed as often as it is made")
            return
        who = _holder(fd)
        if waited_s >= limit_s:
            raise BusyError(f"node {directory.name} is being changed by {who}; try again when it is done")
        if on_wait is not None and waited_s >= _GLANCE_S:
            on_wait(f"waiting for {who}, which is changing node {directory.name}")
            on_wait = None

    return take(directory, opening, waiting), created


def _make(directory: Path) -> bool:
    try:
        directory.parent.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return False
    except FileNotFoundError:  # the parent went away in between, with the last node in it
        return False
    except PermissionError as error:
        raise PermissionDenied(f"cannot make {directory}: {error.strerror}; run as root") from None
    return True


def _open(directory: Path, create: bool) -> int | None:
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if create:
            return None
        raise NotFoundError(f"no node is loaded at {directory}") from None
    except PermissionError as error:
        raise PermissionDenied(f"cannot open {directory}: {error.strerror}; run as root") from None


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(fd: int) -> str:
    """Who holds the lock, from /proc/locks: "process 123 (ctctl load)" where it can be told."""
    status = os.fstat(fd)
    where = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            parts = line.split()
            if len(parts) >= 6 and parts[1] == "FLOCK" and parts[5] == where:
                return f"process {parts[4]}"
    return "another process"
