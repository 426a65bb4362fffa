"""A node's only place for a listener: who has it, and what of a listener that ended or was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctctl.errors import BusyError
from ctctl.events import stream
from tests.support.children import started
from tests.support.wait import PATIENCE_S, wait_for

#: Listens in the directory argv[1]. Like a listener that starts a program: its child has the lock too, and
#: ends once its standard input does.
LISTENER = """
import os, sys
from pathlib import Path
from ctctl.events import stream
stream.LOCK_DIRECTORY = Path(sys.argv[1])
with stream._listener_lock("node"):
    if os.fork() == 0:
        os.read(0, 1)
        os._exit(0)
    print("listening", flush=True)
    os.wait()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stream, "LOCK_DIRECTORY", tmp_path)
    return tmp_path


@contextmanager
def listener(place: Path) -> Iterator[subprocess.Popen[str]]:
    with started(sys.executable, "-c", LISTENER, str(place), stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield process


def test_a_listener_is_named_and_its_file_goes_with_it(place: Path) -> None:
    with listener(place) as other:
        with pytest.raises(BusyError, match=f"process {other.pid} is listening on node 'node' already"):
            stream._listener_lock("node").__enter__()
        assert other.stdin is not None
        other.stdin.close()
        other.wait(PATIENCE_S)
    assert list(place.iterdir()) == []
    with stream._listener_lock("node"):
        assert [path.name for path in place.iterdir()] == ["listen-node.lock"]


@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "not-reaped"])
def test_what_a_killed_listener_had_just_started_is_waited_for(
    place: Path, monkeypatch: pytest.MonkeyPatch, reaped: bool
) -> None:
    monkeypatch.setattr(stream, "_INHERITED_S", PATIENCE_S)
    tries: list[float] = []
    monkeypatch.setattr(stream.time, "sleep", lambda s: (tries.append(s), threading.Event().wait(s))[0])
    taken = threading.Event()

    def take() -> None:
        with stream._listener_lock("node"):
            taken.set()

    with listener(place) as killed:
        os.kill(killed.pid, signal.SIGKILL)
        os.waitid(os.P_PID, killed.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
        next_one = threading.Thread(target=take)
        next_one.start()
        wait_for(lambda: len(tries) > 2 * stream._ENDING_S / stream._RETRY_S, what="the lock to be held")
        assert not taken.is_set()
        assert killed.stdin is not None
        killed.stdin.close()
        next_one.join(PATIENCE_S)
    assert taken.is_set()


def test_the_place_is_free_though_falling_silent_failed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error on the way out of one node's stream, and the other's still ends."""
    ended: list[str] = []

    class Stream:
        def __init__(self, name: str, fails: bool) -> None:
            self.name, self.fails = name, fails

        def close(self) -> None:
            ended.append(self.name)
            if self.fails:
                raise OSError("no")

    made = stream.EventStream.__new__(stream.EventStream)
    made._streams = [Stream("a", False), Stream("b", True), Stream("c", False)]  # type: ignore[list-item]
    with pytest.raises(OSError, match="no"):
        made.close()
    assert sorted(ended) == ["a", "b", "c"]
