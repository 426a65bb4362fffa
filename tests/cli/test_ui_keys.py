"""``ctctl ui`` for who sits in front of it for the first time: its keys are told, and nothing is outside the screen."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.screen import full_screen

DUMP = Path(__file__).resolve().parents[1] / "data/samples/cilium-dbg-1.16.4/ct-list-global.time-diff-ktime.txt"


def test_the_keys_are_told_and_an_open_connection_fits_the_screen() -> None:
    with full_screen(sys.executable, "-m", "ctctl", "ui", "--from", str(DUMP)) as screen:
        screen.sees("? all keys")
        screen.press("?")
        screen.sees("open the connection of a row", "nothing is ever changed")
        screen.press("esc")
        screen.sees("PROTO", "SOURCE")
        screen.press("enter")
        shown = screen.sees("ROLE", "STATE")
        cells = [line for line in shown.splitlines() if " left" in line or " over" in line]
        assert cells, shown
        screen.press("q")
        assert screen.ended() == 0
