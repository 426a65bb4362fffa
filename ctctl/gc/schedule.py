"""When a garbage collector that keeps running runs next. Pure: times come from the caller, in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from ctctl.errors import UsageError
from ctctl.gc.interval import MINIMUM_S, START_S, next_interval
from ctctl.model.units import parse_duration


@dataclass(slots=True)
class Schedule:
    """The interval rule over time. ``fixed_s``: always that interval; None: the rule of docs/reference/abi.md.

    A run may come early (the datapath says that a table is full), but never within ``MINIMUM_S`` of
    the last one.
    """

    fixed_s: float | None = None
    interval_s: float = START_S
    last_s: float | None = None

    def __post_init__(self) -> None:
        if self.fixed_s is not None:
            self.interval_s = self.fixed_s

    def due_in(self, now: float, *, table_full: bool = False) -> float:
        """Seconds from ``now`` until the next run; 0 or less: now. The first run is due at once."""
        if self.last_s is None:
            return 0.0
        gap = min(self.interval_s, MINIMUM_S) if table_full else self.interval_s
        return self.last_s + gap - now

    def elapsed(self, now: float) -> float:
        """Seconds since the last run; 0 before the first."""
        return 0.0 if self.last_s is None else now - self.last_s

    def ran(self, started: float, ratio: float) -> None:
        """A run that started at ``started`` deleted ``ratio`` of a table's capacity (the greatest one)."""
        actual = self.elapsed(started)
        self.last_s = started
        if self.fixed_s is None:
            self.interval_s = next_interval(self.interval_s, ratio, actual_s=actual)


def parse_interval(text: str) -> Schedule:
    """``auto`` or a duration. Raises UsageError."""
    if text == "auto":
        return Schedule()
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--interval {error}; or auto") from None
    if seconds <= 0:
        raise UsageError(f"--interval {text}: must be longer than 0")
    return Schedule(fixed_s=seconds)
