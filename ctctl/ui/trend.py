"""States and pressure over time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Sparkline, Static

from ctctl.ui.look import Frame
from ctctl.ui.pages import percent

#: Looks that are remembered.
KEPT = 600
_SERIES = ("pressure", "entries", "new", "established", "closing", "closed", "expired")


def figures(frame: Frame) -> dict[str, float | None]:
    """What is followed over time: pressure (0 to 1) of the fullest table, and entries of all tables by state.

    None: unknown for a table.
    """
    known = [table.pressure for table in frame.tables if table.pressure is not None]
    expired = [table.expired for table in frame.tables if table.expired is not None]
    states = {
        state: float(sum(table.by_state[state] for table in frame.tables))
        for state in ("new", "established", "closing", "closed")
    }
    return {
        "pressure": max(known) if known and len(known) == len(frame.tables) else None,
        "entries": float(frame.entries),
        **states,
        "expired": float(sum(expired)) if len(expired) == len(frame.tables) else None,
    }


class History:
    """The figures of the last looks, the oldest first."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, dict[str, float | None]]] = deque(maxlen=KEPT)

    def add(self, frame: Frame) -> None:
        """Remember a frame's figures."""
        self._looks.append((frame.at, figures(frame)))

    def of(self, name: str) -> list[float]:
        """One figure over time; empty where it is unknown."""
        return [value for _at, found in self._looks if (value := found[name]) is not None]

    @property
    def seconds(self) -> float:
        """From the first look that is remembered to the last."""
        return self._looks[-1][0] - self._looks[0][0] if self._looks else 0.0


class Trend(VerticalScroll):
    """A line for every figure: its name, now, least and most, and its course."""

    def compose(self) -> ComposeResult:
        yield Static("", id="trend-head", markup=False)
        for name in _SERIES:
            yield Static(name, id=f"now-{name}", markup=False)
            yield Sparkline([], id=f"course-{name}")

    def show(self, history: History, *, live: bool) -> None:
        """Draw the history."""
        head = f"the last {history.seconds:.0f} s" if live else "a file does not change: one look"
        self.query_one("#trend-head", Static).update(head)
        for name, text in _texts(history):
            self.query_one(f"#now-{name}", Static).update(text)
            self.query_one(f"#course-{name}", Sparkline).data = history.of(name)


def _texts(history: History) -> Iterator[tuple[str, str]]:
    for name in _SERIES:
        course = history.of(name)
        if not course:
            yield name, f"{name:<12} unknown"
            continue
        values = [percent(v) if name == "pressure" else f"{v:.0f}" for v in (course[-1], min(course), max(course))]
        yield name, f"{name:<12} {values[0]}  (least {values[1]}, most {values[2]})"
