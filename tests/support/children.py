"""Programs that tests start: bounded, and ended with the test whatever became of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, AnyStr

from tests.support import ready
from tests.support.wait import PATIENCE_S, wait_for

CTCTL = (sys.executable, "-m", "ctctl")
#: The same as it is installed.
PROGRAM = str(Path(sys.executable).parent / "ctctl")
#: ctctl that sends itself a signal: where, before which call, which, then its own words.
_SIGNALLED = """
import importlib, signal, sys, threading
where, left, number = sys.argv.pop(1), int(sys.argv.pop(1)), int(sys.argv.pop(1))
module, _, path = where.partition(":")
owner = importlib.import_module(module)
*outer, name = path.split(".")
for one in outer:
    owner = getattr(owner, one)
own = getattr(owner, name)
def counted(*words, **how):
    global left
    left -= 1
    if left == 0:
        signal.pthread_kill(threading.get_ident(), number)
    return own(*words, **how)
setattr(owner, name, counted)
from ctctl.cli.start import main
sys.exit(main())
"""


def run_ctctl(*words: object, **how: Any) -> ready.Ended:
    """Run the command line as a user would, to its end, in a process of its own; text comes back.

    ``how``: ``stdin``, ``input``, ``cwd``, ``env``, ``timeout`` of ``subprocess.run``, and ``namespaces`` (``ready``).
    The program is not started anew for it; what is about that goes through ``subprocess`` and ``CTCTL``.
    """
    return ready.run(list(map(str, words)), text=how.pop("input", None), **how)


@contextlib.contextmanager
def started(*command: str | Path, **how: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that runs beside the test, with pipes for its output; killed at the end if it is still there.

    ``subprocess.Popen`` as a context manager would wait for it instead, for ever where a signal did not reach it.
    """
    usual: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(list(map(str, command)), **{**usual, **how})
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def signalled_before(function: str, call: int, number: signal.Signals) -> tuple[str, ...]:
    """Words that start ctctl as CTCTL does, but send the thread that calls ``ctctl.module:Class.name`` a signal."""
    return (sys.executable, "-c", _SIGNALLED, function, str(call), str(int(number)))


@contextlib.contextmanager
def stopped_before(function: str, call: int, *words: str | Path, **how: Any) -> Iterator[subprocess.Popen[str]]:
    """ctctl with these words, stopped (SIGSTOP) in front of a call of a function: ``ctctl.module:Class.name``.

    So a test has it where it wants it, on any machine; ``go_on`` lets it hear a signal and go on.
    """
    with started(*signalled_before(function, call, signal.SIGSTOP), *words, **how) as process:
        wait_for(lambda: process.poll() is not None or _state(process.pid) == "T", what=f"call {call} of {function}")
        assert process.returncode is None, process.communicate()
        yield process


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def go_on(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a stopped program a signal, which is the first thing that it meets when it goes on."""
    os.kill(process.pid, number)
    os.kill(process.pid, signal.SIGCONT)


def line_of(process: subprocess.Popen[AnyStr], stream: IO[AnyStr] | None) -> AnyStr:
    """The next line of one of its pipes; what is silent for PATIENCE_S is killed, and the line is empty."""
    assert stream is not None
    patience = threading.Timer(PATIENCE_S, process.kill)
    patience.start()
    try:
        return stream.readline()
    finally:
        patience.cancel()


def wait_for_line(process: subprocess.Popen[AnyStr], stream: IO[AnyStr] | None, word: AnyStr) -> AnyStr:
    """The next line of one of its pipes with ``word`` in it; what is silent for PATIENCE_S, or ends, is an error."""
    while line := line_of(process, stream):
        if word in line:
            return line
    raise AssertionError(f"{process.args!r} ended, or was silent, before it said {word!r}")
