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
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ctctl.errors import PermissionDenied

#: Where the directories are; gone with the last listener.
RUN_DIRECTORY: Final = Path("/run/ctctl")
_TURN: Final = "turn"
_numbers = itertools.count()


class Listener:
    """This process's place among a node's listeners. ``words``: the filter it wants. ``close`` gives it up."""

    def __init__(self, node: str, words: bytes, directory: Path = RUN_DIRECTORY) -> None:
        self._directory = directory / f"listen-{node.replace('/', '%2F')}"
        self._name = f"{os.getpid()}-{next(_numbers)}"
        self._words = words
        self._fd: int | None = None

    def join(self) -> bool:
        """Take a place. Whether it is the only one. Raises PermissionDenied."""
        with self._turn():
            fd = os.open(self._directory / self._name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.pwrite(fd, self._words, 0)
            self._fd = fd
            return len(self._alive()) == 1

    def wish(self) -> bytes | None:
        """The filter that all listeners there are have in common; None where they differ: everything."""
        with self._turn():
            wishes = set(self._alive().values())
        return wishes.pop() if len(wishes) == 1 else None

    def close(self) -> bool:
        """Give the place up. Whether nobody is left. Twice is fine."""
        if self._fd is None:
            return False
        with self._turn():
            (self._directory / self._name).unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None
            alone = not self._alive()
        if alone:
            self._tidy()
        return alone

    def _alive(self) -> dict[str, bytes]:
        """Every listener's wish; files of those that were killed go."""
        found: dict[str, bytes] = {}
        for path in self._directory.iterdir():
            if path.name == _TURN:
                continue
            if path.name == self._name:
                found[path.name] = self._words
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
    def _turn(self) -> Iterator[None]:
        """One at a time: held for the moment that a look or a change takes."""
        while True:
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                fd = os.open(self._directory / _TURN, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # the last listener has just removed the directory
            except PermissionError:
                raise PermissionDenied(f"cannot write {self._directory}: needs root") from None
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if not (self._directory / _TURN).exists():
                    continue
                yield
                return
            finally:
                os.close(fd)

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):
            (self._directory / _TURN).unlink()
            self._directory.rmdir()


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
