"""The signals that tests rely on, whatever the program that started the test run had ignored or blocked.

A program inherits what its parent ignores (a job in the background of a shell, nohup, some CI), and so do
the programs that it starts. Set once at the start of the run, this holds for every test and every child.
"""

from __future__ import annotations

import signal

_DEFAULT = (signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)


def as_in_a_fresh_shell() -> None:
    """Give this process and its children the signal dispositions of a program typed at a terminal.

    A hang-up that was ignored (nohup) goes on doing nothing here: by a handler, which children do not
    inherit. SIGPIPE is ignored by every Python, and set back in every child that ``subprocess`` starts.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for number in _DEFAULT:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)
