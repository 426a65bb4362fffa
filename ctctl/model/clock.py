"""The clock a table's times are in: seconds of CLOCK_MONOTONIC, or jiffies >> 8 (docs/reference/abi.md)."""

from __future__ import annotations

from typing import NamedTuple

from ctctl.errors import UsageError
from ctctl.model.units import decimal


class Clock(NamedTuple):
    """``hz`` is None for seconds ("ktime"), else the kernel's HZ: the unit is 256/HZ seconds.

    ``evidence`` says why this clock is believed; it is shown wherever times are.
    """

    hz: int | None = None
    evidence: str = ""

    def __str__(self) -> str:
        return "ktime" if self.hz is None else f"jiffies:{self.hz}"

    def seconds(self, time: int) -> int:
        """A time of this clock in whole seconds, rounded down as Cilium does."""
        return time if self.hz is None else (time << 8) // self.hz

    def remaining_s(self, lifetime: int, now: int) -> int:
        """Seconds until ``lifetime``; each time is rounded down first, as Cilium does."""
        return self.seconds(lifetime) - self.seconds(now)

    def units(self, seconds: int) -> int:
        """The first time of this clock that is not before ``seconds``."""
        return seconds if self.hz is None else -(-(seconds * self.hz) // 256)


def parse_clock(text: str, evidence: str = "--clock") -> Clock:
    """``ktime`` or ``jiffies:HZ``. Raises UsageError for anything else."""
    if text == "ktime":
        return Clock(None, evidence)
    kind, _, hz = text.partition(":")
    if kind == "jiffies" and (number := decimal(hz, 10000)):
        return Clock(number, evidence)
    raise UsageError(f"--clock {text!r}: write ktime or jiffies:HZ, for example jiffies:250")
