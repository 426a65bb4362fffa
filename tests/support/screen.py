"""A full-screen program on a pty, driven by keys and read through a terminal emulator."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pyte

from tests.support.wait import PATIENCE_S, wait_for

KEYS = {
    "enter": "\r",
    "esc": "\x1b",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "end": "\x1b[F",
    "home": "\x1b[H",
}
KEYS |= {"pagedown": "\x1b[6~", "pageup": "\x1b[5~", "backspace": "\x7f"}

_PRIVATE = re.compile(rb"\x1b\[[<>=][0-9;]*[a-z]|\x1b\[\?[0-9;]*(\$p|u)|\x1b_[^\x1b]*\x1b\\")


class FullScreen:
    """The program's terminal: ``lines`` are what a person sees."""

    def __init__(self, words: Sequence[str], columns: int = 80, rows: int = 24) -> None:
        self._parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        settings = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            settings.pop(name, None)
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.pid = os.posix_spawn(
            words[0],
            list(words),
            settings,
            file_actions=[
                *[(os.POSIX_SPAWN_DUP2, child, fd) for fd in (0, 1, 2)],
                (os.POSIX_SPAWN_CLOSE, self._parent),
            ],
            setsid=True,
        )
        os.close(child)
        self._status: int | None = None
        self._open = True

    @property
    def lines(self) -> list[str]:
        """What is on the screen, after all that was written to it so far."""
        self._read()
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines)

    def _read(self) -> None:
        while self._open and select.select([self._parent], [], [], 0.01)[0]:
            try:
                part = os.read(self._parent, 1 << 16)
            except OSError:  # EIO: nobody holds the other side any more
                part = b""
            if not part:
                self._open = False
            # pyte takes private sequences that it does not know for text.
            self._stream.feed(_without_private(part))

    def press(self, *keys: str) -> None:
        """Send keys by name, and anything else as it is typed."""
        for key in keys:
            os.write(self._parent, KEYS.get(key, key).encode())

    def until(self, holds: Callable[[str], object], what: str) -> str:
        """The screen's text once ``holds`` of it is true. A screen is written in parts: other words may yet come."""

        def shown() -> str:
            text = self.text
            return text if holds(text) else ""

        try:
            return wait_for(shown, what=what)
        except TimeoutError:
            raise AssertionError(f"{what}: not within {PATIENCE_S} s; the screen:\n{self.text}") from None

    def sees(self, *words: str) -> str:
        """The screen's text once all words are on it."""
        return self.until(lambda text: all(word in text for word in words), f"waiting for {words}")

    def ended(self) -> int:
        """The exit code, once the program has ended."""

        def over() -> bool:
            self._read()
            if self._status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self._status = os.waitstatus_to_exitcode(status) if pid else None
            return self._status is not None

        wait_for(over, what="the program's end")
        assert self._status is not None
        return self._status

    def hang_up(self) -> None:
        """Take the terminal away."""
        self._open = False
        os.close(self._parent)
        self._parent = -1

    def close(self) -> None:
        """End the program, if it still runs."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self._parent >= 0:
            os.close(self._parent)


def _without_private(data: bytes) -> bytes:
    """Without the sequences of the kitty keyboard protocol and requests for modes."""
    return _PRIVATE.sub(b"", data)


@contextmanager
def full_screen(*words: str, columns: int = 80, rows: int = 24) -> Iterator[FullScreen]:
    """A program on a terminal of its own; it ends with the block."""
    made = FullScreen(words, columns, rows)
    try:
        yield made
    finally:
        made.close()
