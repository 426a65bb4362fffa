"""Programs that tests start: bounded, and ended with the test whatever became of it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, AnyStr

from tests.support import ready
from tests.support.wait import PATIENCE_S

CTCTL = (sys.executable, "-m", "ctctl")
#: The same as it is installed.
PROGRAM = str(Path(sys.executable).parent / "ctctl")


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
