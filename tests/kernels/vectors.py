"""Every conformance vector through the command line, in forks of one process.

In an emulator starting Python takes longer than a vector: here it is started once. Each vector runs in
a fork of its own, two at a time, exactly as `ctctl trace --scenario` would.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

from tests.conformance import run as runner
from tests.conformance.test_vectors import VECTORS as IN_ORDER
from tests.conformance.test_vectors import differences, name_of

#: Mixed: a run that ends early has seen some of every kind.
VECTORS = sorted(IN_ORDER, key=lambda vector: hashlib.sha256(name_of(vector).encode()).digest())

_FORKS = get_context("fork")


def run_vectors(vectors: Sequence[Path]) -> Iterator[tuple[str, list[str]]]:
    """Each vector's name and what differs, as they end; nothing differs: an empty list."""
    import ctctl.cli.main
    import ctctl.simulate.scenario_file
    import ctctl.simulate.show_scenario
    import ctctl.simulate.simulator  # noqa: F401

    with _FORKS.Pool(os.cpu_count() or 1) as pool:
        yield from pool.imap_unordered(_run_one, vectors, chunksize=1)


def _run_one(vector: Path) -> tuple[str, list[str]]:
    with mock.patch.object(runner.subprocess, "run", _forked):
        return name_of(vector), differences(vector, ["ctctl"])


def _forked(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
    """The command in a fork of this process; what it wrote and how it ended."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        if not (child := os.fork()):
            status = 1
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                status = _main(command[1:])
            finally:
                os._exit(status)
        _, waited = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        return subprocess.CompletedProcess(list(command), os.waitstatus_to_exitcode(waited), *texts)


def _main(arguments: Sequence[str]) -> int:
    """The command line of a process that has just started; its exit status."""
    from ctctl.cli.main import main

    # The parent's streams may be anything: a test runner's, a pipe's with text not flushed yet.
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        status = main(arguments)
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status
