"""Conformance vectors through the command line's own ``main``, many in one process.

Starting Python takes longer than most vectors, and so does loading programs: here both are done once for all vectors
that can share them (``ctctl.simulate.kept``). What a vector must be is compared by the very runner that compares
what the command says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TypeVar
from unittest import mock

from tests.conformance import run as runner

_Answer = TypeVar("_Answer")


@contextmanager
def in_one_process() -> Iterator[None]:
    """Inside, the runner's commands run here."""
    from ctctl.simulate.kept import kept

    with kept(), mock.patch.object(runner.subprocess, "run", _here):
        yield


def _here(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
    """``ctctl ARGUMENTS`` in this process: how it ends, and what it wrote."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        status = _with_streams(out, err, lambda: _main(command[1:]))
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
        return subprocess.CompletedProcess(list(command), status, *texts)


def _with_streams(out: IO[str], err: IO[str], call: Callable[[], _Answer]) -> _Answer:
    """The call's answer, with this process's own standard output and error in files: C writes there too."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(number) for number in (1, 2)]
    streams = sys.stdout, sys.stderr
    try:
        for number, file in ((1, out), (2, err)):
            os.dup2(file.fileno(), number)
        with _stream(1) as first, _stream(2) as second:
            sys.stdout, sys.stderr = first, second
            return call()
    finally:
        sys.stdout, sys.stderr = streams
        for number, kept_as in enumerate(saved, 1):
            os.dup2(kept_as, number)
            os.close(kept_as)


def _stream(number: int) -> IO[str]:
    return open(number, "w", encoding="utf-8", closefd=False)


def _main(arguments: Sequence[str]) -> int:
    from ctctl.cli.main import main

    try:
        return main(arguments)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 1
