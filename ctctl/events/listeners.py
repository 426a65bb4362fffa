"""Who listens to a node: several at once, each with its own filter, and the one word that hooks read.

Every listener has a file in the node's directory, locked as long as it lives, with the filter it wants. The
hooks have one filter: that of all listeners if they want the same, else they tell every packet, and each
listener leaves out what is not its. Whoever comes, goes or looks writes the word anew; a listener that was
killed is found by its lock, and its wish goes with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ctctl.errors import PermissionDenied

#: Where the directories are; gone with the last listener.
RUN_DIRECTORY: Final = Path("/run/ctctl")
_PREFIX: Final = "listen-"
_TURN: Final = "turn"
_numbers = itertools.count()


class Listener:
    """This process's place among a node's listeners. ``words``: the filter it wants. ``close`` gives it up."""

    def __init__(self, node: str, words: bytes, directory: Path = RUN_DIRECTORY) -> None:
        self._directory = directory / f"{_PREFIX}{node.replace('/', '%2F')}"
        self._name = f"{os.getpid()}-{next(_numbers)}"
        self._words = words
        self._fd: int | None = None

    def join(self) -> bool:
        """Take a place. Whether it is the only one. Raises PermissionDenied."""
        with _turn(self._directory):
            fd = os.open(self._directory / self._name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.pwrite(fd, self._words, 0)
            self._fd = fd
            return len(self._alive()) == 1

    def wish(self) -> bytes | None:
        """The filter that all listeners there are have in common; None where they differ: everything."""
        with _turn(self._directory):
            wishes = set(self._alive().values())
        return wishes.pop() if len(wishes) == 1 else None

    def close(self) -> bool:
        """Give the place up. Whether nobody is left. Twice is fine. Places of the dead go, of other nodes too."""
        if self._fd is None:
            return False
        with _turn(self._directory):
            (self._directory / self._name).unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None
            alone = not self._alive()
            if alone:
                _remove(self._directory)
        sweep(self._directory.parent)
        return alone

    def _alive(self) -> dict[str, bytes]:
        return _alive(self._directory, {self._name: self._words})


def sweep(directory: Path = RUN_DIRECTORY) -> None:
    """Remove what listeners that were killed left, of any node. Never fails, waits for nobody."""
    with contextlib.suppress(OSError):
        for place in directory.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError, PermissionDenied), _turn(place, wait=False):
                if not _alive(place, {}):
                    _remove(place)


def _alive(place: Path, own: Mapping[str, bytes]) -> dict[str, bytes]:
    """Every listener's wish, that of this process by name; files of those that were killed go."""
    found: dict[str, bytes] = {}
    for path in place.iterdir():
        if path.name == _TURN:
            continue
        if path.name in own:
            found[path.name] = own[path.name]
            continue
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if _is_locked(fd):
                    found[path.name] = os.pread(fd, 4096, 0)
                else:
                    path.unlink(missing_ok=True)
            finally:
                os.close(fd)
    return found


@contextlib.contextmanager
def _turn(place: Path, *, wait: bool = True) -> Iterator[None]:
    """One at a time: held for the moment that a look or a change takes.

    Without ``wait`` the directory is not made, and an OSError is raised where somebody else has the turn.
    """
    path = place / _TURN
    while True:
        try:
            if wait:
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            if wait:
                continue  # the last listener has just removed the directory
            raise
        except PermissionError:
            raise PermissionDenied(f"cannot write {place}: needs root") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had the turn before may have removed the file, and another may have made it anew.
            if not _is_file(fd, path):
                continue
            yield
            return
        finally:
            os.close(fd)


def _is_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _remove(place: Path) -> None:
    """Remove a directory in which nobody is left; the turn is the caller's."""
    with contextlib.suppress(OSError):
        (place / _TURN).unlink()
        place.rmdir()


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
