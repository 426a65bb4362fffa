"""What is drawn on a terminal: the progress bar and the screen of --watch."""

from __future__ import annotations

import io

import numpy as np

from ctctl.cli.progress import Progress
from ctctl.model.entry import Layout
from ctctl.out.watch import Screen
from ctctl.tables.sources.base import CtTable, Source


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_only_changed_lines_are_written_again() -> None:
    terminal = Terminal()
    screen = Screen(terminal, height=3, width=10)
    assert screen.show(["head", "a", "b" * 50]) == 3
    assert "b" * 10 in terminal.getvalue()
    assert "b" * 11 not in terminal.getvalue()
    terminal.truncate(0)
    assert screen.show(["head", "a", "c"]) == 1
    assert "c" in terminal.getvalue()
    assert "head" not in terminal.getvalue()
    assert screen.show(["head"]) == 2  # two lines are cleared
    assert screen.show(["head"]) == 0


def test_what_has_no_room_is_counted() -> None:
    terminal = Terminal()
    assert Screen(terminal, height=3, width=60).show(["head", "a", "b", "c", "d"]) == 3
    assert "… 3 lines more than this screen has" in terminal.getvalue()
    assert "b\x1b" not in terminal.getvalue()


def test_without_a_terminal_blocks_follow_each_other() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.show(["a"])
    screen.show(["a"])
    assert stream.getvalue() == "a\n\na\n\n"


def test_the_bar_comes_after_a_second_and_goes_in_the_end() -> None:
    rows = (np.zeros((5, 14), np.uint8), np.zeros((5, 56), np.uint8))
    table = CtTable("t", 4, Layout.V1_16, lambda: iter([rows, rows]), max_entries=20)
    times = iter([0.0, 0.5, 1.5])
    terminal = Terminal()
    progress = Progress(Source("x", tables=[table]), terminal, lambda: next(times))
    reading = table.read()
    next(reading)
    assert terminal.getvalue() == ""
    next(reading)
    assert "[###############               ] 10 entries read" in terminal.getvalue()
    progress.close()
    assert terminal.getvalue().endswith("\r\x1b[K")
