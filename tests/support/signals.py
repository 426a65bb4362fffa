"""The signals that tests rely on, whatever the program that started the test run had ignored or blocked.

A program inherits what its parent ignores (a job in the background of a shell, nohup, some CI), and so do
the programs that it starts. Set once at the start of the run, this holds for every test and every child.
"""

from __future__ import annotations

import signal
from types import FrameType

_DEFAULT = (signal.SIGQUIT, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)
_ending = False


def as_in_a_fresh_shell() -> None:
    """Give this process and its children the signal dispositions of a program typed at a terminal.

    What would end this process ends it as Ctrl-C does, with everything removed that was made, and a hang-up that
    was ignored (nohup) goes on doing nothing: by handlers, which children do not inherit. SIGPIPE is ignored by
    every Python, and set back in every child that ``subprocess`` starts.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for number in _DEFAULT:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signal.signal(signal.SIGHUP, _nothing if deaf else _end)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def run_is_ending() -> bool:
    """Whether this process was told to end: a test that took the KeyboardInterrupt for its own is the last."""
    return _ending


def _nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def _end(number: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt. Who is told twice is cleaning up already: only Ctrl-C cuts that short."""
    global _ending
    if _ending and number != signal.SIGINT:
        return
    _ending = True
    raise KeyboardInterrupt
