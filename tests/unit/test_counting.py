"""The counter on stderr: silent in pipes and for a second, gone at the end."""

from __future__ import annotations

import io

from ctctl.cli.counting import Counting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO) -> str:
    now = [0.0]
    with Counting(stream, "entries", clock=lambda: now[0]) as progress:
        progress(10)
        assert stream.getvalue() == ""
        now[0] = 1.5
        progress(1234)
        now[0] = 1.55
        progress(1)
        now[0] = 1.7
        progress(1)
    return stream.getvalue()


def test_a_terminal_sees_it_after_a_second() -> None:
    assert shown(Terminal()) == "\r1,244 entries\x1b[K\r1,246 entries\x1b[K\r\x1b[K"


def test_a_pipe_sees_nothing() -> None:
    assert shown(io.StringIO()) == ""
