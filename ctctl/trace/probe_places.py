"""Whose packets a trace by probes is about: those of the namespaces it looks at, and of what is linked to them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ctctl.errors import CtctlError
from ctctl.kernel.netns import NETNS_DIR, has_link_to, run_in_netns
from ctctl.model.recent import Recent, RecentSet

#: How long a namespace that is not linked is taken to be none: a pod's device may come a moment after its namespace.
_BELIEVED_S = 1.0


class Neighbourhood:
    """Network namespaces by inode: those looked at, and those with a link (a pod's) into one of them.

    The kernel tells drops of the whole machine. A namespace of another cluster on it may have the same addresses.
    """

    def __init__(self, looked_at: Iterable[tuple[Path, int]]) -> None:
        self._paths = dict(looked_at)
        self._own = frozenset(self._paths.values())
        self._near: RecentSet[int] = RecentSet()
        self._far: Recent[int, float] = Recent()

    def has(self, inode: int) -> bool:
        """Whether the namespace is one of them."""
        if inode in self._own or inode in self._near:
            return True
        now, told = time.monotonic(), self._far.get(inode)
        if told is not None and now - told < _BELIEVED_S:
            return False
        if self._is_linked(inode):
            self._near.add(inode)
            return True
        self._far.put(inode, now)
        return False

    def _is_linked(self, inode: int) -> bool:
        for path in _files():
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:
                    return self._has_link(path)
        return False

    def _has_link(self, other: Path) -> bool:
        fd = os.open(other, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return any(run_in_netns(str(path), has_link_to, fd) for path in self._paths)
        except CtctlError:
            return False
        finally:
            os.close(fd)


def _files() -> Iterator[Path]:
    """Where a namespace may be opened, those of processes first: a named one may be without any."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            yield Path(entry.path, "ns", "net")
    with contextlib.suppress(OSError):
        yield from NETNS_DIR.iterdir()
