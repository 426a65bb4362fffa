"""Who listens to a node: several at once, what they want in common, and what of a listener that ended or was killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctctl.events import stream
from ctctl.events.listeners import Listener, sweep
from tests.support.children import line_of, started
from tests.support.wait import PATIENCE_S

#: Listens in the directory argv[1] with the filter argv[2] until its standard input ends.
LISTENER = """
import sys
from pathlib import Path
from ctctl.events.listeners import Listener
one = Listener("node", sys.argv[2].encode(), Path(sys.argv[1]))
one.join()
print("listening", flush=True)
sys.stdin.read()
one.close()
"""


@contextmanager
def listener(place: Path, words: str) -> Iterator[subprocess.Popen[str]]:
    with started(sys.executable, "-c", LISTENER, str(place), words, stdin=subprocess.PIPE) as process:
        assert line_of(process, process.stdout) == "listening\n"
        yield process


def test_several_have_a_filter_in_common_or_none(tmp_path: Path) -> None:
    first = Listener("a/b", b"web", tmp_path)
    assert first.join()
    assert first.wish() == b"web"
    second, third = Listener("a/b", b"web", tmp_path), Listener("a/b", b"dns", tmp_path)
    assert not second.join()
    assert first.wish() == second.wish() == b"web"
    assert not third.join()
    assert first.wish() is None
    assert not third.close()
    assert first.wish() == b"web"
    assert not first.close()
    assert second.close()
    assert list(tmp_path.iterdir()) == []


def test_nodes_have_listeners_of_their_own(tmp_path: Path) -> None:
    one, other = Listener("one", b"x", tmp_path), Listener("other", b"y", tmp_path)
    assert one.join()
    assert other.join()
    assert (one.wish(), other.wish()) == (b"x", b"y")
    assert one.close()
    assert other.close()


def test_a_place_is_given_up_once(tmp_path: Path) -> None:
    one = Listener("node", b"x", tmp_path)
    assert not one.close()
    assert one.join()
    assert one.close()
    assert not one.close()


def test_what_a_killed_listener_wanted_goes_with_it(tmp_path: Path) -> None:
    mine = Listener("node", b"mine", tmp_path)
    with listener(tmp_path, "theirs") as other:
        assert not mine.join()
        assert mine.wish() is None
        other.kill()
        other.wait(PATIENCE_S)
        assert mine.wish() == b"mine"
    assert mine.close()
    assert list(tmp_path.iterdir()) == []


def test_the_first_after_a_killed_one_is_alone(tmp_path: Path) -> None:
    with listener(tmp_path, "theirs") as other:
        other.kill()
        other.wait(PATIENCE_S)
    mine = Listener("node", b"mine", tmp_path)
    assert mine.join()
    assert mine.close()


def test_falling_silent_failed_and_the_others_still_end() -> None:
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


def test_what_the_killed_left_goes_with_the_next_who_leaves(tmp_path: Path) -> None:
    with listener(tmp_path, "x") as killed:
        killed.kill()
        killed.wait(PATIENCE_S)
    other = Listener("other", b"y", tmp_path)
    other.join()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["listen-other"]  # who listens stays
    with listener(tmp_path, "x") as killed:
        killed.kill()
        killed.wait(PATIENCE_S)
    assert other.close()
    assert list(tmp_path.iterdir()) == []
