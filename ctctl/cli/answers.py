"""The folder that the answers of nodes lie in: gone however ``ctctl cluster`` ends, and whenever it is told to."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from ctctl.cli.report import say
from ctctl.errors import EXIT_INTERRUPTED
from ctctl.kernel.stopping import SAME_SIGNAL_S, SIGNALS


class _Ended(BaseException):
    """By a signal, its number. Nobody's but this module's."""


class Ending:
    """What a signal does to a block: it unwinds it, but not while something is made that must be known first.

    An exception of a handler may come up where Python has to drop it (in a finalizer, inside a look-up). So the signal
    is remembered as well: ``look`` raises again what got lost.
    """

    def __init__(self) -> None:
        self._held = True
        self._heard = 0
        self._raised_at = 0.0
        self._made: Path | None = None

    def heard(self, number: int, _frame: object) -> None:
        """The handler."""
        self._heard = self._heard or number
        if time.monotonic() - self._raised_at >= SAME_SIGNAL_S:
            self.look()

    def look(self) -> None:
        """Unwind the block if it has been told to end."""
        if self._heard and not self._held:
            self._raised_at = time.monotonic()
            raise KeyboardInterrupt if self._heard == signal.SIGINT else _Ended(self._heard)

    def hold(self) -> None:
        """From now on a signal is only remembered."""
        self._held = True

    def make(self) -> Path:
        """A new folder for answers, which ``remove`` knows from its first moment; from now on signals unwind."""
        self._made = Path(tempfile.mkdtemp(prefix="ctctl-cluster-"))
        answers = self._made / "answers"
        answers.mkdir()
        self._held = False
        self.look()
        return answers

    def remove(self) -> None:
        """Remove it. Who still asks a node finds no folder to write to, rather than one that is being removed."""
        if self._made is None:
            return
        with contextlib.suppress(OSError):
            (self._made / "answers").rename(self._made / "gone")
        shutil.rmtree(self._made, ignore_errors=True)


@contextlib.contextmanager
def ended_by_unwinding() -> Iterator[Ending]:
    """SIGTERM and a lost terminal end the block as Ctrl-C does; its ``make`` gives the folder, which is gone then.

    The process ends with it: threads that wait for a connection cannot be told to, and an interpreter that is taken
    down beside them may wait for what one of them holds.
    """
    ending = Ending()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    mine = [number for number, how in before.items() if how in (signal.SIG_DFL, signal.default_int_handler)]
    for number in mine:
        signal.signal(number, ending.heard)
    try:
        yield ending
    except _Ended as ended:
        _leave(ending, 128 + ended.args[0])
    except KeyboardInterrupt:
        ending.hold()
        if threading.active_count() == 1:
            raise
        say("interrupted")
        _leave(ending, EXIT_INTERRUPTED)
    finally:
        ending.hold()
        with _deaf():
            ending.remove()
        for number in mine:
            signal.signal(number, before[number])


def _leave(ending: Ending, status: int) -> NoReturn:
    ending.hold()
    with _deaf():
        ending.remove()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(status)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """However often Ctrl-C is typed meanwhile."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
