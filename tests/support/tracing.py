"""A running ``ctctl trace``, from when its hooks or probes are there."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.children import CTCTL, line_of, started
from tests.support.wait import PATIENCE_S

#: A look for what must not come: long after what comes at once has come.
_QUIET_S = 0.3


def over(worker: threading.Thread) -> Callable[[], bool]:
    """Whether a thread's packets have been through the kernel, and a little longer, for what must not come.

    A packet that a busy CPU was not given time for waits in a queue of the kernel's: that it is empty is asked first.
    """
    quiet_since: float | None = None

    def is_over() -> bool:
        nonlocal quiet_since
        if worker.is_alive() or _queued():
            quiet_since = None
        elif quiet_since is None:
            quiet_since = time.monotonic()
        return quiet_since is not None and time.monotonic() - quiet_since >= _QUIET_S

    return is_over


def _queued() -> int:
    """Packets in the CPUs' queues: the twelfth number of each line of softnet_stat (Linux 5.10)."""
    lines = Path("/proc/net/softnet_stat").read_text().splitlines()
    return sum(int(fields[11], 16) for line in lines if len(fields := line.split()) >= 12)


class Trace:
    """``messages`` is what it says beside the events, up to now; all of it after its end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.messages: list[str] = []
        while line := line_of(process, process.stderr):
            self.messages.append(line)
            if line.startswith("ready"):
                return
        raise AssertionError(f"the trace did not start: {self.messages}")

    def rest(self) -> str:
        """What it prints until it ends by itself."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        self.messages += err.splitlines()
        return out

    def stop(self, how: signal.Signals = signal.SIGINT) -> list[dict[str, Any]]:
        """All events (``-o jsonl``), after the signal."""
        self.process.send_signal(how)
        return [json.loads(line) for line in self.rest().splitlines()]


@contextlib.contextmanager
def tracing(*words: str | Path) -> Iterator[Trace]:
    """``ctctl trace`` with these words."""
    with tracing_by(*CTCTL, "trace", *words) as trace:
        yield trace


@contextlib.contextmanager
def tracing_by(*command: str | Path) -> Iterator[Trace]:
    """The same by a whole command, which may start it elsewhere."""
    with started(*command) as process:
        yield Trace(process)
