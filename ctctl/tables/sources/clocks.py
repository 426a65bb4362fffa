"""Which clock a table's times are in, found by evidence and never guessed silently (docs/reference/abi.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ctctl.model.clock import Clock
from ctctl.node.agent import runtime_config

HZ_VALUES = (100, 250, 300, 1000)
_CLOCKS = (Clock(None), *(Clock(hz) for hz in HZ_VALUES))


def clock_of_document(document: Mapping[str, Any], where: str) -> Clock | None:
    """The clock by an agent's stored configuration (ClockSource 0 ktime, 1 jiffies), None if it says nothing."""
    source, hz = document.get("ClockSource"), document.get("KernelHz")
    if source == 0:
        return Clock(None, f"ktime by {where}")
    if source == 1 and isinstance(hz, int) and 0 < hz <= 10000:
        return Clock(hz, f"jiffies at {hz} Hz by {where}")
    return None


class Shown(NamedTuple):
    """What a line with ``--time-diff`` says: when it ends, how many seconds that is from now, its last report."""

    lifetime: int
    remaining: int
    report: int


class Told(NamedTuple):
    """What a table's lines say about the time they were listed.

    ``clock`` and ``now`` are None where they do not say. ``proven``: lines of several lifetimes agree, in
    this clock and in no other. ``contradiction`` says what cannot be true of them together.
    """

    clock: Clock | None = None
    now: int | None = None
    proven: bool = False
    contradiction: str | None = None


#: Reports are written with the clock of the CPU they are made on, and read some time before they are compared.
AHEAD_S = 5
#: A table in use has something that was reported on since; no datapath gives an entry longer (Cilium's longest default
#: is 6 hours).
LONGEST_S = 10 * 86400
#: A table in use has a report this recent: then its clock needs no comparison with another.
RECENT_S = 86400


def objection(clock: Clock, now: int, newest: int) -> str | None:
    """What the latest report of a table (0: there is none) says against ``now`` of ``clock``; None: nothing."""
    if not newest:
        return None
    age_s = clock.remaining_s(now, newest)
    if age_s < -AHEAD_S:
        return f"an entry was reported on at {newest}, and it is {now} now"
    return f"read by {clock} nothing in it was reported on for {age_s // 86400} days" if age_s > LONGEST_S else None


def note_of_given(given: Clock | None, own: Clock | None) -> list[str]:
    """What is said where the user's clock is another one than what evidence tells."""
    if given is None or own is None or own.hz == given.hz or "assumed" in own.evidence:
        return []
    return [f"clock: --clock {given} was given, and its times are of another: {own.evidence or own}"]


#: A report may be this much after the listing's own now: lines are read while packets pass.
_SLACK_S = 60
#: Nothing of a table in use is this old: even a GC that has stopped leaves entries that packets refresh.
_IMPOSSIBLE_S = 30 * 86400


def told_by(shown: Sequence[Shown], clock: Clock | None) -> Told:
    """Clock and now by the remaining times of the lines; ``clock`` is one that other evidence names.

    A single lifetime fits every clock, so it proves none: without a named one, seconds are assumed.
    """
    if not shown:
        return Told()
    proven = len({line.lifetime for line in shown}) > 1
    fitting = [found for found in (clock, *_CLOCKS) if found is not None and _now_by(shown, found) is not None]
    if not fitting:
        if clock is None and (last := _last_of_several(shown)) is not None:
            return last
        return Told(
            contradiction="the lines' remaining times fit no clock: they are not of one moment, or were changed"
        )
    best = fitting[0]
    now = _now_by(shown, best)
    assert now is not None
    if best is not clock:
        evidence = (
            f"{best} by the lines' remaining times, which agree on now"
            if proven
            else ("ktime assumed: one remaining time fits every clock")
        )
        best = Clock(best.hz, evidence)
    ages = sorted(best.remaining_s(now, line.report) for line in shown if line.report)
    if ages and ages[len(ages) // 2] < -_SLACK_S:
        text = f"entries were reported {-ages[len(ages) // 2]} s later than its remaining times say it was made"
        return Told(best, None, proven, text)
    if ages and ages[0] > _IMPOSSIBLE_S and max(line.remaining for line in shown) < -_IMPOSSIBLE_S:
        newest = max(line.report for line in shown)
        text = f"by its remaining times its newest report is {ages[0]} s old ({_guess(now, newest)})"
        return Told(best, None, proven, text)
    return Told(best, now, proven)


def _guess(now: int, newest: int) -> str:
    """What may have gone wrong in whoever printed it."""
    if 200 <= now / max(newest, 1) <= 320:
        return "jiffies that were not shifted?"
    return "a clock that is not the tables'"


def _now_by(shown: Sequence[Shown], clock: Clock) -> int | None:
    """The one now that all lines agree on in a clock, None if there is none."""
    seconds = {clock.seconds(line.lifetime) - line.remaining for line in shown}
    return clock.units(seconds.pop()) if len(seconds) == 1 and min(seconds, default=0) >= 0 else None


def _last_of_several(shown: Sequence[Shown]) -> Told | None:
    """Several listings one after the other in seconds: runs of lines that agree, each later than the one before."""
    nows = [line.lifetime - line.remaining for line in shown]
    turns = [now for index, now in enumerate(nows) if not index or now != nows[index - 1]]
    if len(turns) > 8 or turns != sorted(turns) or len(shown) < 2 * len(turns):
        return None
    return Told(
        Clock(None, f"ktime by the remaining times of {len(turns)} listings, of which the last counts"), turns[-1], True
    )


def clock_by_reports(
    reports: Iterable[int], ktime_now: int, jiffies_now: int | None, hz: int | None
) -> tuple[Clock, int] | None:
    """The live clock whose now is just after the latest report time, None without a report.

    Reports are never later than now; in a table in use the latest is recent.
    """
    latest = max(reports, default=0)
    if latest == 0:
        return None
    candidates: list[tuple[int, Clock, int]] = []
    if latest <= ktime_now + 1:
        age = ktime_now - latest
        candidates.append((age, Clock(None, f"ktime: the latest report is {max(age, 0)} s old"), ktime_now))
    if jiffies_now is not None and hz is not None and latest <= jiffies_now + 1:
        clock = Clock(hz)
        age = clock.remaining_s(jiffies_now, latest)
        evidence = f"jiffies at {hz} Hz: the latest report is {max(age, 0)} s old"
        candidates.append((age, Clock(hz, evidence), jiffies_now))
    return min(candidates, key=lambda item: item[0])[1:] if candidates else None


def agent_clock() -> Clock | None:
    """The clock that an agent on this machine stored in its configuration."""
    stored = runtime_config()
    return None if stored is None else clock_of_document(*stored)
